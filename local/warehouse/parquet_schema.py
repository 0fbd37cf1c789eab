"""Whether a Parquet file may be loaded into declared columns, by BigQuery's rules.

BigQuery matches columns by name, ignoring case, and converts nothing but the width of integers, floats and decimals
(https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_conversions).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

Field = Mapping[str, Any]
"""A column as BigQuery's REST API writes it: ``name``, ``type``, ``mode``, ``fields``."""

BIGNUMERIC = pa.decimal128(38, 18)
"""BIGNUMERIC in the local warehouse; BigQuery's has 76 digits, 38 of them after the point."""


class ParquetSchemaError(Exception):
    """The file does not fit the declared columns; the message says which one, and how."""


def _is_string(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow))


def _is_bytes(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow) or pa.types.is_fixed_size_binary(arrow))


def _is_numeric(integer_digits: int, scale: int) -> Callable[[pa.DataType], bool]:
    def fits(arrow: pa.DataType) -> bool:
        if not pa.types.is_decimal(arrow):
            return False
        return bool(arrow.scale <= scale and arrow.precision - arrow.scale <= integer_digits)

    return fits


def _is_timestamp(*, utc: bool) -> Callable[[pa.DataType], bool]:
    def fits(arrow: pa.DataType) -> bool:
        return bool(pa.types.is_timestamp(arrow)) and arrow.unit in ("ms", "us") and (arrow.tz is not None) is utc

    return fits


_FITS: dict[str, Callable[[pa.DataType], bool]] = {
    "STRING": _is_string,
    "BYTES": _is_bytes,
    "INTEGER": pa.types.is_integer,
    "FLOAT": pa.types.is_floating,
    "BOOLEAN": pa.types.is_boolean,
    "NUMERIC": _is_numeric(integer_digits=29, scale=9),
    "BIGNUMERIC": _is_numeric(integer_digits=38, scale=38),
    "DATE": pa.types.is_date,
    "TIME": pa.types.is_time,
    "TIMESTAMP": _is_timestamp(utc=True),
    "DATETIME": _is_timestamp(utc=False),
}

_LEGACY_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}


def check_schema(file: pa.Schema, fields: Iterable[Field], *, ignore_unknown: bool = False) -> list[str]:
    """Return the declared columns that the file has, in the declared order.

    Args:
        file: the file's Arrow schema.
        fields: the declared columns.
        ignore_unknown: let the file have other columns, as the job's ``ignoreUnknownValues`` does.

    Raises:
        ParquetSchemaError: a column of the file is not declared, a REQUIRED one is missing, or a type does not fit.
    """
    in_file = {field.name.casefold(): field for field in file}
    declared = {field["name"].casefold(): field for field in fields}
    if not ignore_unknown:
        for key in in_file.keys() - declared.keys():
            raise ParquetSchemaError(f"Provided Schema does not match. Cannot add fields (field: {in_file[key].name})")
    for key, field in declared.items():
        if key in in_file:
            _check_type(in_file[key].type, field)
        elif field.get("mode") == "REQUIRED":
            raise ParquetSchemaError(f"Required field {field['name']} is missing in the file")
    return [field["name"] for key, field in declared.items() if key in in_file]


def required_columns(fields: Iterable[Field]) -> list[str]:
    """Return the names of the columns that may not hold nulls."""
    return [field["name"] for field in fields if field.get("mode") == "REQUIRED"]


def bignumeric_columns(fields: Iterable[Field]) -> list[str]:
    """Return the names of the BIGNUMERIC columns.

    Raises:
        ParquetSchemaError: a BIGNUMERIC is repeated or inside a RECORD, which the local warehouse does not load.
    """
    names = []
    for field in fields:
        inside = field["type"].upper() in ("RECORD", "STRUCT") and bignumeric_columns(field.get("fields", []))
        bignumeric = field["type"].upper() == "BIGNUMERIC"
        if inside or (bignumeric and field.get("mode") == "REPEATED"):
            raise ParquetSchemaError(f"The local warehouse loads no BIGNUMERIC inside of column '{field['name']}'")
        if bignumeric:
            names.append(field["name"])
    return names


def narrowed(batch: pa.RecordBatch, names: Iterable[str]) -> pa.Table:
    """Return the rows with these decimals as the local warehouse holds them (docs/emulator.md).

    Raises:
        ParquetSchemaError: a value has more digits.
    """
    held = {name.casefold() for name in names}
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            columns.append(column.cast(BIGNUMERIC) if field.name.casefold() in held else column)
        except pa.ArrowInvalid:  # its words quote the value
            room = f"{BIGNUMERIC.precision - BIGNUMERIC.scale} digits before the point and {BIGNUMERIC.scale} after it"
            raise ParquetSchemaError(
                f"Column '{field.name}' has a BIGNUMERIC of more digits than the local warehouse holds: {room}"
            ) from None
    return pa.table(columns, names=batch.schema.names)


def _check_type(arrow: pa.DataType, field: Field) -> None:
    declared = _LEGACY_NAMES.get(field["type"].upper(), field["type"].upper())
    repeated = field.get("mode") == "REPEATED"
    is_list = pa.types.is_list(arrow) or pa.types.is_large_list(arrow)
    element = arrow.value_type if repeated and is_list else arrow
    if repeated is not is_list:
        fits = False
    elif declared == "RECORD":
        fits = pa.types.is_struct(element)
    else:
        fits = declared in _FITS and _FITS[declared](element)
    if not fits:
        kind = f"repeated {declared}" if repeated else declared
        raise ParquetSchemaError(f"Parquet column '{field['name']}' has type {arrow} which does not match {kind}")
    if declared == "RECORD":
        check_schema(pa.schema(list(element)), field.get("fields", []))
