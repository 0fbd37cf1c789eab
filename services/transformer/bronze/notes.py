"""What the state, the log and the alerts hear of a round: what came into bronze, what waits, and why."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.faults import fault_point
from services.core.state.state import PipelineState
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.compaction import Way
from services.transformer.dbt_project import NodeResult

_MOST_MESSAGE = 1_000
"""Characters of an error that are kept in the state."""

log = structlog.get_logger()


@dataclass
class Round:
    """What a round did."""

    stuck: dict[str, bool] = field(default_factory=dict)
    """Tables whose batches could not be taken in; whether a retry may cure that, or only a person."""
    merges: list[dict[str, Any]] = field(default_factory=list)
    """Per table and way: batches, rows, rows that were written, seconds."""
    nodes: list[NodeResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What a retry, or a person, may cure; each names the table."""


@dataclass(frozen=True)
class Done:
    """Batches that were appended or merged."""

    rows: int | None
    """Rows that were written."""
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why that failed."""

    message: str
    lasting: bool
    """Whether the same statement fails again; else what failed may pass."""


@dataclass(frozen=True)
class Notes:
    """Says what became of batches, and keeps account of the round."""

    state: PipelineState
    alert: Callable[[Batch], object]
    """Says that a batch waits for a person."""
    round: Round = field(default_factory=Round)

    def taken_in(self, table: str, way: Way, mine: list[Loaded], done: Done) -> None:
        """Note batches that are in bronze."""
        for each in mine:
            self.state.step(each.batch.id, Step.MERGE)
        fault_point("transformer.merged")
        entry = {
            "way": str(way),
            "batches": [each.batch.id for each in mine],
            "rows": sum(each.batch.rows for each in mine),
            "rows_merged": done.rows,
            "seconds": done.seconds,
        }
        self.round.merges.append({"table": table, **entry})
        log.info("bronze.merged", table=table, **entry)

    def stuck(self, table: str, waiting: Iterable[Loaded], reason: str, *, curable: bool = True) -> None:
        """Note why a table's batches wait; somebody who looks at one of them sees it."""
        message = _shortened(reason)
        self.trouble((each.batch for each in waiting), message)
        self.round.stuck[table] = curable
        self.round.problems.append(f"table {table}: {message}")
        log.error("bronze.failed", table=table, reason=message)

    def trouble(self, batches: Iterable[Batch], reason: str) -> None:
        """Note in loaded batches why they wait."""
        message = _shortened(reason)
        for batch in batches:
            self.state.change_batch(batch.id, lambda batch: batch.in_trouble(BatchState.LOADED, message))
            log.warning("batch.waits", table=batch.table, batch_id=batch.id, reason=message)

    def hold(self, batch: Batch, code: str, reason: str) -> None:
        """Set a batch aside until a person has looked at it."""
        why = BatchError(code=code, message=_shortened(reason))
        held = self.state.step(batch.id, Step.HOLD, hold=why)
        log.error("batch.held", table=batch.table, batch_id=batch.id, code=why.code, reason=why.message)
        try:
            self.alert(held)
        except Exception:
            # It is noted and logged, and status shows it: a bus that is away must not stop the merges of others.
            log.exception("alert.not_sent", table=batch.table, batch_id=batch.id)


def _shortened(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _MOST_MESSAGE else f"{text[:_MOST_MESSAGE]}…"
