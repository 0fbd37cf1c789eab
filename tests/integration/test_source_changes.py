"""What the watermark rests on changes between two runs: it is noticed, and what it takes is done or asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.extractor_harness import (
    Bench,
    Columns,
    Database,
    Server,
    declared,
    incremental,
    own_server,
    place_on,
    wait_until,
)
from tests.integration.merged_runs import ITEM, Runs
from tests.integration.postgres_versions import VERSIONS

CURSOR = {"expression": "updated_at", "type": "timestamp"}
COLUMNS = "id int PRIMARY KEY, v text, updated_at timestamptz NOT NULL DEFAULT now()"
FIRST, SECOND = "a mask's key", "another one"
OLD = "now() - interval '1 day'"


def make(bench: Bench, *names: str) -> None:
    """Tables of three rows, the last batch of which moved the watermark to now."""
    for name in names:
        bench.database.run(
            f"CREATE TABLE src.{name} ({COLUMNS})",
            f"INSERT INTO src.{name} SELECT i, 'v' || i, {OLD} FROM generate_series(1, 3) i",
        )
    grant(bench)


def grant(bench: Bench) -> None:
    bench.database.run("GRANT SELECT ON ALL TABLES IN SCHEMA src TO extractor")


def last(bench: Bench, table: str) -> tuple[str, list[str]]:
    """The mode of a table's last batch, and what had changed before it."""
    batch = bench.batches(table)[-1]
    return batch.mode.value, batch.changes


def test_what_changes_at_the_source(bench: Bench) -> None:
    """Each with rows below the watermark that no window reads."""
    database = bench.database
    names = ["emptied", "created", "attached", "grown", "part_empty", "viewed"]
    make(bench, "emptied", "created", "below")
    for name in ("attached", "grown", "part_empty"):
        database.run(
            f"CREATE TABLE src.{name} (id int, v text, updated_at timestamptz NOT NULL DEFAULT now(),"
            " PRIMARY KEY (id, updated_at)) PARTITION BY RANGE (updated_at)",
            f"CREATE TABLE src.{name}_a PARTITION OF src.{name} FOR VALUES FROM ('2000-01-01') TO (now()::date + 2)",
            f"INSERT INTO src.{name} SELECT i, 'v' || i, {OLD} FROM generate_series(1, 3) i",
        )
    database.run("CREATE VIEW src.viewed AS SELECT id, v, updated_at FROM src.below WHERE id < 3")
    grant(bench)
    bench.declare(*(incremental(name, ITEM, CURSOR) for name in names))
    runs = Runs(bench)
    runs.run()
    for name in ("attached", "grown", "part_empty"):
        database.run(f"CREATE TABLE src.{name}_b (LIKE src.{name} INCLUDING ALL)")
    bounds = "FOR VALUES FROM ('1990-01-01') TO ('2000-01-01')"
    later = "FOR VALUES FROM (now()::date + 2) TO (now()::date + 9)"
    database.run(
        "TRUNCATE src.emptied",
        f"INSERT INTO src.emptied SELECT i, 'new', {OLD} FROM generate_series(1, 3) i",
        "DROP TABLE src.created",
        f"CREATE TABLE src.created ({COLUMNS})",
        f"INSERT INTO src.created SELECT i, 'new', {OLD} FROM generate_series(1, 3) i",
        "INSERT INTO src.attached_b VALUES (4, 'new', '1999-01-01')",
        f"ALTER TABLE src.attached ATTACH PARTITION src.attached_b {bounds}",
        "INSERT INTO src.grown_b VALUES (4, 'new', now() + interval '3 days')",
        f"ALTER TABLE src.grown ATTACH PARTITION src.grown_b {later}",
        f"ALTER TABLE src.part_empty ATTACH PARTITION src.part_empty_b {bounds}",
        "UPDATE src.part_empty SET v = 'new', updated_at = now() WHERE id = 1",
        "CREATE OR REPLACE VIEW src.viewed AS SELECT id, v, updated_at FROM src.below",
    )
    grant(bench)
    finished = runs.run()
    assert {name: runs.bronze(name) for name in names} == {
        "emptied": {1: "new", 2: "new", 3: "new"},
        "created": {1: "new", 2: "new", 3: "new"},
        "attached": {1: "v1", 2: "v2", 3: "v3", 4: "new"},
        "grown": {1: "v1", 2: "v2", 3: "v3", 4: "new"},
        "part_empty": {1: "new", 2: "v2", 3: "v3"},
        "viewed": {1: "v1", 2: "v2", 3: "v3"},
    }
    modes = {name: last(bench, name)[0] for name in names}
    windows = {"grown", "part_empty"}
    assert modes == {name: "incremental" if name in windows else "snapshot" for name in names}
    assert "with older rows were attached" in last(bench, "attached")[1][0]
    assert finished.outcome("attached")["changes"] == last(bench, "attached")[1]
    assert len(finished.events("snapshot.due")) == len(names) - len(windows)
    looks = bench.extract("--dry-run").report
    assert [(look["mode"], look["changes"]) for look in looks] == [("incremental", [])] * len(names)


