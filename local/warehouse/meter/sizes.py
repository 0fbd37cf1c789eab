"""Logical bytes of columns, as BigQuery counts them: by type and value, not by what storage takes.

https://cloud.google.com/bigquery/pricing#data says how large a value of each type is; NULL is 0 bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from bqemulator.storage.sql_identifiers import quoted_table_ref

if TYPE_CHECKING:  # it needs Google's engine, which sizes do without
    from local.googlesql.reads import Bound

_STANDARD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}

_FIXED = {
    "INT64": 8, "FLOAT64": 8, "NUMERIC": 16, "BIGNUMERIC": 32, "BOOL": 1, "DATE": 8, "DATETIME": 8, "TIME": 8,
    "TIMESTAMP": 8, "INTERVAL": 16, "RANGE": 16,
}  # fmt: skip
_OF_TEXT = {"STRING": 2, "BYTES": 2, "JSON": 0}
"""Bytes of a value besides its own."""

Bounds = Mapping[str, "tuple[Bound, ...]"]


class Sizes:
    """Sizes of tables' columns, asked for once for each state of a table."""

    def __init__(self, execute: Any) -> None:
        """Take what executes DuckDB's SQL."""
        self._execute = execute
        self._known: dict[tuple[Any, ...], int] = {}

    def of(self, table: Any, columns: Iterable[str] | None = None, bounds: Bounds | None = None) -> int:
        """Logical bytes of some columns of a table, or of all.

        Args:
            table: bqemulator's record of it.
            columns: their names.
            bounds: what is asked of its columns; partitions in which no row can be so are left out.
        """
        wanted = None if columns is None else {name.lower() for name in columns}
        fields = [field for field in table.schema_.fields if wanted is None or field.name.lower() in wanted]
        where = partition_filter(table, bounds or {})
        name = (table.project_id, table.dataset_id, table.table_id)
        state = (*name, table.last_modified_time, table.num_rows, where)
        if unknown := [field for field in fields if (*state, field.name) not in self._known]:
            sums = ", ".join(f"coalesce(sum({_bytes_of(field, _quoted(field))}), 0)" for field in unknown)
            statement = f"SELECT {sums} FROM {quoted_table_ref(*name)} {where}"  # noqa: S608
            found = self._execute(statement).fetchone()
            self._known |= {(*state, field.name): int(size) for field, size in zip(unknown, found, strict=True)}
        return sum(self._known[*state, field.name] for field in fields)


def _quoted(field: Any) -> str:
    return f'"{field.name}"'


def _bytes_of(field: Any, value: str, *, element: bool = False) -> str:
    """DuckDB's expression for the bytes of a value of a column."""
    name = _STANDARD_NAMES.get(field.type.upper(), field.type.upper())
    if field.mode == "REPEATED" and not element:
        inner = _bytes_of(field, "each", element=True)
        return f"coalesce(list_sum(list_transform({value}, lambda each: {inner})), 0)"
    if name == "STRUCT":
        parts = [_bytes_of(inner, f'{value}."{inner.name}"') for inner in field.fields]
        return "(" + " + ".join(parts or ["0"]) + ")"
    if name in _FIXED:
        size = str(_FIXED[name])
    elif name == "GEOGRAPHY":
        size = f"16 + 24 * ST_NPoints({value})"
    elif name == "BYTES":
        size = f"2 + octet_length({value})"
    else:
        size = f"{_OF_TEXT.get(name, 2)} + strlen(CAST({value} AS VARCHAR))"
    return f"CASE WHEN {value} IS NULL THEN 0 ELSE {size} END"


# --- partitions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Partitioning:
    """How a table is partitioned, in DuckDB's SQL."""

    column: str
    moment: str
    """A value of the column as what is compared; ``{}`` stands for the value."""
    start: str
    """The first moment of a value's partition; ``{}`` stands for the moment."""
    one_value: bool
    """Whether a partition has one value of the column."""


def partition_filter(table: Any, bounds: Bounds) -> str:
    """The WHERE of the partitions that can have a row of use; empty when none can be left out."""
    partitioning = _partitioning(table)
    if partitioning is None:
        return ""
    known = next((known for name, known in bounds.items() if name.lower() == partitioning.column.lower()), ())
    conditions = [_condition(partitioning, bound) for bound in known]
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _partitioning(table: Any) -> _Partitioning | None:
    if table.range_partitioning:
        how = table.range_partitioning
        start = f"(floor(({{}} - {how.start}) / {how.interval}) * {how.interval} + {how.start})"
        return _Partitioning(how.field, "{}", start, how.interval == 1)
    if table.time_partitioning and table.time_partitioning.field:
        column, unit = table.time_partitioning.field, table.time_partitioning.type
        kind = next((field.type for field in table.schema_.fields if field.name.lower() == column.lower()), "DATE")
        moment = "timezone('UTC', {})" if kind == "TIMESTAMP" else "CAST({} AS TIMESTAMP)"
        return _Partitioning(column, moment, f"date_trunc('{unit.lower()}', {{}})", (kind, unit) == ("DATE", "DAY"))
    return None


def _condition(partitioning: _Partitioning, bound: "Bound") -> str:
    column = partitioning.start.format(partitioning.moment.format(f'"{partitioning.column}"'))
    moments = [partitioning.moment.format(_literal(constant)) for constant in bound.constants]
    starts = [partitioning.start.format(moment) for moment in moments]
    if bound.operator in ("=", "in"):
        return f"{column} IN ({', '.join(starts)})"
    if bound.operator in ("<", "<="):
        return f"{column} {bound.operator} {moments[0]}"
    return f"{column} {'>' if bound.operator == '>' and partitioning.one_value else '>='} {starts[0]}"


def _literal(constant: Any) -> str:
    if isinstance(constant, datetime):
        return f"{'TIMESTAMPTZ' if constant.tzinfo else 'TIMESTAMP'} '{constant.isoformat(sep=' ')}'"
    if isinstance(constant, date):
        return f"DATE '{constant.isoformat()}'"
    return str(int(constant))
