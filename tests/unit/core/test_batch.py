"""A batch's life has the steps that are drawn, and no others."""

from datetime import UTC, datetime

import pytest

from services.core.batch import NEXT, Batch, BatchState
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
    moved = batch().moved(BatchState.LANDED, AT, rows=3).moved(BatchState.LOADED, AT).moved(BatchState.MERGED, AT)
    assert (moved.state, moved.rows, moved.landed_at, moved.merged_at) == (BatchState.MERGED, 3, AT, AT)
    assert moved.open, "the watermark has not passed it yet"


def test_a_failed_batch_is_closed() -> None:
    assert not batch().moved(BatchState.FAILED, AT).open


@pytest.mark.parametrize("state", list(BatchState))
@pytest.mark.parametrize("to", list(BatchState))
def test_only_drawn_steps_are_possible(state: BatchState, to: BatchState) -> None:
    if to in NEXT[state]:
        assert batch(state).moved(to, AT).state is to
    else:
        with pytest.raises(ValueError, match="no step of a batch's life"):
            batch(state).moved(to, AT)


def test_merged_and_failed_are_final() -> None:
    assert not NEXT[BatchState.MERGED]
    assert not NEXT[BatchState.FAILED]


def test_a_batch_survives_json() -> None:
    assert Batch.model_validate(batch().model_dump(mode="json")) == batch()
