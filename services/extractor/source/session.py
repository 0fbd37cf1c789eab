"""A reading session: one snapshot of the source that several connections read from, held open by one of them.

With the snapshot goes a lock that lets everybody read and write but nobody rewrite the table: TRUNCATE and some forms
of ALTER TABLE would empty it for an older snapshot (https://www.postgresql.org/docs/current/mvcc-caveats.html).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg
import structlog

from services.core.tables import Table
from services.extractor.source.database import Connection, Source, connect
from services.extractor.source.sql import quoted

log = structlog.get_logger()


@dataclass(frozen=True)
class Snapshot:
    """What every transaction of a session sees."""

    name: str
    """By which other connections import it."""
    oldest_running: int
    """Id of the oldest transaction that was running: what earlier ones did is seen, if they committed."""
    read_at: datetime
    """Not later than the snapshot; orders versions of rows. Later sessions have a later one."""
    layout: str
    """The storage's layout when it was taken."""


ReadAt = Callable[[datetime], datetime]
"""Turns the source's clock into a time that orders row versions, and notes it in the state."""


class _Session:
    """The connection that holds a snapshot open."""

    def __init__(self, info: str, table: Table, lock: bool, read_at: ReadAt) -> None:
        self._connection: Connection = connect(info)
        try:
            source = Source(self._connection)
            row = self._connection.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None  # noqa: S101 - a SELECT without FROM has one row
            at = read_at(row[0])
            self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            relation = f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
            # LOCK TABLE knows no materialized views, and reading from one is the only way to lock it.
            locking = f"LOCK TABLE {relation} IN ACCESS SHARE MODE" if lock else f"SELECT FROM {relation} LIMIT 0"
            self._connection.execute(locking.encode())
            name, oldest = self._connection.execute(
                "SELECT pg_catalog.pg_export_snapshot(), "
                "pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint"
            ).fetchone() or ("", 0)
            self.snapshot = Snapshot(str(name), int(oldest), at, source.storage(table).layout)
        except BaseException:
            self._connection.close()
            raise

    def alive(self) -> bool:
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        self._connection.close()


class Sessions:
    """The session that this process reads in; a new one when the connection that holds it is lost."""

    def __init__(self, info: str, table: Table, read_at: ReadAt, *, lock: bool) -> None:
        """Prepare; nothing is opened yet.

        Args:
            info: libpq connection string.
            table: what is read.
            read_at: gives a session its place in the order of row versions.
            lock: whether the relation can be locked; views and foreign tables can't, and need not be.
        """
        self._info, self._table, self._read_at, self._locks = info, table, read_at, lock
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def current(self) -> Snapshot:
        """The snapshot to read; the first call takes it.

        Raises:
            psycopg.OperationalError: the server cannot be reached.
        """
        with self._lock:
            if self._session is None:
                self._session = _Session(self._info, self._table, self._locks, self._read_at)
            return self._session.snapshot

    def fresh(self) -> Snapshot:
        """A snapshot that is later than all before."""
        self.close()
        return self.current()

    def check(self, snapshot: Snapshot) -> None:
        """After a read broke off: give the session up if the connection that holds it is lost too."""
        with self._lock:
            if self._session is not None and self._session.snapshot == snapshot and not self._session.alive():
                log.warning("session.lost", snapshot=snapshot.name)
                self._session.close()
                self._session = None

    def close(self) -> None:
        """Let the snapshot and the lock go."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def __enter__(self) -> "Sessions":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
