"""How an extraction went."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog

from services.core.batch import Batch
from services.core.manifest import Manifest
from services.core.tables import Table
from services.core.telling import kind, kind_and_words, told, where

log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What an extraction did."""

    table: str
    outcome: Literal["landed", "no_changes", "busy", "failed"]
    rows: int = 0
    rows_known: int = 0
    """Rows that were read again and did not land, because bronze has them as they are."""
    parts: int = 0
    bytes: int = 0
    batch_id: str | None = None
    watermark: str | None = None
    window_high: str | None = None
    unrepresentable: dict[str, int] | None = None
    changes: list[str] | None = None
    """What had changed at the source, or in tables.yaml."""
    seconds: float = 0.0
    error: str | None = None


def brought(batch: Batch, landed: Manifest | None, known: int, watermark: datetime | None) -> Outcome:
    """What an extraction that came to its end has brought.

    Args:
        batch: its batch.
        landed: the manifest; None when there was nothing to land.
        known: rows that were no news.
        watermark: the table's, before it.
    """
    noted = watermark.isoformat() if watermark else None
    high = batch.window.high.isoformat() if batch.window else None
    changes = batch.changes or None
    if landed is None:
        return Outcome(batch.table, "no_changes", rows_known=known, watermark=noted, window_high=high, changes=changes)
    return Outcome(
        batch.table,
        "landed",
        rows=landed.rows,
        rows_known=known,
        parts=len(landed.parts),
        bytes=sum(part.size for part in landed.parts),
        batch_id=landed.batch_id,
        watermark=noted,
        window_high=high,
        unrepresentable=landed.unrepresentable or None,
        changes=changes,
    )


def failed(table: Table, error: Exception) -> Outcome:
    """Say that an extraction failed, without words that could quote a value."""
    log.error("extraction.failed", table=table.name, reason=told(error), kind=kind(error), where=where(error))
    return Outcome(table.name, "failed", error=kind_and_words(error))
