"""When fingerprints of rows that are read again count, and which rows those are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from services.core.batch import Batch, BatchState, Fingerprints
from services.core.state.memory import ColumnSeen, CursorSeen, Seen, ServerSeen
from services.core.state.state import TableProgress
from services.core.tables import Cursor, Mode
from services.core.window import Window
from services.extractor.planning.again import FORM, Again, again_flag, void
from services.extractor.planning.cursor import CursorKind, SettledCursor
from services.extractor.planning.plan import not_older
from services.extractor.planning.window import predicate

DAY = datetime(2026, 11, 26, tzinfo=UTC)
READ_AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
WINDOW = Window(low=DAY, high=DAY)
KEPT = Fingerprints(form=FORM, columns="columns", rows=3, ahead=0, sha256="sum", unannounced=None)
TIP = Batch(
    id="20261126T120000000000Z-00000001",
    run_id="run",
    table="t",
    mode=Mode.INCREMENTAL,
    window=Window(low=None, high=DAY),
    extracted_at=READ_AT,
    state=BatchState.MERGED,
    fingerprints=KEPT,
    started_at=READ_AT,
)
SEEN = Seen(
    server=ServerSeen(system="1", database=1, timeline=1, position=1_000),
    relation=1,
    members={"2": "3"},
    subscriptions=[],
    last_column=2,
    key=["id"],
    mode="incremental",
    cursor=CursorSeen(expression="due", type="date", time_zone="UTC", lag=0, lookback=86_400),
    safety_lag=0,
    columns={"id": ColumnSeen(number=1, source="id", source_type="bigint", type="INT64", policy="fail", mask=None)},
    mask_digits=None,
)
PROGRESS = TableProgress(watermark=DAY, watermark_batch=TIP.id, extracted_at=READ_AT)


def judged(**given: Any) -> str | None:
    """What is said of fingerprints that count, but for what is given."""
    usual = {"tip": TIP, "window": WINDOW, "progress": PROGRESS, "before": SEEN, "now": SEEN, "columns": "columns"}
    return void(**{**usual, **given})


def seen(**changed: Any) -> Seen:
    return SEEN.model_copy(update=changed)


def test_they_count_while_their_batch_is_in_bronze_and_nothing_came_since() -> None:
    assert judged() is None
    position = SEEN.server.model_copy(update={"position": 2_000})
    assert judged(now=seen(server=position)) is None, "the WAL grows all the time"
    assert judged(before=seen(mode="snapshot")) is None, "a snapshot has read the same columns"


@pytest.mark.parametrize("state", [state for state in BatchState if state is not BatchState.MERGED])
def test_they_do_not_count_before_their_batch_is_in_bronze_nor_when_it_failed(state: BatchState) -> None:
    assert judged(tip=TIP.model_copy(update={"state": state})) == "their batch is not in bronze yet"


LATER = READ_AT + timedelta(microseconds=1)
SINCE: dict[str, dict[str, Any]] = {
    "another extraction began": {"progress": PROGRESS.model_copy(update={"extracted_at": LATER})},
    "nothing is known of extractions": {"progress": PROGRESS.model_copy(update={"extracted_at": None})},
    "a file came": {"progress": PROGRESS.model_copy(update={"unannounced": "file"})},
    "another file came": {
        "tip": TIP.model_copy(update={"fingerprints": KEPT.model_copy(update={"unannounced": "one"})}),
        "progress": PROGRESS.model_copy(update={"unannounced": "two"}),
    },
    "the chain ends elsewhere": {"window": Window(low=DAY - timedelta(days=1), high=DAY)},
    "all is read": {"window": Window(low=None, high=DAY)},
    "the tip has no window": {"tip": TIP.model_copy(update={"window": None})},
    "none were kept": {"tip": TIP.model_copy(update={"fingerprints": None})},
    "another release": {"tip": TIP.model_copy(update={"fingerprints": KEPT.model_copy(update={"form": FORM + 1})})},
    "nothing is remembered": {"before": None},
    "other columns": {"columns": "others"},
}


@pytest.mark.parametrize("what", SINCE)
def test_they_do_not_count(what: str) -> None:
    assert judged(**SINCE[what]) is not None


def _column(**changed: Any) -> dict[str, ColumnSeen]:
    return {"id": SEEN.columns["id"].model_copy(update=changed)}


@pytest.mark.parametrize(
    "change",
    [
        {"key": ["id", "b"]},
        {"cursor": SEEN.cursor and SEEN.cursor.model_copy(update={"expression": "paid"})},
        {"cursor": SEEN.cursor and SEEN.cursor.model_copy(update={"lookback": 0})},
        {"columns": _column(mask="hash")},
        {"columns": _column(type="STRING")},
        {"columns": _column(source="other")},
        {"columns": _column(policy="exact")},
        {"mask_digits": "12345678"},
        {"relation": 2},
        {"members": {"2": "4"}},
        {"server": ServerSeen(system="2", database=1, timeline=1, position=1_000)},
        {"server": ServerSeen(system="1", database=1, timeline=2, position=1_000)},
    ],
    ids=str,
)
def test_they_do_not_count_under_another_declaration_or_source(change: dict[str, Any]) -> None:
    assert judged(now=seen(**change)) == "the source or its declaration is another"


# --- which rows -----------------------------------------------------------------------------------------------------


def flags(cursor: Cursor, window: Window, kept: Fingerprints | None, kind: CursorKind, *values: str) -> list[Again]:
    """What the engine makes of the flag for some values; PostgreSQL has the same comparisons."""
    settled = SettledCursor(cursor, kind)
    rows = ", ".join(f"({number}, {value})" for number, value in enumerate(values))
    statement = f"SELECT {again_flag(settled, window, kept)} FROM (VALUES {rows}) AS rows (n, c) ORDER BY n"
    with duckdb.connect(":memory:") as engine:
        engine.execute("SET TimeZone = 'UTC'")
        return [Again(flag) for (flag,) in engine.execute(statement).fetchall()]


DATES = Cursor(expression="c", type="date", time_zone="UTC", lookback=timedelta(days=1))
VALUES = [
    "DATE '2026-11-23'",
    "DATE '2026-11-24'",
    "DATE '2026-11-25'",
    "DATE '2026-11-26'",
    "DATE '2026-11-27'",
    "NULL",
]
NOTHING = Again(0)


def test_days() -> None:
    window = Window(low=DAY - timedelta(days=2), high=DAY)
    after = flags(DATES, window, KEPT, CursorKind.DAY, *VALUES)
    both = Again.NEXT | Again.LAST
    assert after == [Again.LAST, Again.LAST, NOTHING, Again.NEXT, Again.NEXT | Again.AHEAD, both]
    first = flags(DATES, Window(low=None, high=DAY), None, CursorKind.DAY, *VALUES)
    assert first == [NOTHING, NOTHING, NOTHING, Again.NEXT, Again.NEXT | Again.AHEAD, Again.NEXT]


def test_where_the_last_window_has_read_ahead_all_rows_can_be_known() -> None:
    ahead = KEPT.model_copy(update={"ahead": 1})
    window = Window(low=DAY - timedelta(days=2), high=DAY)
    assert all(Again.LAST in flag for flag in flags(DATES, window, ahead, CursorKind.DAY, *VALUES))


@pytest.mark.parametrize("ahead", [0, 1])
def test_of_versions_that_not_all_snapshots_of_a_window_see_none_is_taken_for_known(ahead: int) -> None:
    """Another version of the row can have been read under one that does not, and lands."""
    kept, window = KEPT.model_copy(update={"ahead": ahead}), Window(low=DAY, high=DAY)
    flag = again_flag(SettledCursor(DATES, CursorKind.DAY), window, kept, not_older(2**32 + 100))
    xids = {99: True, 100: False, 101: False, 2**31 + 99: False, 2**31 + 100: True, 2**32 - 1: True}
    rows = ", ".join(f"(DATE '2026-11-26', {xid})" for xid in xids)
    with duckdb.connect(":memory:") as engine:
        found = engine.execute(f"SELECT xmin, {flag} FROM (VALUES {rows}) AS rows (c, xmin)").fetchall()
    assert {xid: Again.LAST in Again(flag) for xid, flag in found} == xids
    assert all(Again.NEXT in Again(flag) for _, flag in found), "they are kept all the same"


def test_nulls_that_only_snapshots_read_are_not_read_again() -> None:
    cursor = DATES.model_copy(update={"nulls": "snapshot_only"})
    [flag] = flags(cursor, Window(low=None, high=DAY), None, CursorKind.DAY, "NULL")
    assert flag is NOTHING


def test_moments_without_a_lookback_are_read_again_only_ahead_of_the_window() -> None:
    cursor = Cursor(expression="c", type="timestamp")
    window = Window(low=READ_AT - timedelta(hours=1), high=READ_AT)
    moments = ["11:00:00", "11:00:00.000001", "12:00:00", "12:00:00.000001"]
    found = flags(cursor, window, KEPT, CursorKind.MOMENT, *(f"TIMESTAMPTZ '2026-11-26 {at}+00'" for at in moments))
    assert found == [Again.LAST, NOTHING, NOTHING, Again.NEXT | Again.AHEAD]


def test_what_the_next_window_reads_is_what_this_one_flags() -> None:
    """The flag and the window's own condition are made apart, and have to agree."""
    settled = SettledCursor(DATES, CursorKind.DAY)
    rows = ", ".join(f"({value})" for value in VALUES)
    with duckdb.connect(":memory:") as engine:
        flag = again_flag(settled, Window(low=DAY, high=DAY), None)
        following = predicate(settled, Mode.INCREMENTAL, Window(low=DAY, high=DAY + timedelta(days=1)))
        found = engine.execute(f"SELECT ({flag}) & 1 = 1, {following} FROM (VALUES {rows}) AS rows (c)").fetchall()
    assert [flagged for flagged, _ in found] == [read for _, read in found]
