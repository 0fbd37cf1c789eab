"""Cursors of every type, on real servers: what PostgreSQL says of them, and what they bring when rows come late."""

import pytest

from tests.integration.extractor_harness import (
    Bench,
    Row,
    incremental,
)
from tests.integration.merged_runs import ITEM, Runs, open_transaction

SAO_PAULO = "America/Sao_Paulo"


def declare(bench: Bench, cursors: dict[str, Row]) -> None:
    """Tables of these names, each with a cursor."""
    bench.declare(*(incremental(name, ITEM, cursor) for name, cursor in cursors.items()))


# --- types --------------------------------------------------------------------------------------------------------

REFUSED = [
    ({"expression": "day", "type": "timestamp"}, "cursor.expression is date, declared timestamp; declare type: date"),
    ({"expression": "ut", "type": "date", "lookback": "P1D"}, "is timestamp with time zone, declared date"),
    ({"expression": "updatd_at", "type": "timestamp"}, 'is not one SQL expression over a row of src.c: column "updatd'),
    ({"expression": "seq", "type": "timestamp"}, "cursor.expression is bigint, declared timestamp; a number"),
    ({"expression": "tx", "type": "timestamp"}, "cursor.expression is text, declared timestamp; a text has no time"),
    ({"expression": "u", "type": "timestamp"}, "cursor.expression is uuid, declared timestamp; a UUID"),
    ({"expression": "naive", "type": "timestamp"}, "is timestamp without time zone, which says no moment; declare cur"),
    ({"expression": "dom", "type": "timestamp"}, "cursor.expression is date, declared timestamp"),
    ({"expression": "greatest(ut, naive)", "type": "timestamp"}, "depends on the session's time zone"),
    ({"expression": "naive::timestamptz", "type": "timestamp"}, "depends on the session's time zone"),
    ({"expression": "tx::timestamptz", "type": "timestamp"}, "depends on the session's time zone"),
    (
        {"expression": "ut::date", "type": "date", "lookback": "P1D", "time_zone": SAO_PAULO},
        "depends on the session's time zone",
    ),
    ({"expression": "max(ut)", "type": "timestamp"}, "aggregate functions are not allowed in WHERE"),
    ({"expression": "ut, ut", "type": "timestamp"}, "cursor.expression is record, declared timestamp"),
    ({"expression": "ut) FROM src.c UNION SELECT (ut", "type": "timestamp"}, "is not one SQL expression"),
    ({"expression": "ut), (ut", "type": "timestamp"}, "is not one SQL expression"),
    ({"expression": "ut /* set by trigger", "type": "timestamp"}, "is not one SQL expression"),
    ({"expression": "ut)", "type": "timestamp"}, "is not one SQL expression"),
]


@pytest.fixture
def typed(bench: Bench) -> Bench:
    bench.database.run(
        "CREATE DOMAIN src.a_day AS date",
        "CREATE TABLE src.c (id int PRIMARY KEY, v text DEFAULT 'x', day date NOT NULL DEFAULT current_date,"
        " ut timestamptz NOT NULL DEFAULT now(), naive timestamp DEFAULT now(), tx text, seq bigserial, u uuid,"
        " dom src.a_day)",
        "INSERT INTO src.c (id) VALUES (1)",
        "GRANT SELECT ON src.c TO extractor",
    )
    return bench


def test_what_is_no_cursor_is_refused_before_anything_is_read(typed: Bench) -> None:
    """By the dry run, by the first run, and by a snapshot, whose watermark the next window would follow."""
    names = [f"c{number}" for number in range(len(REFUSED))]
    typed.declare(
        *(incremental(name, ITEM, cursor, source="src.c") for name, (cursor, _) in zip(names, REFUSED, strict=True))
    )
    for arguments in (("--dry-run",), (), ("--mode", "snapshot")):
        finished = typed.start(*arguments).finish()
        assert finished.exit_code == 1
        for name, (cursor, told) in zip(names, REFUSED, strict=True):
            assert told in finished.outcome(name)["error"], cursor
    assert [typed.batches(name) for name in names] == [[] for _ in names]


def test_a_comment_in_an_expression_does_no_harm(typed: Bench) -> None:
    declare(typed, {"c": {"expression": "ut -- changed by trigger", "type": "timestamp"}})
    runs = Runs(typed)
    runs.run()
    typed.database.run("UPDATE src.c SET v = 'changed', ut = now()")
    runs.run()
    assert runs.bronze("c") == {1: "changed"}


