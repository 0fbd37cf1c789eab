"""Lost answers: a write that was done is never taken for another's, and one that was not done is done."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.state.certain import MARKS, CertainStore
from services.core.state.lease import acquire, holding, look
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, Run
from services.core.state.store import Document, DocumentChanged, DocumentExists
from services.core.tables import Mode
from services.core.window import Window
from services.extractor.planning.plan import ChunkResult
from services.extractor.reading.work import Work, share
from tests.unit.core.lossy_store import TRIES, Fate, LossyStore, certain
from tests.unit.extractor.test_plan import plan

LONG = timedelta(minutes=5)
NOW = datetime(2026, 11, 22, 17, tzinfo=UTC)
PLAN = plan([0, 100, 200])

DONE_ONCE = [
    [Fate.LOST],
    [Fate.TWICE],
    [Fate.REFUSED],
    [Fate.LOST, Fate.REFUSED],
    [Fate.REFUSED, Fate.LOST],
    [Fate.LOST, Fate.TWICE],
]
"""What may become of a write's tries that still ends well."""


@pytest.fixture
def raw() -> Iterator[SqliteStore]:
    store = SqliteStore(Path(":memory:"))
    yield store
    store.close()


@pytest.fixture
def lossy(raw: SqliteStore) -> LossyStore:
    return LossyStore(raw)


@pytest.fixture
def store(lossy: LossyStore) -> CertainStore:
    return certain(lossy)


@pytest.fixture
def other(raw: SqliteStore) -> CertainStore:
    """Another process, whose answers all come."""
    return certain(raw)


def there(store: CertainStore, id: str = "one") -> Document:
    found = store.get("things", id)
    assert found is not None
    return found


@pytest.mark.parametrize("fates", DONE_ONCE)
def test_a_create_whose_answer_is_lost_has_created(store: CertainStore, lossy: LossyStore, fates: list[Fate]) -> None:
    lossy.fates.extend(fates)
    created = store.create("things", "one", {"n": 1})
    assert (created.data, there(store).data) == ({"n": 1}, {"n": 1})
    assert created.version == there(store).version
    assert store.update(created, {"n": 2}).data == {"n": 2}, "the version is good for the next write"


@pytest.mark.parametrize("fates", DONE_ONCE)
def test_an_update_whose_answer_is_lost_has_updated(store: CertainStore, lossy: LossyStore, fates: list[Fate]) -> None:
    first = store.create("things", "one", {"n": 1, "kept": True})
    lossy.fates.extend(fates)
    updated = store.update(first, {"n": 2})
    assert updated.data == {"n": 2, "kept": True} == there(store).data
    assert store.update(updated, {"n": 3}).data == {"n": 3, "kept": True}


@pytest.mark.parametrize("fates", DONE_ONCE)
def test_a_delete_whose_answer_is_lost_has_deleted(store: CertainStore, lossy: LossyStore, fates: list[Fate]) -> None:
    first = store.create("things", "one", {"n": 1})
    lossy.fates.extend(fates)
    store.delete(first)
    assert store.get("things", "one") is None


def test_anothers_write_is_not_taken_for_ones_own(store: CertainStore, lossy: LossyStore, other: CertainStore) -> None:
    lossy.fates.append(Fate.REFUSED)
    first = other.create("things", "one", {"by": "other"})
    with pytest.raises(DocumentExists):
        store.create("things", "one", {"by": "me"})
    other.update(first, {"by": "other, again"})
    lossy.fates.append(Fate.REFUSED)
    with pytest.raises(DocumentChanged):
        store.update(first, {"by": "me"})
    assert there(store).data == {"by": "other, again"}


@pytest.mark.parametrize("writes", [1, 50])
def test_a_write_that_another_has_followed_was_done_but_is_good_for_no_further_write(
    store: CertainStore, lossy: LossyStore, other: CertainStore, writes: int
) -> None:
    def follow() -> None:
        for number in range(writes):
            other.update(there(other), {"by": f"other {number}"})

    lossy.fates.append(Fate.LOST)
    lossy.then(follow)
    created = store.create("things", "one", {"by": "me"})
    assert created.data == {"by": "me"}
    seen = there(store)
    lossy.fates.append(Fate.LOST)
    lossy.then(follow)
    updated = store.update(seen, {"by": "me, again"})
    assert updated.data == {"by": "me, again"}
    for late in (created, updated):
        with pytest.raises(DocumentChanged):
            store.update(late, {"by": "late"})
        with pytest.raises(DocumentChanged):
            store.delete(late)
    assert there(store).data == {"by": f"other {writes - 1}"}
    other.delete(there(other))
    store.delete(updated)


