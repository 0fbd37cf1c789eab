"""The typed state on a real store: what a late holder of a lease cannot write."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.core.errors import LeaseLost
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, TableProgress


@pytest.fixture
def state(tmp_path: Path) -> Iterator[PipelineState]:
    store = SqliteStore(tmp_path / "state.sqlite")
    yield PipelineState(store)
    store.close()


JOBS: dict[str, Callable[[PipelineState, str | None, int], TableProgress]] = {
    "merge": lambda state, job, token: state.note_merge_job("t", job, token),
    "stable": lambda state, job, token: state.note_stable_job("t", job, token),
}


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_is_noted_for_the_next_holder_and_a_late_holder_notes_none(state: PipelineState, kind: str) -> None:
    note, field = JOBS[kind], f"{kind}_job"
    assert getattr(state.progress("t"), field) is None
    assert getattr(note(state, "first", 7), field) == "first"
    assert getattr(note(state, "second", 8), field) == "second"
    with pytest.raises(LeaseLost, match=f"table t: {kind} token 7 is behind 8"):
        note(state, None, 7)
    assert getattr(state.progress("t"), field) == "second"
    note(state, None, 8)
    assert getattr(state.progress("t"), field) is None


def test_the_tokens_of_extraction_merge_and_stable_copy_are_apart(state: PipelineState) -> None:
    state.note_merge_job("t", "merge", 100)
    state.note_stable_job("t", "copy", 3)
    state.note_merge_job("t", None, 100)
    progress = state.progress("t")
    assert (progress.merge_token, progress.stable_token, progress.extract_token) == (100, 3, 0)


def test_who_has_noted_a_merge_keeps_an_earlier_holder_from_the_watermark(state: PipelineState) -> None:
    state.note_merge_job("t", "job", 8)
    with pytest.raises(LeaseLost):
        state.advance("t", 7)
