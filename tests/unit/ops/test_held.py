"""A person decides about a held batch, once; about no other batch is there anything to decide."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.core.batch import LIFE, Batch, BatchError, BatchState, Step
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Mode
from services.core.window import Window
from services.ops.held import NotHeld, discard, release, this_person

AT = datetime(2026, 11, 22, 17, tzinfo=UTC)
ID = "20261122T170000000000Z-00000000"


@pytest.fixture
def state(tmp_path: Path) -> PipelineState:
    return PipelineState(SqliteStore(tmp_path / "state.sqlite"))


def add(state: PipelineState, batch_state: BatchState) -> None:
    batch = Batch(
        id=ID, run_id="r", table="t", mode=Mode.SNAPSHOT, window=Window(low=None, high=AT), extracted_at=AT,
        started_at=AT, state=batch_state, hold=BatchError(code="too_many_deletes", message="m"),
    )  # fmt: skip
    assert state.create_batch(batch)


def test_a_released_batch_is_merged_as_it_is(state: PipelineState) -> None:
    add(state, BatchState.HELD)
    released = release(state, ID, "ana@desk")
    assert (released.state, released.released_by, released.open) == (BatchState.LOADED, "ana@desk", True)
    assert released.released_at is not None
    assert state.batch(ID) == released


def test_a_discarded_batch_is_never_merged_and_says_who_and_why(state: PipelineState) -> None:
    add(state, BatchState.HELD)
    discarded = discard(state, ID, "ana@desk", "the source was empty by mistake")
    assert (discarded.state, discarded.open) == (BatchState.FAILED, False)
    assert discarded.error == BatchError(
        code="discarded", message="discarded by ana@desk: the source was empty by mistake"
    )


@pytest.mark.parametrize("decide", [release, discard])
def test_an_unknown_batch_is_named(state: PipelineState, decide: type[NotHeld]) -> None:
    with pytest.raises(NotHeld, match=f"batch {ID} is not known"):
        decide(state, ID, "ana@desk")


@pytest.mark.parametrize("other", [s for s in BatchState if s is not BatchState.HELD])
@pytest.mark.parametrize("decide", [release, discard])
def test_a_batch_in_another_state_is_left_alone(state: PipelineState, other: BatchState, decide: type[NotHeld]) -> None:
    add(state, other)
    before = state.batch(ID)
    with pytest.raises(NotHeld, match=f"is {other}, not held: nothing was changed"):
        decide(state, ID, "ana@desk")
    assert state.batch(ID) == before


def test_what_another_has_decided_in_this_moment_stays(state: PipelineState, monkeypatch: pytest.MonkeyPatch) -> None:
    add(state, BatchState.HELD)
    held = state.batch(ID)
    release(state, ID, "ana@desk")
    monkeypatch.setattr(state, "batch", lambda _: held)
    with pytest.raises(NotHeld, match="is loaded, not held"):
        discard(state, ID, "bia@desk")


def test_a_person_has_a_name_and_a_machine() -> None:
    user, machine = this_person().split("@", 1)
    assert user
    assert machine


def test_only_a_person_takes_a_batch_out_of_held_but_for_its_end() -> None:
    assert {step for (state, step) in LIFE if state is BatchState.HELD} == {Step.RELEASE, Step.DISCARD, Step.EXPIRE}