def test_reads_are_repeated(store: CertainStore, lossy: LossyStore) -> None:
    store.create("things", "one", {"n": 1})
    lossy.fates.extend([Fate.REFUSED, Fate.LOST])
    assert there(store).data == {"n": 1}
    lossy.fates.extend([Fate.REFUSED, Fate.LOST])
    assert [document.data for document in store.query("things", {"n": 1})] == [{"n": 1}]


def test_what_never_passes_is_the_callers(store: CertainStore, lossy: LossyStore) -> None:
    lossy.fates.extend([Fate.REFUSED] * TRIES)
    with pytest.raises(TransientError):
        store.create("things", "one", {"n": 1})
    assert (lossy.calls, store.get("things", "one")) == (TRIES, None)


def test_marks_are_no_content_and_do_not_grow(store: CertainStore, raw: SqliteStore) -> None:
    document = store.create("things", "one", {"n": 0})
    for number in range(100):
        document = certain(raw).update(there(certain(raw)), {"n": number})
    assert document.data == {"n": 99} == there(store).data
    kept = raw.get("things", "one")
    assert kept is not None
    assert len(kept.data[MARKS].split()) == 16
    assert len(kept.data[MARKS]) < 16 * len("0123456789ab.100 ")


def test_a_document_from_before_the_marks_is_as_any_other(store: CertainStore, lossy: LossyStore) -> None:
    lossy.create("things", "one", {"n": 1})
    with pytest.raises(DocumentExists):
        store.create("things", "one", {"n": 2})
    lossy.fates.append(Fate.LOST)
    assert store.update(there(store), {"n": 3}).data == {"n": 3}
    lossy.create("things", "two", {"n": 1})
    store.delete(there(store, "two"))
    assert store.get("things", "two") is None


# --- what is built on it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fates", DONE_ONCE)
def test_a_lease_is_not_lost_with_an_answer(store: CertainStore, lossy: LossyStore, fates: list[Fate]) -> None:
    first, passes = look(store, "work"), Fate.PASSES
    assert first is None
    lossy.fates.extend([passes, *fates])
    lease = acquire(store, "work", "me", LONG)
    lossy.fates.extend(fates)
    lease.renew()
    lossy.fates.extend(fates)
    lease.release()
    lossy.fates.extend([passes, *fates])
    again = acquire(store, "work", "me again", LONG)
    assert again.token > lease.token
    with pytest.raises(LeaseBusy, match="held by me again"):
        acquire(store, "work", "third", LONG)


def test_a_renewal_that_nobody_knows_of_does_not_lose_the_lease(store: CertainStore, lossy: LossyStore) -> None:
    lease = acquire(store, "work", "me", LONG)
    lossy.fates.extend([Fate.LOST, *[Fate.REFUSED] * (TRIES - 1)])
    with pytest.raises(TransientError):
        lease.renew()
    lease.renew()
    lossy.fates.extend([Fate.LATE] * TRIES)
    with pytest.raises(TransientError):
        lease.renew()
    lossy.late[0]()  # it arrives now
    lease.renew()
    lease.release()
    view = look(store, "work")
    assert view is not None
    assert view.holder is None


def test_a_release_that_does_not_pass_fails_nobodys_work(store: CertainStore, lossy: LossyStore) -> None:
    with holding(store, "work", "me", LONG):
        lossy.fates.extend([Fate.REFUSED] * TRIES)
    assert not lossy.fates, "it was tried"
    with pytest.raises(LeaseBusy):
        acquire(store, "work", "another", LONG)


def test_a_lease_whose_document_was_deleted_is_lost(store: CertainStore) -> None:
    lease = acquire(store, "work", "me", LONG)
    document = store.get("leases", "work")
    assert document is not None
    store.delete(document)
    with pytest.raises(LeaseLost, match=r"lease work of me .* was removed"):
        lease.renew()
    lease.release()


