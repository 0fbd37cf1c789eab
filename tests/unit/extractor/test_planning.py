"""What an extraction reads: the window's edges and the statements (invariants 1 and 7)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Cursor, Mode, Table, Unrepresentable
from services.core.window import Window
from services.extractor.contract.mapping import Read, reads
from services.extractor.planning.cursor import CursorKind, SettledCursor
from services.extractor.planning.window import (
    index_statement,
    next_window,
    predicate,
    refused_rows,
    select_list,
    unread,
    window_high,
)
from services.extractor.source.catalog import SourceColumn
from services.extractor.source.clock import SourceClock
from services.extractor.source.origin import Origin

NOW = datetime(2026, 11, 22, 17, 30, 0, 123456, tzinfo=UTC)
SAFETY = timedelta(minutes=15)
DECLARED = Cursor(expression="greatest(a, b)", type="timestamp")
TIMESTAMP = SettledCursor(DECLARED)
DATE = SettledCursor(
    Cursor(expression="greatest(a, b)", type="date", lookback=timedelta(days=1)), CursorKind.DAY, ZoneInfo("UTC")
)
TICK = timedelta(microseconds=1)
PLAIN = Origin()


def declared(cursor: SettledCursor, **facts: Any) -> SettledCursor:
    return replace(cursor, declared=cursor.declared.model_copy(update=facts))


def table(cursor: Cursor | None = DECLARED, *columns: Column) -> Table:
    key = Column(name="id", type=ColumnType.INT64, required=True)
    return Table(
        name="t",
        source="shop.orders",
        key=["id"],
        cursor=cursor,
        mode=Mode.INCREMENTAL if cursor else Mode.SNAPSHOT,
        bronze_model="t",
        columns=[key, *columns],
    )


def clock(oldest: datetime | None = None, prepared: datetime | None = None, sees_others: bool = True) -> SourceClock:
    return SourceClock(NOW, oldest, prepared, sees_others)


# --- where a window ends ------------------------------------------------------------------------------------------


def test_without_open_transactions_a_window_ends_now() -> None:
    assert window_high(clock(), PLAIN, TIMESTAMP, SAFETY) == NOW


def test_a_window_ends_strictly_before_the_oldest_open_transaction() -> None:
    """now() of that transaction is its start: a row it has not committed yet may carry exactly that time."""
    began = NOW - timedelta(seconds=30)
    assert window_high(clock(oldest=began), PLAIN, TIMESTAMP, SAFETY) == began - TICK


def test_the_tables_lag_is_kept() -> None:
    lagging = declared(TIMESTAMP, lag=timedelta(minutes=2))
    assert window_high(clock(), PLAIN, lagging, SAFETY) == NOW - timedelta(minutes=2)


def test_a_prepared_transaction_began_some_time_before_it_was_prepared() -> None:
    prepared = NOW - timedelta(hours=1)
    assert window_high(clock(prepared=prepared), PLAIN, TIMESTAMP, SAFETY) == prepared - SAFETY


def test_a_role_that_sees_no_others_keeps_the_safety_lag() -> None:
    assert window_high(clock(sees_others=False), PLAIN, TIMESTAMP, SAFETY) == NOW - SAFETY


def test_a_date_window_ends_with_a_day() -> None:
    assert window_high(clock(), PLAIN, DATE, SAFETY) == datetime(2026, 11, 22, tzinfo=UTC)


def test_the_day_is_utc_whatever_zone_the_clock_has() -> None:
    tokyo = timezone(timedelta(hours=9))
    late = SourceClock(datetime(2026, 11, 23, 3, tzinfo=tokyo), None, None, True)
    assert window_high(late, PLAIN, DATE, SAFETY) == datetime(2026, 11, 22, tzinfo=UTC)


@given(
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.none() | st.timedeltas(timedelta(0), timedelta(days=3)),
    st.none() | st.timedeltas(timedelta(0), timedelta(days=3)),
    st.booleans(),
    st.booleans(),
)
def test_a_window_never_ends_late(
    lag: timedelta, oldest: timedelta | None, prepared: timedelta | None, sees_others: bool, by_day: bool
) -> None:
    seen = clock(
        NOW - oldest if oldest is not None else None, NOW - prepared if prepared is not None else None, sees_others
    )
    cursor = declared(DATE if by_day else TIMESTAMP, lag=lag)
    high = window_high(seen, PLAIN, cursor, SAFETY)
    assert high <= NOW - lag
    assert seen.oldest_transaction is None or high < seen.oldest_transaction
    assert seen.oldest_prepared is None or high <= seen.oldest_prepared - SAFETY
    assert sees_others or high <= NOW - SAFETY


# --- where it starts ----------------------------------------------------------------------------------------------


def test_a_first_run_reads_everything() -> None:
    assert next_window(Mode.INCREMENTAL, None, NOW) == Window(low=None, high=NOW)


def test_a_window_follows_what_is_covered() -> None:
    assert next_window(Mode.INCREMENTAL, NOW - SAFETY, NOW) == Window(low=NOW - SAFETY, high=NOW)


def test_a_clock_that_went_back_does_not_turn_a_window_round() -> None:
    for mode, low in ((Mode.INCREMENTAL, NOW), (Mode.SNAPSHOT, None)):
        assert next_window(mode, NOW, NOW - timedelta(hours=1)) == Window(low=low, high=NOW)


def test_a_snapshot_reads_everything_whatever_is_covered() -> None:
    assert next_window(Mode.SNAPSHOT, NOW - SAFETY, NOW) == Window(low=None, high=NOW)


def test_what_begins_anew_ends_where_it_can_be_seen() -> None:
    assert next_window(Mode.SNAPSHOT, NOW, NOW - SAFETY, anew=True) == Window(low=None, high=NOW - SAFETY)


def test_what_no_window_reads_any_more() -> None:
    past = "((greatest(a, b)) > TIMESTAMPTZ '2026-11-22 17:30:00.123456+00:00') IS NOT TRUE"
    assert unread(TIMESTAMP, NOW) == f"{past} AND (greatest(a, b)) IS NOT NULL"
    assert unread(declared(TIMESTAMP, nulls="snapshot_only"), NOW) == past


# --- the condition ------------------------------------------------------------------------------------------------

WINDOW = Window(low=datetime(2026, 11, 20, tzinfo=UTC), high=datetime(2026, 11, 22, tzinfo=UTC))


def test_the_boundary_day_is_read_again() -> None:
    assert predicate(DATE, Mode.INCREMENTAL, WINDOW) == (
        "(((greatest(a, b)) > DATE '2026-11-19') OR (greatest(a, b)) IS NULL)"
    )


def test_rows_beyond_high_are_left_when_the_policy_defers_them() -> None:
    cursor = declared(TIMESTAMP, future="defer", nulls="snapshot_only")
    assert predicate(cursor, Mode.INCREMENTAL, WINDOW) == (
        "((greatest(a, b)) > TIMESTAMPTZ '2026-11-20 00:00:00.000000+00:00' AND "
        "(greatest(a, b)) <= TIMESTAMPTZ '2026-11-22 00:00:00.000000+00:00')"
    )


def test_a_first_run_reads_null_cursors_whatever_the_policy() -> None:
    cursor = declared(TIMESTAMP, future="defer", nulls="snapshot_only")
    assert "IS NULL" in predicate(cursor, Mode.INCREMENTAL, Window(low=None, high=NOW))


def test_the_whole_table_has_no_condition() -> None:
    assert predicate(TIMESTAMP, Mode.SNAPSHOT, WINDOW) == ""
    assert predicate(TIMESTAMP, Mode.INCREMENTAL, Window(low=None, high=NOW)) == ""


def test_a_lookback_before_the_first_year_stops_there() -> None:
    cursor = declared(DATE, lookback=timedelta(days=900_000))
    assert "DATE '0001-01-01'" in predicate(cursor, Mode.INCREMENTAL, WINDOW)


def test_policies_that_say_fail_are_counted_first() -> None:
    cursor = declared(DATE, nulls="fail", future="fail")
    statements = [text for _, text in refused_rows(table(), cursor, Mode.INCREMENTAL, WINDOW, NOW)]
    assert statements == [
        'SELECT count(*) FROM "shop"."orders" WHERE (greatest(a, b)) IS NULL',
        'SELECT count(*) FROM "shop"."orders" WHERE (greatest(a, b)) > DATE \'2026-11-22\'',
    ]
    assert refused_rows(table(), DATE, Mode.INCREMENTAL, WINDOW, NOW) == []


# --- the statement ------------------------------------------------------------------------------------------------


def test_the_statement_lists_the_columns_in_order_and_then_the_flags() -> None:
    reads = [
        Read(Column(name="id", type=ColumnType.INT64), '"id"'),
        Read(Column(name="amount", type=ColumnType.NUMERIC), "a", unrepresentable='"amount" > 1'),
        Read(Column(name="Name", type=ColumnType.STRING), '"Na""me"'),
    ]
    text, flags = select_list(table(), reads)
    assert text == (
        'SELECT "id" AS c0, a AS c1, "Na""me" AS c2, coalesce("amount" > 1, false) AS c3 FROM "shop"."orders"'
    )
    assert flags == ["amount"]


def test_more_expressions_than_postgresql_takes_are_refused_with_what_to_do() -> None:
    """600 numerics under ``string`` are three each: value, text, flag."""
    numerics = [
        Column(name=f"n{i}", type=ColumnType.NUMERIC, on_unrepresentable=Unrepresentable.STRING) for i in range(555)
    ]
    wide = table(None, *numerics)

    def listed(count: int) -> str:
        columns = [(column, SourceColumn(column.name, "numeric")) for column in numerics[:count]]
        found = [read for column, source in columns for read in reads(column, source, wide)]
        return select_list(wide, found)[0]

    assert listed(554).count(" AS c") == 1_662
    with pytest.raises(ConfigurationError) as refused:
        listed(555)
    assert str(refused.value) == (
        "table t: reading shop.orders takes 1,665 expressions, and PostgreSQL has 1,664 at most; on_unrepresentable: "
        "null_and_count takes two for a column, string takes three: declare STRING, or fail, for some of the 555 "
        "column(s) that have one of them (n0, n1, n2, …); or declare a part of the columns, and the rest, with the "
        "same key, as a second table"
    )
    plain = [Read(Column(name=f"c{i}", type=ColumnType.STRING), "x") for i in range(1_665)]
    with pytest.raises(ConfigurationError, match="at most; declare a part of the columns"):
        select_list(table(), plain)


def test_the_index_that_a_window_needs_is_spelled_out() -> None:
    assert index_statement(table(), TIMESTAMP) == ('CREATE INDEX CONCURRENTLY ON "shop"."orders" ((greatest(a, b)))')


def test_on_a_replica_a_window_ends_before_what_was_replayed() -> None:
    replayed = NOW - timedelta(minutes=2)
    assert window_high(replace(clock(), replayed=replayed), PLAIN, TIMESTAMP, SAFETY) == replayed - SAFETY


def test_a_replica_that_has_replayed_nothing_gives_the_first_time() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    assert window_high(replace(clock(), replayed=first), PLAIN, TIMESTAMP, SAFETY) == first
