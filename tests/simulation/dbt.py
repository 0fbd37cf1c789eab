"""dbt as the transformer sees it: makes and fills bronze as the materialization `bronze` does, statement by statement.

dbt believes what it is told: where a job's id is taken, it takes that job's end for its own.
"""

from typing import Any

from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound

from services.core import machine
from services.transformer.bronze.batch_rows import ADDED_COLUMNS
from services.transformer.bronze.tables import BASE, DELTA
from services.transformer.dbt_project import NodeResult
from tests.simulation.client import Client, SimulatedQuery
from tests.simulation.statements import batch_rows


class Dbt:
    """The project in one process."""

    def __init__(self, client: Client, dataset: str, definition: str) -> None:
        self._client, self._dataset, self._definition = client, dataset, definition
        self.refused: dict[str, str] = {}

    def parsed(self) -> None:
        """As the real one's."""

    def described(self, model: str) -> str:
        """As the real one's."""
        return model

    def definition(self) -> str:
        """As the real one's."""
        return self._definition

    def run(self, stage: str, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        """As the real one's."""
        if stage == "bronze":
            return [self._bronze(name, told) for name, told in (variables or {})["bronze"].items()]
        return [NodeResult("gold", "model", "success", "", 0.0, None, None)]

    def _bronze(self, model: str, told: dict[str, Any]) -> NodeResult:
        try:
            rows = self._built(f"{self._dataset}.{model}", told)
        except GoogleAPICallError as error:
            return NodeResult(model, "model", "error", str(error), 0.0, None, None)
        return NodeResult(model, "model", "success", "", 0.0, rows, None)

    def _built(self, name: str, told: dict[str, Any]) -> int | None:
        columns = {column["name"]: column["data_type"] for column in told["columns"]} | ADDED_COLUMNS
        self._made(f"{name}{BASE}", columns)
        if told["keeps_delta"]:
            self._made(f"{name}{DELTA}", columns)
        if told["view"]:
            self._sent(f"view {name}", lambda: self._view(name, columns, told))
        if not told["batches"] and not told["delta"]:
            return None
        batches = tuple(batch_rows(batch["rows"]) for batch in told["batches"])
        warehouse = self._client.warehouse
        return self._sent("merge", lambda: warehouse.merge(name, told, batches), told["job_id"])

    def _made(self, part: str, columns: dict[str, str]) -> None:
        """Make a part that is not there, and give it the columns that it lacks."""
        warehouse = self._client.warehouse
        try:
            held = {field.name for field in self._client.get_table(part).schema}
        except NotFound:
            self._sent(f"create {part}", lambda: len(warehouse.create(part, columns, if_absent=True).columns))
            held = {field.name for field in self._client.get_table(part).schema}
        missing = {column: type_ for column, type_ in columns.items() if column not in held}
        if missing:
            self._sent(f"alter {part}", lambda: self._extended(part, missing))

    def _extended(self, part: str, columns: dict[str, str]) -> int:
        table = self._client.warehouse.there(part)
        for column, type_ in columns.items():
            table.columns.setdefault(column, type_)
        table.rows = [dict.fromkeys(columns) | row for row in table.rows]
        return len(columns)

    def _view(self, name: str, columns: dict[str, str], told: dict[str, Any]) -> int:
        view = self._client.warehouse.create(name, columns, if_absent=False)
        view.view, view.over_delta = told["definition"], f"{name}{DELTA}`" in told["view"]
        return 0

    def _sent(self, text: str, work: Any, job_id: str | None = None) -> int:
        """Send a statement and wait for its end; a taken id's job is waited for instead."""
        id_ = job_id or f"dbt-{machine.token_hex(4)}"
        client = self._client
        try:
            job = client.ask(text, lambda: client.warehouse.send(id_, "query", text, work), id_, writes=True)
        except Conflict:
            job = client.ask("job", lambda: client.warehouse.jobs[id_], id_)
        waited = SimulatedQuery(client, job)
        waited.result()
        return int(job.rows)
