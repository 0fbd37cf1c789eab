"""Sources whose open transactions do not show in pg_stat_activity, or not as what they are: late rows arrive.

Most tests have a row that is committed late (100) and one that was written after it and committed before (101): a
window that ends at the clock passes the first.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.extractor.planning.window import window_high
from services.extractor.source.database import Source
from services.extractor.source.origin import Origin
from tests.integration.extractor_harness import (
    Bench,
    Database,
    Finished,
    Server,
    incremental,
    own_server,
    wait_until,
)
from tests.integration.merged_runs import ITEM, Runs, open_transaction
from tests.integration.postgres_versions import VERSIONS

CURSOR = {"expression": "updated_at", "type": "timestamp"}
SAFETY = {"EXTRACT_SAFETY_LAG": "60"}
COLUMNS = "(id int PRIMARY KEY, v text, updated_at timestamptz NOT NULL DEFAULT now())"


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with own_server(tmp_path_factory.mktemp("server"), request.param, wal_level="logical") as started:
        yield started


@contextmanager
def another_database(server: Server) -> Iterator[Database]:
    name = f"other_{time.time_ns()}"
    Database(server.dsn).run(f"CREATE DATABASE {name}")
    try:
        yield Database(make_conninfo(server.dsn, dbname=name))
    finally:
        Database(server.dsn).run(f"DROP DATABASE {name} WITH (FORCE)")


def declare(bench: Bench, name: str, **cursor: str) -> None:
    bench.declare(incremental(name, ITEM, {**CURSOR, **cursor}))


def reasons(finished: Finished, event: str = "window.safety_lag") -> list[str]:
    return [str(line["reason"]) for line in finished.events(event)]


def table(database: Database, name: str) -> None:
    database.run(
        f"CREATE TABLE {name} {COLUMNS}",
        f"INSERT INTO {name} VALUES (1, 'v1', now() - interval '1 hour')",
    )


def test_a_session_that_does_not_show_its_transactions(bench: Bench) -> None:
    """Also where it began to show them in the middle of one; an idle one may begin one in the next moment."""
    table(bench.database, "src.quiet")
    bench.database.run("GRANT SELECT ON src.quiet TO extractor")
    declare(bench, "quiet")
    runs = Runs(bench)
    assert reasons(runs.run(**SAFETY)) == []
    with open_transaction(bench.database, options="-c track_activities=off") as hidden:
        hidden.execute("INSERT INTO src.quiet VALUES (100, 'late')")
        bench.database.run("INSERT INTO src.quiet VALUES (101, 'early')")
        time.sleep(1)
        assert ["track_activities" in reason for reason in reasons(runs.run(**SAFETY))] == [True]
        [batch] = bench.batches("quiet")[-1:]
        assert ["track_activities" in reason for reason in batch.unseen] == [True]
        hidden.execute("SET track_activities = on")
        look = bench.extract("--dry-run", **SAFETY)
        assert ["track_activities" in reason for reason in look.outcome()["unseen"]] == [True]
        hidden.rollback()
        hidden.execute("SELECT 1")
        assert len(reasons(bench.extract("--dry-run", **SAFETY))) == 1, "it is off again, and between transactions"
        hidden.execute("INSERT INTO src.quiet VALUES (100, 'late')")
        bench.database.run("INSERT INTO src.quiet VALUES (102, 'early')")
        time.sleep(1)
        runs.run(**SAFETY)
    assert reasons(runs.run(**SAFETY)) == []
    assert runs.bronze("quiet") == {1: "v1", 100: "late", 101: "early", 102: "early"}


def test_a_foreign_table(bench: Bench, server: Server) -> None:
    """Alone, as a partition, and below a view."""
    with another_database(server) as remote:
        table(remote, "far")
        to = conninfo_to_dict(remote.dsn)
        bench.database.run(
            "CREATE EXTENSION IF NOT EXISTS postgres_fdw",
            "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw"
            f" OPTIONS (host '{to['host']}', port '{to['port']}', dbname '{to['dbname']}')",
            f"CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user '{to['user']}', password '{to['password']}')",
            "CREATE FOREIGN TABLE src.far (id int NOT NULL, v text, updated_at timestamptz NOT NULL) SERVER far"
            " OPTIONS (schema_name 'public', table_name 'far')",
            "CREATE TABLE src.parted (id int NOT NULL, v text, updated_at timestamptz NOT NULL)"
            " PARTITION BY RANGE (id)",
            "CREATE FOREIGN TABLE src.part PARTITION OF src.parted FOR VALUES FROM (0) TO (1000) SERVER far"
            " OPTIONS (schema_name 'public', table_name 'far')",
            "CREATE VIEW src.seen AS SELECT * FROM src.far",
            "GRANT SELECT ON ALL TABLES IN SCHEMA src TO extractor",
        )
        names = ["far", "parted", "seen"]
        bench.declare(*(incremental(name, ITEM, CURSOR) for name in names))
        runs = Runs(bench)
        runs.run(**SAFETY)
        with open_transaction(remote) as late:
            late.execute("INSERT INTO far VALUES (100, 'late')")
            remote.run("INSERT INTO far VALUES (101, 'early')")
            time.sleep(1)
            finished = runs.run(**SAFETY)
        assert sorted(reason.rpartition("(")[2] for reason in reasons(finished)) == [
            "src.far)",
            "src.far)",
            "src.part)",
        ]
        runs.run(**SAFETY)
        arrived = {1: "v1", 100: "late", 101: "early"}
        assert [runs.bronze(name) for name in names] == [arrived] * 3
        bench.database.run("DROP SERVER far CASCADE")


@contextmanager
def subscribed(database: Database, publisher: Database, name: str) -> Iterator[None]:
    """A subscription of a table for a block; publisher and subscriber are databases of one server."""
    publisher.run(
        f"CREATE PUBLICATION {name} FOR TABLE {name}",
        f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')",
    )
    database.run(
        f"CREATE SUBSCRIPTION {name} CONNECTION '{publisher.dsn}' PUBLICATION {name} WITH (create_slot = false)"
    )
    try:
        yield
    finally:
        database.run(
            f"ALTER SUBSCRIPTION {name} DISABLE",
            f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)",
            f"DROP SUBSCRIPTION {name}",
        )
        gone = f"SELECT active_pid IS NULL FROM pg_replication_slots WHERE slot_name = '{name}'"
        wait_until("the end of the worker", lambda: publisher.value(gone))
        publisher.run(f"SELECT pg_drop_replication_slot('{name}')")


def test_a_logical_subscriber(bench: Bench, server: Server) -> None:
    """Its rows carry the publisher's times. While its worker does not run, the watermark waits for it."""
    database = bench.database
    with another_database(server) as publisher:
        publisher.run("CREATE SCHEMA src")
        table(publisher, "src.ord")
        publisher.run("ALTER ROLE postgres SET search_path = src, public")
        database.run(f"CREATE TABLE src.ord {COLUMNS}", "GRANT SELECT ON src.ord TO extractor")
        declare(bench, "ord")
        runs = Runs(bench)
        with subscribed(database, publisher, "ord"):
            wait_until("the first copy", lambda: database.value("SELECT srsubstate FROM pg_subscription_rel") == "r")
            told = "SELECT latest_end_time IS NOT NULL FROM pg_stat_subscription"
            wait_until("a word from the publisher", lambda: database.value(told))
            [reason] = reasons(runs.run(**SAFETY))
            assert "publisher" in reason
            assert "(ord)" in reason
            with open_transaction(publisher) as late:
                late.execute("INSERT INTO src.ord VALUES (100, 'late')")
                publisher.run("INSERT INTO src.ord VALUES (101, 'early')")
                wait_until("the early row", lambda: database.value("SELECT count(*) FROM src.ord") == 2)
                runs.run(**SAFETY)
            wait_until("the late row", lambda: database.value("SELECT count(*) FROM src.ord") == 3)
            database.run("ALTER SUBSCRIPTION ord DISABLE")
            stopped = "SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL"
            wait_until("the end of the worker", lambda: database.value(stopped))
            before = bench.state.progress("ord").watermark
            assert ["worker does not run" in reason for reason in reasons(runs.run(**SAFETY), "window.held")] == [True]
            assert bench.state.progress("ord").watermark == before
            database.run("ALTER SUBSCRIPTION ord ENABLE")
        publisher.run("ALTER ROLE postgres RESET search_path")
        assert runs.bronze("ord") == {1: "v1", 100: "late", 101: "early"}


