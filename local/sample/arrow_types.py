"""Arrow types and the PostgreSQL types that hold their values exactly."""

import re

import pyarrow as pa

JSON = "jsonb"

_SCALARS: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.uint64(): "numeric(20,0)",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.string_view(): "text",
    pa.null(): "text",
    pa.binary(): "bytea",
    pa.large_binary(): "bytea",
    pa.binary_view(): "bytea",
    pa.date32(): "date",
    pa.date64(): "date",
}
_INTEGERS = ("smallint", "integer", "bigint")
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")


class UnsupportedType(ValueError):
    """An Arrow type has no PostgreSQL type that holds its values exactly."""


def postgres_type(kind: pa.DataType) -> str:
    """The type of a column for values of an Arrow type, spelt as PostgreSQL's format_type spells it.

    Lists of plain values and of structs become arrays; structs, maps and lists of lists become jsonb.

    Raises:
        UnsupportedType: there is none.
    """
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, pa.UuidType):
        return "uuid"
    if pa.types.is_timestamp(kind):
        return "timestamp without time zone" if kind.tz is None else "timestamp with time zone"
    if pa.types.is_time(kind):
        return "time without time zone"
    if pa.types.is_decimal(kind):
        return f"numeric({max(kind.precision, kind.scale, kind.precision - kind.scale)},{max(kind.scale, 0)})"
    if pa.types.is_fixed_size_binary(kind):
        return "bytea"
    if pa.types.is_dictionary(kind):
        return postgres_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return postgres_type(kind.storage_type)
    if is_nested(kind):
        element = element_type(kind)
        if element is not None:
            return f"{postgres_type(element)}[]"
        for child in _children(kind):
            postgres_type(child)
        return JSON
    raise UnsupportedType(f"PostgreSQL has no type for Arrow's {kind}")


def element_type(kind: pa.DataType) -> pa.DataType | None:
    """What a list's elements are, when the list is to be a PostgreSQL array; None for what is to be jsonb."""
    if not is_list(kind):
        return None
    element = kind.value_type
    return None if is_list(element) or pa.types.is_map(element) else element


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of any layout that Parquet files come with."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_nested(kind: pa.DataType) -> bool:
    """Whether its values have parts: a list, a struct or a map."""
    return is_list(kind) or bool(pa.types.is_struct(kind) or pa.types.is_map(kind))


def to_microseconds(kind: pa.DataType) -> pa.DataType:
    """The same type with instants and times in microseconds UTC, which is what PostgreSQL keeps.

    Casting to it is checked: a nanosecond that does not fit is an error.
    """
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=None if kind.tz is None else "UTC")
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(to_microseconds(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(to_microseconds(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(to_microseconds(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(to_microseconds(kind.key_type), to_microseconds(kind.item_type))
    return kind


def fits(source: str, column: str) -> bool:
    """Whether a column takes every value of another PostgreSQL type as it is, or refuses it with an error.

    What would round, truncate or reinterpret a value without a word does not fit.
    """
    if source == column or (source, column) == ("text", "character varying"):
        return True
    if source.endswith("[]") and column.endswith("[]"):
        return fits(source[:-2], column[:-2])
    scale = 0 if source in _INTEGERS else _scale(source)
    if scale is None:
        return False
    if column in _INTEGERS:
        return scale == 0
    kept = _scale(column)
    return column == "numeric" or (kept is not None and kept >= scale)


def _scale(name: str) -> int | None:
    numeric = _NUMERIC.fullmatch(name)
    return int(numeric[2]) if numeric else None


def _children(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        if len(set(names)) != len(names):
            raise UnsupportedType(f"two fields of {kind} have the same name")
        return [field.type for field in kind]
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.value_type]
