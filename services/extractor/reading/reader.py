"""The big read: SELECTs streamed from PostgreSQL as Arrow batches by DuckDB's postgres extension."""

import importlib.resources
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from services.core.batch import ManifestColumn
from services.core.errors import ConfigurationError, DataError, TransientError
from services.core.tables import EXTRACTED_AT, ColumnType
from services.extractor.planning.plan import LEAST_ROWS, Plan
from services.extractor.source.session import Snapshot
from services.extractor.source.sql import text_literal

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


def _convert(array: pa.Array, column: ManifestColumn, table: str) -> pa.Array:
    """Bring a column to its declared type, exactly.

    Raises:
        DataError: a value does not fit.
        ConfigurationError: the engine read something else than was asked for; a mistake in this program.
    """
    to = ARROW_TYPES[column.type]
    arrived = array.type
    # Arrow casts what is too large for a decimal into another number, without an error: PostgreSQL has checked the
    # values, and here is checked that it was asked to. Only BIGNUMERIC comes as text.
    exact = (
        (pa.types.is_decimal(arrived) and pa.types.is_decimal(to) and _whole_digits(arrived) <= _whole_digits(to))
        or (pa.types.is_integer(arrived) and (pa.types.is_decimal(to) or pa.types.is_integer(to)))
        or (pa.types.is_string(arrived) and column.type is ColumnType.BIGNUMERIC)
    )
    if not exact:
        raise ConfigurationError(
            f"table {table}, column {column.name}: arrived as {arrived}, which {column.type} cannot take exactly"
        )
    try:
        return array.cast(to)
    except pa.ArrowInvalid as error:
        raise DataError(
            "value_does_not_fit",
            f"column {column.name} has a value that {column.type} cannot hold: {error}",
            table=table,
            column=column.name,
        ) from error


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
    stamp = pa.scalar(read_at, schema.field(EXTRACTED_AT.name).type)
    return pa.RecordBatch.from_arrays([*arrays, pa.repeat(stamp, batch.num_rows)], schema=schema)


def _load_extension(connection: duckdb.DuckDBPyConnection) -> None:
    """Load the signed extension straight from its package: no home folder, no copy, no download."""
    folder = importlib.resources.files("duckdb_extension_postgres_scanner") / "extensions" / f"v{duckdb.__version__}"
    with importlib.resources.as_file(folder / "postgres_scanner.duckdb_extension") as path:
        connection.execute(f"LOAD {text_literal(str(path))}")


class Engine:
    """The engine of this process: one instance, of which every reader has its own connection.

    Loading it takes a tenth of a second, so that ``start`` may run beside other work.
    """

    def __init__(self, info: str) -> None:
        """Prepare; nothing is loaded, and nobody is asked.

        Args:
            info: libpq connection string; the environment has the password and the sessions' settings.
        """
        self._info = info
        self._lock = threading.Lock()
        self._instance: duckdb.DuckDBPyConnection | None = None
        self._attached = False

    def start(self) -> None:
        """Load the engine and its extension; the source is not asked yet."""
        with self._lock:
            self._started()

    def _started(self) -> duckdb.DuckDBPyConnection:
        if self._instance is None:
            instance = duckdb.connect(":memory:", config={"memory_limit": "256MB"})
            _load_extension(instance)
            instance.execute("SET GLOBAL TimeZone = 'UTC'")
            # A new connection for every statement: none that the server has dropped meanwhile is used again.
            instance.execute("SET GLOBAL pg_pool_max_connections = 0")
            self._instance = instance
        return self._instance

    def connection(self) -> duckdb.DuckDBPyConnection:
        """A connection of the engine, for one thread.

        Raises:
            duckdb.Error: the source cannot be reached.
        """
        with self._lock:
            instance = self._started()
            if not self._attached:
                instance.execute(f"ATTACH {text_literal(self._info)} AS source (TYPE postgres, READ_ONLY)")
                self._attached = True
            return instance.cursor()

    def close(self) -> None:
        """End it."""
        with self._lock:
            if self._instance is not None:
                self._instance.close()
                self._instance = None
                self._attached = False


class Reader:
    """One connection of the engine; not for several threads at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: duckdb.DuckDBPyConnection | None = None

    def _connected(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._engine.connection()
        return self._connection

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            # If the source is gone, rolling back fails; where close() has to do it, the engine aborts the process.
            with suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            connection.close()

    def read(
        self, plan: Plan, statement: str, snapshot: Snapshot | None, read_at: datetime, counts: Counter[str]
    ) -> Iterator[pa.RecordBatch]:
        """Stream a statement's rows as batches of the plan's columns, in memory that does not grow with the table.

        Args:
            plan: the columns.
            statement: what is read.
            snapshot: the snapshot to read under; None for one of its own.
            read_at: value of ``_extracted_at``.
            counts: per column, the values that could not be held; added to.

        Raises:
            DataError: a value does not fit its column.
            TransientError: the source broke off; this reader connects again at its next use.
        """
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            if snapshot is not None:
                take = f"SET TRANSACTION SNAPSHOT {text_literal(snapshot.name)}"
                connection.execute("CALL postgres_execute('source', ?)", [take])
            # Rows that wait to be taken, without their texts: the default, 1 MB, is 40,000 rows of any width.
            waiting = "1KB" if plan.batch_rows <= LEAST_ROWS else "1MB"
            connection.execute(f"SET streaming_buffer_size = '{waiting}'")
            result = connection.execute("SELECT * FROM postgres_query('source', ?)", [statement])
            width = len(plan.columns)
            for batch in result.to_arrow_reader(plan.batch_rows):
                if not batch.num_rows:
                    continue
                for offset, name in enumerate(plan.flags):
                    counts[name] += pc.sum(batch.column(width + offset)).as_py() or 0
                yield conform(batch, plan.columns, plan.table, read_at)
            connection.execute("COMMIT")
        except duckdb.Error as error:
            self.close()
            raise told_apart(error, plan.table) from None
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, SystemExit | KeyboardInterrupt):
                raise error.__cause__ from None  # the engine makes a RuntimeError of a signal's exception
            raise


def told_apart(error: duckdb.Error, table: str) -> Exception:
    """Say whether a source error is about a value or may pass; DuckDB has one class for both."""
    message = " ".join(str(error).split())  # the statement in it may have several lines, and the reason follows
    # In the statement, which may be in the message too, the apostrophe is doubled.
    if refused := re.search(r"column (\S+): (BigQuery's \w+ has no [^\"]*)", message):
        text = f"column {refused[1]}: {refused[2]}; correct it, or choose another on_unrepresentable in tables.yaml"
        return DataError("value_does_not_fit", text, table=table, column=refused[1])
    if "invalid input syntax" in message or "out of range" in message or "invalid byte sequence" in message:
        return DataError("value_does_not_fit", message, table=table)
    lost_session = "SET TRANSACTION SNAPSHOT" in message  # whose snapshot does not exist any more
    if "permission denied" in message or ("does not exist" in message and not lost_session):
        return ConfigurationError(f"table {table}: the source refused the read: {message}")
    return TransientError(f"table {table}: the source broke off: {message}")
