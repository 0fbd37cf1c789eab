"""A read replica as the source, and a failover while a table is read."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.address import Address
from tests.integration.extractor_harness import (
    LANDING,
    Bench,
    Database,
    Place,
    Server,
    declared,
    doubled,
    incremental,
    newest,
    own_server,
    place_on,
    wait_until,
)
from tests.integration.postgres_versions import VERSIONS


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def primary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with own_server(tmp_path_factory.mktemp("primary"), request.param) as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that never waits for its readers: what the primary has cleaned away conflicts with them at once."""
    with primary.replica(tmp_path_factory.mktemp("replica"), max_standby_streaming_delay="0") as server:
        yield server


@pytest.fixture(scope="module")
def place(primary: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_on(primary.dsn, tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture
def bench(place: Place, replica: Server, tmp_path: Path) -> Iterator[Bench]:
    """The database is the primary's; the extractor reads the replica."""
    with place.bench(tmp_path) as bench:
        bench.variables["POSTGRES_PORT"] = str(replica.port)
        yield bench


def copy_of(database: Database, replica: Server) -> Database:
    """The same database on the replica."""
    return Database(make_conninfo(replica.dsn, dbname=str(conninfo_to_dict(database.dsn)["dbname"])))


def replayed(database: Database, copy: Database) -> None:
    """Wait until the replica has all that the primary has now."""
    position = database.value("SELECT pg_current_wal_flush_lsn()")
    wait_until("the replica", lambda: copy.value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))


@contextmanager
def paused(copy: Database) -> Iterator[None]:
    """Stop the replay for a block."""
    copy.run("SELECT pg_wal_replay_pause()")
    try:
        wait_until("the pause", lambda: copy.value("SELECT pg_get_wal_replay_pause_state()") == "paused")
        yield
    finally:
        # What is replayed now can cancel this very statement, as a conflict with its snapshot; it is done all the same.
        with suppress(psycopg.errors.SerializationFailure):
            copy.run("SELECT pg_wal_replay_resume()")
        wait_until("the replay", lambda: copy.value("SELECT pg_get_wal_replay_pause_state()") == "not paused")


def test_a_window_ends_before_what_the_replica_has_replayed(bench: Bench, replica: Server) -> None:
    """By the safety lag: the primary's open transactions cannot be seen. What comes later is in a later window."""
    database, copy = bench.database, copy_of(bench.database, replica)
    database.paged_table("events")
    database.run("UPDATE src.events SET changed_at = now() - interval '1 hour'")
    bench.declare(incremental("events"))
    replayed(database, copy)
    with paused(copy):
        at = copy.value("SELECT pg_last_xact_replay_timestamp()")
        database.run("UPDATE src.events SET v = 1, changed_at = clock_timestamp() WHERE id <= 100")
        finished = bench.extract(EXTRACT_SAFETY_LAG="30")
    [warning] = finished.events("window.safety_lag")
    assert "replica" in warning["reason"]
    assert datetime.fromisoformat(warning["replayed"]) == at
    first = bench.only_batch()
    assert first.manifest.window is not None
    assert first.manifest.window.high == at - timedelta(seconds=30)
    assert {row["v"] for row in first.rows()} == {0}
    assert len(first.parts) > 5, "by chunks, under a snapshot that the replica exported"
    assert doubled(first, "id") == {}
    bench.merge()
    replayed(database, copy)
    bench.extract(EXTRACT_SAFETY_LAG="30")
    second = bench.only_batch()
    assert second.manifest.window is not None
    assert second.manifest.window.low == first.manifest.window.high
    assert newest([first, second], "id") == bench.source("events")
    bench.at_rest()


def test_a_read_that_conflicts_with_recovery_goes_on_under_a_new_snapshot(bench: Bench, replica: Server) -> None:
    database, copy = bench.database, copy_of(bench.database, replica)
    database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    database.run("DELETE FROM src.big WHERE id <= 700", "VACUUM src.big")
    replayed(database, copy)
    with copy.gate(3_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        database.run(
            "UPDATE src.big SET v = 1 WHERE id > 3200",  # to the pages that were read first
            "DELETE FROM src.big WHERE id BETWEEN 1500 AND 1600",
            "VACUUM src.big",
        )
        again = running.wait_for("read.again")
        assert "conflict with recovery" in again["reason"]
        replayed(database, copy)
        gate.open()
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    batch = bench.only_batch()
    gone = {(id,) for id in range(1_500, 1_601)}
    found = newest([batch], "id")
    assert {key: row for key, row in found.items() if key not in gone} == bench.source("big")
    assert len(finished.events("read.catch_up")) == 1
    bench.at_rest()


@pytest.fixture
def address(primary: Server) -> Iterator[Address]:
    """Where the primary is reached, and then another server."""
    with closing(Address(primary.port)) as address:
        yield address


def test_a_read_that_is_tried_again_on_a_replica_does_not_count(
    bench: Bench, replica: Server, address: Address
) -> None:
    """By one statement, too: its window ends at the primary's time, and the replica has not replayed so far."""
    database, copy = bench.database, copy_of(bench.database, replica)
    database.paged_table("events", rows=300, gated=True)
    bench.declare(incremental("events"))
    bench.variables["POSTGRES_PORT"] = str(address.port)
    replayed(database, copy)
    with paused(copy):
        database.run("UPDATE src.events SET v = 1, changed_at = now() - interval '10 minutes' WHERE id <= 100")
        with database.gate(200) as gate:
            running = bench.start(EXTRACT_READERS="1", EXTRACT_CHUNK_PAGES="1000")
            gate.wait()
            address.to(replica.port)
        finished = running.finish()
    assert finished.exit_code == 1
    assert "another server answers" in finished.outcome()["error"]
    assert "it was a primary and is a replica" in finished.outcome()["error"]
    assert bench.objects(LANDING) == []
    bench.variables["POSTGRES_PORT"] = str(conninfo_to_dict(database.dsn)["port"])
    bench.extract(EXTRACT_CHUNK_PAGES="1000")
    batch = bench.only_batch()
    assert len(batch.parts) == 1, "by one statement"
    assert newest([batch], "id") == bench.source("events")
    bench.at_rest()


def test_a_read_that_is_caught_by_a_failover_starts_again(
    bench: Bench, primary: Server, replica: Server, address: Address
) -> None:
    """Another server may lack the last transactions, and give their ids to others: what was read does not count.

    The last test: the replica is a primary afterwards. A checkpoint would write down its new
    timeline; there is none.
    """
    database, copy = bench.database, copy_of(bench.database, replica)
    database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    bench.variables["POSTGRES_PORT"] = str(address.port)
    replayed(database, copy)
    with database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        primary.crash()
    copy.run("SELECT pg_promote()")
    address.to(replica.port)
    finished = running.finish()
    assert finished.exit_code == 1
    assert "SourceRewritten" in finished.outcome()["error"]
    assert "its timeline was 1 and is 2" in finished.outcome()["error"]
    assert bench.objects(LANDING) == []
    bench.extract()
    primary.start()  # as it was; nobody has written since
    assert newest([bench.only_batch()], "id") == bench.source("big")
    bench.at_rest()