def test_deleted_leases_block_nobody(store: CertainStore) -> None:
    """The progress has noted the second token; the first of a lease made anew must not be behind it."""
    state = PipelineState(store)
    for _ in range(3):
        for _ in range(2):
            lease = acquire(store, "extract-t", "me", LONG)
            state.begin_extraction("t", NOW, lease.token)
            state.advance("t", lease.token)
            lease.release()
        document = store.get("leases", "extract-t")
        assert document is not None
        store.delete(document)


@pytest.mark.parametrize("fates", DONE_ONCE)
def test_a_claim_whose_answer_is_lost_is_a_claim(store: CertainStore, lossy: LossyStore, fates: list[Fate]) -> None:
    """Else its chunk waits for ever: its claimant lives, and does not know that it has it."""
    lossy.fates.extend(fates)
    share(store, PLAN)
    work = Work(store, PLAN, acquire(store, "task", "me", LONG))
    chunks = []
    for _ in PLAN.bounds:
        lossy.fates.extend(fates)
        claim = work.claim()
        assert claim is not None
        lossy.fates.extend(fates)
        claim = work.again(claim)
        assert claim.attempt == 2
        lossy.fates.extend(fates)
        work.done(claim, result(claim.chunk))
        chunks.append(claim.chunk)
    assert chunks == list(range(len(PLAN.bounds)))
    assert work.claim() is None
    assert [found.chunk for found in work.results()] == chunks


def test_a_claim_goes_on_after_a_write_that_nobody_knows_of(store: CertainStore, lossy: LossyStore) -> None:
    share(store, PLAN)
    work = Work(store, PLAN, acquire(store, "task", "me", LONG))
    claim = work.claim()
    assert claim is not None
    lossy.fates.extend([Fate.LOST, *[Fate.REFUSED] * (TRIES - 1)])
    with pytest.raises(TransientError):
        work.again(claim)
    claim = work.again(claim)
    assert claim.attempt == 3, "the parts of another attempt have other names"
    work.done(claim, result(claim.chunk))


def result(chunk: int) -> ChunkResult:
    return ChunkResult(chunk=chunk, read_at=NOW, oldest_running=1, parts=[])


def batch() -> Batch:
    return Batch(
        id="20261122T170000000000Z-00000000",
        run_id="r",
        table="t",
        mode=Mode.INCREMENTAL,
        window=Window(low=None, high=NOW),
        extracted_at=NOW,
        started_at=NOW,
    )


@pytest.mark.parametrize("fates", DONE_ONCE)
def test_the_states_writes_are_done_once(store: CertainStore, lossy: LossyStore, fates: list[Fate]) -> None:
    state, new = PipelineState(store), batch()

    def losing(work: Callable[[], object]) -> object:
        lossy.fates.extend(fates)
        return work()

    assert losing(lambda: state.create_batch(new)) is True
    assert state.create_batch(new) is False
    run = Run(id="r", service="sweep", started_at=NOW, finished_at=NOW, outcome="succeeded")
    losing(lambda: state.add_run(run))
    assert state.runs("sweep") == [run]
    losing(lambda: state.begin_extraction("t", NOW, 5))
    losing(lambda: state.step(new.id, Step.LAND, rows=3))
    losing(lambda: state.change_batch(new.id, lambda b: b.model_copy(update={"load_attempts": b.load_attempts + 1})))
    found = state.batch(new.id)
    assert found is not None
    assert (found.state, found.rows, found.load_attempts) == (BatchState.LANDED, 3, 1)


def test_a_batch_that_failed_meanwhile_is_not_forgotten(store: CertainStore, other: CertainStore) -> None:
    """The sweep gave it up, or somebody loads it: what it is now must be seen."""
    state, sweep, new = PipelineState(store), PipelineState(other), batch()
    state.create_batch(new)
    sweep.step(new.id, Step.ABANDON, error=BatchError(code="abandoned", message="why"))
    state.forget_batch(new.id)
    failed = state.batch(new.id)
    assert failed is not None
    assert failed.state is BatchState.FAILED


