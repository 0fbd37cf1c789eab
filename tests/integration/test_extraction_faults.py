"""What happens to a read when connections, statements, the server or the process itself end before it does.

The table's pages are full but for the first ones, so that a row which is changed late moves to where was read early: a
read that went on under a new snapshot, and did no more than that, would have it in neither place.
"""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from services.core.batch import BatchState
from services.core.gcs import GcsObjectStore
from services.core.naming import manifest_object
from services.core.tables import Table
from services.core.window import Window
from tests.integration.extractor_harness import (
    FAILED,
    LANDING,
    PAGED,
    ROLE,
    Bench,
    Database,
    Key,
    Landed,
    Row,
    Server,
    declared,
    doubled,
    incremental,
    newest,
    own_server,
    wait_until,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with own_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def room_at_the_front(database: Database, table: str = "big", gone: int = 700) -> None:
    """Empty the first pages: whatever row is changed next finds room nowhere else."""
    database.run(f"DELETE FROM src.{table} WHERE id <= {gone}", f"VACUUM src.{table}")


def page_of(database: Database, id: int, table: str = "big") -> int:
    return int(database.value(f"SELECT (ctid::text::point)[0] FROM src.{table} WHERE id = {id}"))


def attempts_of(batch: Landed) -> dict[int, str]:
    """Per chunk, the attempt in its first part's name: '' for the first one."""
    found = {}
    for part in batch.manifest.parts:
        chunk, _, attempt = part.object_name.split(".part-")[1].removesuffix(".parquet").partition("-")
        found[int(chunk)] = attempt
    return found


@contextmanager
def in_background(act: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def test_rows_that_move_to_pages_already_read_while_all_connections_are_lost_are_found(bench: Bench) -> None:
    """The catch-up: without it, the batch would lack every row of the last chunks."""
    database = bench.database
    database.paged_table("big", gated=True)
    room_at_the_front(database)
    bench.declare(declared("big"))
    before = bench.source("big")
    with database.gate(3_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        assert database.disconnect_extractors() == 2, "the reader's and the session's"
        database.run(
            "UPDATE src.big SET v = 1 WHERE id > 3200",
            "UPDATE src.big SET v = 2 WHERE id BETWEEN 801 AND 810",  # these were read before
            "DELETE FROM src.big WHERE id = 3150",
            "INSERT INTO src.big SELECT g, 3 FROM generate_series(1, 20) g",
        )
        assert page_of(database, 3_300) < 100 < page_of(database, 3_100), "the rows did not move to the front"
        gate.open()
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    batch = bench.only_batch()
    found = newest([batch], "id")
    assert found == bench.source("big")
    assert before.keys() - found.keys() == {(3_150,)}
    assert doubled(batch, "id").keys() == {(id,) for id in range(801, 811)}, "of these, there are two versions"
    assert len(finished.events("session.lost")) == len(finished.events("read.catch_up")) == 1
    assert {again["attempt"] for again in finished.events("read.again")} == {1}
    [lost] = [line["snapshot"] for line in finished.events("session.lost")]
    assert lost
    kept = attempts_of(batch)
    assert [kept[chunk] for chunk in range(2, 8)] == [""] * 6, "finished chunks are not read again"
    assert kept[8] == "try2", "the one that broke off is"
    assert bench.reasons() == {}
    bench.at_rest()


class Writer:
    """Changes rows, one a transaction, and keeps the history: the source at any moment can be told from it."""

    def __init__(self, database: Database, start: dict[Key, Row]) -> None:
        self.history: list[tuple[Key, int | None]] = []
        """Per transaction, the key and its new value; None when the row was deleted."""
        self.start = {key: int(row["v"]) for key, row in start.items()}
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        """From both ends to the middle and again: what is changed late moves to the front, and the other way round."""
        with self._database.connect() as connection:
            connection.execute("SET synchronous_commit = off")
            number = 0
            while not self._stop.is_set():
                number += 1
                id = 3_500 - number % 1_200 if number % 2 else 701 + number % 1_200
                if number % 11 == 0:
                    done = connection.execute("DELETE FROM src.big WHERE id = %s", [id]).rowcount
                    if done:
                        self.history.append(((id,), None))
                elif number % 13 == 0:
                    connection.execute("INSERT INTO src.big (id, v) VALUES (%s, %s)", [10_000 + number, number])
                    self.history.append(((10_000 + number,), number))
                else:
                    done = connection.execute("UPDATE src.big SET v = %s WHERE id = %s", [number, id]).rowcount
                    if done:
                        self.history.append(((id,), number))
                if number % 500 == 0:
                    connection.execute("VACUUM src.big")

    def moments(self, found: dict[Key, Row]) -> list[int]:
        """After which transactions the source was what was found, but for rows that were not there at that moment.

        A row that was deleted before the last snapshot, or after an earlier one had shown it, may be in a batch or not.
        """
        states: dict[Key, list[tuple[int, int | None]]] = {key: [(0, value)] for key, value in self.start.items()}
        for moment, (key, value) in enumerate(self.history, start=1):
            states.setdefault(key, [(0, None)]).append((moment, value))
        end = len(self.history) + 1
        wrong = [0] * (end + 1)  # differences: the sum up to a moment is how many keys contradict it
        for key, changes in states.items():
            value = found[key]["v"] if key in found else None
            for (since, state), (until, _) in zip(changes, [*changes[1:], (end, None)], strict=True):
                if state is not None and state != value:
                    wrong[since] += 1
                    wrong[until] -= 1
        contradictions, moments = 0, []
        for moment in range(end):
            contradictions += wrong[moment]
            if not contradictions:
                moments.append(moment)
        return moments


def test_a_batch_that_lost_its_connections_again_and_again_is_the_table_at_one_moment(bench: Bench) -> None:
    """While somebody writes all the time. Then the writer stops, and the next snapshot is the table exactly."""
    database = bench.database
    database.paged_table("big", gated=True)
    room_at_the_front(database)
    bench.declare(declared("big"))
    start = bench.source("big")
    with database.gate(1_500, 2_300, 3_100) as gate, Writer(database, start) as writer:
        running = bench.start(EXTRACT_READERS="2", EXTRACT_CHUNK_PAGES="20")
        for number, id in enumerate((1_500, 2_300, 3_100)):
            gate.wait()
            first = len(writer.history)
            wait_until("changes", lambda: len(writer.history) > first + 150)  # noqa: B023
            database.disconnect_extractors()
            gate.open(id)
            if number < 2:
                running.wait_for("read.again", number + 1)
        finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    assert len(finished.events("session.lost")) >= 3
    assert len(finished.events("read.catch_up")) == 1
    batch = bench.only_batch()
    found = newest([batch], "id")
    assert start.keys() - {key for key, _ in writer.history} <= found.keys(), "rows that nobody touched"
    assert doubled(batch, "id"), "the writer was to change rows that were read before"
    assert len(writer.history) > 450
    moments = writer.moments(found)
    assert moments, "the batch is no state that the table ever had"
    assert moments[0] > 300, "the last snapshot is later than the first"
    bench.merge()
    bench.extract()
    assert newest(bench.landed(), "id") == bench.source("big")
    assert doubled(bench.only_batch(), "id") == {}
    bench.at_rest()


def test_a_server_that_crashes_and_comes_back_costs_no_finished_chunk(bench: Bench, server: Server) -> None:
    database = bench.database
    database.paged_table("big", gated=True)
    room_at_the_front(database)
    bench.declare(declared("big"))
    with database.gate(3_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        done = len([line for line in running.log if line["message"] == "part.landed"])
        server.crash()
    running.wait_for("read.again")
    server.start()
    database.run("UPDATE src.big SET v = 1 WHERE id > 3200")
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    batch = bench.only_batch()
    assert newest([batch], "id") == bench.source("big")
    assert len(finished.events("read.catch_up")) == 1
    kept = attempts_of(batch)
    assert done >= 5
    assert [kept[chunk] for chunk in range(2, 2 + done)] == [""] * done
    bench.at_rest()


def test_only_the_session_is_lost_and_the_read_goes_on_under_a_new_one(bench: Bench) -> None:
    """The chunk that is being read has its snapshot; the next one cannot take it any more."""
    database = bench.database
    database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    with database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        [(ended,)] = database.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'credix-extractor'"
            " AND state = 'idle in transaction'"
        )
        assert ended
        gate.open()
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    batch = bench.only_batch()
    assert newest([batch], "id") == bench.source("big")
    [again] = finished.events("read.again")
    assert "the session's connection was lost, and with it the snapshot" in again["reason"]
    assert attempts_of(batch)[5] == "", "the chunk at the gate was read under the old snapshot to its end"
    bench.at_rest()


def test_statements_that_take_too_long_are_tried_again_until_they_may(bench: Bench) -> None:
    """By one statement and by chunks; the role's limit is lifted after the first attempts."""
    database = bench.database
    database.paged_table("big", gated=True)
    database.run(
        f"CREATE VIEW src.seen WITH (security_invoker) AS SELECT * FROM src.big; GRANT SELECT ON src.seen TO {ROLE}"
    )
    bench.declare(declared("big"), declared("seen"))
    database.run(f"ALTER ROLE {ROLE} SET statement_timeout = '1500ms'")
    try:
        with database.gate(2_000) as gate:
            runs = [bench.start("--table", name, EXTRACT_READERS="1") for name in ("big", "seen")]
            for running in runs:
                assert "statement timeout" in running.wait_for("read.again")["reason"]
            database.run(f"ALTER ROLE {ROLE} RESET statement_timeout")
            gate.open()
            for running in runs:
                finished = running.finish()
                assert finished.exit_code == 0, finished.stderr
    finally:
        database.run(f"ALTER ROLE {ROLE} RESET statement_timeout")
    for name in ("big", "seen"):
        batch = bench.only_batch(name)
        assert newest([batch], "id") == bench.source(name)
        assert doubled(batch, "id") == {}
    bench.at_rest()


def test_the_log_says_when_the_source_does_not_come_back_in_all_attempts(bench: Bench) -> None:
    database = bench.database
    database.paged_table("big", gated=True)
    bench.declare(declared("big"))
    with database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1", EXTRACT_ATTEMPTS="2")
        for number in (1, 2):
            gate.wait()
            database.disconnect_extractors()
            if number == 1:
                running.wait_for("read.again")
        finished = running.finish()
    assert finished.exit_code == 1
    assert finished.outcome()["error"].startswith("TransientError: table big: the source broke off:")
    assert len(bench.objects(LANDING)) == 0
    assert bench.reasons() == {"extraction_failed": 5}
    [batch] = bench.batches("big")
    assert (batch.state, batch.open) == (BatchState.FAILED, False)
    bench.at_rest()


GATED_CURSOR = {
    "expression": "src.passed(id, changed_at)",
    "type": "timestamp",
    "future": "defer",
    "lookback": "PT5M",  # a REFRESH brings older rows: without, a window of a materialized view is refused
}
"""A gate for what has no row security: the window's condition is computed for every row that is read."""


def test_who_wants_to_rewrite_a_table_waits_for_a_chunk_and_not_for_the_read(bench: Bench) -> None:
    """Behind one who waits for an exclusive lock, all others wait, the readers of further chunks among them.

    So the read lets the table go. What it finds then decides: the same pages, and it goes on; others, and the run
    fails, because page numbers do not mean what they meant. Three tables at once: each waits some seconds for its lock.
    """
    database = bench.database
    for name in ("altered", "emptied", "base"):
        database.paged_table(name, gated=name != "base")
    database.run(
        "CREATE FUNCTION src.passed(bigint, timestamptz) RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS"
        " $$ BEGIN PERFORM src.gate($1); RETURN $2; END $$",
        "CREATE MATERIALIZED VIEW src.refreshed AS SELECT * FROM src.base ORDER BY id",
        f"GRANT SELECT ON src.refreshed TO {ROLE}",
        "ANALYZE",
    )
    bench.declare(declared("altered"), declared("emptied"), incremental("refreshed", cursor=GATED_CURSOR))
    rewrites = {
        "altered": "ALTER TABLE src.altered ADD COLUMN more int",
        "emptied": "TRUNCATE src.emptied",
        "refreshed": "REFRESH MATERIALIZED VIEW src.refreshed",
    }
    took: dict[str, float] = {}

    def rewrite(name: str) -> None:
        started = time.monotonic()
        database.run(rewrites[name])
        took[name] = time.monotonic() - started

    with database.gate(2_000) as gate:
        runs = {name: bench.start("--table", name, EXTRACT_READERS="1") for name in rewrites}
        gate.wait(readers=3)
        database.run("DELETE FROM src.base WHERE id <= 700")
        threads = [threading.Thread(target=rewrite, args=[name]) for name in rewrites]
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'relation'"
        wait_until("the rewrites to wait", lambda: database.value(waiting) == 3)
        gate.open()
        for thread in threads:
            thread.join()
    finished = {name: running.finish() for name, running in runs.items()}
    assert max(took.values()) < 30, took
    assert finished["altered"].exit_code == 0, finished["altered"].stderr
    batch = bench.only_batch()
    assert newest([batch], "id") == bench.source("altered")
    for name in ("emptied", "refreshed"):
        assert finished[name].exit_code == 1
        assert finished[name].outcome()["error"].startswith("SourceRewritten: table"), finished[name].stdout
        [failed] = bench.batches(name)
        assert failed.state is BatchState.FAILED
    bench.merge()
    bench.at_rest()
    again = bench.extract("--table", "emptied", "--table", "refreshed")
    assert again.outcome("emptied")["outcome"] == "no_changes"
    batch = bench.only_batch("refreshed")
    assert newest([batch], "id") == bench.source("base")
    bench.at_rest()


def test_a_table_that_was_rewritten_while_nobody_held_it_is_read_from_the_start_by_the_next_run(bench: Bench) -> None:
    database = bench.database
    database.paged_table("big", gated=True)
    room_at_the_front(database)
    bench.declare(declared("big"))
    with database.gate(3_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        database.disconnect_extractors()
        database.run("VACUUM FULL src.big")
        gate.open()
    finished = running.finish()
    assert finished.exit_code == 1
    assert "SourceRewritten" in finished.outcome()["error"]
    assert "read.catch_up" not in finished.stderr
    assert len(bench.objects(LANDING)) == 0
    assert bench.reasons().keys() == {"extraction_failed"}
    bench.extract()
    batch = bench.only_batch()
    assert newest([batch], "id") == bench.source("big")
    bench.at_rest()


def test_a_process_that_is_told_to_end_clears_its_batch_away_or_leaves_it_to_the_next_try(bench: Bench) -> None:
    """On one's own machine nobody goes on with it; on Cloud Run the task is tried again."""
    database = bench.database
    database.paged_table("big", gated=True)
    database.paged_table("other", rows=7)
    bench.declare(declared("big"), declared("other"))
    with database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        running.terminate()
        time.sleep(0.2)  # the signal is there before the chunk's end
        gate.open()
        finished = running.finish()
    assert finished.exit_code == 143
    assert finished.stdout == "", "it has no outcomes: it was ended"
    [batch] = bench.batches("big")
    assert batch.state is BatchState.FAILED
    assert bench.objects(LANDING) == []
    assert bench.reasons() == {"extraction_failed": 6}
    assert bench.batches("other") == [], "nothing else was begun"
    bench.at_rest()
    cloud_run = {"CLOUD_RUN_EXECUTION": "execution-1"}
    with database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1", **cloud_run)
        gate.wait()
        running.terminate()
        time.sleep(0.2)
        gate.open()
        finished = running.finish()
    assert finished.exit_code == 143
    [_, left] = bench.batches("big")
    assert left.state is BatchState.EXTRACTING
    assert len(bench.objects(LANDING)) == 6
    bench.extract(CLOUD_RUN_TASK_ATTEMPT="1", **cloud_run)
    batch_ = bench.only_batch("big")
    assert batch_.manifest.batch_id == left.id
    assert newest([batch_], "id") == bench.source("big")
    assert set(attempts_of(batch_).values()) == {""}
    bench.at_rest()


def test_a_process_that_is_told_to_end_while_one_statement_reads_ends(bench: Bench) -> None:
    """It does not go on with the next table, and it does not hang: Cloud Run would kill it after ten seconds."""
    database = bench.database
    database.paged_table("big", gated=True)
    database.paged_table("other", rows=7)
    bench.declare(declared("big"), declared("other"))
    for _ in range(3):
        with database.gate(2_000) as gate:
            running = bench.start(EXTRACT_CHUNK_PAGES="8192")
            gate.wait()
            running.terminate()
            time.sleep(0.2)
            gate.open()
            finished = running.finish(seconds=30)
        assert finished.exit_code == 143, finished.stderr
        assert bench.batches("other") == []
        assert bench.objects(LANDING) == []
        bench.at_rest()


def test_objects_in_failed_say_which_batch_they_were_of(bench: Bench) -> None:
    bench.database.paged_table("big")
    bench.database.run("ALTER TABLE src.big ALTER v DROP NOT NULL", "UPDATE src.big SET v = NULL WHERE id = 2000")
    bench.declare(declared("big", {**PAGED, "v": {"type": "INT64", "required": True}}), declared("other"))
    bench.database.paged_table("other", rows=7)
    finished = bench.start().finish()
    assert finished.exit_code == 1
    assert "1 null(s) in column v" in finished.outcome("big")["error"]
    assert finished.outcome("other")["outcome"] == "landed", "a bad table does not stop the others"
    [batch] = bench.batches("big")
    assert all(batch.id in name for name in bench.objects(FAILED))
    assert bench.reasons().keys() == {"extraction_failed"}
    bench.at_rest()


@pytest.mark.parametrize("crash", [False, True], ids=["beside_it", "after_its_crash"])
def test_a_foreign_manifest_is_never_the_extractions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    """Somebody is faster than the extractor; after a crash, the next run does not take it for what it had landed."""
    database = bench.database
    database.paged_table("big", gated=True)
    bench.declare(incremental("big"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bench.storage_url)
    with database.gate(2_000) as gate:
        running = bench.start(EXTRACT_READERS="1")
        gate.wait()
        [batch] = bench.batches("big")
        name = manifest_object(LANDING, "big", batch.id)
        forged = batch.model_copy(update={"window": Window(low=None, high=datetime.max.replace(tzinfo=UTC))})
        content = forged.manifest(Table.model_validate(incremental("big")), [], []).encoded()
        GcsObjectStore("p").create(bench.bucket.name, name, io.BytesIO(content), "application/json")
        if crash:
            running.kill()
        gate.open()
        finished = running.finish()
    if crash:
        wait_until("the end of the dead extractor's lease", lambda: not bench.is_held("extract-big"))
        bench.extract()
        [first, second] = bench.batches("big")
        assert first.error is not None
        assert (first.state, first.error.code) == (BatchState.FAILED, "abandoned")
        assert bench.reasons().keys() == {"abandoned"}
    else:
        assert finished.exit_code == 0, finished.stderr
        [second] = bench.batches("big")
        assert second.id == batch.id, "it goes on, and writes its own"
        assert bench.reasons() == {"manifest_invalid": 1}
    assert second.state is BatchState.LANDED
    assert second.window is not None
    assert second.window.low is None
    assert second.window.high < datetime.now(UTC)
    landed = bench.only_batch()
    assert landed.manifest.window == second.window
    assert newest([landed], "id") == bench.source("big")
    bench.at_rest(killed=crash)
