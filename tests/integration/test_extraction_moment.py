"""A batch is the relation at one moment, also beside a transaction that empties and fills it.

TRUNCATE is not versioned: a snapshot that is older than its end sees the table empty, and so does a read whose snapshot
was taken before it waited for the table's lock (https://www.postgresql.org/docs/current/mvcc-caveats.html).
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from services.core.state.state import TableProgress
from tests.integration.extractor_harness import (
    LANDING,
    PAGED,
    PASSWORD,
    ROLE,
    Bench,
    Database,
    Place,
    declared,
    incremental,
    newest,
    place_on,
    wait_until,
)

ROWS = 5_000
TIMES = 10
FOREIGN_TIMES = 5
"""How often a relation is read in one run, under as many names."""


@pytest.fixture(scope="module")
def place(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_on(postgres_dsn, tmp_path_factory.mktemp("moment")) as place:
        yield place


def filled(number: int) -> str:
    return f"SELECT g, {number}, clock_timestamp() - interval '1 hour' FROM generate_series(1, {ROWS}) g"


@contextmanager
def reloaded(database: Database, table: str, pause: float) -> Iterator[None]:
    """Beside a block, a transaction again and again empties a table, fills it, and is open for a while longer.

    Args:
        database: where.
        table: what.
        pause: seconds between two of them.
    """
    stop = threading.Event()
    failures: list[psycopg.Error] = []

    def reload() -> None:
        number = 0
        try:
            with database.connect(autocommit=False) as connection:
                while not stop.is_set():
                    number += 1
                    connection.execute(f"TRUNCATE src.{table}")
                    connection.execute(f"INSERT INTO src.{table} {filled(number)}")
                    time.sleep(0.1)
                    connection.commit()
                    time.sleep(pause)
        except psycopg.Error as error:
            failures.append(error)

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failures == []


def relations(database: Database) -> dict[str, str]:
    """Make a relation of every kind that is read by one statement; the table that is reloaded, by relation."""
    for name in ("plain", "windowed", "base", "far"):
        database.run(
            f"CREATE TABLE src.{name} (id bigint, v int NOT NULL, changed_at timestamptz NOT NULL)",
            f"CREATE INDEX ON src.{name} (changed_at)",
            f"GRANT SELECT ON src.{name} TO {ROLE}",
        )
    to = conninfo_to_dict(database.dsn)
    database.run(
        "CREATE TABLE src.divided (id bigint, v int NOT NULL, changed_at timestamptz) PARTITION BY RANGE (id)",
        "CREATE TABLE src.low PARTITION OF src.divided FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE src.others PARTITION OF src.divided DEFAULT",
        "CREATE TABLE src.columns (id bigint, v int NOT NULL, changed_at timestamptz, secret text)",
        # The view's owner reads what is below it, and the extractor's role does not.
        "CREATE VIEW src.seen AS SELECT * FROM (SELECT * FROM src.base) AS below",
        f"REVOKE ALL ON src.base FROM {ROLE}",
        f"GRANT SELECT ON src.divided, src.seen TO {ROLE}",
        f"GRANT SELECT (id, v) ON src.columns TO {ROLE}",
        "CREATE EXTENSION IF NOT EXISTS postgres_fdw",
        "DROP SERVER IF EXISTS loop CASCADE",
        f"CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{to['port']}',"
        f" dbname '{to['dbname']}')",
        f"CREATE USER MAPPING FOR {ROLE} SERVER loop OPTIONS (user '{ROLE}', password '{PASSWORD}')",
        "CREATE FOREIGN TABLE src.foreign_ (id bigint, v int, changed_at timestamptz) SERVER loop"
        " OPTIONS (schema_name 'src', table_name 'far')",
        f"GRANT SELECT ON src.foreign_ TO {ROLE}",
    )
    below = {"seen": "base", "foreign_": "far"}
    found = {name: below.get(name, name) for name in ("plain", "windowed", "divided", "columns", "seen", "foreign_")}
    for table in found.values():
        more = ", secret" if table == "columns" else ""
        database.run(f"INSERT INTO src.{table} SELECT *{', NULL' if more else ''} FROM ({filled(0)}) AS new")
    database.run("ANALYZE")
    return found


def test_a_table_that_is_emptied_and_filled_in_one_transaction_never_lands_empty(bench: Bench) -> None:
    """Every kind of relation, by one statement; ``windowed`` by a window over its cursor's index."""
    database = bench.database
    found = relations(database)
    times = {relation: FOREIGN_TIMES if relation == "foreign_" else TIMES for relation in found}
    entries = []
    for relation in found:
        for name in (f"{relation}_{number}" for number in range(times[relation])):
            entry = incremental(name) if relation == "windowed" else declared(name, key=())
            entries.append({**entry, "source": f"src.{relation}"})
            if relation == "windowed":
                yesterday = TableProgress(watermark=datetime.now(UTC) - timedelta(days=1))
                bench.state.store.create("tables", name, yesterday.model_dump(mode="json"))
    bench.declare(*entries)
    with ExitStack() as stack:
        for table in found.values():
            # A foreign table is locked twice, one after the other: who waits for it in between makes it start again.
            stack.enter_context(reloaded(database, table, pause=0.5 if table == "far" else 0.005))
        finished = bench.extract(EXTRACT_CHUNK_PAGES="8192")
    rows: dict[str, Counter[int]] = {relation: Counter() for relation in found}
    for entry in entries:
        landed = bench.landed(entry["name"])
        rows[entry["name"].rpartition("_")[0]][sum(batch.manifest.rows for batch in landed)] += 1
        for batch in landed:
            assert len({row["v"] for row in batch.rows()}) <= 1, "rows of two fillings"
    assert rows == {relation: Counter({ROWS: times[relation]}) for relation in found}, finished.stderr[-2000:]
    bench.at_rest()


