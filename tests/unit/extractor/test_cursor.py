"""A cursor is what it is declared to be, or the message says what to declare."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Cursor, Table
from services.extractor.planning.cursor import CursorKind, SettledCursor, settle_cursor
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation
from services.extractor.source.cursor import CursorType

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 11, 22, 1, 30, 0, 123456, tzinfo=UTC)
MOMENT = CursorType("timestamptz", "timestamp with time zone", -1, column=True, zoned=False)
LOCAL = CursorType("timestamp", "timestamp without time zone", -1, column=True, zoned=False)
DAY = CursorType("date", "date", -1, column=True, zoned=False)
NUMBER = CursorType("int8", "bigint", -1, column=True, zoned=False)


def settled(found: CursorType, *columns: SourceColumn, **facts: Any) -> SettledCursor:
    day = facts.get("type") == "date"
    facts = {"expression": "at", "type": "timestamp", **({"lookback": timedelta(days=1)} if day else {}), **facts}
    table = Table(
        name="t",
        source="shop.orders",
        key=["id"],
        cursor=Cursor(**facts),
        bronze_model="t",
        columns=[Column(name="id", type=ColumnType.INT64, required=True)],
    )
    cursor = settle_cursor(
        table, found, SourceRelation(RelationKind.TABLE, {column.name: column for column in columns})
    )
    assert cursor is not None
    return cursor


@pytest.mark.parametrize(
    ("found", "facts", "told"),
    [
        (DAY, {}, r"is date, declared timestamp; declare type: date, with lookback: P1D"),
        (MOMENT, {"type": "date"}, r"declared date; .*\(\(at\) AT TIME ZONE 'America/Sao_Paulo'\)::date"),
        (LOCAL, {"type": "date"}, "is timestamp without time zone, declared date; declare type: timestamp, with"),
        (LOCAL, {}, r"is timestamp without time zone, .*declare cursor\.time_zone.*\(at\) AT TIME ZONE"),
        (MOMENT, {"time_zone": "UTC"}, r"is timestamp with time zone, .* take cursor\.time_zone out"),
        (NUMBER, {}, r"is bigint, declared timestamp; a number .*mode: snapshot; .* to_timestamp\(at\)"),
        (NUMBER, {"type": "date"}, "is bigint, declared date; a number"),
        (replace(NUMBER, name="uuid", shown="uuid"), {}, r"a UUID does not grow .*uuid_extract_timestamp\(at\)"),
        (replace(NUMBER, name="text", shown="text"), {}, r"\(at\)::timestamp with cursor\.time_zone"),
        (replace(NUMBER, name="bool", shown="boolean"), {}, "is boolean, declared timestamp; a cursor is"),
        (replace(MOMENT, zoned=True), {}, r"depends on the session's time zone.*AT TIME ZONE"),
        (replace(LOCAL, zoned=True), {"time_zone": "UTC"}, "depends on the session's time zone"),
        (replace(DAY, zoned=True), {"type": "date", "time_zone": "America/Sao_Paulo"}, "depends on the session's"),
    ],
)
def test_another_type_is_refused_with_what_to_declare(found: CursorType, facts: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^table t: cursor.expression .*{told}"):
        settled(found, **facts)


def test_a_zone_that_does_not_exist_is_a_mistake_of_the_file() -> None:
    for zone in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(ValidationError, match="is no time zone"):
            Cursor(expression="at", type="timestamp", time_zone=zone)


def test_a_comment_in_an_expression_swallows_nothing() -> None:
    cursor = settled(MOMENT, expression="at -- by trigger")
    assert cursor.after(NOW) == "(\nat -- by trigger\n) > TIMESTAMPTZ '2026-11-22 01:30:00.123456+00:00'"


def test_a_local_time_is_compared_as_its_zones_clocks_show_it() -> None:
    cursor = settled(LOCAL, time_zone="America/Sao_Paulo")
    assert cursor.kind is CursorKind.LOCAL_TIME
    assert cursor.after(NOW) == "(at) > TIMESTAMP '2026-11-21 22:30:00.123456'"
    assert cursor.until(NOW) == "(at) <= TIMESTAMP '2026-11-21 22:30:00.123456'"
    assert cursor.edge(NOW) == NOW
    back = settled(LOCAL, time_zone="America/New_York", lookback=SECOND)
    clocks_go_back = datetime(2026, 11, 1, 6, tzinfo=UTC)
    assert back.after(clocks_go_back) == "(at) > TIMESTAMP '2026-11-01 00:59:59.000000'"
    assert back.until(clocks_go_back) == "(at) <= TIMESTAMP '2026-11-01 02:00:00.000000'"


@pytest.mark.parametrize(
    ("zone", "day", "last"),
    [
        ("UTC", 22, "2026-11-22"),
        ("America/Sao_Paulo", 21, "2026-11-21"),
        ("Pacific/Kiritimati", 22, "2026-11-22"),
        (None, 21, "2026-11-22"),
    ],
)
def test_a_window_of_days_ends_with_the_zones_day(zone: str | None, day: int, last: str) -> None:
    cursor = settled(DAY, type="date", time_zone=zone)
    high = datetime(2026, 11, day, tzinfo=UTC)
    assert cursor.edge(NOW) == high
    assert cursor.until(high) == f"(at) <= DATE '2026-11-{day}'"
    assert cursor.after(high) == f"(at) > DATE '2026-11-{day - 1}'"
    assert cursor.beyond(NOW, high) == f"(at) > DATE '{last}'"


def test_days_that_the_expression_takes_from_the_session_are_utc() -> None:
    for zone in (None, "UTC"):
        found = settled(replace(DAY, zoned=True), type="date", time_zone=zone)
        assert found.edge(NOW) == datetime(2026, 11, 22, tzinfo=UTC)


def test_a_rounded_cursor_stays_behind_by_what_it_is_rounded_to() -> None:
    def lag(modifier: int, *columns: SourceColumn, column: bool = True) -> timedelta:
        return settled(replace(MOMENT, modifier=modifier, column=column), *columns, lag=SECOND).lag

    assert lag(-1) == lag(6) == SECOND
    assert lag(0) == 2 * SECOND
    assert lag(3) == SECOND + timedelta(milliseconds=1)
    coarse = SourceColumn("at", "timestamptz", 0), SourceColumn("n", "varchar", 5), SourceColumn("b", "timestamp", 3)
    assert lag(-1, *coarse) == SECOND, "a column without a precision is not rounded, whatever others are"
    assert lag(-1, *coarse, column=False) == 2 * SECOND, "greatest(a, b) may be any of them"


def test_a_cursor_says_what_it_is() -> None:
    assert settled(MOMENT).described == "timestamp with time zone"
    rounded = replace(LOCAL, modifier=0, shown="timestamp(0) without time zone")
    assert settled(rounded, time_zone="UTC").described == "timestamp(0) without time zone of UTC, rounded to 1 s"
    assert "any zone on earth" in settled(DAY, type="date").described
