"""What needs a person: decided from an overview alone, for `credix status`, the run report, and their tests.

What cures itself with the next run, or was made up for, is not here: whoever is told too often no longer looks.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from services.core.batch import Batch, BatchState
from services.core.errors import SourceChanged
from services.core.health.overview import Overview, TableOverview
from services.core.naming import parse_landed
from services.core.settings import CoreSettings
from services.core.storage import StoredObject
from services.core.words import counted, minute, span

WAITS = timedelta(hours=1)
"""How long something may lie in landing/, or a batch wait for its next step, without anybody saying why."""

AUDIT_LATE = timedelta(days=2)
"""How old the newest audit may be: it is made every day."""

MOST_WORDS = 300
"""Letters of a reason in a sentence."""

DECIDED = frozenset({"discarded", "superseded"})
"""Codes of batches that failed because somebody decided so."""

_EXTRACTORS = frozenset({"extraction_failed", "abandoned"})
"""Codes of batches that failed with their extraction."""

_GOOD = (BatchState.LANDED, BatchState.LOADED, BatchState.HELD, BatchState.MERGED)


class Cause(StrEnum):
    """Why a person is needed, the worst first."""

    UNSEEN = "unseen"
    """Something could not be looked at."""
    EXTRACTION_FAILED = "extraction_failed"
    EXTRACTION_INTERRUPTED = "extraction_interrupted"
    BATCH_HELD = "batch_held"
    BATCH_FAILED = "batch_failed"
    BATCH_IN_TROUBLE = "batch_in_trouble"
    EXTRACTION_IN_TROUBLE = "extraction_in_trouble"
    BATCH_WAITS = "batch_waits"
    DOWNSTREAM_FAILED = "downstream_failed"
    TESTS_FAILED = "tests_failed"
    AUDIT_FAILED = "audit_failed"
    DEAD_LETTERS = "dead_letters"
    OBJECTS_FAILED = "objects_failed"
    OBJECTS_WAIT = "objects_wait"
    LATE = "late"
    AUDIT_LATE = "audit_late"
    NEVER_EXTRACTED = "never_extracted"


SOFT = frozenset(
    {
        Cause.LATE,
        Cause.AUDIT_LATE,
        Cause.NEVER_EXTRACTED,
        Cause.BATCH_WAITS,
        Cause.OBJECTS_WAIT,
        Cause.EXTRACTION_IN_TROUBLE,
    }
)
"""Causes that may still pass by themselves."""


class Attention(BaseModel):
    """Something that a person has to look at."""

    model_config = ConfigDict(frozen=True)

    cause: Cause
    about: str
    """The table, or what else it is about."""
    table: str | None = None
    count: int = 1
    """Of how many things; the others are like the one that is told."""
    what: str
    """Ends so that "5 min ago" can follow, if there is a ``since``."""
    since: datetime | None = None
    why: str | None = None
    cure: str
    """What to do."""

    def sentence(self, now: datetime) -> str:
        """All of it, as people say it."""
        when = f" {span(now - self.since)} ago ({minute(self.since)} UTC)" if self.since else ""
        why = " ".join((self.why or "").split()).rstrip(".")
        why = why if len(why) <= MOST_WORDS else f"{why[: MOST_WORDS - 1]}…"
        return f"{self.about}: {self.what}{when}{f': {why}' if why else ''}. {self.cure}"


def attention(overview: Overview, settings: CoreSettings) -> list[Attention]:
    """Everything that needs a person, the worst first.

    Args:
        overview: what was seen.
        settings: where landing/ and failed/ are.
    """
    found = [need for table in overview.tables for need in _of_table(table, overview)]
    troubled = {need.table for need in found if need.cause is Cause.BATCH_IN_TROUBLE}
    found += [*_downstream(overview, troubled), *_failed_objects(overview, settings), *_landed(overview, settings)]
    found += [*_tests(overview), *_audit(overview)]
    worst = list(Cause)
    return sorted(found, key=lambda need: worst.index(need.cause))


def _of_table(table: TableOverview, overview: Overview) -> Iterator[Attention]:
    now = overview.at
    extraction = _extraction(table, now)
    if extraction is not None:
        yield extraction
    yield from _held(table)
    if (failed := _failed_batch(table, told=extraction is not None)) is not None:
        yield failed
    yield from _troubled(table, now)
    if (late := _late(table, overview)) is not None:
        yield late
    if extraction is None and (never := _never(table)) is not None:
        yield never


def _need(
    cause: Cause,
    table: TableOverview,
    what: str,
    cure: str,
    since: datetime | None,
    why: str | None = None,
    count: int = 1,
) -> Attention:
    name = table.name
    return Attention(cause=cause, about=name, table=name, count=count, what=what, since=since, why=why, cure=cure)


def _again(table: TableOverview) -> str:
    return f"credix extract --table {table.name}"


def _extraction(table: TableOverview, now: datetime) -> Attention | None:
    """How the newest extraction went, if it went wrong, or goes wrong."""
    last = table.extractions
    if last is not None and last.ended_at is None and not table.at_work(now):
        what = "an extraction ended without a word, its process was killed or its machine went away; it began"
        cure = f"See what ended it (memory, machine), then: {_again(table)}"
        return _need(Cause.EXTRACTION_INTERRUPTED, table, what, cure, last.begun_at)
    if last is not None and last.failures:
        several = f"the last {last.failures} extractions failed, the first"
        what = "the last extraction failed" if last.failures == 1 else several
        why = f"{last.error.kind}: {last.error.message}" if last.error else None
        cure = f"Correct that, then: {_again(table)}"
        if last.error is not None and last.error.kind == SourceChanged.__name__:
            cure = f"If that is meant to be: {_again(table)} --accept-changes; else set right what changed"
        return _need(Cause.EXTRACTION_FAILED, table, what, cure, last.failing_since, why)
    if last is not None and last.ended_at is None and last.trouble:
        what = "what an extraction reads breaks off and is read again; it began"
        cure = "It goes on by itself once that has passed; else correct it"
        return _need(Cause.EXTRACTION_IN_TROUBLE, table, what, cure, last.begun_at, last.trouble)
    begun = [batch for batch in table.batches if batch.state is BatchState.EXTRACTING]
    if begun and not table.at_work(now):
        what = f"the extraction of batch {begun[-1].id} ended without a word; it began"
        cure = f"See what ended it (memory, machine), then: {_again(table)}"
        return _need(Cause.EXTRACTION_INTERRUPTED, table, what, cure, begun[-1].started_at)
    return None


def _held(table: TableOverview) -> Iterator[Attention]:
    for batch in table.batches:
        if batch.state is BatchState.HELD:
            why = f"{batch.hold.code}: {batch.hold.message}" if batch.hold else None
            cure = f"Look at it, then: credix release {batch.id} (it is merged as it is), or: credix discard {batch.id}"
            what = f"batch {batch.id} waits for a person; it was held"
            yield _need(Cause.BATCH_HELD, table, what, cure, batch.held_at, why)


def _failed_batch(table: TableOverview, *, told: bool) -> Attention | None:
    """The newest batch that failed and that nothing has made up for since."""
    lasting = [
        batch
        for batch in table.batches
        if batch.state is BatchState.FAILED
        and not _made_up_for(batch, table)
        and not (told and batch.error is not None and batch.error.code in _EXTRACTORS)
    ]
    if not lasting:
        return None
    newest = lasting[-1]
    more = f" (as {counted(len(lasting) - 1, 'batch', 'batches')} before it)" if len(lasting) > 1 else ""
    why = f"{newest.error.code}: {newest.error.message}" if newest.error else None
    cure = (
        f"Correct that; the next extraction reads its window again: {_again(table)}"
        if newest.window is not None
        else "Correct that, then drop the file again, under another name"
    )
    what = f"batch {newest.id}{more} failed"
    return _need(Cause.BATCH_FAILED, table, what, cure, newest.failed_at, why, len(lasting))


def _made_up_for(failed: Batch, table: TableOverview) -> bool:
    """Whether what a failed batch was to bring has been read again since, or somebody has decided that it is not.

    An extraction that was planned before the failure began its window where the failed batch's ends: it does not count.
    """
    if failed.error is not None and failed.error.code in DECIDED:
        return True
    at = failed.failed_at or failed.started_at
    again = [b for b in table.batches if b.state in _GOOD and (b.window is None) == (failed.window is None)]
    if any(batch.started_at > at for batch in again):
        return True
    from_ = table.extractions.succeeded_from if table.extractions else None
    return failed.window is not None and from_ is not None and from_ > at


def _troubled(table: TableOverview, now: datetime) -> Iterator[Attention]:
    """Batches whose next step is tried again and again, or that nobody is at; of many, the oldest is told."""
    troubled = [batch for batch in table.batches if batch.trouble and batch.state is not BatchState.FAILED]
    if troubled:
        first = troubled[0]
        loading = first.state in (BatchState.EXTRACTING, BatchState.LANDED)
        tries = f" ({counted(first.load_attempts, 'attempt')})" if loading and first.load_attempts else ""
        what = f"{_and_more(troubled)} not get on{tries}; {_ARRIVED[first.state]}"
        cure = "It is tried again by itself; when that is corrected, at once by: credix sweep"
        yield _need(Cause.BATCH_IN_TROUBLE, table, what, cure, _arrived(first), first.trouble, len(troubled))
    waiting = [
        batch
        for batch in table.batches
        if batch.state in (BatchState.LANDED, BatchState.LOADED) and not batch.trouble and now - _arrived(batch) > WAITS
    ]
    if waiting:
        what = f"{_and_more(waiting)} not get on, and nobody says why; {_ARRIVED[waiting[0].state]}"
        cure = "See whether the services run, then: credix sweep"
        yield _need(Cause.BATCH_WAITS, table, what, cure, _arrived(waiting[0]), count=len(waiting))


def _and_more(batches: list[Batch]) -> str:
    """The first of some batches, as a subject."""
    more = len(batches) - 1
    return f"batch {batches[0].id} does" if not more else f"batch {batches[0].id} and {more:,} more do"


_ARRIVED = {
    BatchState.EXTRACTING: "it began",
    BatchState.LANDED: "it landed",
    BatchState.LOADED: "it was loaded",
    BatchState.HELD: "it was held",
    BatchState.MERGED: "it was merged",
}


def _arrived(batch: Batch) -> datetime:
    """When it came into its state, as far as that was noted."""
    noted = {
        BatchState.LANDED: batch.landed_at,
        BatchState.LOADED: batch.released_at or batch.loaded_at,
        BatchState.HELD: batch.held_at,
        BatchState.MERGED: batch.merged_at,
    }
    return noted.get(batch.state) or batch.started_at


def _late(table: TableOverview, overview: Overview) -> Attention | None:
    allowed = overview.late_after + (table.table.cursor.lag if table.table.cursor else timedelta(0))
    complete_to = table.complete_to
    if complete_to is None:
        begun = min((batch.started_at for batch in table.batches), default=None)
        if begun is None or overview.at - begun <= allowed:
            return None
        what = "nothing of it is in bronze yet; its first batch began"
        return _need(Cause.LATE, table, what, f"See where it stops; else: {_again(table)}", begun)
    # A day's rows come all through the day: a date that is reached counts to its end.
    whole = timedelta(days=1) if table.table.cursor and table.table.cursor.type == "date" else timedelta(0)
    if overview.at - complete_to <= allowed + whole:
        return None
    what = f"bronze is behind by more than LATE_AFTER ({span(overview.late_after)}): it is complete up to"
    return _need(Cause.LATE, table, what, f"See where it stops; else: {_again(table)}", complete_to)


def _never(table: TableOverview) -> Attention | None:
    if table.extractions is not None or table.batches or table.watermark is not None:
        return None
    return _need(Cause.NEVER_EXTRACTED, table, "it was never extracted", f"Do so: {_again(table)}", None)


def _downstream(overview: Overview, troubled: set[str | None]) -> Iterator[Attention]:
    """Silver and gold, or a whole run of the transformer; what a table's batches tell themselves is not told again."""
    run = overview.last_run
    problems = [str(problem) for problem in run.details.get("problems", [])] if run else []
    own = [p for p in problems if not any(table and p.startswith(f"table {table}: ") for table in troubled)]
    cure = "Correct that, then: credix sweep"
    if run is not None and run.outcome == "failed":
        if own or not problems:
            yield Attention(
                cause=Cause.DOWNSTREAM_FAILED,
                about="transformer",
                what="its last run failed",
                since=run.finished_at,
                why="; ".join(own) or "its log says why",
                cure=cure,
            )
    elif overview.left:
        what = "silver and gold are behind bronze, and nobody is at work on them"
        yield Attention(cause=Cause.DOWNSTREAM_FAILED, about="transformer", what=what, cure="Do so: credix sweep")


