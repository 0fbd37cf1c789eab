"""Whether what landed in Parquet is what the source holds: row by row, column by column, to the last bit.

The source's side is PostgreSQL's own text of each value, and for dates and times what PostgreSQL counts (days or
microseconds since 1970), so that no library stands between a value and what it is compared with. Where both sides have
the same text, they are the same; every other pair is looked at one by one.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

COUNTED = {"date", "timestamp without time zone", "timestamp with time zone", "time without time zone"}


@dataclass(frozen=True)
class SourceColumn:
    """A column as the source has it."""

    name: str
    type: str
    """As ``format_type`` writes it, without a modifier: ``numeric``, ``timestamp with time zone``, ``integer[]``."""
    printed: pa.ChunkedArray
    """PostgreSQL's text of every value, in UTC."""
    other: pa.ChunkedArray
    """A second way to write it: counts of dates and times, arrays as JSON, intervals as ISO 8601; else null."""


@dataclass(frozen=True)
class Source:
    """A table as the source has it, in the order of its key."""

    key: str
    columns: Mapping[str, SourceColumn]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.columns[self.key].printed)


@dataclass(frozen=True)
class Finding:
    """What became of a column."""

    column: str
    landed: str
    """Arrow's type."""
    rows: int
    changed: int = 0
    nulled: int = 0
    """Values that landed as null."""
    made_up: int = 0
    """Nulls that landed as a value."""
    example: str = ""
    natural: bool = True
    """Whether it landed as the type that Parquet has for it."""
    aside: int = 0
    """Values that landed as text in the companion column."""
    spread: tuple[str, ...] = ()
    """Columns of longer names that landed instead of it; their values are not compared."""

    @property
    def exact(self) -> bool:
        """Whether no value is lost or changed."""
        return not (self.changed or self.nulled or self.made_up or self.spread)

    def __str__(self) -> str:
        if self.spread:
            return f"in other columns: {', '.join(self.spread)}"
        if self.exact:
            return ", ".join(
                [
                    "equal",
                    *([] if self.natural else [f"as {self.landed}"]),
                    *([f"{self.aside:,} of {self.rows:,} in a column for texts"] if self.aside else []),
                ]
            )
        counts = {"changed": self.changed, "null": self.nulled, "made up": self.made_up}
        said = ", ".join(f"{count:,} of {self.rows:,} {what}" for what, count in counts.items() if count)
        return said + (f" ({self.example})" if self.example else "") + ("" if self.natural else f", as {self.landed}")


@dataclass(frozen=True)
class Difference:
    """Rows that are missing, or that the source does not have."""

    missing: int
    unknown: int

    def __str__(self) -> str:
        return f"{self.missing:,} rows missing, {self.unknown:,} rows that the source does not have"


def compare(source: Source, landed: pa.Table, companions: str | None = None) -> list[Finding] | Difference:
    """Compare a table with what landed of it.

    Args:
        source: what it holds.
        landed: what arrived, in any order; columns that the source does not have are not looked at.
        companions: ending of the columns that hold, as text, what the column itself cannot.

    Returns:
        A finding for each column, or how the rows differ.
    """
    if source.key not in landed.column_names:
        return Difference(source.rows, landed.num_rows)
    key = _shown(plain(landed[source.key]))
    landed = landed.take(pc.sort_indices(key))
    expected, arrived = source.columns[source.key].printed, pc.take(key, pc.sort_indices(key))
    if not expected.equals(pa.chunked_array(arrived.chunks, pa.string())):
        return _difference(expected.to_pylist(), arrived.to_pylist())
    return [_column(column, landed, companions) for column in source.columns.values()]


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without Arrow's extension types and dictionaries, which are another way to say the same."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def _difference(expected: list[str], arrived: list[str]) -> Difference:
    left = list(arrived)
    have: dict[str, int] = {}
    for key in left:
        have[key] = have.get(key, 0) + 1
    missing = 0
    for key in expected:
        if have.get(key, 0):
            have[key] -= 1
        else:
            missing += 1
    return Difference(missing, sum(have.values()))


