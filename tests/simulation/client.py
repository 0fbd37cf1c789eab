"""Google's client of BigQuery, as far as the services use it, over the warehouse in memory.

Answers are objects of the client's own classes, so that the services cannot tell. Every request is one call outside.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError, NotFound, ServiceUnavailable
from google.cloud.bigquery import SchemaField
from google.cloud.bigquery.job import CopyJob, LoadJob, QueryJob

from services.core import machine
from services.core.warehouse import standard_types
from services.transformer.bronze.tables import DEFINITION
from tests.simulation.scheduler import Scheduler
from tests.simulation.statements import Unforeseen, understood
from tests.simulation.warehouse import ROW_BYTES, Job, Warehouse

_POLL_SECONDS = 0.5


class Client:
    """A client of a process's own."""

    location, project = "US", "p"

    def __init__(self, scheduler: Scheduler, warehouse: Warehouse) -> None:
        self._scheduler, self.warehouse = scheduler, warehouse

    def ask(self, what: str, call: Any, *about: str, writes: bool = False) -> Any:
        """Send a request."""
        return self._scheduler.outside(f"BigQuery's {what}", call, self._refusal, about, writes=writes)

    def _refusal(self, *, lost: bool) -> Exception:
        """A request's error: an answer that got lost says nothing; a refusal may be of a right that is given later."""
        if lost or not self._scheduler.choices.happens(0.4):
            return ServiceUnavailable("away")  # type: ignore[no-untyped-call]
        return Forbidden("Access Denied")  # type: ignore[no-untyped-call]

    # --- tables -------------------------------------------------------------------------------------------------------

    def get_table(self, table_id: str, **_: Any) -> SimpleNamespace:
        """As Google's."""
        return self.ask("table", lambda: self._described(table_id), table_id)  # type: ignore[no-any-return]

    def _described(self, table_id: str) -> SimpleNamespace:
        found = self.warehouse.table(table_id)
        if found is None:
            raise NotFound(f"Not found: Table {table_id}")  # type: ignore[no-untyped-call]
        project, dataset, name = table_id.split(".")
        return SimpleNamespace(
            project=project,
            dataset_id=dataset,
            table_id=name,
            table_type="TABLE" if found.view is None else "VIEW",
            labels={} if found.view is None else {DEFINITION: found.view},
            schema=[SchemaField(column, type_) for column, type_ in found.columns.items()],
            num_rows=len(found.rows),
            num_bytes=ROW_BYTES * len(found.rows),
            created=found.created,
            expires=found.expires,
        )

    def update_table(self, table: SimpleNamespace, fields: list[str], **_: Any) -> None:
        """As Google's; of the expiration only."""
        if fields != ["expires"]:
            raise Unforeseen(f"a table's {fields}")
        table_id = f"{table.project}.{table.dataset_id}.{table.table_id}"

        def update() -> None:
            if (found := self.warehouse.table(table_id)) is None:
                raise NotFound(f"Not found: Table {table_id}")  # type: ignore[no-untyped-call]
            found.expires = table.expires

        self.ask("expiration of", update, table_id, writes=True)

    def delete_table(self, table_id: str, *, not_found_ok: bool, **_: Any) -> None:
        """As Google's, where it is no error that there is none."""
        self.ask("drop of", lambda: self.warehouse.drop(table_id), table_id, writes=True)

    def list_tables(self, dataset: str, **_: Any) -> list[SimpleNamespace]:
        """As Google's; a list may be one of a moment ago."""
        names = self.ask("list of", lambda: self.warehouse.names(dataset), dataset)
        return [SimpleNamespace(table_id=name) for name in names]

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def list_jobs(self, **_: Any) -> list[Any]:
        """None: what a run costs is not simulated."""
        return []

    def get_job(self, job_id: str, **_: Any) -> Any:
        """As Google's."""

        def job() -> Any:
            if (found := self.warehouse.jobs.get(job_id)) is None:
                raise NotFound(f"Not found: Job {job_id}")  # type: ignore[no-untyped-call]
            return _CLASSES[found.kind](self, found)

        return self.ask("job", job, job_id)

    def query(self, statement: str, job_id: str | None = None, **_: Any) -> "SimulatedQuery":
        """As Google's, for the statements that the services send."""
        meant = understood(statement)
        given: list[tuple[Any, ...]] = []

        def work() -> int:
            written, rows = self.warehouse.run(meant)
            given.extend(rows)
            return written

        id_ = job_id or f"query-{machine.token_hex(4)}"
        what = type(meant).__name__.lower()
        found = self.ask(what, lambda: self.warehouse.send(id_, "query", statement, work), id_, writes=True)
        return SimulatedQuery(self, found, given)

    def copy_table(self, source: str, destination: str, job_id: str, **_: Any) -> "SimulatedCopy":
        """As Google's."""

        def send() -> Job:
            return self.warehouse.send(job_id, "copy", "", lambda: self.warehouse.copy(source, destination))

        return SimulatedCopy(self, self.ask("copy", send, job_id, writes=True))

    def load_table_from_uri(
        self, uris: Iterable[str], destination: str, job_id: str, job_config: Any, **_: Any
    ) -> "SimulatedLoad":
        """As Google's."""
        columns = standard_types(job_config.schema)

        def send() -> Job:
            return self.warehouse.send(job_id, "load", "", lambda: self.warehouse.load(uris, destination, columns))

        return SimulatedLoad(self, self.ask("load", send, job_id, writes=True))


class _Simulated:
    """What the jobs' classes have in common: they know of the job what the last answer said."""

    def __init__(self, client: Client, job: Job, given: list[tuple[Any, ...]] | None = None) -> None:
        self._asked, self._job, self._given = client, job, given or []
        self._given = given if given is not None else []
        self._done = job.done

    job_id = property(lambda self: self._job.id)
    job_type = property(lambda self: self._job.kind)
    query = property(lambda self: self._job.text)
    state = property(lambda self: "DONE" if self._done else "RUNNING")
    error_result = property(lambda self: self._job.error if self._done else None)
    output_rows = property(lambda self: self._job.rows if self._done else None)
    num_dml_affected_rows = property(lambda self: self._job.rows if self._done else None)

    def done(self, **_: Any) -> bool:
        """As Google's: asks while it is not known."""
        if not self._done:
            self._done = self._asked.ask("end of", lambda: self._job.done, self._job.id)
        return self._done

    def result(self, **_: Any) -> list[tuple[Any, ...]]:
        """As Google's: waits for the end, and raises a failed job's error."""
        while not self.done():
            machine.sleep(_POLL_SECONDS)
        if self._job.error is not None:
            raise _ERRORS.get(self._job.error["reason"], ServiceUnavailable)(self._job.error["message"])
        return self._given


class SimulatedQuery(_Simulated, QueryJob):  # type: ignore[misc]
    """A query."""


class SimulatedLoad(_Simulated, LoadJob):  # type: ignore[misc]
    """A load."""


class SimulatedCopy(_Simulated, CopyJob):  # type: ignore[misc]
    """A copy."""


_CLASSES = {"query": SimulatedQuery, "load": SimulatedLoad, "copy": SimulatedCopy}
_ERRORS: dict[str, type[GoogleAPICallError]] = {"notFound": NotFound, "invalidQuery": BadRequest}
