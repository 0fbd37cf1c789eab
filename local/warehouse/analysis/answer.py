"""An answer's columns against those that Google's analyzer finds: given Google's types, or refused.

The emulator's types are DuckDB's, translated; so a value can be right and its type another. BigQuery's clients see the
type: dbt compares it with a contract, a client makes a decimal of it or a float.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pyarrow as pa

from local.googlesql.types import REST_NAMES, name_of

_ARROW: dict[str, pa.DataType] = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "NUMERIC": pa.decimal128(38, 9),
    "BOOL": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "DATETIME": pa.timestamp("us"),
    "STRING": pa.string(),
    "JSON": pa.string(),
}
_EXACT = {
    ("INT64", "NUMERIC"),
    ("INT64", "BIGNUMERIC"),
    ("INT64", "FLOAT64"),
    ("NUMERIC", "BIGNUMERIC"),
    ("BIGNUMERIC", "NUMERIC"),
    ("STRING", "JSON"),
    ("NUMERIC", "INT64"),
    ("DATETIME", "TIMESTAMP"),
}
"""Types that the emulator has where Google has the other, and whose values can be told exactly in it, or not at all."""


class OtherAnswer(Exception):
    """The emulator's answer has other columns than BigQuery's would have, and cannot be given them."""


@dataclass(frozen=True)
class Answer:
    """An answer with Google's columns."""

    rows: pa.Table
    schema: list[dict[str, Any]]
    """As the REST API writes it."""
    differences: list[str]
    """What the emulator had otherwise, each in a few words."""


def with_columns_of(fields: Sequence[dict[str, Any]], rows: pa.Table, schema: Sequence[dict[str, Any]]) -> Answer:
    """Give the emulator's answer the columns that Google's analyzer finds.

    Args:
        fields: Google's columns; what has no name has one that begins with ``$``.
        rows: the emulator's rows.
        schema: their columns.

    Raises:
        OtherAnswer: there are more columns or fewer, or a value cannot be told in Google's type.
    """
    if len(fields) != len(schema):
        raise OtherAnswer(f"BigQuery answers {len(fields)} columns, the local warehouse {len(schema)}")
    differences, columns, told = [], [], []
    nameless = count()
    for place, (field, entry) in enumerate(zip(fields, schema, strict=True)):
        expected, found = name_of(field), name_of(entry)
        column = rows.column(place)
        name = f"f{next(nameless)}_" if field["name"].startswith("$") else field["name"]
        if entry["name"] != name:
            differences.append(_other_name(field["name"], entry["name"]))
            entry = {**entry, "name": name}
        if expected != found:
            differences.append(f"{found} for {expected}")
            column = _converted(column, found, expected, name)
            entry = {**entry, "type": REST_NAMES.get(expected, expected)}
        columns.append(column)
        told.append(entry)
    if not differences:
        return Answer(rows, list(schema), [])
    return Answer(pa.table(columns, names=[entry["name"] for entry in told]), told, differences)


def _other_name(expected: str, found: str) -> str:
    if expected.startswith("$"):
        return "a column without a name"
    return "a name in another case" if expected.lower() == found.lower() else "another name"


def _converted(column: pa.ChunkedArray, found: str, expected: str, name: str) -> pa.ChunkedArray:
    if column.null_count == len(column) and expected in _ARROW:
        return pa.chunked_array([pa.nulls(len(column), _ARROW[expected])])
    if (found, expected) not in _EXACT:
        raise OtherAnswer(f"column {name}: BigQuery answers {expected}, the local warehouse {found}")
    if expected == "BIGNUMERIC":
        return column if pa.types.is_decimal(column.type) else column.cast(pa.decimal128(38, 0))
    try:
        return column.cast(_ARROW[expected], safe=True)
    except pa.ArrowInvalid as error:
        raise OtherAnswer(f"column {name}: a {found} is no {expected} of BigQuery: {error}") from error