def test_columns_that_are_added(bench: Bench) -> None:
    """Under evolve. Where older rows have values in them, they are read again: the default fills what it was not in."""
    database = bench.database
    names = ["filled", "dropped_default", "nullable", "parted", "late"]
    make(bench, "filled", "dropped_default", "nullable", "late")
    database.run(
        f"CREATE TABLE src.parted ({COLUMNS}) PARTITION BY RANGE (id)",
        "CREATE TABLE src.parted_1 PARTITION OF src.parted FOR VALUES FROM (0) TO (10)",
        f"INSERT INTO src.parted SELECT i, 'v' || i, {OLD} FROM generate_series(1, 3) i",
    )
    database.run("ALTER TABLE src.late ADD COLUMN status text NOT NULL DEFAULT 'active'")
    grant(bench)
    evolving = [incremental(name, ITEM, CURSOR, schema_drift="evolve") for name in names[:-1]]
    bench.declare(*evolving, incremental("late", ITEM, CURSOR))
    runs = Runs(bench)
    runs.run()
    for name in ("filled", "dropped_default", "parted"):
        database.run(f"ALTER TABLE src.{name} ADD COLUMN status text NOT NULL DEFAULT 'active'")
    for name in ("dropped_default", "parted"):
        database.run(f"ALTER TABLE src.{name} ALTER COLUMN status DROP DEFAULT")
        database.run(f"ALTER TABLE src.{name} ALTER COLUMN status DROP NOT NULL")
    database.run("ALTER TABLE src.nullable ADD COLUMN status text")
    for name in names:
        database.run(f"UPDATE src.{name} SET v = 'changed', updated_at = now() WHERE id = 1")
    bench.declare(*evolving, incremental("late", {**ITEM, "status": "STRING"}, CURSOR))
    runs.run()
    found = {
        name: {row["id"]: row["status"] for batch in runs.landed[-len(names) :] for row in batch.rows()
               if batch.manifest.table == name}
        for name in names
    }  # fmt: skip
    everywhere = {1: "active", 2: "active", 3: "active"}
    assert found == {name: {1: None} if name == "nullable" else everywhere for name in names}
    assert "column status is new, and older rows have values in it" in last(bench, "filled")[1]
    assert last(bench, "nullable") == ("incremental", ["column status is new, and null in all older rows"])


