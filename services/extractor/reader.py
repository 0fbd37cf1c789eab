"""The big read: one SELECT streamed from PostgreSQL as Arrow batches by DuckDB's postgres extension."""

import importlib.resources
from collections.abc import Iterator

import duckdb
import pyarrow as pa

from services.core.errors import ConfigurationError, DataError, TransientError
from services.core.tables import Column, ColumnType, Table
from services.extractor.planning import Statement

ROW_GROUP_ROWS = 122_880
"""Rows per Arrow batch and Parquet row group: DuckDB's own row group size."""

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


def arrow_schema(table: Table) -> pa.Schema:
    """Schema of a table's Parquet parts, in the declared order."""
    return pa.schema([pa.field(c.name, ARROW_TYPES[c.type], nullable=not c.required) for c in table.columns])


def _check_conversion(arrived: pa.DataType, column: Column, table: Table) -> None:
    """Refuse conversions that can change a value without an error.

    Raises:
        ConfigurationError: the engine read something else than the statement asked for; a mistake in this program.
    """
    exact = pa.types.is_decimal(arrived) or pa.types.is_integer(arrived) or pa.types.is_string(arrived)
    if not exact:
        raise ConfigurationError(
            f"table {table.name}, column {column.name}: arrived as {arrived}, which {column.type} cannot take exactly"
        )


def conform(batch: pa.RecordBatch, table: Table, schema: pa.Schema) -> pa.RecordBatch:
    """Bring a batch to the declared types; nothing is rounded, cut or nulled.

    Raises:
        DataError: names the column whose value does not fit, or is null where it must not be.
    """
    arrays = []
    for index, column in enumerate(table.columns):
        array = batch.column(index)
        if column.required and array.null_count:
            raise DataError(
                "null_in_required_column",
                f"{array.null_count} null(s) in column {column.name}, declared 'required: true'",
                table=table.name,
                column=column.name,
            )
        if array.type != schema.field(index).type:
            _check_conversion(array.type, column, table)
            try:
                array = array.cast(schema.field(index).type)
            except pa.ArrowInvalid as error:
                raise DataError(
                    "value_does_not_fit",
                    f"column {column.name} has a value that {column.type} cannot hold: {error}",
                    table=table.name,
                    column=column.name,
                ) from error
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _load_extension(connection: duckdb.DuckDBPyConnection) -> None:
    """Load the signed extension straight from its package: no home folder, no copy, no download."""
    folder = importlib.resources.files("duckdb_extension_postgres_scanner") / "extensions" / f"v{duckdb.__version__}"
    with importlib.resources.as_file(folder / "postgres_scanner.duckdb_extension") as path:
        connection.execute(f"LOAD '{path}'")


def read(info: str, table: Table, statement: Statement) -> Iterator[pa.RecordBatch]:
    """Stream a statement's rows as batches of the declared schema, in memory that does not grow with the table.

    Raises:
        DataError: a value does not fit its column.
        TransientError: the source broke off.
    """
    schema = arrow_schema(table)
    with duckdb.connect(":memory:") as connection:
        _load_extension(connection)
        connection.execute("SET threads = 2")
        connection.execute("SET TimeZone = 'UTC'")
        escaped = info.replace("'", "''")
        try:
            connection.execute(f"ATTACH '{escaped}' AS source (TYPE postgres, READ_ONLY)")
            result = connection.execute("SELECT * FROM postgres_query('source', ?)", [statement.text])
            for batch in result.to_arrow_reader(ROW_GROUP_ROWS):
                if batch.num_rows:
                    yield conform(batch, table, schema)
        except duckdb.Error as error:
            raise _told_apart(error, table) from None


def _told_apart(error: duckdb.Error, table: Table) -> Exception:
    """Say whether a source error is about a value or may pass; DuckDB has one class for both."""
    message = str(error).split("\n")[0]
    if "invalid input syntax" in message or "out of range" in message:
        column = next((c.name for c in table.columns if f"column {c.name}:" in message), None)
        return DataError("value_does_not_fit", message, table=table.name, column=column)
    return TransientError(f"table {table.name}: the source broke off: {message}")
