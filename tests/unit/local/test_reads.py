"""Which columns of which tables a statement reads, and by which constants."""

from datetime import date
from typing import Any

import pytest

from local.googlesql.analysis import GoogleSql
from local.googlesql.reads import Bound, Read, Reads, reads_of

FIELDS = [
    {"name": "id", "type": "INT64"},
    {"name": "name", "type": "STRING"},
    {"name": "day", "type": "DATE"},
    {"name": "amount", "type": "NUMERIC"},
    {"name": "tags", "type": "STRING", "mode": "REPEATED"},
]
TABLES = [{"id": f"p.ds.{name}", "fields": FIELDS} for name in ("t", "u")]
JANUARY = Bound(">=", (date(2026, 1, 1),))


@pytest.fixture(scope="module")
def google() -> GoogleSql:
    return GoogleSql()


def reads(google: GoogleSql, sql: str, **options: Any) -> Reads:
    return reads_of(google.analyze(sql, TABLES)[-1].tree, **options)


def columns(found: Reads) -> dict[str, set[str]]:
    """By table, of all its scans."""
    together: dict[str, set[str]] = {}
    for scan in found.scans:
        together.setdefault(scan.table.removeprefix("p.ds."), set()).update(scan.columns)
    return together


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("select id from ds.t", {"t": {"id"}}),
        ("select * from ds.t", {"t": {"id", "name", "day", "amount", "tags"}}),
        ("select * except (tags, amount) from ds.t", {"t": {"id", "name", "day"}}),
        ("select count(*) from ds.t", {"t": set()}),
        ("select 1", {}),
        # Only the columns are wanted, as dbt wants them of a model with a contract.
        ("select * from (select * from ds.t) as x where false limit 0", {}),
        ("select id from ds.t limit 1", {"t": {"id"}}),
        ("select id from ds.t where id in (select id from ds.u limit 0)", {"t": {"id"}, "u": {"id"}}),
        # What nobody asks for is not computed.
        ("select id from (select id, upper(name) as upper_name from ds.t)", {"t": {"id"}}),
        ("select id from (select id, (select max(day) from ds.u) as newest from ds.t)", {"t": {"id"}}),
        ("with w as (select * from ds.u) select id from ds.t", {"t": {"id"}}),
        ("with w as (select id, upper(name) n, day from ds.t) select id from w where day is null",
         {"t": {"id", "day"}}),
        ("select id from (select id, row_number() over (partition by name order by day) n from ds.t)", {"t": {"id"}}),
        # What decides which rows there are is read.
        ("select id from ds.t where name = 'x'", {"t": {"id", "name"}}),
        ("select id from ds.t where 'x' in unnest(tags)", {"t": {"id", "tags"}}),
        ("select id from ds.t order by day limit 3", {"t": {"id", "day"}}),
        ("select sum(amount) from ds.t group by name having max(day) is null", {"t": {"amount", "name", "day"}}),
        ("select id from (select distinct id, name from ds.t)", {"t": {"id", "name"}}),
        ("select id from ds.t qualify row_number() over (partition by name order by day) = 1",
         {"t": {"id", "name", "day"}}),
        ("select id from ds.t where exists (select name from ds.u where u.day = t.day)",
         {"t": {"id", "day"}, "u": {"day"}}),
        ("select id from ds.t where id in (select id from ds.u where amount > 0)",
         {"t": {"id"}, "u": {"id", "amount"}}),
        ("select (select max(day) from ds.u) as newest from ds.t", {"t": set(), "u": {"day"}}),
        ("select array(select name from ds.u) as names", {"u": {"name"}}),
        ("select t.id, u.name from ds.t join ds.u using (day)", {"t": {"id", "day"}, "u": {"name", "day"}}),
        ("select tag from ds.t, unnest(tags) as tag", {"t": {"tags"}}),
        ("select id from (select id, name from ds.t union all select id, name from ds.u)", {"t": {"id"}, "u": {"id"}}),
        ("select id from (select id, name from ds.t union distinct select id, name from ds.u)",
         {"t": {"id", "name"}, "u": {"id", "name"}}),
        ("select a.id from ds.t a join ds.t b on a.name = b.name and b.day is null", {"t": {"id", "name", "day"}}),
        ("select id from ds.t tablesample system (1 percent)", {"t": {"id"}}),
        ("select * from (select id, name, amount from ds.t) pivot (sum(amount) for name in ('a', 'b'))",
         {"t": {"id", "name", "amount"}}),
        ("with recursive w as (select id from ds.t union all select id + 1 from w where id < 9) select id from w",
         {"t": {"id"}}),
    ],
)  # fmt: skip
def test_a_query_reads_what_its_answer_depends_on(google: GoogleSql, sql: str, read: dict[str, set[str]]) -> None:
    assert columns(reads(google, sql)) == read


