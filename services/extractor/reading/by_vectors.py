"""Rows by vectors: DuckDB's postgres extension, the fastest way for rows of up to some kilobytes.

DuckDB decodes 2,048 rows at a time, however wide they are. So its memory has a limit, which it keeps (measured), and
rows that do not fit in it are read another way (``by_bytes``). It has no threads of its own: the readers' threads do
all its work. Its own ones would wait for one another in busy loops, which on two cores is time that the source lacks.
"""

import importlib.resources
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

from services.core.manifest import ManifestColumn
from services.extractor.reading.failure import EngineFailed, RowsTooWide
from services.extractor.source.sql import text_literal

READER_BYTES = 16 * 1024 * 1024
"""Memory of the engine for each reader: two vectors of 2,048 rows with 4 KB each."""

BATCH_ROWS = 4_096
"""Rows that are handed over at a time: two vectors. More are not faster (measured), and take more memory."""


class DuckDb:
    """The engine of a process: one instance, of which every session is a connection."""

    def __init__(self, info: str, readers: int) -> None:
        """Load the engine and its extension, which takes a tenth of a second; the source is not asked yet.

        Args:
            info: libpq connection string; the environment has the password and the sessions' settings.
            readers: sessions at a time.
        """
        self._info = info
        self._attached = False
        memory = f"{max(readers, 2) * READER_BYTES}B"
        self._instance = duckdb.connect(":memory:", config={"memory_limit": memory, "threads": 1})
        _load_extension(self._instance)
        self._instance.execute("SET GLOBAL TimeZone = 'UTC'")
        # A new connection for every statement: none that the server has dropped meanwhile is used again.
        self._instance.execute("SET GLOBAL pg_pool_max_connections = 0")

    def session(self) -> "VectorSession":
        """A session, for one thread; several threads must not ask for one at once.

        Raises:
            EngineFailed: the source cannot be reached.
        """
        with _told():
            if not self._attached:
                self._instance.execute(f"ATTACH {text_literal(self._info)} AS source (TYPE postgres, READ_ONLY)")
                self._attached = True
            return VectorSession(self._instance.cursor())

    def close(self) -> None:
        """End it."""
        self._instance.close()


class VectorSession:
    """A session by DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        # Nothing waits behind what is read: the default, 1 MB without the rows' texts, is 40,000 rows of any width.
        connection.execute("SET streaming_buffer_size = '1KB'")

    def begin(self, statements: Sequence[str]) -> None:
        """Begin a read-only REPEATABLE READ transaction by these statements."""
        with _told():
            self._connection.execute("BEGIN")
            self._connection.execute("CALL postgres_execute('source', ?)", ["; ".join(statements)])

    def row(self, statement: str) -> tuple[Any, ...]:
        """The first row of a statement; empty when there is none."""
        with _told():
            found = self._connection.execute("SELECT * FROM postgres_query('source', ?)", [statement]).fetchone()
        return tuple(found or ())

    def batches(self, statement: str, _: Sequence[ManifestColumn]) -> Iterator[pa.RecordBatch]:
        """The rows of a statement; of nothing, there may be an empty batch."""
        with _told():
            result = self._connection.execute("SELECT * FROM postgres_query('source', ?)", [statement])
            yield from result.to_arrow_reader(BATCH_ROWS)

    def commit(self) -> None:
        """End the transaction."""
        with _told():
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """End the session."""
        # If the source is gone, rolling back fails; where close() has to do it, the engine aborts the process.
        with suppress(duckdb.Error):
            self._connection.execute("ROLLBACK")
        self._connection.close()


def _load_extension(connection: duckdb.DuckDBPyConnection) -> None:
    """Load the signed extension straight from its package: no home folder, no copy, no download."""
    folder = importlib.resources.files("duckdb_extension_postgres_scanner") / "extensions" / f"v{duckdb.__version__}"
    with importlib.resources.as_file(folder / "postgres_scanner.duckdb_extension") as path:
        connection.execute(f"LOAD {text_literal(str(path))}")


@contextmanager
def _told() -> Iterator[None]:
    """Tell the engine's errors as the readers know them."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # After the first batch, Arrow's stream hands the engine's errors over: as its own, with the engine's words.
        if "Out of Memory Error" in str(error):
            raise RowsTooWide("the engine has no memory for so many rows as wide as these") from None
        raise EngineFailed(str(error)) from None
    except RuntimeError as error:
        if isinstance(error.__cause__, SystemExit | KeyboardInterrupt):
            raise error.__cause__ from None  # the engine makes a RuntimeError of a signal's exception
        raise