@contextmanager
def under_way(database: Database, *statements: str) -> Iterator[None]:
    """Statements in one transaction, which is committed once the extractor waits for a lock; the block starts it."""
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'credix-extractor' AND wait_event = 'relation'"
    )
    with database.connect(autocommit=False) as connection:
        for statement in statements:
            connection.execute(statement)
        yield
        wait_until("the extractor to wait for the lock", lambda: database.value(waits))


@pytest.mark.parametrize("pages", [50, 8192], ids=["chunks", "one_statement"])
def test_what_a_waiting_extractor_finds_when_the_table_is_free_is_what_it_reads(bench: Bench, pages: int) -> None:
    """Whether the table was filled anew meanwhile or altered: catalog, size and rows are of one moment."""
    database = bench.database
    for name in ("filled", "altered"):
        database.paged_table(name)
    database.run("ALTER TABLE src.altered ADD amount numeric(10,2) NOT NULL DEFAULT 1.25", "ANALYZE")
    amounts = {"id": "INT64", "amount": "NUMERIC"}
    bench.declare(declared("filled"), declared("altered", amounts))
    fill = "INSERT INTO src.filled (id, v) SELECT g, 1 FROM generate_series(1, 2000) g"
    alter = "ALTER TABLE src.altered ALTER amount TYPE numeric(12,4)"
    for table, columns, statements in (
        ("filled", PAGED, ("TRUNCATE src.filled", fill)),
        ("altered", amounts, (alter, "UPDATE src.altered SET amount = 1.2345")),
    ):
        with under_way(database, *statements):
            running = bench.start("--table", table, EXTRACT_CHUNK_PAGES=str(pages))
        finished = running.finish()
        assert finished.exit_code == 0, finished.stderr
        assert newest([bench.only_batch(table)], "id") == bench.source(table, columns)
    bench.at_rest()


def test_a_view_is_the_tables_below_it_at_one_moment_also_where_its_functions_read(bench: Bench) -> None:
    """A volatile function has a new snapshot at every call in a READ COMMITTED transaction."""
    database = bench.database
    database.paged_table("below", rows=200)
    database.run(
        "CREATE TABLE src.rates (rate bigint NOT NULL)",
        "INSERT INTO src.rates VALUES (1)",
        "CREATE FUNCTION src.rate(id bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS"
        " $$ BEGIN PERFORM src.wait(id) WHERE id = 100; RETURN (SELECT rate FROM src.rates); END $$",
    )
    database.gate_function()
    database.run(
        "CREATE VIEW src.rated AS SELECT id, src.rate(id) AS v FROM src.below ORDER BY id",
        f"GRANT SELECT ON src.rated TO {ROLE}",
        f"GRANT EXECUTE ON FUNCTION src.rate TO {ROLE}",
    )
    bench.declare(declared("rated", key=()))  # with a key it would be counted first, at the gate, too
    with database.gate(100) as gate:
        running = bench.start()
        gate.wait()
        database.run("UPDATE src.rates SET rate = 2")
        gate.open()
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    assert {row["v"] for row in bench.only_batch().rows()} == {1}


ATTACHED = "FOR VALUES FROM (20000) TO (30000)"


def divided(bench: Bench) -> None:
    """A partitioned table of many pages, with a gate, and a full partition that is still apart."""
    database = bench.database
    database.paged_table("first", gated=True)
    database.run(
        "CREATE TABLE src.parted (LIKE src.first INCLUDING DEFAULTS INCLUDING GENERATED) PARTITION BY RANGE (id)",
        "ALTER TABLE src.parted ATTACH PARTITION src.first FOR VALUES FROM (1) TO (20000)",
        "CREATE TABLE src.second (LIKE src.parted INCLUDING DEFAULTS INCLUDING GENERATED)",
        "INSERT INTO src.second (id) SELECT g FROM generate_series(20001, 22000) g",
        "ANALYZE",
        f"GRANT SELECT ON src.parted TO {ROLE}",
    )
    bench.declare(declared("parted"))


def test_a_partition_that_is_attached_while_chunks_are_read_arrives_whole_or_not_at_all(bench: Bench) -> None:
    """The catalog is no part of a snapshot: later chunks would read it, earlier ones did not (cases/07)."""
    divided(bench)
    with bench.database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        bench.database.run(f"ALTER TABLE src.parted ATTACH PARTITION src.second {ATTACHED}")
        gate.open()
    finished = running.finish()
    assert finished.exit_code == 1
    assert "1 partition(s) with rows were attached" in finished.outcome()["error"]
    assert bench.objects(LANDING) == []
    bench.extract()
    assert newest([bench.only_batch()], "id") == bench.source("parted")
    bench.at_rest()


def test_an_empty_partition_that_comes_while_chunks_are_read_changes_nothing(bench: Bench) -> None:
    """As one for the next day does."""
    divided(bench)
    with bench.database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        bench.database.run(
            "CREATE TABLE src.third (LIKE src.parted INCLUDING DEFAULTS INCLUDING GENERATED)",
            f"ALTER TABLE src.parted ATTACH PARTITION src.third {ATTACHED}",
        )
        gate.open()
    assert running.finish().exit_code == 0
    batch = bench.only_batch()
    assert len(batch.parts) > 5, "by chunks"
    assert newest([batch], "id") == bench.source("parted")
    bench.at_rest()
