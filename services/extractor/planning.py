"""Decides what an extraction reads: the window and the statements. Pure functions, no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.core.batch import Batch
from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Cursor, Mode, Table
from services.core.window import Window, furthest
from services.extractor.source import SourceClock, SourceColumn

_TICK = timedelta(microseconds=1)


def window_high(clock: SourceClock, cursor: Cursor | None, safety_lag: timedelta) -> datetime:
    """Up to where every row is visible to a read that starts now.

    ``now()`` in PostgreSQL is the start of the transaction, so a row of an open transaction can carry just that time:
    the window ends strictly before it.

    Args:
        clock: the source's clock, taken before the read's snapshot.
        cursor: the table's cursor, for its lag and granularity.
        safety_lag: distance from now kept when open transactions, or their start, cannot be seen.
    """
    high = clock.now - (cursor.lag if cursor else timedelta(0))
    if clock.oldest_transaction is not None:
        high = min(high, clock.oldest_transaction - _TICK)
    if clock.oldest_prepared is not None:
        high = min(high, clock.oldest_prepared - safety_lag)
    if not clock.sees_others:
        high = min(high, clock.now - safety_lag)
    high = high.astimezone(UTC)
    if cursor is not None and cursor.type == "date":
        high = high.replace(hour=0, minute=0, second=0, microsecond=0)
    return high


def next_window(mode: Mode, watermark: datetime | None, on_their_way: Iterable[Batch], high: datetime) -> Window:
    """The window that follows what is merged and what is on its way without a gap.

    ``high`` never falls behind ``low``: what an earlier window was right to cover stays covered.
    """
    if mode is Mode.SNAPSHOT:
        return Window(low=None, high=high if watermark is None else max(high, watermark))
    low = furthest(watermark, (batch.window for batch in on_their_way))
    return Window(low=low, high=high if low is None else max(high, low))


def quoted(identifier: str) -> str:
    """A PostgreSQL identifier, always quoted."""
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def _literal(value: datetime, cursor: Cursor) -> str:
    if cursor.type == "date":
        return f"DATE '{value.date().isoformat()}'"
    return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat(sep=' ', timespec='microseconds')}'"


def _earlier(value: datetime, by: timedelta) -> datetime:
    """``value - by``, not before the first representable time."""
    first = datetime.min.replace(tzinfo=UTC)
    return first if value - first < by else value - by


def predicate(table: Table, mode: Mode, window: Window) -> str:
    """SQL condition of a window, or an empty string for the whole table."""
    cursor = table.cursor
    if mode is Mode.SNAPSHOT or cursor is None:
        return ""
    expression = f"({cursor.expression})"
    bounds = []
    if window.low is not None:
        bounds.append(f"{expression} > {_literal(_earlier(window.low, cursor.lookback), cursor)}")
    if cursor.future != "every_run":
        bounds.append(f"{expression} <= {_literal(window.high, cursor)}")
    if not bounds:
        return ""
    condition = " AND ".join(bounds)
    reads_nulls = cursor.nulls == "every_run" or window.low is None
    return f"(({condition}) OR {expression} IS NULL)" if reads_nulls else f"({condition})"


@dataclass(frozen=True)
class Select:
    """How one column is read: the expression that PostgreSQL computes."""

    column: Column
    expression: str


_TEXT = {"text", "varchar", "bpchar", "name", "uuid", "citext", "json", "jsonb", "xml", "inet", "cidr", "macaddr"}
_EXACT: dict[ColumnType, set[str]] = {
    ColumnType.INT64: {"int2", "int4", "int8"},
    ColumnType.FLOAT64: {"float4", "float8"},
    ColumnType.BOOL: {"bool"},
    ColumnType.DATE: {"date"},
    ColumnType.TIMESTAMP: {"timestamptz"},
    ColumnType.DATETIME: {"timestamp"},
    ColumnType.TIME: {"time"},
    ColumnType.BYTES: {"bytea"},
    ColumnType.NUMERIC: {"numeric", "int2", "int4", "int8"},
    ColumnType.BIGNUMERIC: {"numeric", "int2", "int4", "int8"},
}
_RANGE = {
    ColumnType.DATE: ("DATE '0001-01-01'", "DATE '9999-12-31'", "date"),
    ColumnType.TIMESTAMP: (
        "TIMESTAMPTZ '0001-01-01 00:00:00+00'",
        "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'",
        "timestamptz",
    ),
    ColumnType.DATETIME: ("TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'", "timestamp"),
}


def _refusing(condition: str, name: str, what: str, type_: str, otherwise: str) -> str:
    """An expression that fails the read with the column's name where the condition holds.

    The cast of a text that is no number or date is PostgreSQL's own error; ``left(…, 0)`` ties it to the row, so that
    the planner cannot evaluate it beforehand.
    """
    text = f"column {name}: {what} ".replace("'", "''")
    column = quoted(name)
    return f"CASE WHEN {condition} THEN ('{text}' || {column}::text)::{type_} ELSE {otherwise} END"


def _numeric(column: Column, source: SourceColumn) -> str:
    """A numeric as the engine can hold it exactly: with its own precision, or as text that is parsed strictly.

    An unconstrained numeric would be read as floating point, and NaN as 0 (field measurements of DuckDB 1.5.5).
    """
    name = quoted(column.name)
    if source.type != "numeric":
        return f"{name}::bigint"
    if source.modifier < 0:
        return f"{name}::text"
    precision, scale = (source.modifier - 4) >> 16, (source.modifier - 4) & 0x7FF
    if precision > 38 or scale > precision:
        return f"{name}::text"
    type_ = f"numeric({precision},{scale})"
    # The cast stands outside: a CASE loses the precision, and the engine would read floating point.
    checked = _refusing(f"{name} = 'NaN'", column.name, f"BigQuery's {column.type} has no", "numeric", name)
    return f"({checked})::{type_}"


def select(column: Column, source: SourceColumn | None, table: Table) -> Select:
    """How a declared column is read.

    Raises:
        ConfigurationError: the source has no such column, or one that does not fit the declared type.
    """
    if source is None:
        raise ConfigurationError(
            f"table {table.name}, column {column.name}: not in {table.source}; correct tables.yaml or the source"
        )
    name = quoted(column.name)
    if column.type is ColumnType.STRING:
        return Select(column, name if source.type == "text" else f"{name}::text")
    if source.type not in _EXACT[column.type]:
        hint = (
            "STRING" if source.type in _TEXT else " or ".join(t for t in ColumnType if source.type in _EXACT.get(t, ()))
        )
        raise ConfigurationError(
            f"table {table.name}, column {column.name}: declared {column.type}, but {table.source} has "
            f"{source.type}; declare {hint or 'STRING'}"
        )
    if column.type in (ColumnType.NUMERIC, ColumnType.BIGNUMERIC):
        return Select(column, _numeric(column, source))
    if column.type in _RANGE:
        first, last, type_ = _RANGE[column.type]
        condition = f"{name} NOT BETWEEN {first} AND {last}"
        return Select(column, _refusing(condition, column.name, f"BigQuery's {column.type} cannot hold", type_, name))
    return Select(column, name)


@dataclass(frozen=True)
class Statement:
    """What is sent to the source for one batch."""

    text: str
    selects: tuple[Select, ...]


def statement(table: Table, columns: dict[str, SourceColumn], mode: Mode, window: Window) -> Statement:
    """The SELECT of a batch: an explicit list with casts done by PostgreSQL.

    Raises:
        ConfigurationError: the source does not fit the declared columns.
    """
    selects = tuple(select(column, columns.get(column.name), table) for column in table.columns)
    expressions = ", ".join(f"{s.expression} AS {quoted(s.column.name)}" for s in selects)
    where = predicate(table, mode, window)
    relation = f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
    text = f"SELECT {expressions} FROM {relation}" + (f" WHERE {where}" if where else "")  # noqa: S608
    return Statement(text, selects)


def refused_rows(table: Table, mode: Mode, window: Window) -> list[tuple[str, str]]:
    """Counting statements that must give 0, with what they count: the policies that say ``fail``."""
    cursor = table.cursor
    if cursor is None or mode is Mode.SNAPSHOT:
        return []
    relation = f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
    expression = f"({cursor.expression})"
    checks = []
    if cursor.nulls == "fail":
        checks.append(("a null cursor", f"SELECT count(*) FROM {relation} WHERE {expression} IS NULL"))  # noqa: S608
    if cursor.future == "fail":
        beyond = f"{expression} > {_literal(window.high, cursor)}"
        checks.append(
            (f"a cursor beyond {window.high.isoformat()}", f"SELECT count(*) FROM {relation} WHERE {beyond}")  # noqa: S608
        )
    return checks