def _column(column: SourceColumn, landed: pa.Table, companions: str | None) -> Finding:
    finding = Finding(column.name, "nothing", len(column.printed))
    if column.name not in landed.column_names:
        longer = tuple(name for name in landed.column_names if name.startswith(column.name + "_"))
        return replace(finding, nulled=finding.rows - column.printed.null_count, natural=False, spread=longer)
    values = plain(landed[column.name])
    finding = replace(finding, landed=str(values.type), natural=is_natural(column.type, values.type))
    texts = (
        plain(landed[column.name + companions])
        if companions and column.name + companions in landed.column_names
        else None
    )
    shown = _shown(values)
    if texts is not None:
        shown = pc.coalesce(shown, texts)
        finding = replace(finding, aside=len(texts) - texts.null_count)
    target = column.other if column.type in COUNTED and _counts(values.type) is not None else column.printed
    same = pc.fill_null(pc.equal(shown, target), False)
    both_null = pc.and_(pc.is_null(shown), pc.is_null(column.printed))
    unlike = pc.indices_nonzero(pc.invert(pc.or_(same, both_null))).to_pylist()
    for row in unlike:
        printed, other = column.printed[row].as_py(), column.other[row].as_py()
        if texts is not None and texts[row].is_valid:
            value: Any = texts[row].as_py()
        elif _counts(values.type) is not None:
            value = shown[row].as_py()
        else:
            value = _python(values[row])
        if value is None:
            finding = replace(
                finding, nulled=finding.nulled + 1, example=finding.example or f"{_short(printed)} → null"
            )
        elif printed is None:
            finding = replace(
                finding, made_up=finding.made_up + 1, example=finding.example or f"null → {_short(str(value))}"
            )
        elif not same_value(column.type, printed, other, value):
            example = finding.example or f"{_short(printed)} → {_short(_written(value, values.type))}"
            finding = replace(finding, changed=finding.changed + 1, example=example)
    return finding


