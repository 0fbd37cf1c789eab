"""What the sweep tells about each table: alerts on lag and on batches that wait are built on it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.core.batch import Batch, BatchState
from services.core.state.extractions import ExtractionNote
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Mode
from services.core.window import Window
from services.loader.progress import Progress, table_progress

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> PipelineState:
    return PipelineState(SqliteStore(tmp_path / "state.sqlite"))


def batch(state: PipelineState, id: str, batch_state: BatchState, hours: float, *, landed: bool = True) -> None:
    """A batch that began so many hours ago, and landed half an hour later."""
    began = NOW - timedelta(hours=hours)
    state.create_batch(
        Batch(
            id=id,
            run_id=id,
            table="t",
            mode=Mode.INCREMENTAL,
            window=None,
            extracted_at=began,
            started_at=began,
            state=batch_state,
            landed_at=began + timedelta(minutes=30) if landed else None,
        )
    )


def test_a_table_that_nobody_has_read(state: PipelineState) -> None:
    assert table_progress(state, "t", NOW) == Progress("t", None, 0.0)


def test_lag_is_now_minus_the_watermark(state: PipelineState) -> None:
    state.store.create("tables", "t", {"watermark": (NOW - timedelta(hours=2)).isoformat()})
    assert table_progress(state, "t", NOW) == Progress("t", 7200.0, 0.0)


def test_the_oldest_batch_that_landed_and_is_not_merged_counts(state: PipelineState) -> None:
    batch(state, "a", BatchState.MERGED, 9)
    batch(state, "b", BatchState.LOADED, 3)
    batch(state, "c", BatchState.LANDED, 1)
    assert table_progress(state, "t", NOW).waiting_seconds == 2.5 * 3600


def test_a_long_extraction_is_no_batch_that_waits(state: PipelineState) -> None:
    batch(state, "a", BatchState.EXTRACTING, 9, landed=False)
    assert table_progress(state, "t", NOW).waiting_seconds == 0.0


def test_a_batch_whose_landing_nobody_noted_waits_since_it_began(state: PipelineState) -> None:
    batch(state, "a", BatchState.LOADED, 2, landed=False)
    assert table_progress(state, "t", NOW).waiting_seconds == 7200.0


def test_a_table_that_rests_is_not_behind(state: PipelineState) -> None:
    """Its extractions find nothing, and leave the watermark where it is."""
    low, high = NOW - timedelta(hours=40), NOW - timedelta(hours=1)
    state.store.create("tables", "t", {"watermark": low.isoformat()})
    note = ExtractionNote.begin(state.store, "t", "r")
    note.succeeded(quiet=Window(low=low, high=high))
    assert table_progress(state, "t", NOW) == Progress("t", 3600.0, 0.0)