def _tests(overview: Overview) -> Iterator[Attention]:
    """Tests that fail, and tests that could not be run; those that warn need nobody."""
    again = "credix audit tells of every test; when it is corrected: credix audit --run"
    failing = [test for test in overview.tests if test.status == "fail"]
    if failing:
        rows = sum(test.failures or 0 for test in failing)
        yield Attention(
            cause=Cause.TESTS_FAILED,
            about="tests",
            count=len(failing),
            what=f"{counted(len(failing), 'test fails', 'tests fail')} ({counted(rows, 'row')}), as was found",
            since=max(test.as_of for test in failing),
            why=", ".join(test.name for test in failing),
            cure=f"Correct the source, or the model; {again}",
        )
    broken = [test for test in overview.tests if test.status == "error"]
    if broken:
        yield Attention(
            cause=Cause.AUDIT_FAILED,
            about="tests",
            count=len(broken),
            what=f"{counted(len(broken), 'test')} could not be run",
            since=max(test.as_of for test in broken),
            why="; ".join(f"{test.name}: {test.message}" for test in broken),
            cure=f"Correct the test; {again}",
        )


def _audit(overview: Overview) -> Iterator[Attention]:
    """An audit that found out nothing, or that nobody makes."""
    trouble = overview.audits.trouble
    if trouble is not None:
        cure = "It comes again by its schedule; at once by: credix audit --run"
        what = "the last audit found out nothing; it began"
        yield Attention(
            cause=Cause.AUDIT_FAILED, about="audit", what=what, since=trouble.at, why=trouble.why, cure=cure
        )
        return
    newest = overview.audits.newest
    merged = [batch.merged_at for table in overview.tables for batch in table.batches if batch.merged_at]
    due = newest.at if newest else min(merged, default=None)
    if due is not None and overview.at - due > AUDIT_LATE:
        what = (
            "nobody audits any more; the last audit began"
            if newest
            else "bronze was never audited; its first batch was merged"
        )
        cure = "See whether its schedule runs, then: credix audit --run"
        yield Attention(cause=Cause.AUDIT_LATE, about="audit", what=what, since=due, cure=cure)