def test_a_batch_that_changes_while_it_is_forgotten(
    store: CertainStore, lossy: LossyStore, other: CertainStore
) -> None:
    """Whatever the change was: an extraction's own is forgotten with it, a failure stays."""
    state, sweep, new = PipelineState(store), PipelineState(other), batch()
    for error, left in ((None, False), (BatchError(code="abandoned", message="why"), True)):

        def meanwhile(error: BatchError | None = error) -> None:
            if error is None:
                sweep.change_batch(new.id, lambda b: b.model_copy(update={"drift": ["a note"]}))
            else:
                sweep.step(new.id, Step.ABANDON, error=error)

        state.create_batch(new)
        lossy.then(meanwhile)  # between the look and the deletion
        state.forget_batch(new.id)
        assert (state.batch(new.id) is not None) is left


def test_a_plan_is_forgotten_whoever_changes_its_chunks_meanwhile(
    store: CertainStore, lossy: LossyStore, other: CertainStore
) -> None:
    share(store, PLAN)
    dead = Work(store, PLAN, acquire(store, "dead", "dead", -LONG))
    while dead.claim() is not None:
        pass

    def take_over() -> None:
        Work(other, PLAN, acquire(other, "alive", "alive", LONG)).claim()

    lossy.then(take_over, calls=2)  # when the chunks are listed
    PipelineState(store).forget_plan(PLAN.batch_id)
    assert store.query("chunks", {}) == []


# --- silver and gold ----------------------------------------------------------------------------------------------


def test_downstream_is_due_from_the_note_until_it_is_built(store: CertainStore) -> None:
    state = PipelineState(store)
    assert state.downstream_due() is None
    state.note_downstream_due()
    due = state.downstream_due()
    assert due is not None
    state.note_downstream_built(due, "d")
    assert state.downstream_due() is None


def test_a_change_during_the_build_is_due_still(store: CertainStore) -> None:
    state = PipelineState(store)
    state.note_downstream_due()
    due = state.downstream_due()
    assert due is not None
    state.note_downstream_due()
    state.note_downstream_built(due, "d")
    assert state.downstream_due() is not None


def test_a_late_note_of_an_earlier_build_takes_nothing_back(store: CertainStore) -> None:
    """A frozen holder wakes when another has merged and built."""
    state = PipelineState(store)
    state.note_downstream_due()
    frozen = state.downstream_due()
    state.note_downstream_due()
    due = state.downstream_due()
    assert frozen is not None
    assert due is not None
    state.note_downstream_built(due, "d")
    state.note_downstream_built(frozen, "d")
    assert state.downstream_due() is None
    state.note_downstream_due()
    state.note_downstream_built(frozen, "d")
    assert state.downstream_due() is not None


@pytest.mark.parametrize("due", [True, False])
def test_the_note_of_before_it_was_counted_is_read(store: CertainStore, due: bool) -> None:
    state = PipelineState(store)
    store.create("pipeline", "downstream", {"due": due})
    assert (state.downstream_due() is not None) is due
    state.note_downstream_due()
    up_to = state.downstream_due()
    assert up_to is not None
    state.note_downstream_built(up_to, "d")
    assert state.downstream_due() is None


def test_the_note_is_deleted_while_something_is_built(store: CertainStore) -> None:
    state = PipelineState(store)
    for _ in range(3):
        state.note_downstream_due()
    up_to = state.downstream_due()
    assert up_to is not None
    document = store.get("pipeline", "downstream")
    assert document is not None
    store.delete(document)
    state.note_downstream_built(up_to, "d")
    state.note_downstream_due()
    assert state.downstream_due() is not None


# --- SQLite -------------------------------------------------------------------------------------------------------


def test_sqlite_that_is_busy_for_too_long_is_a_passing_error(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = SqliteStore(path, wait_seconds=0.05)
    document = store.create("things", "one", {"n": 1})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError, match="locked"):
        store.update(document, {"n": 2})
    other.execute("ROLLBACK")
    other.close()
    assert store.update(document, {"n": 2}).data == {"n": 2}
    store.close()


def test_sqlite_on_a_full_disk_is_a_passing_error_and_leaves_no_open_transaction(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    document = store.create("things", "one", {"n": 1})
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(TransientError, match="full"):
        store.update(document, {"text": "x" * 100_000})
    assert store.update(document, {"n": 2}).data == {"n": 2}
    store.close()
