"""What needs a person, cause by cause; a pipeline that is well, or cures itself, leaves everybody in peace."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from services.core.batch import Batch, BatchError, BatchState
from services.core.health.attention import MOST_WORDS, SOFT, WAITS, Attention, Cause, attention
from services.core.health.overview import Objects, Overview, TableOverview, read_objects, read_overview
from services.core.naming import manifest_object, part_object
from services.core.settings import CoreSettings
from services.core.state.extractions import ExtractionError, ExtractionNote, LastExtractions
from services.core.state.lease import LeaseView, acquire
from services.core.state.quality import Audit, Audits, RowTests, TestResult, Trouble
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, Run
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import Column, ColumnType, Cursor, Mode, Table, Tables
from services.core.window import Window

NOW = datetime(2026, 11, 23, 6, 24, tzinfo=UTC)
SETTINGS = CoreSettings.model_validate({"GCP_PROJECT": "p"})
WHY = ExtractionError(kind="OperationalError", message="password authentication failed for user")


OPEN = frozenset(BatchState) - {BatchState.FAILED}


def ago(hours: float = 0, minutes: float = 0) -> datetime:
    return NOW - timedelta(hours=hours, minutes=minutes)


def table(name: str = "t", cursor: str = "timestamp", lag: timedelta = timedelta(0)) -> Table:
    lookback = timedelta(days=1)
    return Table(
        name=name,
        source=f"s.{name}",
        key=["id"],
        cursor=Cursor.model_validate({"expression": "c", "type": cursor, "lag": lag, "lookback": lookback}),
        bronze_model=name,
        columns=[Column(name="id", type=ColumnType.INT64, required=True)],
    )


def batch(state: BatchState, hours: float, minutes: float = 0, **facts: Any) -> Batch:
    """A batch that began so long ago, and came into its state a minute later."""
    at = ago(hours, minutes)
    told: dict[str, Any] = {f"{state}_at": at + timedelta(minutes=1)} if state is not BatchState.EXTRACTING else {}
    usual: dict[str, Any] = {"window": Window(low=ago(100), high=at), "run_id": "r", "open": state in OPEN}
    return Batch(
        id=f"{at:%Y%m%dT%H%M%S%f}Z-00000000",
        table="t",
        mode=Mode.INCREMENTAL,
        extracted_at=at,
        started_at=at,
        state=state,
        **(usual | told | facts),
    )


def merged(hours: float) -> Batch:
    return batch(BatchState.MERGED, hours).model_copy(update={"open": False})


def extractions(hours: float, **facts: Any) -> LastExtractions:
    """An extraction that began so long ago, and has landed its batch a minute later."""
    first = LastExtractions.first("t", "r", ago(hours))
    return first.succeeded(ago(hours) + timedelta(minutes=1), "b", None).model_copy(update=facts)


def failing(hours: float, failures: int = 1) -> LastExtractions:
    last = extractions(hours + 1)
    for _ in range(failures):
        last = last.begun("r2", ago(hours)).failed(ago(hours), WHY, None)
    return last


WELL = TableOverview(
    table=table(),
    watermark=ago(2),
    batches=[merged(2)],
    extractions=extractions(2),
    lease=LeaseView(None, 3, ago(1)),
)


AUDIT = Audit(id="a", at=ago(30), seconds=4, tests=[TestResult(name="t", status="pass", failures=0)])


def seen(*tables: TableOverview, **facts: Any) -> Overview:
    objects = Objects(landed=facts.pop("landed", []), failed=facts.pop("failed", []))
    facts = {"audits": Audits(newest=AUDIT)} | facts
    return Overview(at=NOW, late_after=SETTINGS.late_after, tables=list(tables), objects=objects, **facts)


def needs(*tables: TableOverview, **facts: Any) -> list[Attention]:
    return attention(seen(*tables, **facts), SETTINGS)


def only(*tables: TableOverview, **facts: Any) -> Attention:
    found = needs(*tables, **facts)
    assert len(found) == 1, found
    return found[0]


def stored(name: str, hours: float = 3) -> StoredObject:
    return StoredObject("b", name, 1, 1, "c", ago(hours))


# ---- nothing


def test_a_pipeline_that_is_well_needs_nobody() -> None:
    assert needs(WELL) == []


HELD_BY_R = LeaseView("r2", 4, ago(0) + timedelta(seconds=40))
QUIET = Window(low=ago(30), high=ago(1))


@pytest.mark.parametrize(
    "well",
    [
        replace(WELL, extractions=extractions(2).begun("r2", ago(minutes=3)), lease=HELD_BY_R),
        replace(WELL, batches=[merged(2), batch(BatchState.EXTRACTING, 0.5)], lease=HELD_BY_R),
        replace(WELL, batches=[merged(2), batch(BatchState.LANDED, 0, 50)]),
        replace(WELL, batches=[merged(2), batch(BatchState.LOADED, 0, 50, loaded_at=ago(minutes=40))]),
        replace(WELL, batches=[batch(BatchState.FAILED, 5), merged(2)]),
        replace(WELL, batches=[batch(BatchState.FAILED, 5)], extractions=extractions(2)),
        replace(WELL, batches=[batch(BatchState.FAILED, 1, error=BatchError(code="discarded", message="m"))]),
        replace(WELL, batches=[batch(BatchState.FAILED, 1, error=BatchError(code="superseded", message="m"))]),
        replace(WELL, watermark=ago(30), batches=[], extractions=extractions(0.9, quiet=QUIET)),
        replace(WELL, watermark=ago(26)),
        replace(WELL, watermark=ago(47), table=table(cursor="date")),
        replace(WELL, watermark=ago(28), table=table(lag=timedelta(hours=3))),
        replace(WELL, watermark=None, batches=[batch(BatchState.LOADED, 0.5)]),
        replace(WELL, watermark=None, batches=[], extractions=LastExtractions.first("t", "r2", NOW), lease=HELD_BY_R),
    ],
    ids=[
        "an extraction is at work",
        "it has begun its batch",
        "landed a moment ago",
        "loaded a moment ago",
        "a failed batch, and a later good one",
        "a failed batch, and an extraction since that found nothing",
        "discarded by a person",
        "superseded",
        "it rests, and extractions say so",
        "behind by just LATE_AFTER",
        "a date counts to its day's end",
        "its lag is declared",
        "the first batch is on its way",
        "the first extraction is at work",
    ],
)
def test_what_cures_itself_or_is_as_declared_needs_nobody(well: TableOverview) -> None:
    assert needs(well) == []


# ---- each cause


def test_a_failed_extraction() -> None:
    need = only(replace(WELL, extractions=failing(0.5)))
    assert (need.cause, need.table, need.since) == (Cause.EXTRACTION_FAILED, "t", ago(0.5))
    assert need.sentence(NOW) == (
        "t: the last extraction failed 30 min ago (2026-11-23 05:54 UTC): OperationalError: password authentication "
        "failed for user. Correct that, then: credix extract --table t"
    )


def test_a_source_that_changed_waits_for_a_word() -> None:
    last = failing(0.5)
    assert last.error is not None
    changed = last.model_copy(update={"error": last.error.model_copy(update={"kind": "SourceChanged"})})
    assert only(replace(WELL, extractions=changed)).cure == (
        "If that is meant to be: credix extract --table t --accept-changes; else set right what changed"
    )


def test_failures_in_a_row_are_told_since_the_first() -> None:
    last = failing(5.0667, 1).begun("r3", ago(1)).failed(ago(1), WHY, None)
    need = only(replace(WELL, extractions=last))
    assert need.sentence(NOW).startswith("t: the last 2 extractions failed, the first 5 h 4 min ago (2026-11-23 01:19")


def test_one_at_work_does_not_hide_that_the_ones_before_it_failed() -> None:
    last = failing(0.5).begun("r2", ago(minutes=1))
    assert only(replace(WELL, extractions=last, lease=HELD_BY_R)).cause is Cause.EXTRACTION_FAILED


@pytest.mark.parametrize(
    "lease",
    [None, LeaseView(None, 4, NOW + timedelta(seconds=9)), LeaseView("r2", 4, ago(0, 1))],
    ids=["forgotten", "given back", "expired"],
)
def test_an_extraction_whose_process_was_killed(lease: LeaseView | None) -> None:
    """Before it had a batch, or after; also when the sweep has cleared its lease since."""
    killed = replace(WELL, extractions=extractions(2).begun("r2", ago(minutes=7)), lease=lease)
    need = only(killed)
    assert (need.cause, need.since) == (Cause.EXTRACTION_INTERRUPTED, ago(minutes=7))
    begun = batch(BatchState.EXTRACTING, 0, 6, run_id="r2")
    assert only(replace(killed, batches=[merged(2), begun])) == need, "one thing is told once"


def test_a_batch_of_an_extraction_that_nobody_noted_and_that_was_killed() -> None:
    begun = batch(BatchState.EXTRACTING, 0, 6, run_id="r0")
    need = only(replace(WELL, extractions=None, batches=[merged(2), begun]))
    assert (need.cause, begun.id in need.what) == (Cause.EXTRACTION_INTERRUPTED, True)


def test_an_extraction_that_reads_again_what_breaks_off() -> None:
    last = extractions(2).begun("r2", ago(minutes=2)).model_copy(update={"trouble": "TransientError: broke off"})
    need = only(replace(WELL, extractions=last, lease=HELD_BY_R))
    assert (need.cause, need.why) == (Cause.EXTRACTION_IN_TROUBLE, "TransientError: broke off")


def test_a_held_batch() -> None:
    held = batch(BatchState.HELD, 5, hold=BatchError(code="too_many_deletes", message="9 of 10 rows"))
    need = only(replace(WELL, batches=[merged(6), held]))
    assert (need.cause, need.since) == (Cause.BATCH_HELD, held.held_at)
    assert f"credix release {held.id}" in need.cure
    assert f"credix discard {held.id}" in need.cure
    assert need.why == "too_many_deletes: 9 of 10 rows"


FAILED = batch(BatchState.FAILED, 1, error=BatchError(code="part_changed", message="not what was written"))


@pytest.mark.parametrize(
    "others",
    [[], [merged(2)], [batch(BatchState.MERGED, 1, -0.5)], [batch(BatchState.EXTRACTING, 0.1, run_id="r2")]],
    ids=["alone", "after a good one", "a good one that was planned before it failed", "the next is at work"],
)
def test_a_failed_batch_that_nothing_made_up_for(others: list[Batch]) -> None:
    last = extractions(2).begun("r2", ago(0.1)) if others and others[0].run_id == "r2" else extractions(2)
    need = only(replace(WELL, batches=sorted([FAILED, *others], key=lambda b: b.id), extractions=last, lease=HELD_BY_R))
    assert (need.cause, need.since) == (Cause.BATCH_FAILED, FAILED.failed_at)
    assert need.why == "part_changed: not what was written"


def test_three_failed_batches_are_counted() -> None:
    need = only(replace(WELL, batches=[merged(5), *(batch(BatchState.FAILED, hours) for hours in (1.5, 1.2)), FAILED]))
    assert f"batch {FAILED.id} (as 2 batches before it) failed" in need.what


def test_a_batch_that_failed_with_its_extraction_is_told_with_it() -> None:
    gone = batch(BatchState.FAILED, 0.5, error=BatchError(code="extraction_failed", message="m"))
    assert only(replace(WELL, batches=[merged(2), gone], extractions=failing(0.5))).cause is Cause.EXTRACTION_FAILED
    both = needs(replace(WELL, batches=[merged(2), FAILED], extractions=failing(0.5)))
    assert [need.cause for need in both] == [Cause.EXTRACTION_FAILED, Cause.BATCH_FAILED]


def test_a_failed_file_is_only_made_up_for_by_a_file() -> None:
    file = batch(BatchState.FAILED, 3, window=None)
    need = only(replace(WELL, batches=[file, merged(1)], extractions=extractions(1)))
    assert (need.cause, "drop the file again" in need.cure) == (Cause.BATCH_FAILED, True)
    again = batch(BatchState.MERGED, 1, window=None)
    assert needs(replace(WELL, batches=[file, again])) == []


@pytest.mark.parametrize(
    ("state", "words"), [(BatchState.LANDED, "get on (3 attempts); it landed"), (BatchState.LOADED, "; it was loaded")]
)
def test_a_batch_in_trouble(state: BatchState, words: str) -> None:
    troubled = batch(state, 0, 5, trouble="ServiceUnavailable: 503", load_attempts=3)
    need = only(replace(WELL, batches=[merged(2), troubled]))
    assert (need.cause, need.why, need.since) == (Cause.BATCH_IN_TROUBLE, "ServiceUnavailable: 503", ago(minutes=4))
    assert words in need.what


def test_of_many_batches_in_trouble_the_oldest_is_told() -> None:
    many = [batch(BatchState.LOADED, 0, minutes, trouble=f"m{minutes}") for minutes in range(40, 10, -1)]
    need = only(replace(WELL, batches=[merged(2), *many]))
    assert f"batch {many[0].id} and 29 more do not get on" in need.what
    assert need.why == "m40"


def test_a_merged_batch_whose_objects_cannot_be_archived_is_in_trouble() -> None:
    assert only(replace(WELL, batches=[merged(2).model_copy(update={"trouble": "m"})])).cause is Cause.BATCH_IN_TROUBLE


@pytest.mark.parametrize("state", [BatchState.LANDED, BatchState.LOADED])
def test_a_batch_that_nobody_is_at(state: BatchState) -> None:
    waiting = batch(state, WAITS.total_seconds() / 3600, 2)
    need = only(replace(WELL, batches=[merged(2), waiting]))
    assert (need.cause, need.since) == (Cause.BATCH_WAITS, ago(1, 1))


@pytest.mark.parametrize(
    ("facts", "since"),
    [
        ({"watermark": ago(26, 1)}, ago(26, 1)),
        ({"watermark": ago(50, 1), "table": table(cursor="date")}, ago(50, 1)),
        ({"watermark": ago(29, 1), "table": table(lag=timedelta(hours=3))}, ago(29, 1)),
        ({"watermark": ago(40), "extractions": extractions(9, quiet=Window(low=ago(35), high=ago(1)))}, ago(40)),
        ({"watermark": ago(40), "extractions": extractions(9, quiet=Window(low=ago(40), high=ago(27)))}, ago(27)),
        ({"watermark": None, "batches": [batch(BatchState.LOADED, 27, loaded_at=ago(0.5))]}, ago(27)),
    ],
    ids=["timestamp", "date", "with a lag", "rest with a gap before it", "rest long ago", "nothing in bronze"],
)
def test_bronze_is_late(facts: dict[str, Any], since: datetime) -> None:
    need = only(replace(WELL, **facts))
    assert (need.cause, need.since) == (Cause.LATE, since)


def test_a_table_that_was_never_extracted() -> None:
    need = only(replace(WELL, watermark=None, batches=[], extractions=None, lease=None))
    assert need.cause is Cause.NEVER_EXTRACTED
    assert need.sentence(NOW) == "t: it was never extracted. Do so: credix extract --table t"


def test_a_first_extraction_that_failed_is_told_as_that() -> None:
    first = LastExtractions.first("t", "r", ago(1)).failed(ago(1), WHY, None)
    need = only(replace(WELL, watermark=None, batches=[], extractions=first, lease=None))
    assert need.cause is Cause.EXTRACTION_FAILED


def run(outcome: str, *problems: str) -> Run:
    return Run(
        id="r", service="transformer", started_at=ago(1), finished_at=ago(0.9), outcome=outcome,
        details={"problems": list(problems)},
    )  # fmt: skip


def test_silver_or_gold_cannot_be_built() -> None:
    need = only(WELL, left=True, last_run=run("failed", "model cnpj_ws_clean: Unrecognized name: city"))
    assert (need.cause, need.since) == (Cause.DOWNSTREAM_FAILED, ago(0.9))
    assert need.why == "model cnpj_ws_clean: Unrecognized name: city"


def test_what_a_batch_tells_is_not_told_again_by_the_run() -> None:
    troubled = replace(WELL, batches=[merged(2), batch(BatchState.LOADED, 0, 5, trouble="bronze model t failed")])
    assert only(troubled, left=True, last_run=run("failed", "table t: m")).cause is Cause.BATCH_IN_TROUBLE
    two = needs(troubled, left=True, last_run=run("failed", "table t: m", "model x: m"))
    assert [(need.cause, need.why) for need in two][1] == (Cause.DOWNSTREAM_FAILED, "model x: m")


@pytest.mark.parametrize("last_run", [None, run("succeeded")])
def test_silver_and_gold_were_left_behind(last_run: Run | None) -> None:
    assert only(WELL, left=True, last_run=last_run).cause is Cause.DOWNSTREAM_FAILED


def test_a_transformer_at_work_needs_nobody() -> None:
    assert needs(WELL, left=False, last_run=run("succeeded")) == []


def test_objects_in_failed_that_nobody_made_up_for() -> None:
    foreign = stored(f"{SETTINGS.failed_prefix}/ingestion_dt=2026-11-22/notes.txt", hours=4)
    part = stored(part_object(SETTINGS.failed_prefix, "t", "20261122T170000000000Z-00000000", 0), hours=1)
    need = only(WELL, failed=[foreign, part])
    assert (need.cause, need.since) == (Cause.OBJECTS_FAILED, ago(1))
    assert "2 objects" in need.what
    assert part.name.removeprefix(f"{SETTINGS.failed_prefix}/") in need.what
    later = replace(WELL, extractions=extractions(0.5))
    assert "1 object could" in only(later, failed=[foreign, part]).what, "the next extraction has read its window"
    assert "notes.txt" in only(later, failed=[foreign, part]).what


def test_objects_of_a_batch_that_is_known_are_told_with_it() -> None:
    objects = [stored(part_object(SETTINGS.failed_prefix, "t", FAILED.id, 0), 1)]
    assert only(replace(WELL, batches=[merged(2), FAILED]), failed=objects).cause is Cause.BATCH_FAILED
    superseded = [stored(part_object(SETTINGS.failed_prefix, "t", merged(2).id, 3, attempt=2), 1)]
    assert needs(WELL, failed=superseded) == [], "a broken attempt's part"


def test_objects_that_lie_in_landing() -> None:
    id_ = "20261122T170000000000Z-00000000"
    manifest = stored(manifest_object(SETTINGS.landing_prefix, "t", id_), 1.1)
    assert only(WELL, landed=[manifest]).cause is Cause.OBJECTS_WAIT
    assert only(WELL, landed=[stored(f"{SETTINGS.landing_prefix}/x.csv", 2), manifest]).since == ago(2)
    for fine in (
        stored(part_object(SETTINGS.landing_prefix, "t", id_, 0), 30),
        stored(f"{SETTINGS.landing_prefix}/x.csv", 0.9),
        stored(manifest_object(SETTINGS.landing_prefix, "t", merged(2).id), 30),
    ):
        assert needs(WELL, landed=[fine]) == [], fine.name


def test_the_worst_comes_first_whatever_the_order_of_the_tables() -> None:
    late = replace(WELL, watermark=ago(40))
    held = replace(WELL, table=table("u"), batches=[batch(BatchState.HELD, 5)])
    assert [need.cause for need in needs(late, held)] == [Cause.BATCH_HELD, Cause.LATE]


def test_a_long_reason_is_cut_and_is_one_line() -> None:
    error = ExtractionError(kind="k", message="two\nlines " + "x" * 1_000)
    last = extractions(2).begun("r2", ago(1)).failed(ago(1), error, None)
    [line] = only(replace(WELL, extractions=last)).sentence(NOW).splitlines()
    assert len(line) < MOST_WORDS + 150


# ---- from the state


NOTHING = Objects([], [])


class Bucket:
    """A bucket of some objects."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        return [stored(name) for name in self.names if name.startswith(prefix)]