def test_what_changes_in_the_declaration(bench: Bench) -> None:
    database = bench.database
    names = ["expression", "lag", "mode"]
    for name in names:
        database.run(
            f"CREATE TABLE src.{name} (id int PRIMARY KEY, v text, a timestamptz, b timestamptz)",
            f"INSERT INTO src.{name} VALUES (1, 'v1', now(), NULL)",
        )
    grant(bench)
    first = {"expression": "a", "type": "timestamp", "nulls": "snapshot_only"}
    bench.declare(*(incremental(name, ITEM, first) for name in names[:2]), declared("mode", ITEM))
    runs = Runs(bench)
    runs.run()
    # What the declaration until now lets go: a change that only b tells, a row that is an hour late.
    for name in names:
        database.run(f"UPDATE src.{name} SET v = 'by b', b = now() - interval '30 minutes'")
        database.run(f"INSERT INTO src.{name} VALUES (2, 'late', now() - interval '30 minutes', NULL)")
        database.run(f"INSERT INTO src.{name} VALUES (3, 'in time', now(), NULL)")
    assert {batch.mode.value for batch in bench.batches("expression")} == {"incremental"}
    bench.declare(
        incremental("expression", ITEM, {**first, "expression": "greatest(a, b)"}),
        incremental("lag", ITEM, {**first, "lag": "PT1H"}),
        incremental("mode", ITEM, first),
    )
    before = bench.state.progress("lag").watermark
    runs.run()
    everything = {1: "by b", 2: "late", 3: "in time"}
    assert {name: runs.bronze(name) for name in names} == {name: everything for name in names}  # noqa: RUF100, C420
    assert [bench.batches(name)[-1].anew for name in names] == [True, True, True]
    after = bench.state.progress("lag").watermark
    assert before is not None
    assert after is not None
    assert after < before, "the watermark that did not know of the lag does not count"
    database.run("INSERT INTO src.lag VALUES (4, 'later', now() - interval '50 minutes', NULL)")
    runs.run()
    assert runs.bronze("lag")[4] == "later"
    assert last(bench, "lag") == ("incremental", [])


def refused(bench: Bench, *arguments: str, **variables: str) -> str:
    finished = bench.start(*arguments, **variables).finish()
    assert finished.exit_code == 1
    return str(finished.outcome()["error"])


def test_a_person_is_waited_for(bench: Bench) -> None:
    """Where bronze could mix two keys, or a mask was taken off; and where the table is to wait."""
    make(bench, "t")

    def declare(key: str = "id", **more: str) -> None:
        columns: Columns = {"id": "INT64", "v": {"type": "STRING", "required": True, **more}}
        bench.declare(incremental("t", columns, CURSOR, key=[key], on_change="wait"))

    declare(mask="hash")
    bench.variables["EXTRACT_MASK_SECRET"] = FIRST
    runs = Runs(bench)
    runs.run()
    bench.database.run("INSERT INTO src.t VALUES (4, 'v4')")
    declare()
    for arguments in (("--dry-run",), (), ("--mode", "snapshot")):
        error = refused(bench, *arguments)
        assert "SourceChanged: table t: src.t is not what its watermark rests on" in error
        assert "column v: its mask was hash and is none" in error
        assert "credix extract --table t --accept-changes" in error
    assert bench.start("--accept-changes").finish().exit_code == 2, "only of tables that are named"
    declare(mask="hash")
    assert "EXTRACT_MASK_SECRET is another" in refused(bench, EXTRACT_MASK_SECRET=SECOND)
    runs.run("--mode", "snapshot", EXTRACT_MASK_SECRET=SECOND)
    bench.variables["EXTRACT_MASK_SECRET"] = SECOND
    declare("v", mask="hash")
    assert "the key was (id) and is (v)" in refused(bench)
    runs.run("--table", "t", "--accept-changes")
    batch = bench.batches("t")[-1]
    assert (batch.mode.value, batch.anew, batch.rows) == ("snapshot", True, 4)
    bench.database.run("INSERT INTO src.t VALUES (5, 'v5')")
    runs.run()
    assert last(bench, "t") == ("incremental", [])


