"""The engines that read rows, behind one face: by vectors, or by bytes where rows were too wide for that."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from services.core.manifest import ManifestColumn
from services.extractor.reading.by_vectors import DuckDb


class Session(Protocol):
    """A session at the source; not for several threads at a time. Everything raises EngineFailed."""

    def begin(self, statements: Sequence[str]) -> None:
        """Begin a read-only REPEATABLE READ transaction by these statements."""

    def row(self, statement: str) -> tuple[Any, ...]:
        """The first row of a statement; empty when there is none."""

    def batches(self, statement: str, columns: Sequence[ManifestColumn], /) -> Iterator[pa.RecordBatch]:
        """The rows of a statement, whose first columns are to become ``columns``.

        Raises:
            RowsTooWide: for the memory that the engine has; never raised by bytes.
        """

    def commit(self) -> None:
        """End the transaction."""

    def close(self) -> None:
        """End the session, whatever it is at."""


class Engine:
    """The engines of this process. Which one reads a table is decided by what its rows turn out to take."""

    def __init__(self, info: str, readers: int = 2) -> None:
        """Prepare; nothing is loaded, and nobody is asked.

        Args:
            info: libpq connection string; the environment has the password and the sessions' settings.
            readers: sessions at a time.
        """
        self._info, self._readers = info, readers
        self._lock = threading.Lock()
        self._by_vectors: DuckDb | None = None
        self._by_bytes: Any = None
        self._wide: set[str] = set()

    def start(self) -> None:
        """Load the engine that most tables need; it takes a tenth of a second, so that it may run beside other work."""
        with self._lock:
            self._vectors()

    def _vectors(self) -> DuckDb:
        if self._by_vectors is None:
            self._by_vectors = DuckDb(self._info, self._readers)
        return self._by_vectors

    def is_wide(self, table: str) -> bool:
        """Whether a table is read by bytes."""
        return table in self._wide

    def read_by_bytes(self, table: str) -> None:
        """From now on in this process."""
        self._wide.add(table)

    def session(self, table: str) -> Session:
        """A session to read a table.

        Raises:
            EngineFailed: the source cannot be reached.
        """
        with self._lock:
            if not self.is_wide(table):
                return self._vectors().session()
            if self._by_bytes is None:
                from services.extractor.reading.by_bytes import Adbc  # few processes need it

                self._by_bytes = Adbc(self._info)
            session: Session = self._by_bytes.session()
            return session

    def close(self) -> None:
        """End them."""
        with self._lock:
            for each in (self._by_vectors, self._by_bytes):
                if each is not None:
                    each.close()
            self._by_vectors = self._by_bytes = None
