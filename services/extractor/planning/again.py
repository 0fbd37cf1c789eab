"""Rows that windows read again: which they are, and whether what was kept of them still counts. Pure functions.

With a lookback, null cursors and rows beyond a window's end, a run reads rows that it has read before. A batch keeps
fingerprints of those that the next window will read again, as they landed. A row of the next batch that has one of
these fingerprints does not land: bronze has it.

Why nothing is lost by that. Fingerprints count only where their batch, the *tip*,
- is in bronze: no step leads out of it, so nothing of it can fail any more (a batch that only landed can: with a date's
  window, which stays (day, day] until the day is over, the chain would lead over the gap, by a later batch);
- is what the table was read for last: whatever was read in between, a snapshot, a batch that failed or was abandoned,
  has raised the table's ``extracted_at``;
- and nothing came since that the extractor did not read: a file, a manifest of nobody.
So when it was planned, the newest version of each of its rows in bronze was what it landed, or what its own tip had
kept; and no batch that is still on its way was read later than that version. A version that comes from elsewhere, and
was read in between, cannot be there. What does not count is read and lands, as if nothing had been kept.

A window that is read by chunks can be read under several snapshots, by several processes, at several times. So a row
can be in it as two versions, and the later one lands whatever was kept: B was read and lands, and what is read later is
A again, which the tip has kept. Dropped is only what every snapshot of the window has seen, if it saw the row's page:
versions by transactions that had all ended before the first was taken. Where such a version is found, no other one of
its row was to be seen under any earlier snapshot of the window, so none was read before it. And what was kept is asked
for anew at each time of reading, for a file can have come between two.

For the same reason only a batch that saw the source at one moment keeps fingerprints (``reading.sieve``).
"""

from enum import IntFlag

from services.core.batch import Batch, BatchState, Fingerprints
from services.core.state.memory import Seen
from services.core.state.state import TableProgress
from services.core.window import Window
from services.extractor.planning.cursor import SettledCursor

FORM = 1
"""How ``reading.sieve`` makes fingerprints; another number where the same row can have another one."""


class Again(IntFlag):
    """What the flag that follows a row's columns says."""

    NEXT = 1
    """The next window reads it again."""
    LAST = 2
    """The last window can have read it."""
    AHEAD = 4
    """It is beyond the window's end."""


def again_flag(cursor: SettledCursor, window: Window, kept: Fingerprints | None, newer: str | None = None) -> str:
    """SQL expression of a row's ``Again``.

    Args:
        cursor: the table's.
        window: what is read now.
        kept: what the last window has kept; None for nothing.
        newer: where the window is read by chunks, the SQL condition of the row versions that not all its snapshots see.
    """
    is_null = f"{cursor.sql} IS NULL"
    following = [cursor.after(window.high), *([is_null] if cursor.declared.nulls == "every_run" else [])]
    before: list[str] = []
    if kept is not None and window.low is not None:
        before = ["true"] if kept.ahead else [cursor.until(window.low), is_null]
        if newer is not None:
            before = [f"({' OR '.join(before)}) AND NOT ({newer})"]
    flags = (
        (Again.NEXT, following),
        (Again.LAST, before),
        (Again.AHEAD, [f"NOT ({cursor.until(window.high)})"]),
    )
    # A comparison with null is unknown, which CASE takes for false.
    cases = [f"CASE WHEN {' OR '.join(either)} THEN {flag.value} ELSE 0 END" for flag, either in flags if either]
    return " + ".join(cases)


def void(
    tip: Batch, window: Window, progress: TableProgress, before: Seen | None, now: Seen, columns: str
) -> str | None:
    """Why the fingerprints of the batch that a window follows do not count; None where they do.

    Args:
        tip: the batch at which the chain ends.
        window: what is read now.
        progress: how far the table is.
        before: what was seen when the tip was planned; None when that is not remembered.
        now: what is seen now.
        columns: fingerprint of the columns that are read now.
    """
    kept = tip.fingerprints
    if kept is None:
        return "its batch kept none"
    if tip.window is None or tip.window.high != window.low:
        return "the window does not follow their batch"
    if tip.state is not BatchState.MERGED:
        return "their batch is not in bronze yet"
    if before is None or _declared(before) != _declared(now) or kept.columns != columns:
        return "the source or its declaration is another"
    if kept.form != FORM:
        return "this release makes others"
    if progress.extracted_at != (kept.read_at or tip.extracted_at):
        return "the table was read since: by a snapshot, or by a batch that failed"
    return arrived(tip, progress)


def arrived(tip: Batch, progress: TableProgress) -> str | None:
    """What has come to a table from elsewhere since its tip was planned, and was noted; None for nothing."""
    if tip.fingerprints is None or progress.unannounced != tip.fingerprints.unannounced:
        return "a file came since, or a batch that no extraction announced"
    return None


def _declared(seen: Seen) -> Seen:
    """What was seen, without what moves by itself: the WAL; and without how the table was read."""
    return seen.model_copy(update={"server": seen.server.model_copy(update={"position": None}), "mode": ""})
