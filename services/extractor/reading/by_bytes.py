"""Rows by bytes: ADBC's PostgreSQL driver, whose batches end at a number of bytes, however wide the rows are.

For wide rows it is as fast as DuckDB, or faster; narrow ones take it almost twice the CPU (docs/performance.md).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql
import pyarrow as pa

# The package's DB-API, its public face, imports pyarrow.dataset, and with it pandas where there is one.
from adbc_driver_manager._reader import AdbcRecordBatchReader

from services.core.arrow import ARROW_TYPES
from services.core.manifest import ManifestColumn
from services.core.tables import ColumnType
from services.extractor.reading.failure import EngineFailed

BATCH_BYTES = 4 * 1024 * 1024
"""A batch ends with the row that fills these."""

_BATCH_OPTION = adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value


class Adbc:
    """The driver, for a process; it asks the source once for its types."""

    def __init__(self, info: str) -> None:
        """Connect for the first time.

        Args:
            info: libpq connection string; the environment has the password and the sessions' settings.

        Raises:
            EngineFailed: the source cannot be reached.
        """
        with _told():
            self._database = adbc_driver_postgresql.connect(info)

    def session(self) -> "ByteSession":
        """A session, for one thread.

        Raises:
            EngineFailed: the source cannot be reached.
        """
        with _told():
            return ByteSession(adbc_driver_manager.AdbcConnection(self._database))

    def close(self) -> None:
        """End it; its sessions have ended."""
        self._database.close()


class ByteSession:
    """A session by ADBC."""

    def __init__(self, connection: adbc_driver_manager.AdbcConnection) -> None:
        self._connection = connection

    def begin(self, statements: Sequence[str]) -> None:
        """Begin a read-only REPEATABLE READ transaction by these statements."""
        self._run("; ".join(["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", *statements]))

    def _run(self, statements: str) -> None:
        with _told(), adbc_driver_manager.AdbcStatement(self._connection) as work:
            work.set_sql_query(statements)
            work.execute_update()

    def row(self, statement: str) -> tuple[Any, ...]:
        """The first row of a statement; empty when there is none."""
        with _told(), adbc_driver_manager.AdbcStatement(self._connection) as work:
            work.set_sql_query(statement)
            rows = pa.Table.from_batches(_rows(work), None).to_pylist()
        return tuple(rows[0].values()) if rows else ()

    def batches(self, statement: str, columns: Sequence[ManifestColumn]) -> Iterator[pa.RecordBatch]:
        """The rows of a statement, read one batch ahead in a thread of its own.

        So the caller's thread can be interrupted while the source keeps it waiting: the driver does not look for
        signals.

        Args:
            statement: the SELECT.
            columns: what its first columns are to become.
        """
        with (
            _told(),
            adbc_driver_manager.AdbcStatement(self._connection) as work,
            ThreadPoolExecutor(1, thread_name_prefix="ahead") as ahead,
            _cancelling(work),
        ):
            work.set_options(**{_BATCH_OPTION: str(BATCH_BYTES)})
            work.set_sql_query(statement)
            rows = ahead.submit(_rows, work).result()
            coming = ahead.submit(next, rows, None)
            while (batch := coming.result()) is not None:
                coming = ahead.submit(next, rows, None)
                yield _decimal(batch, columns)

    def commit(self) -> None:
        """End the transaction."""
        self._run("COMMIT")

    def close(self) -> None:
        """End the session, whatever it is at."""
        self._connection.close()


def _rows(work: adbc_driver_manager.AdbcStatement) -> Iterator[pa.RecordBatch]:
    handle, _ = work.execute_query()
    return iter(AdbcRecordBatchReader._import_from_c(handle.address))


def _decimal(batch: pa.RecordBatch, columns: Sequence[ManifestColumn]) -> pa.RecordBatch:
    """Numerics, which the driver gives as text: decimals for NUMERIC, and text for BIGNUMERIC.

    The SELECT has cast them to what their column holds, so that there is nothing to round or to refuse.
    """
    arrays = []
    for index, array in enumerate(batch.columns):
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
            if columns[index].type is ColumnType.NUMERIC:
                array = array.cast(ARROW_TYPES[ColumnType.NUMERIC])
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


@contextmanager
def _cancelling(work: adbc_driver_manager.AdbcStatement) -> Iterator[None]:
    """Cancel a statement that is not read to its end, so that nobody waits for it."""
    try:
        yield
    except BaseException:
        with suppress(adbc_driver_manager.Error):
            work.cancel()
        raise


@contextmanager
def _told() -> Iterator[None]:
    """Tell the driver's errors as the readers know them."""
    try:
        yield
    except adbc_driver_manager.Error as error:
        raise EngineFailed(str(error)) from None
