"""A batch's life has the steps that are drawn, and no others."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.batch import IN_TEMP, LIFE, Batch, BatchState, Step, diagram
from services.core.tables import Mode
from services.core.window import Window

AT = datetime(2026, 11, 22, 17, tzinfo=UTC)


def batch(state: BatchState = BatchState.EXTRACTING) -> Batch:
    return Batch(
        id="20261122T170000000000Z-00000000",
        run_id="r",
        table="t",
        mode=Mode.INCREMENTAL,
        window=Window(low=None, high=AT),
        extracted_at=AT,
        started_at=AT,
        state=state,
    )


def test_the_usual_life() -> None:
    merged = batch().after(Step.LAND, AT, rows=3).after(Step.LOAD, AT).after(Step.MERGE, AT)
    assert (merged.state, merged.rows, merged.landed_at, merged.merged_at) == (BatchState.MERGED, 3, AT, AT)
    assert merged.open, "the watermark has not passed it yet"


def test_a_failed_batch_is_closed() -> None:
    assert not batch().after(Step.REJECT, AT).open


@pytest.mark.parametrize("state", list(BatchState))
@pytest.mark.parametrize("step", list(Step))
def test_only_drawn_steps_have_an_effect(state: BatchState, step: Step) -> None:
    before = batch(state)
    after = before.after(step, AT, rows=3)
    if (state, step) in LIFE:
        assert (after.state, after.rows) == (LIFE[state, step], 3)
    else:
        assert after is before


@pytest.mark.parametrize("step", list(Step))
def test_a_step_that_comes_again_changes_nothing(step: Step) -> None:
    for state in BatchState:
        once = batch(state).after(step, AT)
        assert once.after(step, AT + timedelta(hours=1)) is once


def test_merged_and_failed_are_final() -> None:
    assert not [step for (state, step) in LIFE if state in (BatchState.MERGED, BatchState.FAILED)]


@given(st.lists(st.sampled_from([step for step in Step if step not in (Step.EXPIRE, Step.DISCARD)])))
def test_what_is_loaded_never_fails_by_a_late_or_repeated_event(steps: list[Step]) -> None:
    """Whatever the order of the services' steps: only a table that is gone, or a person, makes it fail."""
    now = batch()
    loaded = False
    for step in steps:
        now = now.after(step, AT)
        loaded = loaded or now.state is BatchState.LOADED
        if loaded:
            assert now.state in IN_TEMP


def test_the_picture_in_the_docs_is_the_life() -> None:
    page = (Path(__file__).parents[3] / "docs" / "batches.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{diagram()}\n```" in page


def test_a_batch_survives_json() -> None:
    assert Batch.model_validate(batch().model_dump(mode="json")) == batch()