@pytest.mark.parametrize(
    ("sql", "read", "target"),
    [
        ("insert into ds.t (id, name) select id, name from ds.u", {"u": {"id", "name"}}, None),
        ("insert into ds.t (id) values (1)", {}, None),
        ("insert into ds.t (id) select id from ds.u limit 0", {"u": {"id"}}, None),
        ("update ds.t set name = 'x', day = null where id = 1", {"t": {"id"}}, "p.ds.t"),
        ("update ds.t set name = u.name from ds.u where t.id = u.id", {"t": {"id"}, "u": {"id", "name"}}, "p.ds.t"),
        ("delete from ds.t where day is null", {"t": {"day"}}, "p.ds.t"),
        ("merge into ds.t using ds.u on t.id = u.id when matched and t.day is null then update set name = u.name"
         " when not matched then insert (id, amount) values (u.id, u.amount)",
         {"t": {"id", "day"}, "u": {"id", "name", "amount"}}, "p.ds.t"),
        ("create table ds.n as select id from ds.t", {"t": {"id"}}, None),
        ("create view ds.n as select id from ds.t", {}, None),
        ("create table ds.n (id int64)", {}, None),
        ("truncate table ds.t", {}, None),
        ("drop table ds.t", {}, None),
    ],
)  # fmt: skip
def test_a_change_reads_and_has_a_target(
    google: GoogleSql, sql: str, read: dict[str, set[str]], target: str | None
) -> None:
    found = reads(google, sql)
    assert columns(found) == read
    assert (found.target.table if found.target else None) == target


@pytest.mark.parametrize(
    ("sql", "bounds"),
    [
        ("select id from ds.t where day >= '2026-01-01'", {"day": (JANUARY,)}),
        ("select id from ds.t where date '2026-01-01' <= day", {"day": (JANUARY,)}),
        ("select id from ds.t where day >= cast('2026-01-01' as date) and name = 'x'",
         {"day": (JANUARY,), "name": (Bound("=", ("x",)),)}),
        ("select id from ds.t where id between 1 and 3", {"id": (Bound(">=", (1,)), Bound("<=", (3,)))}),
        ("select id from ds.t where id in (1, 2)", {"id": (Bound("in", (1, 2)),)}),
        # Through what only passes the column on.
        ("select id from (select id, day as d from ds.t) where d >= '2026-01-01'", {"day": (JANUARY,)}),
        ("select day, count(*) from ds.t group by day having day >= '2026-01-01'", {"day": (JANUARY,)}),
        ("select id from (select id, day from ds.t order by id) where day >= '2026-01-01'", {"day": (JANUARY,)}),
        # No constant, or not of every row that is read.
        ("select id from ds.t where day >= current_date()", {}),
        ("select id from ds.t where day >= (select max(day) from ds.u)", {}),
        ("select id from ds.t where date_trunc(day, month) >= '2026-01-01'", {}),
        ("select id from ds.t where day >= '2026-01-01' or id = 1", {}),
        ("select id from ds.t where not day >= '2026-01-01'", {}),
        ("select id from (select id, day from ds.t limit 5) where day >= '2026-01-01'", {}),
        ("select id from ds.t where true qualify row_number() over (order by id) = 1 and day >= '2026-01-01'", {}),
        ("select day from (select max(day) as day from ds.t) where day >= '2026-01-01'", {}),
    ],
)  # fmt: skip
def test_bounds_are_constants_that_every_useful_row_keeps(
    google: GoogleSql, sql: str, bounds: dict[str, tuple[Bound, ...]]
) -> None:
    (scan,) = (scan for scan in reads(google, sql).scans if scan.table == "p.ds.t")
    assert scan.bounds == bounds


def test_bounds_pass_joins_only_where_they_must_hold(google: GoogleSql) -> None:
    inner = reads(google, "select 1 from ds.t join ds.u on t.id = u.id and u.day >= '2026-01-01'")
    assert {scan.table: dict(scan.bounds) for scan in inner.scans} == {"p.ds.t": {}, "p.ds.u": {"day": (JANUARY,)}}
    outer = reads(google, "select t.id from ds.t left join ds.u on t.id = u.id and t.day >= '2026-01-01'")
    assert all(not scan.bounds for scan in outer.scans)


def test_bounds_pass_union_all_and_not_except(google: GoogleSql) -> None:
    both = "(select id, day from ds.t {} select id, day from ds.u)"
    for how, bounds in (("union all", {"day": (JANUARY,)}), ("except distinct", {})):
        found = reads(google, f"select id from {both.format(how)} where day >= '2026-01-01'")
        assert [dict(scan.bounds) for scan in found.scans] == [bounds, bounds]


@pytest.mark.parametrize(
    ("clause", "bounds"),
    [
        ("when matched then delete", {"day": (JANUARY,)}),
        ("when not matched by source then delete", {}),
    ],
)
def test_a_merge_looks_at_the_partitions_of_its_condition(google: GoogleSql, clause: str, bounds: object) -> None:
    found = reads(google, f"merge into ds.t using ds.u on t.id = u.id and t.day >= '2026-01-01' {clause}")
    assert found.target is not None
    assert found.target.bounds == bounds
    assert next(scan for scan in found.scans if scan.table == "p.ds.t").bounds == bounds


def test_a_view_is_asked_for_some_columns_under_some_bounds(google: GoogleSql) -> None:
    query = "select id, upper(name) as name, day as d from ds.t"
    found = reads(google, query, columns=["ID"], bounds={"d": (JANUARY,)})
    assert found.scans == (Read("p.ds.t", frozenset({"id"}), {"day": (JANUARY,)}),)


def test_columns_that_are_matched_with_other_columns_are_told(google: GoogleSql) -> None:
    found = reads(google, "select t.id from ds.t join ds.u on t.id = u.id and t.name = 'x'")
    assert {scan.table: scan.matched for scan in found.scans} == {"p.ds.t": {"id"}, "p.ds.u": {"id"}}