def _failed_objects(overview: Overview, settings: CoreSettings) -> Iterator[Attention]:
    """Objects in failed/ of which no batch tells, and that nothing made up for: what somebody dropped in, mostly."""
    tables = {table.name: table for table in overview.tables}
    lasting = [stored for stored in overview.objects.failed if _of_nobody(stored, settings.failed_prefix, tables)]
    if lasting:
        newest = max(lasting, key=lambda stored: (stored.created_at, stored.name))
        yield Attention(
            cause=Cause.OBJECTS_FAILED,
            about=f"{settings.failed_prefix}/",
            count=len(lasting),
            what=f"{counted(len(lasting), 'object')} could not be loaded, the newest, "
            f"{newest.name.removeprefix(f'{settings.failed_prefix}/')},",
            since=newest.created_at,
            cure="Read the reason beside each, <object>.error.json; delete both when you have",
        )


def _of_nobody(stored: StoredObject, prefix: str, tables: dict[str, TableOverview]) -> bool:
    landed = parse_landed(prefix, stored.name)
    table = tables.get(landed.table) if landed else None
    if landed is None or table is None:
        return True
    if any(batch.id == landed.batch_id for batch in table.batches):
        return False  # the batch tells
    # Of a batch that the state does not know, or long ago: the next extraction has read its window again.
    from_ = table.extractions.succeeded_from if table.extractions else None
    again = [batch.started_at for batch in table.batches if batch.state in _GOOD]
    return max([*again, *([from_] if from_ else [])], default=stored.created_at) <= stored.created_at


def _landed(overview: Overview, settings: CoreSettings) -> Iterator[Attention]:
    """Manifests and foreign objects that have lain in landing/ for long; parts belong to an extraction at work."""
    known = {batch.id for table in overview.tables for batch in table.batches}
    old = []
    for stored in overview.objects.landed:
        landed = parse_landed(settings.landing_prefix, stored.name)
        told = landed is not None and (not landed.is_manifest or landed.batch_id in known)
        if not told and overview.at - stored.created_at > WAITS:
            old.append(stored)
    if old:
        oldest = min(old, key=lambda stored: (stored.created_at, stored.name))
        yield Attention(
            cause=Cause.OBJECTS_WAIT,
            about=f"{settings.landing_prefix}/",
            count=len(old),
            what=f"{counted(len(old), 'object')} wait to be loaded, the oldest, "
            f"{oldest.name.removeprefix(f'{settings.landing_prefix}/')},",
            since=oldest.created_at,
            cure="See whether the loader runs (event.failed in its log), then: credix sweep",
        )