def test_an_overview_is_what_the_state_and_the_bucket_have(tmp_path: Path) -> None:
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    landing, failed = SETTINGS.landing_prefix, SETTINGS.failed_prefix
    bucket = Bucket(f"{landing}/", f"{landing}/a", f"{failed}/b", f"{failed}/b.error.json")
    lease = acquire(state.store, "extract-t", "r", timedelta(seconds=60))
    note = ExtractionNote.begin(state.store, "t", "r")
    old_and_open = batch(BatchState.LOADED, 24 * 9)
    for each in (old_and_open, merged(24 * 8), merged(2)):
        state.create_batch(each)

    def look() -> Overview:
        tables = Tables(version=1, tables=[table()])
        objects = read_objects(SETTINGS, cast(ObjectStore, bucket))
        return read_overview(SETTINGS, tables, state, objects, datetime.now(UTC))

    found = look()
    assert [o.name for o in found.objects.landed] == [f"{landing}/a"]
    assert [o.name for o in found.objects.failed] == [f"{failed}/b"], "without the reason beside it"
    [seen_table] = found.tables
    assert seen_table.at_work(found.at)
    assert (found.left, found.last_run) == (False, None)
    note.failed("k", "m")
    lease.release()
    assert attention(look(), SETTINGS)[0].cause is Cause.EXTRACTION_FAILED


