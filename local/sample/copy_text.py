r"""Arrow rows in PostgreSQL's COPY text format, exactly, a column at a time.

Text, not CSV: there a null and an empty text differ only by quotes, and before PostgreSQL 18 a line ``\.`` inside a
quoted value ends the data. Here a null is ``\N`` and every special character is escaped.
"""

import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from local.sample.arrow_types import UnsupportedType, element_type, is_nested, to_microseconds

_TEXT = pa.large_string()
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))


def copy_text(batch: pa.RecordBatch) -> memoryview:
    """The rows of a batch for COPY ... FROM STDIN with its default options, columns in the batch's order.

    Raises:
        UnsupportedType: a column's type has no counterpart in PostgreSQL.
        ValueError: a value cannot be written exactly, or not at all.
    """
    if batch.num_rows == 0:
        return memoryview(b"")
    columns = [_escaped(column) for column in batch.columns]
    joined = pc.binary_join_element_wise(
        *columns, pa.scalar("\t", _TEXT), null_handling="replace", null_replacement="\\N"
    )
    lines = pc.binary_join_element_wise(joined, pa.scalar("", _TEXT), pa.scalar("\n", _TEXT))
    _, offsets, data = lines.buffers()
    end = int(np.frombuffer(offsets, np.int64, lines.offset + len(lines) + 1)[-1])
    return memoryview(data)[:end]


def as_text(values: pa.Array) -> pa.Array:
    """The values as PostgreSQL's input functions read them, not yet escaped for COPY.

    Raises:
        UnsupportedType: the type has no counterpart in PostgreSQL.
        ValueError: a value cannot be written exactly.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return as_text(values.dictionary_decode())
    if isinstance(kind, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], _TEXT)
    if isinstance(kind, pa.BaseExtensionType):
        return as_text(values.storage)
    if is_nested(kind):
        element = element_type(kind)
        return _json_texts(values) if element is None else _array_literals(values)
    if pa.types.is_null(kind):
        return pa.nulls(len(values), _TEXT)
    if _is_binary(kind):
        return pa.array([None if value is None else f"\\x{value.hex()}" for value in values.to_pylist()], _TEXT)
    texts = values.cast(to_microseconds(kind)).cast(_TEXT)
    if (pa.types.is_date(kind) or pa.types.is_timestamp(kind)) and pc.any(_outside_years(texts)).as_py():
        raise ValueError("a date before the year 1 or too far in the future")
    return texts


def json_text(value: object) -> str:
    """A JSON text for nested values: numbers with all their digits, dates and times in ISO 8601, bytes in hex.

    Raises:
        ValueError: JSON has no such number, or two keys of an object are the same.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"JSON has no number {value}")
            return repr(value)
        case Decimal():
            return format(value, "f")
        case str():
            return json.dumps(value, ensure_ascii=False)
        case bytes():
            return json.dumps(f"\\x{value.hex()}")
        case datetime() | date() | time():
            return json.dumps(value.isoformat())
        case UUID():
            return json.dumps(str(value))
        case list():
            return "[" + ", ".join(json_text(item) for item in value) + "]"
        case dict():
            keys = [_json_key(key) for key in value]
            if len(set(keys)) != len(keys):
                raise ValueError("two keys of a map have the same text")
            return (
                "{"
                + ", ".join(f"{json.dumps(k)}: {json_text(v)}" for k, v in zip(keys, value.values(), strict=True))
                + "}"
            )
    raise UnsupportedType(f"a value of {type(value).__name__} inside a nested column")


def _json_key(key: object) -> str:
    text = json_text(key)
    return str(json.loads(text)) if text.startswith('"') else text


def _escaped(values: pa.Array) -> pa.Array:
    texts = as_text(values)
    if _needs_no_escape(values.type):
        return texts
    for special, escape in _ESCAPES:
        if pc.any(pc.match_substring(texts, special)).as_py():
            texts = pc.replace_substring(texts, special, escape)
    return texts


def _needs_no_escape(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _outside_years(texts: pa.Array) -> pa.Array:
    """Arrow writes -0044-03-15 and <value out of range>; PostgreSQL would read a year and a time zone, or nothing."""
    return pc.match_substring_regex(texts, "^(-|<|0000-)")


def _array_literals(lists: pa.Array) -> pa.Array:
    lengths = pc.list_value_length(lists).to_pylist()
    quoted = _quoted(as_text(lists.flatten()))
    return pa.array(
        [None if n is None else "{" + ",".join(next(quoted) for _ in range(n)) + "}" for n in lengths], _TEXT
    )


def _quoted(texts: pa.Array) -> Iterator[str]:
    for text in texts.to_pylist():
        yield "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json_texts(values: pa.Array) -> pa.Array:
    plain = values.cast(to_microseconds(values.type))
    rows = plain.to_pylist(maps_as_pydicts="strict")
    return pa.array([None if row is None else json_text(row) for row in rows], _TEXT)