def _counts(type_: pa.DataType) -> int | None:
    """Units a second, or None if the type is no date or time."""
    if pa.types.is_date(type_):
        return 1
    if pa.types.is_timestamp(type_) or pa.types.is_time(type_):
        return {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[type_.unit]
    return None


def _shown(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as texts: dates as days and times as microseconds since 1970, what has no text as null-safe blanks."""
    units = _counts(values.type)
    if units is not None:
        numbers = _numbers(values)
        if pa.types.is_date64(values.type):
            numbers = pc.divide(numbers, 86_400_000)
        if pa.types.is_timestamp(values.type) or pa.types.is_time(values.type):
            # An overflow is a text that equals nothing, as it should.
            numbers = pc.divide(numbers, 1_000) if units == 1_000_000_000 else pc.multiply(numbers, 1_000_000 // units)
        return numbers.cast(pa.string())
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return values.cast(pa.string())
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type) or pa.types.is_decimal(values.type):
        return values.cast(pa.string())
    # The text of an empty string equals no value of these types; a null stays one.
    return pa.chunked_array([pc.if_else(pc.is_null(chunk), None, "") for chunk in values.chunks], pa.string())


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    width = pa.int32() if values.type.bit_width == 32 else pa.int64()
    return pa.chunked_array([chunk.view(width) for chunk in values.chunks], width).cast(pa.int64())


def _python(value: pa.Scalar) -> Any:
    """A value as Python has it; where it has none, Arrow's words."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return str(value)


def same_value(type_: str, printed: str, other: str | None, value: Any) -> bool:
    """Whether a value that landed is the one that PostgreSQL prints so.

    Args:
        type_: the source's type.
        printed: PostgreSQL's text.
        other: its second text, if the type has one.
        value: what landed, as Python has it.
    """
    if isinstance(value, str) and value in (printed, other):
        return True
    if type_.endswith("[]"):
        return _same_json(other, value, digits_as_text=isinstance(value, str))
    match type_:
        case "numeric" | "bigint" | "integer" | "smallint":
            return _same_number(printed, value)
        case "double precision" | "real":
            return _same_float(printed, value, single=type_ == "real")
        case "bytea":
            return isinstance(value, bytes) and "\\x" + value.hex() == printed
        case "uuid":
            return str(UUID(bytes=value) if isinstance(value, bytes) else value).lower() == printed
        case "interval":
            return isinstance(value, str) and _plain_interval(value) == other
        case "json" | "jsonb":
            return _same_json(printed, value)
        case "timestamp with time zone" | "timestamp without time zone":
            # As text it may have a T, and another way to write UTC.
            return isinstance(value, str) and _plain_time(value) == _plain_time(printed)
    return False


def _plain_time(text: str) -> str:
    return re.sub(r"(Z|\+00(:?00)?)$", "", text.replace("T", " ", 1))


def _plain_interval(text: str) -> str:
    return re.sub(r"(\.\d*?)0+S$", r"\1S", text).replace(".S", "S")


def _same_number(printed: str, value: Any) -> bool:
    try:
        found, expected = Decimal(value), Decimal(printed)
    except (InvalidOperation, TypeError, ValueError):
        return False
    return found == expected or (found.is_nan() and expected.is_nan())


def _same_float(printed: str, value: Any, *, single: bool) -> bool:
    if not isinstance(value, float | str):
        return False
    expected, found = float(printed), float(value)
    if single:
        expected, found = (struct.unpack("f", struct.pack("f", each))[0] for each in (expected, found))
    return (math.isnan(expected) and math.isnan(found)) or struct.pack("d", expected) == struct.pack("d", found)


def _same_json(text: str | None, value: Any, *, digits_as_text: bool = False) -> bool:
    if text is None:
        return False
    try:
        found = json.loads(value, parse_float=Decimal, parse_int=Decimal) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return False
    expected = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    if digits_as_text and isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        # An array that landed as a text is a text anyhow: its numbers may be texts in it.
        found = [
            Decimal(y) if isinstance(x, Decimal) and isinstance(y, str) else y
            for x, y in zip(expected, found, strict=True)
        ]
    return _alike(expected, found)


def _alike(expected: Any, found: Any) -> bool:
    """Equal, and of one type: in Python, true is 1."""
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(_alike, expected, found))
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_alike(expected[k], found[k]) for k in expected)
        )
    if isinstance(expected, Decimal):
        return isinstance(found, Decimal | int | float) and not isinstance(found, bool) and Decimal(found) == expected
    return type(found) is type(expected) and found == expected


def _written(value: Any, type_: pa.DataType) -> str:
    """A value for people; dates and times come as counts."""
    return f"{value} ({type_})" if _counts(type_) is not None else str(value)


def _short(text: str) -> str:
    """A text that fits into a line; what cannot be seen, as Python writes it."""
    seen = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:60])
    return seen if len(text) <= 60 else seen + "…"


def is_natural(type_: str, landed: pa.DataType) -> bool:
    """Whether a column landed as the type that Parquet has for it; what Parquet has none for is a text."""
    if type_.endswith("[]"):
        return bool(pa.types.is_list(landed) or pa.types.is_large_list(landed))
    match type_:
        case "smallint" | "integer" | "bigint":
            return bool(pa.types.is_integer(landed))
        case "numeric":
            return bool(pa.types.is_decimal(landed))
        case "real" | "double precision":
            return bool(pa.types.is_floating(landed))
        case "boolean":
            return bool(pa.types.is_boolean(landed))
        case "bytea":
            return bool(pa.types.is_binary(landed) or pa.types.is_large_binary(landed))
        case "date":
            return bool(pa.types.is_date(landed))
        case "time without time zone":
            return bool(pa.types.is_time(landed))
        case "timestamp with time zone":
            return bool(pa.types.is_timestamp(landed) and landed.tz in ("UTC", "+00:00"))
        case "timestamp without time zone":
            return bool(pa.types.is_timestamp(landed) and landed.tz is None)
        case "uuid":
            return bool(
                pa.types.is_string(landed) or (pa.types.is_fixed_size_binary(landed) and landed.byte_width == 16)
            )
    return bool(pa.types.is_string(landed) or pa.types.is_large_string(landed))
