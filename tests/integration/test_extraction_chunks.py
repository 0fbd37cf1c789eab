"""Tables read by chunks of pages or by one statement: every row arrives once, whatever kind of relation it is in."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from services.core.batch import BatchState
from tests.integration.extractor_harness import (
    LANDING,
    PAGED,
    ROLE,
    Bench,
    Finished,
    Landed,
    Place,
    declared,
    doubled,
    incremental,
    newest,
    place_on,
)

PADDED = "id bigint, v int NOT NULL DEFAULT 0, pad text NOT NULL DEFAULT repeat('x', 1000)"
PARTITIONED = "id bigint NOT NULL, v int NOT NULL DEFAULT 0, area text NOT NULL, pad text DEFAULT repeat('x', 1000)"
KINDS = ("plain", "family", "divided", "materialized", "seen", "never_analysed")


@pytest.fixture(scope="module")
def place(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_on(postgres_dsn, tmp_path_factory.mktemp("chunks")) as place:
        yield place


def chunks_of(batch: Landed) -> set[str]:
    """Numbers of the chunks that the parts come from."""
    return {part.object_name.split(".part-")[1][:5] for part in batch.manifest.parts}


def test_every_row_of_every_kind_of_relation_arrives_once(bench: Bench) -> None:
    """One run over all of them: starting the process takes longer than reading a table."""
    database = bench.database
    database.paged_table("plain")
    database.run(
        # Children and partitions are granted to nobody: the privilege on the parent is enough.
        f"CREATE TABLE src.family ({PADDED})",
        "CREATE TABLE src.daughter () INHERITS (src.family)",
        "CREATE TABLE src.son () INHERITS (src.family)",
        "CREATE TABLE src.grandson () INHERITS (src.son)",
        "INSERT INTO src.family SELECT g FROM generate_series(1, 50) g",
        "INSERT INTO src.daughter SELECT g FROM generate_series(51, 2000) g",
        "INSERT INTO src.grandson SELECT g FROM generate_series(2001, 2100) g",
        f"CREATE TABLE src.divided ({PARTITIONED}) PARTITION BY RANGE (id)",
        "CREATE TABLE src.few PARTITION OF src.divided FOR VALUES FROM (1) TO (30)",
        "CREATE TABLE src.most PARTITION OF src.divided FOR VALUES FROM (30) TO (2500)",
        "CREATE TABLE src.again PARTITION OF src.divided FOR VALUES FROM (2500) TO (4000) PARTITION BY LIST (area)",
        "CREATE TABLE src.north PARTITION OF src.again FOR VALUES IN ('n')",
        "CREATE TABLE src.others PARTITION OF src.again DEFAULT",
        "CREATE TABLE src.none PARTITION OF src.divided DEFAULT",
        "INSERT INTO src.divided SELECT g, 0, CASE WHEN g % 5 = 0 THEN 'n' ELSE 's' END FROM generate_series(1,3999) g",
        "CREATE MATERIALIZED VIEW src.materialized AS SELECT * FROM src.plain",
        "CREATE VIEW src.seen AS SELECT id, v FROM src.plain",
        f"CREATE TABLE src.never_analysed ({PADDED})",
        "INSERT INTO src.never_analysed SELECT g FROM generate_series(1, 1000) g",
        *(f"GRANT SELECT ON src.{name} TO {ROLE}" for name in KINDS),
    )
    bench.declare(*(declared(name) for name in KINDS))
    finished = bench.extract()
    for name in KINDS:
        batch = bench.only_batch(name)
        source = bench.source(name)
        assert doubled(batch, "id") == {}, name
        assert newest([batch], "id") == source, name
        assert finished.outcome(name)["rows"] == len(source)
        if name == "seen":
            assert len(batch.parts) == 1, "a view has no pages: one statement"
        else:
            assert len(chunks_of(batch)) >= 3, f"{name} was to be read by chunks"
    assert finished.events("read.catch_up") == [], "one snapshot is enough when nothing breaks off"
    bench.at_rest()


def test_nothing_to_read_leaves_no_trace_unless_it_is_news(bench: Bench) -> None:
    """``emptied`` still has its pages, so it is read by chunks, and they give nothing."""
    bench.database.paged_table("empty", rows=7)
    bench.database.paged_table("emptied")
    bench.database.paged_table("gone")
    bench.database.run("TRUNCATE src.empty", "DELETE FROM src.emptied", "DELETE FROM src.gone")
    bench.declare(incremental("empty"), incremental("emptied"), declared("gone", deletes="soft"))
    finished = bench.extract()
    for name in ("empty", "emptied"):
        assert finished.outcome(name)["outcome"] == "no_changes"
        assert bench.batches(name) == []
    batch = bench.only_batch()
    assert (batch.manifest.table, batch.manifest.rows, len(batch.parts)) == ("gone", 0, 1)
    assert batch.parts[0].column_names == ["id", "v", "_extracted_at"]
    assert finished.outcome("gone")["outcome"] == "landed"
    bench.at_rest()


def test_a_batch_is_the_table_at_one_moment_whatever_is_written_meanwhile(bench: Bench) -> None:
    """All readers see one snapshot: rows that move between pages, appear and vanish do not change the batch."""
    database = bench.database
    database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    before = bench.source("big")
    with database.gate(1_000, 2_000) as gate:
        running = bench.start()
        gate.wait(readers=2)
        database.run(
            "UPDATE src.big SET v = 1 WHERE id % 3 = 0",
            "DELETE FROM src.big WHERE id % 7 = 0",
            "INSERT INTO src.big SELECT g FROM generate_series(3501, 4000) g",
        )
        gate.open()
    finished = running.finish()
    batch = bench.only_batch()
    assert doubled(batch, "id") == {}
    assert newest([batch], "id") == before
    assert finished.events("read.again") == finished.events("read.catch_up") == []
    [read_at] = {row["_extracted_at"] for row in batch.rows()}
    assert read_at >= batch.manifest.extracted_at
    bench.at_rest()


def test_the_first_window_has_null_and_future_cursors_and_the_next_ones_what_changed(bench: Bench) -> None:
    """Once by chunks, because nothing but reading all pages finds the rows, and once over an index."""
    database = bench.database
    database.paged_table("events")
    database.run(
        "UPDATE src.events SET changed_at = now() - interval '1 hour'",
        "VACUUM FULL src.events",
        "UPDATE src.events SET changed_at = NULL WHERE id IN (1, 2)",
        "UPDATE src.events SET changed_at = now() + interval '1 year' WHERE id IN (3, 4, 5)",
        "ANALYZE src.events",
    )
    bench.declare(incremental("events"))
    started = datetime.now(UTC)
    bench.extract()
    first = bench.only_batch()
    assert newest([first], "id") == bench.source("events")
    assert doubled(first, "id") == {}
    assert first.manifest.window is not None
    high = first.manifest.window.high
    assert first.manifest.window.low is None
    assert started - timedelta(seconds=5) < high < datetime.now(UTC), "a future cursor does not move the window"
    bench.merge()
    for number, by_chunks in ((1, True), (2, False)):
        database.run(f"UPDATE src.events SET v = {number}, changed_at = clock_timestamp() WHERE id IN (100, 2000)")
        bench.extract()
        batch = bench.only_batch()
        assert batch.manifest.window is not None
        assert batch.manifest.window.low == high
        assert {row["id"]: row["v"] for row in batch.rows()} == {100: number, 2000: number}
        assert bench.batches("events")[-1].rows_known == 5, "null and future cursors are read again, and are no news"
        assert (chunks_of(batch) != {"00000"}) is by_chunks, "new versions of rows are in the last pages"
        high = batch.manifest.window.high
        bench.merge()
        database.run("CREATE INDEX ON src.events (changed_at)", "ANALYZE src.events")
    assert [batch.state for batch in bench.batches("events")] == [BatchState.MERGED] * 3
    bench.at_rest()


def test_a_chunk_of_many_rows_is_several_parts(bench: Bench) -> None:
    bench.database.paged_table("big")
    bench.declare(declared("big"))
    bench.extract(EXTRACT_PART_ROWS="100")
    batch = bench.only_batch()
    assert newest([batch], "id") == bench.source("big")
    assert [part.rows for part in batch.manifest.parts[:4]] == [100, 100, 100, 50], "350 rows in 50 pages"
    names = [part.object_name.split(".part-")[1] for part in batch.manifest.parts[:4]]
    assert names == ["00000.parquet", "00000-1.parquet", "00000-2.parquet", "00000-3.parquet"]


def test_rows_of_a_hundred_kilobytes_are_held_a_few_at_a_time(bench: Bench) -> None:
    """The size of a row is not known from the catalog: what is kept out of line counts as a pointer there."""
    rows, size = 900, 100_000
    # Random, and no two alike: neither PostgreSQL nor Parquet makes them smaller.
    documents = [os.urandom(size) for _ in range(rows)]
    with bench.database.connect() as connection:
        connection.execute("CREATE TABLE src.wide (id int PRIMARY KEY, document bytea NOT NULL)")
        connection.execute("ALTER TABLE src.wide ALTER document SET STORAGE EXTERNAL")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO src.wide VALUES (%s, %s)", enumerate(documents))
        connection.execute("GRANT SELECT ON src.wide TO extractor")
    bench.declare(declared("wide", {"id": "INT64", "document": "BYTES"}))
    running = bench.start(EXTRACT_CHUNK_PAGES="8192")
    peak = peak_memory(running.process.pid)
    finished: Finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    batch = bench.only_batch()
    assert batch.manifest.rows == rows
    assert all(row["document"] == documents[row["id"]] for row in batch.rows())
    assert len(batch.parts) >= 2, [(part.size, part.rows) for part in batch.manifest.parts]
    assert max(part.size for part in batch.manifest.parts) < 50e6, "a part is closed once it has some 32 MB"
    # The engine hands over 2,048 rows at least: of this width they are all there at once, and parts on their way.
    assert peak < 700e6, f"{peak / 1e6:.0f} MB"


def peak_memory(pid: int) -> int:
    """The most resident memory of a process until it ends, in bytes."""
    peak = 0
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            peak = max(peak, process.memory_info().rss)
            psutil.wait_procs([process], timeout=0.02)
    except psutil.NoSuchProcess:
        pass
    return peak


def test_a_role_that_may_read_some_columns_reads_them_by_one_statement(bench: Bench) -> None:
    """PostgreSQL lets nobody name ``ctid`` who may not read the whole table."""
    bench.database.paged_table("big")
    bench.database.run(f"REVOKE SELECT ON src.big FROM {ROLE}", f"GRANT SELECT (id, v) ON src.big TO {ROLE}")
    bench.declare(declared("big", PAGED))
    bench.extract()
    batch = bench.only_batch()
    assert newest([batch], "id") == bench.source("big")
    assert len(bench.objects(LANDING)) == 2, "one part and the manifest"
