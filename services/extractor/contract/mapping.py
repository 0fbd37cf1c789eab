"""PostgreSQL type → BigQuery type, and the expression by which PostgreSQL hands a value over exactly.

docs/types.md is this module for people. What the engine does with each type was measured on DuckDB 1.5.5.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Mask, Table, Unrepresentable
from services.extractor.contract.keys import canonical
from services.extractor.contract.masking import masked
from services.extractor.contract.numerics import ROOM, engine_type, numeric_digits, outside
from services.extractor.source.catalog import SourceColumn, TypeKind
from services.extractor.source.sql import quoted, text_literal


class Holds(StrEnum):
    """Whether a BigQuery type holds the values of a PostgreSQL type."""

    ALWAYS = "always"
    """Every one, exactly."""
    CHECKED = "checked"
    """Not every one: each value is looked at, and the column's policy says what happens to the others."""
    NEVER = "never"
    """The types do not go together: refused before anything is read."""


@dataclass(frozen=True)
class Read:
    """How one landed column is read."""

    column: Column
    """The column as it lands."""
    expression: str
    """SQL that PostgreSQL computes, without an alias."""
    unrepresentable: str | None = None
    """SQL condition, true where the type could not hold the value and it became null; never true for a null.

    Only under the policies ``null_and_count`` and ``string``.
    """
    refused: str | None = None
    """SQL condition of the values that the type cannot hold and that fail the batch, under the policy ``fail``."""


_INTEGERS = {"int2", "int4", "int8", "oid"}

_ALWAYS: dict[ColumnType, set[str]] = {
    ColumnType.INT64: _INTEGERS,
    ColumnType.NUMERIC: {*_INTEGERS, "money"},
    ColumnType.BIGNUMERIC: {*_INTEGERS, "money"},
    ColumnType.FLOAT64: {"float4", "float8"},
    ColumnType.BOOL: {"bool"},
    ColumnType.BYTES: {"bytea"},
}
"""Built-in types of which the BigQuery type holds every value. STRING is not here: it holds the text of any type."""

_CHECKED: dict[ColumnType, set[str]] = {
    ColumnType.NUMERIC: {"numeric"},
    ColumnType.BIGNUMERIC: {"numeric"},
    ColumnType.DATE: {"date"},
    ColumnType.TIMESTAMP: {"timestamptz"},
    ColumnType.DATETIME: {"timestamp"},
    ColumnType.TIME: {"time"},
}
"""Built-in types that have values the BigQuery type lacks: NaN, infinity, years before 1 and after 9999, 24:00:00."""

_FAVOURITES = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), ColumnType.INT64),
    **dict.fromkeys(("float4", "float8"), ColumnType.FLOAT64),
    "bool": ColumnType.BOOL,
    "bytea": ColumnType.BYTES,
    "date": ColumnType.DATE,
    "timestamptz": ColumnType.TIMESTAMP,
    "timestamp": ColumnType.DATETIME,
    "time": ColumnType.TIME,
    "money": ColumnType.NUMERIC,
}
"""The type that says most of a built-in type's meaning; numeric's depends on its digits."""

_OUTSIDE = {
    ColumnType.DATE: "{0} NOT BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'",
    ColumnType.TIMESTAMP: "{0} NOT BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00'"
    " AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'",
    ColumnType.DATETIME: "{0} NOT BETWEEN TIMESTAMP '0001-01-01 00:00:00' AND TIMESTAMP '9999-12-31 23:59:59.999999'",
    ColumnType.TIME: "{0} = TIME '24:00:00'",
}
"""SQL condition of the values that BigQuery's calendar lacks; unknown for a null."""

_NULLS = {
    ColumnType.STRING: "text",
    ColumnType.INT64: "bigint",
    ColumnType.NUMERIC: "numeric(38,9)",
    ColumnType.BIGNUMERIC: "text",  # parsed into more digits than the engine's own decimals have
    ColumnType.FLOAT64: "double precision",
    ColumnType.BOOL: "boolean",
    ColumnType.DATE: "date",
    ColumnType.TIMESTAMP: "timestamp with time zone",
    ColumnType.DATETIME: "timestamp without time zone",
    ColumnType.TIME: "time without time zone",
    ColumnType.BYTES: "bytea",
}
"""PostgreSQL type that the engine reads as the right Arrow type."""

