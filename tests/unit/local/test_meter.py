"""The meter's rules: what is billed for what is read, which partitions are looked at, which answers are kept."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.googlesql.reads import Bound, Read, Reads
from local.warehouse.meter.billing import LEAST_PER_TABLE, MEGABYTE, bill
from local.warehouse.meter.results import Results
from local.warehouse.meter.sizes import partition_filter

SIZES = {"p.d.t": {"a": 100, "b": 30 * MEGABYTE + 1}, "p.d.u": {"a": 7}}


def size(table: str, columns: frozenset[str] | None, bounds: Any) -> int:
    """Of the tables above; a bound leaves out half of a table."""
    known = SIZES[table]
    return sum(known[name] for name in (known if columns is None else columns)) // (2 if bounds else 1)


def unclustered(_table: str) -> None:
    return None


def read(table: str, *columns: str, **more: Any) -> Read:
    return Read(f"p.d.{table}", frozenset(columns), **more)


def test_each_table_costs_ten_megabytes_at_least_and_the_sum_is_rounded_up() -> None:
    found = bill(Reads((read("t", "a", "b"), read("u", "a"))), only_inserts=False, size=size, clustered_by=unclustered)
    assert found.processed == 30 * MEGABYTE + 1 + 100 + 7
    assert found.billed == 31 * MEGABYTE + LEAST_PER_TABLE
    assert found.tables == ("p.d.t", "p.d.u")


def test_what_reads_no_bytes_is_free() -> None:
    found = bill(Reads((read("t"),)), only_inserts=False, size=size, clustered_by=unclustered)
    assert (found.processed, found.billed, found.tables) == (0, 0, ("p.d.t",))


def test_a_table_that_is_scanned_twice_is_read_once_in_the_most_partitions() -> None:
    bounds = {"a": (Bound("=", (1,)),)}
    twice = Reads((read("t", "a", bounds=bounds), read("t", "a", "b", bounds=bounds), read("t", "a")))
    found = bill(twice, only_inserts=False, size=size, clustered_by=unclustered)
    assert found.processed == 100 + (30 * MEGABYTE + 1) // 2


def test_a_change_bills_its_target_too_unless_it_only_inserts() -> None:
    merge = Reads((read("t", "a"), read("u", "a")), target=read("t"))
    changing = bill(merge, only_inserts=False, size=size, clustered_by=unclustered)
    inserting = bill(merge, only_inserts=True, size=size, clustered_by=unclustered)
    assert changing.processed - inserting.processed == size("p.d.t", None, {})


@pytest.mark.parametrize(
    ("scan", "least"),
    [
        (read("t", "a", bounds={"A": (Bound("=", (1,)),)}), 0),
        (read("t", "a", matched=frozenset({"a"})), 0),
        (read("t", "a", "b", bounds={"b": (Bound("=", (1,)),)}), size("p.d.t", None, {"b": ()})),
        (read("t", "a"), 100),
    ],
)
def test_blocks_of_a_clustered_table_may_be_left_out_by_its_first_column(scan: Read, least: int) -> None:
    found = bill(Reads((scan,)), only_inserts=False, size=size, clustered_by=lambda _: "a")
    assert found.processed_least == least
    assert found.processed >= least


@given(
    st.lists(
        st.builds(
            Read,
            st.sampled_from(sorted(SIZES)),
            st.just(frozenset({"a"})),
            st.sampled_from([{}, {"a": (Bound("=", (1,)),)}]),
        ),
        max_size=6,
    ),
    st.booleans(),
    st.integers(0, 3),
)
def test_a_bill_is_whole_megabytes_and_never_below_what_is_processed(
    scans: list[Read], changes: bool, views: int
) -> None:
    reads = Reads(tuple(scans), read("t") if changes else None)
    found = bill(reads, only_inserts=False, size=size, clustered_by=unclustered, metadata_views=views)
    assert found.processed_least == found.processed <= found.billed or found.processed == found.billed == 0
    assert found.billed % MEGABYTE == 0
    one_more = bill(Reads((*scans, read("t", "b")), reads.target), False, size, unclustered, views)
    assert one_more.billed >= found.billed, "who reads more never pays less"


# --- partitions -------------------------------------------------------------------------------------------------------


def table(**layout: Any) -> Any:
    columns = [SimpleNamespace(name="day", type="DATE"), SimpleNamespace(name="moment", type="TIMESTAMP")]
    none = {"time_partitioning": None, "range_partitioning": None, "schema_": SimpleNamespace(fields=columns)}
    return SimpleNamespace(**(none | layout))


def by(column: str, unit: str) -> Any:
    return table(time_partitioning=SimpleNamespace(field=column, type=unit))


DAY = date(2026, 1, 15)


@pytest.mark.parametrize(
    ("operator", "unit", "where"),
    [
        ("=", "DAY", "IN (date_trunc('day', CAST(DATE '2026-01-15' AS TIMESTAMP)))"),
        (">", "DAY", "> date_trunc('day', CAST(DATE '2026-01-15' AS TIMESTAMP))"),
        (">", "MONTH", ">= date_trunc('month', CAST(DATE '2026-01-15' AS TIMESTAMP))"),
        (">=", "MONTH", ">= date_trunc('month', CAST(DATE '2026-01-15' AS TIMESTAMP))"),
        ("<", "MONTH", "< CAST(DATE '2026-01-15' AS TIMESTAMP)"),
        ("<=", "MONTH", "<= CAST(DATE '2026-01-15' AS TIMESTAMP)"),
    ],
)
def test_a_partition_is_looked_at_when_a_row_of_it_can_fit(operator: str, unit: str, where: str) -> None:
    partition = f"date_trunc('{unit.lower()}', CAST(\"day\" AS TIMESTAMP))"
    assert partition_filter(by("day", unit), {"DAY": (Bound(operator, (DAY,)),)}) == f"WHERE {partition} {where}"


def test_what_is_not_partitioned_or_not_bounded_is_looked_at_whole() -> None:
    bounds = {"day": (Bound("=", (DAY,)),)}
    assert partition_filter(table(), bounds) == ""
    assert partition_filter(by("moment", "DAY"), bounds) == ""
    assert partition_filter(table(time_partitioning=SimpleNamespace(field=None, type="DAY")), bounds) == ""


def test_all_bounds_of_a_partition_s_column_hold_together() -> None:
    bounds = {"day": (Bound(">=", (DAY,)), Bound("<=", (DAY,)))}
    assert partition_filter(by("day", "DAY"), bounds).count(" AND ") == 1


# --- answers that are kept --------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def named(**changed: Any) -> list[dict[str, Any]]:
    meta = {"last_modified_time": NOW, "num_rows": 3, "etag": "x"} | changed
    return [{"id": "p.d.t", "meta": SimpleNamespace(**meta)}]


@pytest.mark.parametrize(
    ("sql", "project", "parameters", "tables", "later", "hit"),
    [
        ("select 1", "p", (), named(), timedelta(hours=23), True),
        ("select 1", "p", (), named(), timedelta(hours=24), False),
        ("select 1 ", "p", (), named(), timedelta(0), False),
        ("select 1", "q", (), named(), timedelta(0), False),
        ("select 1", "p", ({"name": "a"},), named(), timedelta(0), False),
        ("select 1", "p", (), named(num_rows=4), timedelta(0), False),
        ("select 1", "p", (), named(last_modified_time=NOW + timedelta(seconds=1)), timedelta(0), False),
        ("select 1", "p", (), named(etag="y"), timedelta(0), False),
    ],
)
def test_an_answer_is_taken_from_the_cache_while_nothing_it_depends_on_changes(
    sql: str, project: str, parameters: Any, tables: Any, later: timedelta, hit: bool
) -> None:
    results = Results()
    assert not results.hit("select 1", "p", (), named(), NOW)
    assert results.hit(sql, project, parameters, tables, NOW + later) is hit