def test_batches_that_are_open_are_seen_however_old(tmp_path: Path) -> None:
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    for each in (batch(BatchState.LOADED, 24 * 9), merged(24 * 8), merged(2)):
        state.create_batch(each)
    tables = Tables(version=1, tables=[table()])
    [found] = read_overview(SETTINGS, tables, state, NOTHING, NOW).tables
    assert [b.state for b in found.batches] == [BatchState.LOADED, BatchState.MERGED]


@pytest.mark.parametrize("at_work", [True, False])
def test_what_is_due_is_left_behind_only_while_nobody_is_at_it(tmp_path: Path, at_work: bool) -> None:
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    state.note_downstream_due()
    if at_work:
        acquire(state.store, "transform", "me", timedelta(seconds=60))
    state.add_run(run("failed", "m").model_copy(update={"id": f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-0"}))
    tables = Tables(version=1, tables=[table()])
    found = read_overview(SETTINGS, tables, state, NOTHING, datetime.now(UTC))
    assert found.left is not at_work
    assert found.last_run is not None


# ---- tests and audits


def rows(name: str, status: str, hours: float, failures: int | None = 2, table: str = "t") -> RowTests:
    result = TestResult.model_validate({"name": name, "status": status, "failures": failures, "message": "why"})
    return RowTests(table=table).after([result], ["b"], ago(hours))


def test_a_test_that_fails_in_an_audit_needs_a_person() -> None:
    failing = AUDIT.model_copy(update={"tests": [*AUDIT.tests, TestResult(name="u", status="fail", failures=1_234)]})
    found = only(WELL, audits=Audits(newest=failing))
    assert found.cause is Cause.TESTS_FAILED
    assert "1 test fails (1,234 rows), as was found 1 d 6 h ago" in found.sentence(NOW)
    assert ": u. Correct the source, or the model; credix audit tells" in found.sentence(NOW)


def test_a_test_that_fails_in_a_batch_needs_a_person_although_the_audit_before_passed() -> None:
    found = only(WELL, row_tests=[rows("t", "fail", 1), rows("v", "fail", 2, table="u")])
    assert (found.cause, found.count, found.why) == (Cause.TESTS_FAILED, 2, "t, v")
    assert found.since == ago(1)


def test_a_test_that_warns_needs_nobody() -> None:
    warning = AUDIT.model_copy(update={"tests": [TestResult(name="t", status="warn", failures=9)]})
    assert needs(WELL, audits=Audits(newest=warning), row_tests=[rows("t", "warn", 1)]) == []


def test_a_test_that_could_not_be_run_needs_a_person() -> None:
    found = only(WELL, row_tests=[rows("t", "error", 1, None)])
    assert (found.cause, found.why) == (Cause.AUDIT_FAILED, "t: why")


def test_an_audit_that_found_out_nothing_needs_a_person() -> None:
    found = only(WELL, audits=Audits(newest=AUDIT, trouble=Trouble(at=ago(1), why="BigQuery is away")))
    assert (found.cause, found.about, found.since) == (Cause.AUDIT_FAILED, "audit", ago(1))
    assert "BigQuery is away" in found.sentence(NOW)


def test_an_audit_that_nobody_makes_is_late() -> None:
    old = AUDIT.model_copy(update={"at": ago(48.1)})
    found = only(WELL, audits=Audits(newest=old))
    assert (found.cause, found.since) == (Cause.AUDIT_LATE, ago(48.1))
    assert Cause.AUDIT_LATE in SOFT
    never = replace(WELL, batches=[merged(60), merged(2)])
    assert "bronze was never audited; its first batch was merged 2 d 11 h ago" in only(never, audits=Audits()).sentence(
        NOW
    )
    assert needs(WELL, audits=Audits()) == [], "its first batch is new"
