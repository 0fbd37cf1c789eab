"""The state on one machine: SQLite in WAL mode, shared by several processes."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from services.core.errors import TransientError
from services.core.state.store import Data, Document, DocumentChanged, DocumentExists

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
  collection TEXT NOT NULL,
  id TEXT NOT NULL,
  version INTEGER NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (collection, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (last INTEGER NOT NULL);
INSERT INTO versions SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM versions);
"""

_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""Primary codes of errors that may pass: another process writes for long, the disk is full."""


@retry(
    retry=retry_if_exception_type(sqlite3.OperationalError),
    wait=wait_random(0.005, 0.05),
    stop=stop_after_delay(30),
    reraise=True,
)
def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL; SQLite answers "locked" at once, without waiting, when two processes do so together."""
    connection.execute("PRAGMA journal_mode=WAL")


class SqliteStore:
    """Documents as JSON in one table.

    A write is one immediate transaction; versions come from one counter, so that a document which was deleted and
    created again never has a version it had before. ``synchronous=FULL``: a write that returned survives kill -9 and a
    power cut (https://sqlite.org/pragma.html#pragma_synchronous).
    """

    def __init__(self, path: Path, *, wait_seconds: float = 30) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One connection for all threads: every step is short, and a thread that ends leaves nothing behind.
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous=FULL")
        _use_wal(self._connection)
        with self._write() as connection:
            for statement in _SCHEMA.strip().split(";\n"):
                connection.execute(statement)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _transient():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite takes some back by itself
                    self._connection.execute("ROLLBACK")
                raise

    def _read(self, statement: str, values: list[str | int | bool]) -> list[tuple[Any, ...]]:
        with self._lock, _transient():
            return self._connection.execute(statement, values).fetchall()

    @staticmethod
    def _next_version(connection: sqlite3.Connection) -> int:
        row = connection.execute("UPDATE versions SET last = last + 1 RETURNING last").fetchone()
        return int(row[0])

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        """Create a document; raises DocumentExists. One machine's state forgets nothing by itself."""
        with self._write() as connection:
            version = self._next_version(connection)
            try:
                connection.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?)", (collection, id, version, json.dumps(data))
                )
            except sqlite3.IntegrityError as error:
                raise DocumentExists(f"{collection}/{id}") from error
        return Document(collection, id, data, version)

    def get(self, collection: str, id: str) -> Document | None:
        """Read a document, or None."""
        rows = self._read("SELECT data, version FROM documents WHERE collection = ? AND id = ?", [collection, id])
        return Document(collection, id, json.loads(rows[0][0]), rows[0][1]) if rows else None

    def update(self, document: Document, data: Data) -> Document:
        """Replace a document that is still as it was read; raises DocumentChanged."""
        with self._write() as connection:
            version = self._next_version(connection)
            cursor = connection.execute(
                "UPDATE documents SET data = ?, version = ? WHERE collection = ? AND id = ? AND version = ?",
                (json.dumps({**document.data, **data}), version, document.collection, document.id, document.version),
            )
            if cursor.rowcount != 1:
                raise DocumentChanged(f"{document.collection}/{document.id}")
        return Document(document.collection, document.id, {**document.data, **data}, version)

    def delete(self, document: Document) -> None:
        """Delete a document that is still as it was read, or is gone already; raises DocumentChanged."""
        with self._write() as connection:
            cursor = connection.execute(
                "DELETE FROM documents WHERE collection = ? AND id = ? AND version = ?",
                (document.collection, document.id, document.version),
            )
            left = connection.execute(
                "SELECT 1 FROM documents WHERE collection = ? AND id = ?", (document.collection, document.id)
            )
            if cursor.rowcount != 1 and left.fetchone() is not None:
                raise DocumentChanged(f"{document.collection}/{document.id}")

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        """All documents whose fields equal these values, or those from an id on, ordered by id."""
        conditions = "".join(" AND json_extract(data, ?) = ?" for _ in where)
        values: list[str | int | bool] = [collection]
        for field, value in where.items():
            values += [f'$."{field}"', value]
        rows = self._read(
            "SELECT id, data, version FROM documents "  # noqa: S608
            f"WHERE collection = ?{conditions} AND id >= ? ORDER BY id",
            [*values, from_id],
        )
        return [Document(collection, id, json.loads(data), version) for id, data, version in rows]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


@contextmanager
def _transient() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
            raise TransientError(f"SQLite: {error}") from error
        raise