# --- what they bring ----------------------------------------------------------------------------------------------


def test_local_times_of_sao_paulo_arrive(bench: Bench) -> None:
    """Also from a transaction that was open while a window ended."""
    sao_paulo = "-c TimeZone=" + SAO_PAULO  # the application's sessions; the extractor's are in UTC
    bench.database.run(
        "CREATE TABLE src.naive (id int PRIMARY KEY, v text, updated_at timestamp NOT NULL DEFAULT now())",
        "GRANT SELECT ON src.naive TO extractor",
    )
    declare(bench, {"naive": {"expression": "updated_at", "type": "timestamp", "time_zone": SAO_PAULO}})
    runs = Runs(bench)
    with bench.database.connect(options=sao_paulo) as application:
        application.execute("INSERT INTO src.naive VALUES (1, 'a'), (2, 'b')")
        runs.run()
        with open_transaction(bench.database, options=sao_paulo) as late:
            application.execute("UPDATE src.naive SET v = 'changed', updated_at = now() WHERE id = 1")
            late.execute("INSERT INTO src.naive VALUES (3, 'c')")
            runs.run()
            assert runs.bronze("naive") == {1: "changed", 2: "b"}
    runs.run()
    assert runs.bronze("naive") == {1: "changed", 2: "b", 3: "c"}
    [look] = bench.extract("--dry-run").report
    assert look["cursor"] == "timestamp without time zone of America/Sao_Paulo"
    assert "(updated_at) > TIMESTAMP '" in look["statement"], "an index on the column serves it"


def test_rows_of_a_rounded_cursor_that_are_committed_late_arrive(bench: Bench) -> None:
    """Their cursor lies below the start of their transaction, where an earlier window ended."""
    kinds = {"r0": "timestamptz(0)", "r3": "timestamptz(3)", "n0": "timestamp(0)"}
    for name, kind in kinds.items():
        bench.database.run(
            f"CREATE TABLE src.{name} (id int PRIMARY KEY, v text, updated_at {kind} NOT NULL)",
            f"INSERT INTO src.{name} VALUES (1, 'a', now())",
            f"GRANT SELECT ON src.{name} TO extractor",
        )
    cursor = {"expression": "updated_at", "type": "timestamp"}
    declare(bench, {"r0": cursor, "r3": cursor, "n0": {**cursor, "time_zone": "UTC"}})
    runs = Runs(bench)
    runs.run()
    with open_transaction(bench.database) as late:
        for name in kinds:
            unit = "milliseconds" if name == "r3" else "second"
            late.execute(f"INSERT INTO src.{name} VALUES (2, 'late', date_trunc('{unit}', now()))")
            bench.database.run(f"INSERT INTO src.{name} VALUES (3, 'early', clock_timestamp())")
        runs.run()
    runs.run()
    arrived = {1: "a", 2: "late", 3: "early"}
    assert {name: runs.bronze(name) for name in kinds} == dict.fromkeys(kinds, arrived)


def test_days_of_any_zone_arrive(bench: Bench) -> None:
    """West of Greenwich today's rows carry UTC's yesterday for some hours."""
    zones = {"honolulu": "Pacific/Honolulu", "sao_paulo": SAO_PAULO, "auckland": "Pacific/Auckland"}
    cursor = {"expression": "day", "type": "date", "lookback": "P1D"}
    cursors = {name: {**cursor, "time_zone": zone} for name, zone in zones.items()}
    cursors |= {f"{name}_unsaid": cursor for name in zones}
    for name in cursors:
        bench.database.run(
            f"CREATE TABLE src.{name} (id int PRIMARY KEY, v text, day date NOT NULL)",
            f"INSERT INTO src.{name} VALUES (0, 'old', current_date - 9)",
            f"GRANT SELECT ON src.{name} TO extractor",
        )
    declare(bench, cursors)
    runs = Runs(bench)
    runs.run()
    for name in cursors:
        zone = zones[name.removesuffix("_unsaid")]
        bench.database.run(f"INSERT INTO src.{name} VALUES (1, 'new', (now() AT TIME ZONE '{zone}')::date)")
    runs.run()
    arrived = {0: "old", 1: "new"}
    assert {name: runs.bronze(name) for name in cursors} == dict.fromkeys(cursors, arrived)
