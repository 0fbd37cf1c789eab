"""Help for the other tasks of an execution: a task without work reads chunks of their large tables."""

from collections.abc import Sequence
from contextlib import closing

import structlog

from services.core import machine
from services.core.batch import Batch, BatchError, BatchState
from services.core.errors import DataError
from services.core.state.lease import look
from services.core.state.store import DocumentChanged
from services.core.tables import Table
from services.extractor.extraction.leftovers import reject_objects
from services.extractor.extraction.workplace import Workplace
from services.extractor.planning.plan import Plan
from services.extractor.reading.work import Work, shared_plans

HELP_SECONDS = 30.0
"""How long a task without work waits for another of its execution to share some."""

log = structlog.get_logger()


def help_others(place: Workplace, tables: Sequence[Table]) -> None:
    """Read chunks of the large tables that other tasks of the execution extract, until there are none left.

    Raises:
        Exception: a chunk could not be read; the table's own task takes it over once this process has ended.
    """
    quiet_since = machine.monotonic()
    while machine.monotonic() - quiet_since < HELP_SECONDS:
        for plan in shared_plans(place.state.store, place.task.execution):
            table = next((t for t in tables if t.name == plan.table), None)
            if table is not None and _help_with(place, table, plan):
                quiet_since = machine.monotonic()
        if not _others_may_share(place, tables):
            return
        machine.sleep(0.5)


def _others_may_share(place: Workplace, tables: Sequence[Table]) -> bool:
    """Whether another task extracts a table of its own, or has not begun: they do not all start in one moment."""
    own, store = place.task.own(tables), place.state.store
    leases = [look(store, f"extract-{table.name}") for table in tables if table not in own]
    at_work = any(lease is not None and lease.held(machine.now()) for lease in leases)
    return at_work or any(look(store, name) is None for name in place.task.others())


def _help_with(place: Workplace, table: Table, plan: Plan) -> bool:
    """Read what can be claimed of a plan; whether that was anything."""
    batch = place.state.batch(plan.batch_id)
    if batch is None or batch.state is not BatchState.EXTRACTING:
        return False
    with structlog.contextvars.bound_contextvars(table=table.name, batch_id=batch.id):
        place.progress.started(table.name, plan.estimated_rows)
        try:
            with (
                place.landing(batch) as landing,
                place.sessions(table, plan) as sessions,
                closing(place.sieve(plan)) as sieve,
            ):
                work = Work(place.state.store, plan, place.task_lease)
                # What breaks off here is the table's own task's to tell, if it breaks off there too.
                reading = place.reading(plan, landing, place.task_lease, lambda _: None, sieve)
                read = reading.chunks(work, sessions, place.settings.extract_readers)
        except DocumentChanged as error:
            log.warning("extraction.help_not_needed", reason=str(error))  # the batch has ended meanwhile
            return False
        finally:
            _clear_after_help(place, batch)
        if read:
            log.info("extraction.helped", chunks=read)
    return read > 0


def _clear_after_help(place: Workplace, batch: Batch) -> None:
    """If the batch failed meanwhile: what this process put since then, nobody else clears away."""
    now = place.state.batch(batch.id)
    if now is not None and now.state is BatchState.FAILED:
        error = now.error or BatchError(code="extraction_failed", message="the batch failed")
        reject_objects(place, now, DataError(error.code, error.message, table=now.table, batch_id=now.id))
        place.state.forget_plan(now.id)
