"""Several tasks of one Cloud Run execution: they share tables and chunks, die, and are tried again."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.batch import BatchState
from tests.integration.extractor_harness import (
    LANDING,
    PAGED,
    Bench,
    Finished,
    Landed,
    Place,
    Running,
    declared,
    doubled,
    incremental,
    newest,
    place_on,
    wait_until,
)

SMALL = ("small_1", "small_2")


@pytest.fixture(scope="module")
def place(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_on(postgres_dsn, tmp_path_factory.mktemp("tasks")) as place:
        yield place


@pytest.fixture
def bench(place: Place, tmp_path: Path) -> Iterator[Bench]:
    """One large table, which is task 0's, and two small ones."""
    with place.bench(tmp_path) as bench:
        bench.database.paged_table("big", gated=True)
        for name in SMALL:
            bench.database.paged_table(name, rows=70)
            bench.database.run(f"UPDATE src.{name} SET changed_at = now() - interval '1 hour'")
        bench.declare(declared("big"), *(incremental(name) for name in SMALL))
        bench.variables["EXTRACT_READERS"] = "1"
        yield bench


def task(bench: Bench, index: int, count: int, *, attempt: int = 0, execution: str = "execution-1") -> Running:
    return bench.start(
        CLOUD_RUN_EXECUTION=execution,
        CLOUD_RUN_TASK_INDEX=str(index),
        CLOUD_RUN_TASK_COUNT=str(count),
        CLOUD_RUN_TASK_ATTEMPT=str(attempt),
    )


def parts_of(finished: Finished, table: str) -> int:
    """Parts of a table that a process has landed."""
    return len([line for line in finished.events("part.landed") if line["table"] == table])


def part_names(batch: Landed) -> list[str]:
    """The parts' numbers and attempts, in order of the chunks."""
    names = (part.object_name.split(".part-")[1].removesuffix(".parquet") for part in batch.manifest.parts)
    return sorted(names)


def small_ones_are_whole(bench: Bench) -> None:
    """Whatever was tried again, each of their rows is in one batch."""
    for name in SMALL:
        batches = bench.landed(name)
        assert newest(batches, "id") == bench.source(name)
        assert Counter(row["id"] for batch in batches for row in batch.rows()).most_common(1)[0][1] == 1


def test_three_tasks_read_one_large_table_together_into_one_batch(bench: Bench) -> None:
    """Each under a snapshot of its own, while rows move from the last chunks to the first."""
    database = bench.database
    database.run("DELETE FROM src.big WHERE id <= 190", "VACUUM src.big")
    with database.gate(200, 500, 900) as gate:
        tasks = [task(bench, 0, 3)]
        gate.wait(readers=1)
        tasks.append(task(bench, 1, 3))
        gate.wait(readers=2)
        database.run("UPDATE src.big SET v = 1 WHERE id > 3350")
        tasks.append(task(bench, 2, 3))
        gate.wait(readers=3)
        gate.open()
    opened = time.monotonic()
    finished = [running.finish() for running in tasks]
    assert time.monotonic() - opened < 28, "they wait for one another although all is done"
    assert [each.exit_code for each in finished] == [0, 0, 0], [each.stderr for each in finished]
    batch = bench.only_batch("big")
    assert newest([batch], "id") == bench.source("big")
    assert {name[:5] for name in part_names(batch)[:10]} == {f"{chunk:05}" for chunk in range(10)}
    assert [name for name in part_names(batch)[:10] if "try" in name] == [], "no chunk was read twice"
    shares = [parts_of(each, "big") for each in finished]
    assert min(shares) >= 1
    [caught_up] = finished[0].events("read.catch_up")
    assert sum(shares) == len(batch.parts) > caught_up["chunks"] == 10
    assert [len(each.events("extraction.helped")) >= 1 for each in finished] == [False, True, True]
    assert [each.outcome()["table"] for each in finished] == ["big", *SMALL], "each table is one task's own"
    assert len(bench.batches("big")) == 1
    small_ones_are_whole(bench)
    bench.at_rest()