_HEX_PREFIX = text_literal("\\x")


def holds(source: SourceColumn, type_: ColumnType) -> Holds:
    """Whether a BigQuery type holds the values of a source column."""
    if type_ is ColumnType.STRING:
        return Holds.ALWAYS
    # Only the built-in types: another schema's type of the same name may mean anything.
    if source.kind is not TypeKind.BASE:
        return Holds.NEVER
    if source.type in _ALWAYS.get(type_, ()):
        return Holds.ALWAYS
    return Holds.CHECKED if source.type in _CHECKED.get(type_, ()) else Holds.NEVER


def default_type(source: SourceColumn) -> ColumnType:
    """The BigQuery type to declare for a source column when nothing is known but its type.

    A numeric gets the first of NUMERIC, BIGNUMERIC and STRING with room for its digits; without a precision it may
    have any, so STRING. What BigQuery has no exact type for is a STRING too, PostgreSQL's text.
    """
    if source.kind is not TypeKind.BASE:
        return ColumnType.STRING
    if source.type == "numeric":
        digits = numeric_digits(source.modifier)
        fitting = [type_ for type_, room in ROOM.items() if digits is not None and digits.fit(room)]
        return fitting[0] if fitting else ColumnType.STRING
    return _FAVOURITES.get(source.type, ColumnType.STRING)


def reads(column: Column, source: SourceColumn | None, table: Table) -> list[Read]:
    """How a column is read: the column itself, and under the policy ``string`` the text of what it cannot hold.

    Args:
        column: a declared column, or one that schema drift added.
        source: the column in the source; None when it is gone and the drift policy lets it be null.
        table: the table, for messages.

    Raises:
        ConfigurationError: the source's type does not fit the declared one, or not as exactly as declared.
    """
    if source is None:
        return _with_null_text(Read(column, f"NULL::{_NULLS[column.type]}"))
    name = quoted(source.name)
    if column.mask is not None:
        # Equal values have equal hashes: a key's, and those of what refers to it.
        value = canonical(source) if column.mask is Mask.HASH else name
        return [Read(column, masked(column.mask, value, column.mask_keep))]
    if column.type is ColumnType.STRING:
        value = canonical(source) if column.name in table.key else name
        return [Read(column, _text(source) if value == name else f"{value}::text")]
    held = holds(source, column.type)
    if held is Holds.NEVER:
        raise ConfigurationError(
            f"table {table.name}, column {column.name}: declared {column.type}, but {table.source} has "
            f"{source.shown}; declare {_fitting(source)}"
        )
    if held is Holds.ALWAYS:
        return _with_null_text(Read(column, _whole(column, source)))
    match column.on_unrepresentable:
        case Unrepresentable.EXACT:
            raise ConfigurationError(
                f"table {table.name}, column {column.name}: on_unrepresentable is exact, but {column.type} does not "
                f"hold every {source.shown} of {table.source} ({_lacking(source, column.type)}); declare STRING, or "
                "another on_unrepresentable"
            )
        case Unrepresentable.FAIL:
            return [Read(column, _failing(column, source), refused=_condition(source, column.type))]
        case Unrepresentable.NULL_AND_COUNT | Unrepresentable.STRING:
            return _nulling(column, source)


def _with_null_text(read: Read) -> list[Read]:
    """A column without a value that could not be held; its text is null where the policy promises one."""
    name = read.column.text_name
    return [read] if name is None else [read, Read(_text_column(name), "NULL::text")]


def _text_column(name: str) -> Column:
    return Column(name=name, type=ColumnType.STRING)


def _text(source: SourceColumn) -> str:
    """PostgreSQL's text of a value: what psql prints, but for booleans, which are true and false."""
    name = quoted(source.name)
    if source.kind is TypeKind.BASE:
        match source.type:
            case "text" | "varchar":
                return name
            case "bpchar":
                return f"textin(bpcharout({name}))"  # the cast would cut the blanks at the end
            case "inet":
                return f"textin(inet_out({name}))"  # the cast would add /32 or /128 to a host
            case "bytea":
                return f"{_HEX_PREFIX} || encode({name}, 'hex')"  # the cast depends on bytea_output
    return f"{name}::text"


