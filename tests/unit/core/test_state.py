"""The typed state on a real store: what a late holder of a lease cannot write."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.core.batch import Batch, BatchError
from services.core.errors import LeaseLost
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Mode


@pytest.fixture
def state(tmp_path: Path) -> Iterator[PipelineState]:
    store = SqliteStore(tmp_path / "state.sqlite")
    yield PipelineState(store)
    store.close()


NOTE: dict[str, Callable[[PipelineState, str | None, int, str | None], bool]] = {
    "merge": lambda state, job, token, after: state.note_merge_job("t", job, token, after),
    "stable": lambda state, job, token, after: state.note_stable_job("t", job, token, after),
}


@pytest.mark.parametrize("kind", NOTE)
def test_a_job_is_noted_for_the_next_holder_and_a_late_holder_notes_none(state: PipelineState, kind: str) -> None:
    note, field = NOTE[kind], f"{kind}_job"
    assert note(state, "first", 7, None)
    assert note(state, "second", 8, "first")
    with pytest.raises(LeaseLost, match=f"table t: {kind} token 7 is behind 8"):
        note(state, None, 7, "second")
    assert getattr(state.progress("t"), field) == "second"
    assert note(state, None, 8, "second")
    assert getattr(state.progress("t"), field) is None


@pytest.mark.parametrize("kind", NOTE)
def test_a_job_is_not_noted_over_one_that_is_not_known_to_have_ended(state: PipelineState, kind: str) -> None:
    note, field = NOTE[kind], f"{kind}_job"
    assert note(state, "first", 7, None)
    assert not note(state, "second", 8, None), "somebody noted the first meanwhile"
    assert getattr(state.progress("t"), field) == "first"


def test_the_tokens_of_extraction_merge_and_stable_copy_are_apart(state: PipelineState) -> None:
    state.note_merge_job("t", "merge", 100, None)
    state.note_stable_job("t", "copy", 3, None)
    state.note_merge_job("t", None, 100, "merge")
    progress = state.progress("t")
    assert (progress.merge_token, progress.stable_token, progress.extract_token) == (100, 3, 0)


def test_who_has_noted_a_merge_keeps_an_earlier_holder_from_the_watermark(state: PipelineState) -> None:
    state.note_merge_job("t", "job", 8, None)
    with pytest.raises(LeaseLost):
        state.advance("t", 7)


def test_an_extraction_that_was_removed_meanwhile_is_not_abandoned(state: PipelineState) -> None:
    """It was believed dead, went on, and found no rows; who clears it away has nothing to do."""
    error = BatchError(code="abandoned", message="it came to no end")
    at = datetime(2026, 11, 22, tzinfo=UTC)
    facts: dict[str, Any] = {"run_id": "r", "table": "t", "mode": Mode.SNAPSHOT, "window": None}
    for id_ in ("one", "two"):
        assert state.create_batch(Batch(id=id_, extracted_at=at, started_at=at, **facts))
    state.forget_batch("one")
    assert not state.abandon("one", error)
    assert state.batch("one") is None
    assert state.abandon("two", error)
    assert state.abandon("two", error), "again, where the first answer was lost"