def test_a_task_that_has_nothing_to_do_waits_for_one_that_starts_later(bench: Bench) -> None:
    """Cloud Run does not start all tasks in the same moment."""
    helper = task(bench, 1, 2)
    helper.wait_for("extraction.finished")
    with bench.database.gate(200) as gate:
        owner = task(bench, 0, 2)
        gate.wait()
        landed = wait_until("help", lambda: [line for line in helper.log if line.get("table") == "big"])
        assert landed
    assert (owner.finish().exit_code, helper.finish().exit_code) == (0, 0)
    assert newest([bench.only_batch("big")], "id") == bench.source("big")
    bench.at_rest()


def test_the_chunk_of_a_helper_that_was_killed_is_read_by_another(bench: Bench) -> None:
    """And the helper, tried again, doubles nothing."""
    with bench.database.gate(200, 500) as gate:
        owner = task(bench, 0, 2)
        gate.wait(readers=1)
        helper = task(bench, 1, 2)
        gate.wait(readers=2)
        helper.kill()
        gate.open(200)
        wait_until("the other chunks", lambda: len([r for r in owner.log if r["message"] == "part.landed"]) >= 9)
        again = task(bench, 1, 2, attempt=1)
        gate.open()
    assert (owner.finish().exit_code, again.finish().exit_code) == (0, 0)
    batch = bench.only_batch("big")
    assert newest([batch], "id") == bench.source("big")
    assert doubled(batch, "id") == {}
    tries = [name for name in part_names(batch) if "try" in name]
    assert tries == ["00001-try2"], "only the chunk that the dead helper had claimed"
    small_ones_are_whole(bench)
    bench.at_rest(killed=True)


def test_a_large_table_whose_task_was_killed_goes_on_where_it_was(bench: Bench) -> None:
    """The helper finishes what it can; the next try of the task reads the rest, rows on new pages among it."""
    database = bench.database
    with database.gate(200, 1_400, 3_400) as gate:
        owner = task(bench, 0, 2)
        gate.wait(readers=1)
        helper = task(bench, 1, 2)
        gate.wait(readers=2)
        owner.kill()
        database.run(
            "INSERT INTO src.big SELECT g FROM generate_series(3501, 4200) g",
            "UPDATE src.big SET v = 1 WHERE id BETWEEN 400 AND 500",
        )
        helper.kill()
        gate.open()
    [left] = bench.batches("big")
    assert left.state is BatchState.EXTRACTING
    landed = [name.split(".part-")[1] for name in bench.objects(LANDING) if "/big_" in name]
    assert landed == ["00001.parquet", "00002.parquet"], "the first two chunks of the helper"
    again = task(bench, 0, 2, attempt=1)
    again.wait_for("extraction.resumed")
    assert [task(bench, 1, 2, attempt=1).finish().exit_code, again.finish().exit_code] == [0, 0]
    batch = bench.only_batch("big")
    assert batch.manifest.batch_id == left.id
    assert newest([batch], "id") == bench.source("big")
    newer = {(id,) for id in (*range(400, 501), *range(3_501, 4_201))}
    assert set(doubled(batch, "id")) <= newer, "the catch-up reads again what is newer than the first snapshot"
    # A chunk is noted as done while the next one is read: the helper's second one was landed, but not noted.
    tries = [name for name in part_names(batch)[:10] if "try" in name]
    assert tries == ["00000-try2", "00002-try2", "00003-try2"]
    assert bench.reasons() == {"superseded_part": 1}
    assert len(bench.batches("big")) == 1
    small_ones_are_whole(bench)
    bench.at_rest(killed=True)


