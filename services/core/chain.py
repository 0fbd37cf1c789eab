"""How far a table's cursor is covered by batches that leave no gap. Pure functions.

The same rule serves both ends: with the batches on their way it gives the next window's low; with the merged ones it
gives the new watermark.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from services.core.batch import Batch


@dataclass(frozen=True)
class Covered:
    """How far, and by what."""

    until: datetime | None = None
    """The cursor up to which there is no gap; None when nothing is known."""
    batch: str | None = None
    """The batch whose window ends there; None when it is not known."""
    anew_at: datetime | None = None
    """When the snapshot was read with which covering began anew; None when it never did."""


def covered(start: Covered, batches: Iterable[Batch]) -> Covered:
    """How far batches cover the cursor from a start, in whatever order they come.

    A snapshot that begins anew covers what it says and nothing of what was read before it counts any more: the cursor
    was declared otherwise then, or the source was another. So what is covered can become less.
    """
    found = list(batches)
    newest = max((b for b in found if b.anew), key=lambda b: b.extracted_at, default=None)
    if newest is not None and (start.anew_at is None or newest.extracted_at > start.anew_at):
        start = Covered(anew_at=newest.extracted_at)
    windows = [
        (batch.window, batch.id)
        for batch in found
        if batch.window is not None and (start.anew_at is None or batch.extracted_at >= start.anew_at)
    ]
    reached = start
    for window, batch_id in sorted(windows, key=lambda w: (w[0].low is not None, w[0].low or w[0].high, w[0].high)):
        if not window.starts_within(reached.until):
            continue
        if reached.until is None or window.high > reached.until:
            reached = replace(reached, until=window.high, batch=batch_id)
        elif window.high == reached.until:
            reached = replace(reached, batch=max(reached.batch or "", batch_id))
    return reached