def _whole(column: Column, source: SourceColumn) -> str:
    """A value of a type that the BigQuery type holds whole, as the engine reads it exactly."""
    name = quoted(source.name)
    decimal = column.type in ROOM
    match source.type:
        case "money":
            # Money is a 64-bit integer with at most 10 decimals by lc_monetary (cash.c): 29 digits. The cast to
            # numeric keeps them all; without a precision the engine would read floating point.
            return f"({name}::numeric)::numeric(29,10)"
        case "oid":
            return f"{name}::bigint"  # the engine reads a text
        case "int2" | "int4" | "int8" if decimal:
            return f"{name}::bigint"
        case "float4":
            return f"{name}::double precision"
    return name


def _failing(column: Column, source: SourceColumn) -> str:
    """A value that fails the batch where the type cannot hold it.

    Dates and times come as they are: what BigQuery lacks arrives as a number outside its range, and the reader looks
    at the smallest and largest of each batch, which costs the server nothing. Numerics are checked by PostgreSQL: a
    NaN would arrive as 0, and Arrow's casts of decimals and texts turn what is too large into other numbers, without
    an error (measured with Arrow 26).
    """
    name = quoted(source.name)
    if column.type not in ROOM:
        return name
    # PostgreSQL's own error for a text that is no number carries the column's name; the value ties it to the row, so
    # that the planner cannot evaluate it beforehand.
    message = text_literal(f"column {column.name}: BigQuery's {column.type} has no ")
    refused = f"({message} || {name}::text)::numeric"
    return _decimal(f"CASE WHEN {_condition(source, column.type)} THEN {refused} ELSE {name} END", column.type, source)


def _nulling(column: Column, source: SourceColumn) -> list[Read]:
    """A value that is null where the type cannot hold it; its text beside it when the policy is ``string``."""
    name = quoted(source.name)
    condition = _condition(source, column.type)
    held = f"CASE WHEN {condition} THEN NULL ELSE {name} END"
    if column.type in ROOM:
        held = _decimal(held, column.type, source)
    landed = [Read(column, held, condition)]
    if column.text_name is not None:
        landed.append(Read(_text_column(column.text_name), f"CASE WHEN {condition} THEN {name}::text END"))
    return landed


def _condition(source: SourceColumn, type_: ColumnType) -> str:
    """SQL condition of the values that a type cannot hold; unknown for a null."""
    name = quoted(source.name)
    if type_ in ROOM:
        return outside(name, numeric_digits(source.modifier), ROOM[type_])
    return _OUTSIDE[type_].format(name)


def _decimal(checked: str, type_: ColumnType, source: SourceColumn) -> str:
    """A numeric whose values all fit the type, as the engine reads it exactly: the cast rounds nothing.

    It stands outside, because a CASE loses the precision, and without one the engine would read floating point. What
    has more digits than the engine's decimals comes as text; zeros at its end would count as digits.
    """
    digits = numeric_digits(source.modifier)
    own = engine_type(digits)
    if digits is not None and own is not None and digits.fit(ROOM[type_]):
        return f"({checked})::{own}"
    if type_ is ColumnType.NUMERIC:
        return f"({checked})::numeric(38,9)"
    return f"trim_scale({checked})::text"


def _fitting(source: SourceColumn) -> str:
    """The types to declare instead, for a message."""
    fitting = [type_ for type_ in ColumnType if type_ is not ColumnType.STRING and holds(source, type_) != Holds.NEVER]
    return " or ".join(fitting) or "STRING"


def _lacking(source: SourceColumn, type_: ColumnType) -> str:
    """What of a source type a BigQuery type lacks, for a message."""
    match type_:
        case ColumnType.DATE | ColumnType.TIMESTAMP | ColumnType.DATETIME:
            return "infinity, years before 1 and after 9999"
        case ColumnType.TIME:
            return "24:00:00"
    digits = numeric_digits(source.modifier)
    return "NaN" if digits is not None and digits.fit(ROOM[type_]) else "NaN, infinity, more digits"