def test_a_materialized_view(bench: Bench) -> None:
    """A REFRESH shows rows that are older than what windows have passed."""
    database = bench.database
    table(database, "src.base")
    database.run(
        "INSERT INTO src.base VALUES (2, 'v2', now() - interval '1 hour'), (3, 'v3', now() - interval '1 hour')",
        "CREATE MATERIALIZED VIEW src.mv AS SELECT * FROM src.base",
        "CREATE VIEW src.over AS SELECT * FROM src.mv",
        "GRANT SELECT ON ALL TABLES IN SCHEMA src TO extractor",
    )
    bench.declare(incremental("mv", ITEM, CURSOR), incremental("over", ITEM, CURSOR))
    for arguments in (("--dry-run",), ()):
        finished = bench.start(*arguments).finish()
        assert finished.exit_code == 1
        for name in ("mv", "over"):
            assert "declare mode: snapshot, or a cursor.lookback" in finished.outcome(name)["error"]
    declare(bench, "mv", lookback="PT10M")
    runs = Runs(bench)
    assert len(reasons(runs.run(), "window.lookback")) == 1
    database.run("UPDATE src.base SET v = 'two', updated_at = now() WHERE id = 2", "REFRESH MATERIALIZED VIEW src.mv")
    database.run("UPDATE src.base SET v = 'three', updated_at = now() WHERE id = 3")
    time.sleep(1.5)
    runs.run()
    assert runs.bronze("mv") == {1: "v1", 2: "two", 3: "v3"}
    database.run("REFRESH MATERIALIZED VIEW src.mv")
    runs.run()
    assert runs.bronze("mv") == {1: "v1", 2: "two", 3: "three"}


def test_several_transactions_of_one_message(bench: Bench) -> None:
    """All have the message's time. Between them none is open, and a window must not end later than that time."""
    database = bench.database
    table(database, "src.m")

    def send() -> None:
        with database.connect() as connection:
            connection.execute(f"{'BEGIN; COMMIT; ' * 300_000} INSERT INTO src.m VALUES (100, 'late')".encode())

    message = "SELECT query_start, xact_start FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'BEGIN;%'"
    with database.connect() as asking:
        sender = threading.Thread(target=send)
        sender.start()
        ends, between = [], 0
        while sender.is_alive():
            before = asking.execute(message.encode()).fetchone()
            clock = Source(asking).clock()
            after = asking.execute(message.encode()).fetchone()
            if before and after:
                ends.append(window_high(clock, Origin(), None, timedelta(0)))
                between += (before[1] is None) + (after[1] is None)
        sender.join()
    assert between >= 10, "there are moments without a transaction"
    assert max(ends) < database.value("SELECT updated_at FROM src.m WHERE id = 100")
