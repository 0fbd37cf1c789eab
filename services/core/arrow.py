"""Columns as Arrow: the one type of each BigQuery type, and the exact way to it."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from services.core.errors import ConfigurationError, DataError
from services.core.manifest import ManifestColumn
from services.core.tables import EXTRACTED_AT, ColumnType

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    ColumnType.STRING: pa.string(),
    ColumnType.INT64: pa.int64(),
    ColumnType.NUMERIC: pa.decimal128(38, 9),
    ColumnType.BIGNUMERIC: pa.decimal256(76, 38),
    ColumnType.FLOAT64: pa.float64(),
    ColumnType.BOOL: pa.bool_(),
    ColumnType.DATE: pa.date32(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    ColumnType.DATETIME: pa.timestamp("us"),
    ColumnType.TIME: pa.time64("us"),
    ColumnType.BYTES: pa.binary(),
}
"""Arrow type of each BigQuery type (https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = datetime(1, 1, 1, tzinfo=UTC) - _EPOCH
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH
_INSTANTS = (_FIRST // _MICROSECOND, _LAST // _MICROSECOND)

# What the engine gives for a value outside these (infinity, years before 1 and after 9999, 24:00:00) is outside them
# too, even where its own type overflows: measured with PostgreSQL's first and last values (docs/types.md).
_RANGES: dict[ColumnType, tuple[pa.DataType, int, int]] = {
    ColumnType.DATE: (
        pa.int32(),
        (date(1, 1, 1) - date(1970, 1, 1)).days,
        (date(9999, 12, 31) - date(1970, 1, 1)).days,
    ),
    ColumnType.TIMESTAMP: (pa.int64(), *_INSTANTS),
    ColumnType.DATETIME: (pa.int64(), *_INSTANTS),
    ColumnType.TIME: (pa.int64(), 0, 86_400_000_000 - 1),
}


def arrow_schema(columns: list[ManifestColumn]) -> pa.Schema:
    """Schema of Parquet parts: these columns, then the time at which the row was read."""
    fields = [pa.field(c.name, ARROW_TYPES[c.type], nullable=not c.required) for c in columns]
    return pa.schema([*fields, pa.field(EXTRACTED_AT.name, ARROW_TYPES[EXTRACTED_AT.type], nullable=False)])


def _in_range(array: pa.Array, column: ManifestColumn, table: str) -> None:
    """Raise DataError for a date or time that the column's type cannot hold."""
    integers, least, most = _RANGES[column.type]
    extremes = pc.min_max(array.view(integers))
    lowest, highest = extremes["min"].as_py(), extremes["max"].as_py()
    if lowest is not None and (lowest < least or highest > most):
        raise DataError(
            "value_does_not_fit",
            f"column {column.name} has a value that {column.type} cannot hold: infinity, 24:00:00, or a year before 1 "
            "or after 9999; correct it, or choose another on_unrepresentable in tables.yaml",
            table=table,
            column=column.name,
        )


def _whole_digits(decimal: pa.DataType) -> int:
    return int(decimal.precision - decimal.scale)


def convertible(arrived: pa.DataType, to: ColumnType) -> bool:
    """Whether a cast from an Arrow type gives every value of a BigQuery type exactly, or fails.

    Arrow casts decimals and texts that are too large for a decimal into other numbers, without an error: only decimals
    with no more digits before the point are taken, and no text.
    """
    target, types = ARROW_TYPES[to], pa.types
    if types.is_dictionary(arrived):
        return bool(types.is_string(target)) and convertible(arrived.value_type, to)
    if types.is_decimal(target):
        return bool(types.is_integer(arrived)) or (
            bool(types.is_decimal(arrived)) and _whole_digits(arrived) <= _whole_digits(target)
        )
    if types.is_timestamp(target):
        return bool(types.is_timestamp(arrived)) and (arrived.tz is None) == (target.tz is None)
    kinds = (
        (types.is_string, (types.is_string, types.is_large_string, types.is_string_view)),
        (types.is_binary, (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)),
        (types.is_integer, (types.is_integer,)),
        (types.is_floating, (types.is_floating,)),
        (types.is_boolean, (types.is_boolean,)),
        (types.is_date, (types.is_date32,)),
        (types.is_time, (types.is_time,)),
    )
    return any(is_target(target) and any(fits(arrived) for fits in takes) for is_target, takes in kinds)


def _convert(array: pa.Array, column: ManifestColumn, table: str) -> pa.Array:
    """Bring a column to its declared type, exactly.

    Raises:
        DataError: a value does not fit.
        ConfigurationError: what was read is not what was asked for; a mistake in this program.
    """
    to = ARROW_TYPES[column.type]
    # PostgreSQL has checked the values of BIGNUMERIC, which comes as text: the engine has no such type.
    text = pa.types.is_string(array.type) and column.type is ColumnType.BIGNUMERIC
    if not (text or convertible(array.type, column.type)):
        raise ConfigurationError(
            f"table {table}, column {column.name}: arrived as {array.type}, which {column.type} cannot take exactly"
        )
    try:
        return array.cast(to)
    except pa.ArrowInvalid:
        # Arrow's own words quote the value.
        raise DataError(
            "value_does_not_fit",
            f"column {column.name} has a value that {column.type} cannot hold exactly, of type {array.type}",
            table=table,
            column=column.name,
        ) from None


def conform(batch: pa.RecordBatch, columns: list[ManifestColumn], table: str, read_at: datetime) -> pa.RecordBatch:
    """Bring a batch to the declared types and add the time of reading; nothing is rounded, cut or nulled.

    Args:
        batch: the columns, in order; more of them are left out.
        columns: what they have to become.
        table: for errors.
        read_at: value of ``_extracted_at``.

    Raises:
        DataError: names the column whose value does not fit, or is null where it must not be.
    """
    schema = arrow_schema(columns)
    arrays = []
    for index, column in enumerate(columns):
        array = batch.column(index)
        if column.required and array.null_count:
            raise DataError(
                "null_in_required_column",
                f"{array.null_count} null(s) in column {column.name}, declared 'required: true'",
                table=table,
                column=column.name,
            )
        if array.type != schema.field(index).type:
            array = _convert(array, column, table)
        if column.type in _RANGES:
            _in_range(array, column, table)
        arrays.append(array)
    stamp = pa.scalar(read_at, ARROW_TYPES[EXTRACTED_AT.type])
    return pa.RecordBatch.from_arrays([*arrays, pa.repeat(stamp, batch.num_rows)], schema=schema)