def test_a_batch_whose_execution_is_gone_is_given_up_by_the_next_one(bench: Bench) -> None:
    with bench.database.gate(2_000) as gate:
        owner = task(bench, 0, 1)
        gate.wait()
        owner.kill()
    [left] = bench.batches("big")
    landed = bench.objects(LANDING)
    assert len(landed) == 5
    busy = task(bench, 0, 1, execution="execution-2").finish()
    assert busy.exit_code == 0, busy.stderr
    assert busy.outcome("big")["outcome"] == "busy", "nobody can know yet that its owner is dead"
    wait_until("the lease's end", lambda: not bench.is_held("extract-big"))
    finished = task(bench, 0, 1, execution="execution-3").finish()
    assert finished.outcome("big")["outcome"] == "landed"
    given_up, new = bench.batches("big")
    assert given_up.id == left.id
    assert given_up.state is BatchState.FAILED
    assert given_up.error is not None
    assert given_up.error.code == "abandoned"
    assert bench.reasons() == {"abandoned": 5}
    batch = bench.only_batch("big")
    assert batch.manifest.batch_id == new.id
    assert newest([batch], "id") == bench.source("big")
    small_ones_are_whole(bench)
    bench.at_rest(killed=True)


def test_a_process_that_slept_longer_than_its_lease_does_no_harm(bench: Bench) -> None:
    """Another run has given its batch up and read the table; then it wakes up, and goes on with what it was doing."""
    with bench.database.gate(2_000) as gate:
        asleep = bench.start("--table", "big")
        gate.wait()
        asleep.process.send_signal(signal.SIGSTOP)
        wait_until("the lease's end", lambda: not bench.is_held("extract-big"))
        gate.open()
    bench.extract("--table", "big")
    asleep.process.send_signal(signal.SIGCONT)
    awake = asleep.finish()
    assert awake.exit_code == 1
    assert "LeaseLost" in awake.outcome("big")["error"]
    batch = bench.only_batch("big")
    assert newest([batch], "id") == bench.source("big")
    assert [each.state for each in bench.batches("big")] == [BatchState.FAILED, BatchState.LANDED]
    bench.at_rest()


def test_a_table_that_was_rewritten_between_two_tries_is_given_up_and_read_again(bench: Bench) -> None:
    """Pages no longer mean what they meant, so another try of the same batch would be wrong."""
    database = bench.database
    database.run("DELETE FROM src.big WHERE id <= 1000")
    with database.gate(3_000) as gate:
        owner = task(bench, 0, 1)
        gate.wait()
        owner.kill()
    database.run("VACUUM FULL src.big")
    again = task(bench, 0, 1, attempt=1).finish()
    assert again.exit_code == 1
    assert "SourceRewritten" in again.outcome("big")["error"]
    [given_up] = bench.batches("big")
    assert given_up.state is BatchState.FAILED
    bench.at_rest(killed=True)
    last = task(bench, 0, 1, attempt=2).finish()
    assert last.exit_code == 0, last.stderr
    batch = bench.only_batch("big")
    assert newest([batch], "id") == bench.source("big")
    assert doubled(batch, "id") == {}
    bench.at_rest(killed=True)


def test_a_helper_leaves_nothing_behind_when_the_batch_fails_under_its_hands(bench: Bench) -> None:
    """The owner clears the batch away while the helper still reads a chunk of it."""
    database = bench.database
    database.run(
        "ALTER TABLE src.big ALTER v DROP NOT NULL",
        "TRUNCATE src.big",
        "INSERT INTO src.big SELECT g, nullif(g, 1050) * 0 FROM generate_series(1, 3500) g",
        "ANALYZE src.big",
    )
    columns = {**PAGED, "v": {"type": "INT64", "required": True}}
    bench.declare(declared("big", columns), *(incremental(name) for name in SMALL))
    with database.gate(200, 500) as gate:
        owner = task(bench, 0, 2)
        gate.wait(readers=1)
        helper = task(bench, 1, 2)
        gate.wait(readers=2)
        gate.open(200)
        failed = owner.finish()
        assert "1 null(s) in column v" in failed.outcome("big")["error"], "in the third chunk"
        gate.open(500)
    helped = helper.finish()
    assert helped.exit_code == 0, "its own table landed, and the large one is the owner's"
    assert parts_of(helped, "big") <= 1, "it stops when it hears of it"
    assert bench.landed("big") == []
    small_ones_are_whole_but = bench.landed("small_1")
    assert newest(small_ones_are_whole_but, "id") == bench.source("small_1")
    assert bench.reasons().keys() == {"extraction_failed"}
    bench.at_rest()
