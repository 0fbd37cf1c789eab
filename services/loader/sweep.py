"""The sweep: finds what is left behind and finishes it or clears it away. Events are hints; this alone brings all home.

Safe to run at any time, also beside the handlers: it does what they do, by the same functions. What may still be
somebody's work is left alone for ``SWEEP_GRACE``.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime

import structlog
from google.cloud import bigquery

from services.core import machine
from services.core.batch import IN_TEMP, Batch, BatchError, BatchState
from services.core.errors import DataError
from services.core.events import ObjectFinalized
from services.core.landing import batch_objects
from services.core.naming import batch_digest, manifest_object, new_batch_id, parse_landed
from services.core.state.lease import clear_expired, leases, look
from services.core.state.state import Run
from services.core.storage import StoredObject
from services.loader.loading import Loader
from services.loader.progress import table_progress

_HASHED = re.compile(r"^[a-z_][a-z0-9_]*__(?P<digest>[0-9a-f]{12})$")

log = structlog.get_logger()


@dataclass
class Swept:
    """What a sweep found and did."""

    run_id: str
    started_at: datetime
    done: Counter[str] = field(default_factory=Counter)
    """How often each thing was done, by name."""
    problems: list[str] = field(default_factory=list)
    """What could not be done; the next sweep tries again."""

    def report(self) -> dict[str, object]:
        """For the history and for whoever started it."""
        return {"run_id": self.run_id, "done": dict(sorted(self.done.items())), "problems": self.problems}


@dataclass(frozen=True)
class Sweep:
    """One sweep, given the loader whose work it finishes."""

    loader: Loader
    started_at: datetime = field(default_factory=lambda: machine.now())

    def run(self) -> Swept:
        """Look at everything once; what fails does not stop the rest."""
        swept = Swept(new_batch_id(self.started_at), self.started_at)
        with structlog.contextvars.bound_contextvars(run_id=swept.run_id):
            landed = self._landed()
            for stored in landed:
                self._try(swept, stored.name, lambda: self._object(stored, swept))  # noqa: B023
            for table, batch_id in sorted(_batches_of_parts(self._landed(), self.loader.settings.landing_prefix)):
                self._try(swept, batch_id, lambda: self._parts(table, batch_id, swept))  # noqa: B023
            for state in (BatchState.EXTRACTING, BatchState.LANDED, BatchState.LOADED):
                for batch in self.loader.state.batches_in(state):
                    self._try(swept, batch.id, lambda: self._batch(batch, swept))  # noqa: B023
            self._try(swept, "hashed tables", lambda: self._hashed_tables(swept))
            self._try(swept, "plans", lambda: self._plans(swept))
            self._try(swept, "leases", lambda: self._leases(swept))
            self._try(swept, "progress", self._progress)
            finished = machine.now()
            outcome = "failed" if swept.problems else "succeeded"
            log.info("sweep.finished", outcome=outcome, done=dict(swept.done), problems=swept.problems)
            self.loader.state.add_run(
                Run(
                    id=swept.run_id,
                    service="sweep",
                    started_at=self.started_at,
                    finished_at=finished,
                    outcome=outcome,
                    details=swept.report(),
                )
            )
        return swept

    @staticmethod
    def _try(swept: Swept, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            log.exception("sweep.failed", what=what, reason=str(error))
            swept.problems.append(f"{what}: {type(error).__name__}: {error}")

    def _landed(self) -> list[StoredObject]:
        settings = self.loader.settings
        return self.loader.objects.list(settings.landing_bucket, f"{settings.landing_prefix}/")

    def _object(self, stored: StoredObject, swept: Swept) -> None:
        """A manifest or a file whose event was lost, or is still on its way: handle it as the event would."""
        landed = parse_landed(self.loader.settings.landing_prefix, stored.name)
        if landed is None or landed.is_manifest:
            result = self.loader.handle(ObjectFinalized(stored.bucket, stored.name, stored.generation))
            if result != "ignored":
                swept.done[f"object_{result}"] += 1

    def _parts(self, table: str, batch_id: str, swept: Swept) -> None:
        """Parts without a manifest: of a batch that is being extracted, was loaded, has failed, or of nobody."""
        batch = self.loader.state.batch(batch_id)
        if batch is not None and batch.table != table:
            batch = None  # the id is another table's
        if batch is not None and batch.state in IN_TEMP:
            self.loader.finish(batch)
            swept.done["batch_archived"] += 1
        elif batch is not None and batch.state is BatchState.FAILED:
            error = batch.error or BatchError(code="failed", message="the batch failed before")
            self.loader.reject_batch(table, batch_id, DataError(error.code, error.message, column=error.column))
            swept.done["parts_rejected"] += 1
        elif batch is None and self._orphaned(table, batch_id):
            message = "a part of no batch that is known, and whose manifest was never written"
            self.loader.reject_batch(table, batch_id, DataError("orphaned_part", message))
            swept.done["parts_rejected"] += 1

    def _orphaned(self, table: str, batch_id: str) -> bool:
        """Whether nobody extracts the table and all the batch's parts are older than the grace."""
        loader, settings = self.loader, self.loader.settings
        found = batch_objects(loader.objects, settings, table, batch_id)
        youngest = max((stored.created_at for stored in found), default=self.started_at)
        return not self._extracting(table) and youngest < self.started_at - settings.sweep_grace

    def _extracting(self, table: str) -> bool:
        lease = look(self.loader.state.store, f"extract-{table}")
        return lease is not None and lease.held(machine.now())

    def _batch(self, batch: Batch, swept: Swept) -> None:
        """A batch that has got stuck."""
        if batch.state is BatchState.LOADED:
            self.loader.finish(batch)  # the transformer is told again: its event may have been lost
            swept.done["batch_announced"] += 1
        elif batch.state is BatchState.EXTRACTING:
            self._extraction(batch, swept)
        else:
            self._without_objects(batch, swept)

    def _extraction(self, batch: Batch, swept: Swept) -> None:
        """An extraction whose process has died, and of which no other try is to be expected."""
        lease = look(self.loader.state.store, f"extract-{batch.table}")
        quiet_since = max(batch.started_at, lease.expires_at) if lease else batch.started_at
        if self._extracting(batch.table) or quiet_since > self.started_at - self.loader.settings.sweep_grace:
            return
        if self._has_manifest(batch):
            return  # it was handled above, or is by the next sweep
        message = "the extractor ended before the manifest was written"
        if self.loader.state.abandon(batch.id, BatchError(code="abandoned", message=message)):
            self.loader.state.forget_plan(batch.id)
            self.loader.reject_batch(batch.table, batch.id, DataError("abandoned", message))
            swept.done["batch_abandoned"] += 1

    def _without_objects(self, batch: Batch, swept: Swept) -> None:
        """A landed batch whose manifest somebody has taken away: it can never be loaded; its window is read again."""
        noted = batch.landed_at or batch.started_at
        if self._has_manifest(batch) or noted > self.started_at - self.loader.settings.sweep_grace:
            return
        current = self.loader.state.batch(batch.id)
        if current is None or current.state is not BatchState.LANDED:
            return  # a handler has loaded and archived it meanwhile
        message = "its manifest is gone from landing/; the window is read again"
        self.loader.reject_batch(batch.table, batch.id, DataError("manifest_missing", message))
        swept.done["batch_rejected"] += 1

    def _has_manifest(self, batch: Batch) -> bool:
        settings = self.loader.settings
        name = manifest_object(settings.landing_prefix, batch.table, batch.id)
        return self.loader.objects.stat(settings.landing_bucket, name) is not None

    def _hashed_tables(self, swept: Swept) -> None:
        """Hashed tables of batches that are merged and closed, failed, or not known; the others are still needed."""
        settings, client, state = self.loader.settings, self.loader.client, self.loader.state
        tables = [
            (item.table_id, found["digest"])
            for item in client.list_tables(f"{settings.gcp_project}.{settings.dataset_temp}")
            if (found := _HASHED.match(item.table_id))
        ]
        # Asked after the list: a table that was made since is not in it.
        needed = {
            batch_digest(batch.id)
            for state_ in BatchState
            if state_ is not BatchState.FAILED
            for batch in state.batches_in(state_)
        }
        for name, digest in tables:
            if digest not in needed and self._old(client, f"{settings.gcp_project}.{settings.dataset_temp}.{name}"):
                client.delete_table(f"{settings.gcp_project}.{settings.dataset_temp}.{name}", not_found_ok=True)
                log.info("hashed_table.dropped", hashed_table=name)
                swept.done["hashed_table_dropped"] += 1

    def _old(self, client: bigquery.Client, table_id: str) -> bool:
        """Whether a table was made before the grace: a handler may be loading a batch that the state has not yet."""
        created = client.get_table(table_id).created
        return created is not None and created < self.started_at - self.loader.settings.sweep_grace

    def _plans(self, swept: Swept) -> None:
        """Plans and chunks of extractions that died when all was landed."""
        if forgotten := self.loader.state.forget_finished_plans():
            swept.done["plan_forgotten"] += forgotten

    def _leases(self, swept: Swept) -> None:
        """Leases of dead holders. Tokens of tables and of the transformer go on growing: later writes check them."""
        store, grace = self.loader.state.store, self.loader.settings.sweep_grace
        for name, lease in leases(store).items():
            once = name.startswith("task-")  # of one execution's task, which is over
            if lease.expires_at < self.started_at - grace and clear_expired(store, name, forget=once):
                swept.done["lease_cleared"] += 1

    def _progress(self) -> None:
        """Tell how far each table is: alerts on lag and on what waits are built on these lines."""
        for name in self.loader.tables.names():
            log.info("table.progress", **asdict(table_progress(self.loader.state, name, machine.now())))


def _batches_of_parts(landed: list[StoredObject], landing_prefix: str) -> set[tuple[str, str]]:
    """Table and batch id of parts whose manifest is not in landing/."""
    objects = [o for stored in landed if (o := parse_landed(landing_prefix, stored.name)) is not None]
    whole = {(o.table, o.batch_id) for o in objects if o.is_manifest}
    return {(o.table, o.batch_id) for o in objects} - whole
