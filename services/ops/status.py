"""What `credix status` shows: what needs a person, first of all; then per table how far it is."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from services.core.batch import Batch, BatchState
from services.core.gcs import GcsObjectStore
from services.core.health.attention import Attention, Cause, attention
from services.core.health.overview import Objects, Overview, TableOverview, read_objects, read_overview
from services.core.naming import parse_landed
from services.core.settings import OpsSettings
from services.core.state.extractions import LastExtractions
from services.core.state.state import open_state
from services.core.storage import StoredObject
from services.core.tables import Tables
from services.core.telling import kind_and_words
from services.core.words import counted
from services.ops.dead_letters import DeadLetters, dead_letters
from services.ops.questions import Question


class BatchStatus(BaseModel):
    """The newest batch of a table."""

    id: str
    state: BatchState
    rows: int
    window_low: datetime | None
    window_high: datetime | None
    """None, as the low, for a file that was dropped into landing/ by hand."""
    started_at: datetime
    merged_at: datetime | None
    unrepresentable: dict[str, int]
    """Per column, the values that its type could not hold."""
    drift: list[str]
    """How the source differed from the declared columns."""
    changes: list[str]
    """What had changed at the source, or in tables.yaml, since the batch before."""
    unseen: list[str]
    """What could not be seen of the rows that were still to come."""
    load_attempts: int
    """How often the loader began to load it."""
    trouble: str | None
    """Why the last attempt at its next step ended; it comes again."""
    error: str | None


class TableStatus(BaseModel):
    """How a table is."""

    table: str
    state: str
    """In a word: of what needs a person most, else of the newest batch."""
    watermark: datetime | None
    complete_to: datetime | None
    """Up to where bronze has everything: the watermark, or beyond it, where extractions found nothing to bring."""
    lag_seconds: float | None
    """Now minus that."""
    extractions: LastExtractions | None
    """How the newest extractions went."""
    last_batch: BatchStatus | None
    pending_batches: int
    """Batches on their way: extracting, landed, loaded or held."""
    landed_objects: int
    failed_objects: int


class Need(Attention):
    """Something that needs a person, with all of it in a sentence."""

    sentence_now: str
    """As it is said at the time of the status."""


class Status(BaseModel):
    """How the pipeline is."""

    at: datetime
    needs_attention: list[Need]
    """What needs a person, the worst first; empty when nothing does."""
    tables: list[TableStatus]
    unknown_landed_objects: int
    unknown_failed_objects: int
    dead_letters: list[DeadLetters]


WORDS = {
    Cause.EXTRACTION_FAILED: "failing",
    Cause.EXTRACTION_INTERRUPTED: "interrupted",
    Cause.EXTRACTION_IN_TROUBLE: "in trouble",
    Cause.BATCH_HELD: "held",
    Cause.BATCH_FAILED: "failed",
    Cause.BATCH_IN_TROUBLE: "in trouble",
    Cause.BATCH_WAITS: "waits",
    Cause.LATE: "late",
    Cause.NEVER_EXTRACTED: "never extracted",
}
"""How a table is, in a word, by what it needs."""


_RETRY_SECONDS = 10.0
"""How long a question to the bucket is repeated: then its error is told, which says more than no answer."""


def read_status(settings: OpsSettings, tables: Tables) -> Status:
    """Look at the state, the bucket and the dead letters; what does not answer is a part of the status."""
    now = datetime.now(UTC)
    names = [name.strip() for name in settings.dead_letter_subscriptions.split(",") if name.strip()]
    bucket = GcsObjectStore(settings.gcp_project, retry_seconds=_RETRY_SECONDS)
    asked_objects = Question(lambda: read_objects(settings, bucket))
    asked_letters = Question(lambda: dead_letters(settings.gcp_project, names))
    unseen = []
    objects, letters = Objects([], []), []
    try:
        objects = asked_objects.answer()
    except Exception as error:  # noqa: BLE001 - it is told
        unseen.append(not_seen(f"bucket {settings.landing_bucket}", error))
    seen = Overview(now, settings.late_after, [], objects, left=False, last_run=None)
    try:
        seen = Question(lambda: _overview(settings, tables, objects, now)).answer()
    except Exception as error:  # noqa: BLE001 - it is told
        unseen.append(not_seen("state", error))
    try:
        letters = asked_letters.answer()
    except Exception as error:  # noqa: BLE001 - it is told
        unseen.append(not_seen("Pub/Sub", error))
    return judged(settings, seen, letters, unseen)


def _overview(settings: OpsSettings, tables: Tables, objects: Objects, now: datetime) -> Overview:
    state = open_state(settings)
    try:
        return read_overview(settings, tables, state, objects, now)
    finally:
        state.store.close()


def judged(settings: OpsSettings, seen: Overview, letters: list[DeadLetters], unseen: list[Attention]) -> Status:
    """The status, from what was seen and what was not."""
    needs = [*attention(seen, settings), *attention_to_letters(letters), *unseen]
    worst = list(Cause)
    needs.sort(key=lambda need: worst.index(need.cause))
    landed = _count_by_table(seen.objects.landed, settings.landing_prefix)
    failed = _count_by_table(seen.objects.failed, settings.failed_prefix)
    return Status(
        at=seen.at,
        needs_attention=[Need(**need.model_dump(), sentence_now=need.sentence(seen.at)) for need in needs],
        tables=[_table(table, seen.at, needs, landed.pop(table.name, 0), failed.pop(table.name, 0))
                for table in seen.tables],
        unknown_landed_objects=sum(landed.values()),
        unknown_failed_objects=sum(failed.values()),
        dead_letters=letters,
    )  # fmt: skip


def attention_to_letters(letters: list[DeadLetters]) -> list[Attention]:
    """What of the dead letters needs a person."""
    found = []
    for each in letters:
        if each.error:
            found.append(_not_seen(each.subscription, each.error))
        elif each.messages:
            found.append(
                Attention(
                    cause=Cause.DEAD_LETTERS,
                    about=each.subscription,
                    what=f"{counted(each.messages, 'event')} could not be handled in all attempts",
                    why=", ".join(each.objects),
                    cure="See event.failed in the log; when its cause is gone: credix sweep, then clear the messages",
                )
            )
    return found


def not_seen(what: str, error: Exception) -> Attention:
    """Something that did not answer."""
    return _not_seen(what, kind_and_words(error))


def _not_seen(what: str, why: str) -> Attention:
    cure = "What it would tell is not known: see whether it runs, and whether you may look at it"
    return Attention(cause=Cause.UNSEEN, about=what, what="it could not be looked at", why=why, cure=cure)


def _count_by_table(objects: list[StoredObject], prefix: str) -> Counter[str | None]:
    names = (parse_landed(prefix, stored.name) for stored in objects)
    return Counter(landed.table if landed else None for landed in names)


def _table(table: TableOverview, now: datetime, needs: list[Attention], landed: int, failed: int) -> TableStatus:
    behind, last = table.behind(now), table.last_batch
    word = next((WORDS[need.cause] for need in needs if need.table == table.name), None)
    usual = "extracting" if table.at_work(now) else last.state.value if last else "no changes"
    return TableStatus(
        table=table.name,
        state=word or usual,
        watermark=table.watermark,
        complete_to=table.complete_to,
        lag_seconds=None if behind is None else round(behind / timedelta(seconds=1), 3),
        extractions=table.extractions,
        last_batch=_batch(last) if last else None,
        pending_batches=len(table.on_their_way),
        landed_objects=landed,
        failed_objects=failed,
    )


def _batch(batch: Batch) -> BatchStatus:
    return BatchStatus(
        id=batch.id,
        state=batch.state,
        rows=batch.rows,
        window_low=batch.window.low if batch.window else None,
        window_high=batch.window.high if batch.window else None,
        started_at=batch.started_at,
        merged_at=batch.merged_at,
        unrepresentable=batch.unrepresentable,
        drift=batch.drift,
        changes=batch.changes,
        unseen=batch.unseen,
        load_attempts=batch.load_attempts,
        trouble=batch.trouble,
        error=f"{batch.error.code}: {batch.error.message}" if batch.error else None,
    )
