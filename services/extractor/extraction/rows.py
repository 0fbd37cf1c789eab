"""The rows of a batch, from the source to landing/: by one statement, or by chunks, with whichever task helps."""

from collections.abc import Callable

from services.core import machine
from services.core.arrow import arrow_schema
from services.core.batch import Batch
from services.core.manifest import Part
from services.core.parquet import empty_part
from services.core.tables import Mode, Table
from services.extractor.extraction.workplace import Turn, Workplace
from services.extractor.fingerprints import count_on
from services.extractor.landing import Landing, reject_superseded
from services.extractor.planning.plan import ChunkResult, Plan, catch_up_from
from services.extractor.reading.reading import Read
from services.extractor.reading.sieve import Sieve
from services.extractor.reading.work import Work
from services.extractor.source.connection import conninfo
from services.extractor.source.database import Source, open_source


def by_one_statement(
    place: Workplace, table: Table, batch: Batch, plan: Plan, turn: Turn, sieve: Sieve, begin: Callable[[], None]
) -> Read:
    """Read by one statement; the state hears of the batch when the first rows are there."""
    with place.landing(batch) as landing:
        read = place.reading(plan, landing, turn.lease, turn.troubled, sieve).stream(batch.extracted_at, begin)
        if not read.parts and _needs_a_batch(table, batch):
            begin()
            read.parts.append(_empty(landing, plan))
    if not read.parts and place.state.batch(batch.id) is not None:
        _forget(place, batch)  # a broken attempt had found rows, which are gone now
    return read


def by_chunks(
    place: Workplace, table: Table, batch: Batch, plan: Plan, turn: Turn, sieve: Sieve, source: Source | None = None
) -> Read:
    """Read by chunks, with whichever task of the execution helps; then look at what snapshots disagree on."""
    work = Work(place.state.store, plan, place.task_lease)
    with place.landing(batch) as landing, place.sessions(table, plan, source) as sessions:
        reading = place.reading(plan, landing, turn.lease, turn.troubled, sieve)
        results: list[ChunkResult] = []
        while len(results) < len(plan.bounds):
            reading.chunks(work, sessions, place.settings.extract_readers)
            results = work.results()
            if len(results) < len(plan.bounds):
                sessions.close()  # it would keep others from the table, and vacuum from its dead rows
                turn.lease.renew()
                machine.sleep(0.5)  # another task is at the rest; if it dies, its chunks can be claimed again
        read = Read()
        for result in results:
            read.add(result.chunk, result.read_at, result)
        newer_than = catch_up_from(results)
        if newer_than is not None:
            late = reading.catch_up(newer_than, sessions)
            [(number, read_at)] = late.read_at.items()
            read.add(number, read_at, late)
        with open_source(conninfo(place.settings)) as now:
            reading.confirm(now, table)
        if not read.parts and _needs_a_batch(table, batch):
            read.parts.append(_empty(landing, plan))
    if not read.parts:
        place.state.forget_plan(batch.id)
        _forget(place, batch)
        count_on(place.state, plan, read)
    return read


def _forget(place: Workplace, batch: Batch) -> None:
    """Leave nothing of a batch without rows; a broken attempt may have put some that are gone now."""
    reject_superseded(place.objects, place.settings, batch, [])
    place.state.forget_batch(batch.id)


def _empty(landing: Landing, plan: Plan) -> Part:
    return landing.put(landing.part_name(0, 0, 1), empty_part(arrow_schema(plan.columns)), 0).result()


def _needs_a_batch(table: Table, batch: Batch) -> bool:
    """Whether even no rows are news: a snapshot without rows says that all of them are gone, or begins anew."""
    return batch.mode is Mode.SNAPSHOT and (table.deletes == "soft" or not table.key or batch.anew)
