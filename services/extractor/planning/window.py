"""Decides what an extraction reads: the window and the statements. Pure functions, no I/O."""

from datetime import UTC, datetime, timedelta

from services.core.errors import ConfigurationError
from services.core.tables import ColumnType, Mode, Table, Unrepresentable
from services.core.window import Window
from services.extractor.contract.mapping import Read
from services.extractor.planning.cursor import SettledCursor
from services.extractor.planning.local_time import earlier
from services.extractor.planning.promise import seen_until
from services.extractor.source.clock import SourceClock
from services.extractor.source.origin import Origin
from services.extractor.source.sql import relation_sql

_TICK = timedelta(microseconds=1)

MOST_EXPRESSIONS = 1_664
"""Of a SELECT list, in PostgreSQL (MaxTupleAttributeNumber)."""


def window_high(clock: SourceClock, origin: Origin, cursor: SettledCursor | None, safety_lag: timedelta) -> datetime:
    """Up to where every row is visible to a read that starts now.

    ``now()`` in PostgreSQL is the start of the transaction, so a row of an open transaction can carry just that time:
    the window ends strictly before it.

    Args:
        clock: the source's clock, taken before the read's snapshot.
        origin: where the rows come from.
        cursor: the table's cursor, for its lag, its rounding and its days.
        safety_lag: distance kept from what can be seen where not everything can be.
    """
    high = clock.now
    if clock.oldest_transaction is not None:
        high = min(high, clock.oldest_transaction - _TICK)
    seen = seen_until(clock, origin, safety_lag)
    if seen is not None:
        high = min(high, seen)
    if cursor is None:
        return high.astimezone(UTC)
    # A row can be older by the lag than the transaction that writes it, however old that is.
    return cursor.edge(earlier(high, cursor.lag))


def next_window(mode: Mode, low: datetime | None, high: datetime, *, anew: bool = False) -> Window:
    """The window that follows what is covered without a gap.

    ``high`` never falls behind ``low``: what an earlier window was right to cover stays covered.

    Args:
        mode: a snapshot has no low.
        low: how far the cursor is covered.
        high: up to where every row is visible.
        anew: whether what is covered does not count any more.
    """
    if low is not None and not anew:
        high = max(high, low)
    return Window(low=None if mode is Mode.SNAPSHOT else low, high=high)


def predicate(cursor: SettledCursor | None, mode: Mode, window: Window) -> str:
    """SQL condition of a window, or an empty string for the whole table."""
    if mode is Mode.SNAPSHOT or cursor is None:
        return ""
    bounds = []
    if window.low is not None:
        bounds.append(cursor.after(window.low))
    if cursor.declared.future != "every_run":
        bounds.append(cursor.until(window.high))
    if not bounds:
        return ""
    condition = " AND ".join(bounds)
    reads_nulls = cursor.declared.nulls == "every_run" or window.low is None
    return f"(({condition}) OR {cursor.sql} IS NULL)" if reads_nulls else f"({condition})"


def unread(cursor: SettledCursor, low: datetime) -> str:
    """SQL condition of the rows that windows after ``low`` never read."""
    condition = f"({cursor.after(low)}) IS NOT TRUE"
    return f"{condition} AND {cursor.sql} IS NOT NULL" if cursor.declared.nulls == "every_run" else condition


def select_list(table: Table, reads: list[Read], *more: str) -> tuple[str, list[str]]:
    """SELECT and FROM of a batch: an explicit list with casts done by PostgreSQL, then flags; and the flags' columns.

    The aliases are numbers: the engine takes columns by position, and names may differ only in case.

    Args:
        table: the table.
        reads: how its columns are read.
        more: expressions that come last.

    Raises:
        ConfigurationError: there are more expressions than PostgreSQL takes.
    """
    flags = [(read.column.name, read.unrepresentable) for read in reads if read.unrepresentable is not None]
    held = [f"coalesce({condition}, false)" for _, condition in flags]
    expressions = [*(read.expression for read in reads), *held, *more]
    if len(expressions) > MOST_EXPRESSIONS:
        raise _too_many(table, len(expressions))
    aliased = ", ".join(f"{expression} AS c{number}" for number, expression in enumerate(expressions))
    return f"SELECT {aliased} FROM {relation_sql(table)}", [name for name, _ in flags]  # noqa: S608


def _too_many(table: Table, count: int) -> ConfigurationError:
    twice = (Unrepresentable.NULL_AND_COUNT, Unrepresentable.STRING)
    names = [c.name for c in table.columns if c.type is not ColumnType.STRING and c.on_unrepresentable in twice]
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    policies = (
        f"on_unrepresentable: null_and_count takes two for a column, string takes three: declare STRING, or fail, for "
        f"some of the {len(names)} column(s) that have one of them ({shown}); or "
    )
    return ConfigurationError(
        f"table {table.name}: reading {table.source} takes {count:,} expressions, and PostgreSQL has "
        f"{MOST_EXPRESSIONS:,} at most; {policies if names else ''}declare a part of the columns, and the rest, with "
        "the same key, as a second table"
    )


def refused_rows(
    table: Table, cursor: SettledCursor | None, mode: Mode, window: Window, now: datetime
) -> list[tuple[str, str]]:
    """Counting statements that must give 0, with what they count: the policies that say ``fail``."""
    if cursor is None or mode is Mode.SNAPSHOT:
        return []
    relation = relation_sql(table)
    checks = []
    if cursor.declared.nulls == "fail":
        checks.append(("a null cursor", f"SELECT count(*) FROM {relation} WHERE {cursor.sql} IS NULL"))  # noqa: S608
    if cursor.declared.future == "fail":
        # The future begins a minute from now, not at the window's end, beyond which rows are written all the time.
        future = now + timedelta(minutes=1)
        beyond = cursor.beyond(future, window.high)
        checks.append(
            (f"a cursor beyond {future.isoformat()}", f"SELECT count(*) FROM {relation} WHERE {beyond}")  # noqa: S608
        )
    return checks


def index_statement(table: Table, cursor: SettledCursor) -> str:
    """The index with which a run costs what changed, not what is there."""
    return f"CREATE INDEX CONCURRENTLY ON {relation_sql(table)} ({cursor.sql})"
