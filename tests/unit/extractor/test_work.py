"""Chunks as shared work: each is read by one task, and none stays behind with a task that died (invariant 2)."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.core.state.lease import Lease, acquire
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.state.store import DocumentChanged
from services.extractor.planning.plan import ChunkResult
from services.extractor.reading.work import Work, share, shared_plan, shared_plans
from services.extractor.tasks import Task
from tests.unit.extractor.test_plan import plan

LONG = timedelta(minutes=5)
PLAN = plan(list(range(0, 900, 100)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "state.sqlite")
    share(opened, PLAN)
    yield opened
    opened.close()


def task(store: SqliteStore, index: int, length: timedelta = LONG) -> Lease:
    return acquire(store, Task("execution", index, 2, 0).lease, "run", length)


def result(chunk: int) -> ChunkResult:
    return ChunkResult(chunk=chunk, read_at=datetime(2026, 11, 22, tzinfo=UTC), oldest_running=1, parts=[])


def test_every_chunk_is_claimed_once_by_tasks_and_threads(store: SqliteStore) -> None:
    claimed: list[int] = []

    def take(work: Work) -> None:
        while (claim := work.claim()) is not None:
            claimed.append(claim.chunk)
            work.done(claim, result(claim.chunk))

    works = [Work(store, PLAN, task(store, index)) for index in (0, 1)]
    threads = [threading.Thread(target=take, args=(work,)) for work in works * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(len(PLAN.bounds)))
    assert [found.chunk for found in works[0].results()] == list(range(len(PLAN.bounds)))


def test_a_chunk_of_a_living_task_is_left_to_it(store: SqliteStore) -> None:
    first, second = Work(store, PLAN, task(store, 0)), Work(store, PLAN, task(store, 1))
    for _ in PLAN.bounds:
        assert first.claim() is not None
    assert second.claim() is None


def test_a_chunk_of_a_task_that_died_is_taken_over_with_another_attempt(store: SqliteStore) -> None:
    dead = Work(store, PLAN, task(store, 0, timedelta(seconds=-1)))
    for _ in PLAN.bounds:
        assert dead.claim() is not None
    claim = Work(store, PLAN, task(store, 1)).claim()
    assert claim is not None
    assert claim.attempt == 2


def test_another_try_of_the_same_task_does_not_trust_the_first_ones_claims(store: SqliteStore) -> None:
    """The lease has the same name, but another token: the first try is dead, whatever the clock says."""
    first = task(store, 0, timedelta(seconds=-1))
    done, lost = Work(store, PLAN, first), Work(store, PLAN, first)
    finished = done.claim()
    assert finished is not None
    done.done(finished, result(finished.chunk))
    for _ in PLAN.bounds[1:]:
        lost.claim()
    again = Work(store, PLAN, task(store, 0))
    chunks = []
    while (claim := again.claim()) is not None:
        chunks.append(claim.chunk)
        again.done(claim, result(claim.chunk))
    assert sorted(chunks) == list(range(1, len(PLAN.bounds)))


def test_who_was_replaced_cannot_note_a_result(store: SqliteStore) -> None:
    slow = Work(store, PLAN, task(store, 0, timedelta(seconds=-1)))
    claims = [slow.claim() for _ in PLAN.bounds]
    taken = Work(store, PLAN, task(store, 1)).claim()
    assert taken is not None
    mine = next(claim for claim in claims if claim is not None and claim.chunk == taken.chunk)
    with pytest.raises(DocumentChanged):
        slow.done(mine, result(mine.chunk))
    with pytest.raises(DocumentChanged):
        slow.again(mine)


def test_a_plan_is_seen_by_its_execution_until_it_is_forgotten(store: SqliteStore) -> None:
    work = Work(store, PLAN, task(store, 0))
    assert work.claim() is not None
    assert shared_plans(store, PLAN.execution) == [PLAN]
    assert shared_plans(store, "another") == []
    PipelineState(store).forget_plan(PLAN.batch_id)
    PipelineState(store).forget_plan(PLAN.batch_id)
    assert shared_plan(store, PLAN.batch_id) is None
    assert store.query("chunks", {"batch": PLAN.batch_id}) == []
    assert work.claim() is None, "nobody begins with a batch that has ended"
    assert store.query("chunks", {"batch": PLAN.batch_id}) == []


def test_every_table_is_one_tasks_own() -> None:
    tables = [f"t{n}" for n in range(7)]
    shares = [Task("e", index, 3, 0).own(tables) for index in range(3)]
    assert sorted(name for share_ in shares for name in share_) == tables
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