def test_a_masked_column_that_is_renamed_stays_hidden(bench: Bench) -> None:
    make(bench, "t")
    hidden = {"type": "STRING", "mask": "hash"}
    columns: Columns = {"id": "INT64", "v": hidden}
    bench.declare(incremental("t", columns, CURSOR, schema_drift="evolve"))
    bench.variables["EXTRACT_MASK_SECRET"] = FIRST
    runs = Runs(bench)
    runs.run()
    bench.database.run("ALTER TABLE src.t RENAME v TO w", "INSERT INTO src.t VALUES (4, 'clear')")
    assert "v is masked and gone, and this could be it, in clear" in refused(bench)
    bench.declare(incremental("t", {"id": "INT64"}, CURSOR, schema_drift="evolve"))
    assert "column w was v, and shows what that masked" in refused(bench)
    bench.declare(incremental("t", {"id": "INT64", "v": {**hidden, "source_column": "w"}}, CURSOR))
    runs.run()
    assert last(bench, "t")[0] == "incremental"
    assert {len(row["v"]) for batch in runs.landed for row in batch.rows()} == {64}


def test_another_database(bench: Bench, server: Server) -> None:
    make(bench, "t")
    bench.declare(incremental("t", ITEM, CURSOR))
    runs = Runs(bench)
    runs.run()
    name = str(conninfo_to_dict(bench.database.dsn)["dbname"])
    administrator = Database(server.dsn)
    administrator.run(f"CREATE DATABASE other TEMPLATE {name}")
    try:
        other = Database(make_conninfo(server.dsn, dbname="other"))
        other.run("UPDATE src.t SET v = 'of another', updated_at = now()")
        assert "another database answers" in refused(bench, POSTGRES_DB="other")
        runs.run("--table", "t", "--accept-changes", POSTGRES_DB="other")
        assert set(runs.bronze("t").values()) == {"of another"}
        assert "another database answers" in refused(bench)
    finally:
        administrator.run("DROP DATABASE other WITH (FORCE)")


def copy_files(of: Path, to: Path) -> None:
    """With their owners: the server's user has to be theirs."""
    subprocess.run(["cp", "-a", str(of), str(to)], check=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failover_and_a_restored_backup(version: int, tmp_path: Path) -> None:
    """After a failover all is read anew; a server that is behind what was read from it waits for a person."""
    folders = [tmp_path / name for name in ("primary", "replica", "place", "bench")]
    for folder in folders:
        folder.mkdir()
    with (
        own_server(folders[0], version) as primary,
        place_on(primary.dsn, folders[2]) as place,
        place.bench(folders[3]) as bench,
    ):
        make(bench, "t")
        bench.declare(incremental("t", ITEM, CURSOR))
        runs = Runs(bench)
        runs.run()
        with primary.replica(folders[1]) as replica:
            position = bench.database.value("SELECT pg_current_wal_flush_lsn()")
            copy = Database(make_conninfo(replica.dsn, dbname=str(conninfo_to_dict(bench.database.dsn)["dbname"])))
            wait_until("the replica", lambda: copy.value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))
            copy.run("SELECT pg_promote()")
            copy.run(f"UPDATE src.t SET v = 'while it was away', updated_at = {OLD} WHERE id = 1")
            runs.run(POSTGRES_PORT=str(replica.port))
            assert last(bench, "t") == ("snapshot", ["another server took over (timeline 1 is now 2)"])
            assert runs.bronze("t")[1] == "while it was away"
            replica.stop()
            backup = tmp_path / "backup"
            copy_files(replica.cluster.data, backup)
            replica.start()
            copy.run("INSERT INTO src.t VALUES (4, 'lost')")
            runs.run(POSTGRES_PORT=str(replica.port))
            assert runs.bronze("t")[4] == "lost"
            replica.stop()
            shutil.rmtree(replica.cluster.data)
            copy_files(backup, replica.cluster.data)
            replica.start()
            error = refused(bench, POSTGRES_PORT=str(replica.port))
            assert "it was restored from a backup" in error
            runs.run("--table", "t", "--accept-changes", POSTGRES_PORT=str(replica.port))
            assert bench.batches("t")[-1].rows == 3
