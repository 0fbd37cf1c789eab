"""How far a table is, for whoever watches the log: lag of its watermark, age of what waits to be merged."""

from dataclasses import dataclass
from datetime import datetime

from services.core.batch import BatchState
from services.core.health.overview import complete_to
from services.core.state.extractions import last_extractions
from services.core.state.state import PipelineState


@dataclass(frozen=True)
class Progress:
    """How far a table is.

    Attributes:
        table: its name.
        lag_seconds: now minus what bronze is complete to; None before its first batch is merged.
        waiting_seconds: since the oldest batch that is not in bronze has landed; 0 when none waits.
    """

    table: str
    lag_seconds: float | None
    waiting_seconds: float


def table_progress(state: PipelineState, table: str, now: datetime) -> Progress:
    """Look at a table's watermark, its last extraction without news, and its open batches."""
    complete = complete_to(state.progress(table).watermark, last_extractions(state.store, table))
    waiting = [
        batch.landed_at or batch.started_at
        for batch in state.open_batches(table)
        if batch.state in (BatchState.LANDED, BatchState.LOADED)
    ]
    return Progress(
        table,
        None if complete is None else round((now - complete).total_seconds(), 3),
        round(max((now - since).total_seconds() for since in waiting), 3) if waiting else 0.0,
    )
