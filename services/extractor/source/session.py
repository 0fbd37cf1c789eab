"""A reading session: one snapshot of the source that several connections read from, held open by one of them.

With the snapshot go locks that let everybody read and write but nobody rewrite what is read: TRUNCATE and some forms of
ALTER TABLE would empty it for an older snapshot (https://www.postgresql.org/docs/current/mvcc-caveats.html). So the
locks come first, and the snapshot is taken once they are there.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg
import structlog

from services.core.tables import Table
from services.extractor.source.connection import connect
from services.extractor.source.database import Source
from services.extractor.source.server import Server
from services.extractor.source.storage import Storage

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
    storage: Storage
    """How the relation was stored when it was taken."""
    server: Server
    """Where it was taken."""


ReadAt = Callable[[datetime], datetime]
"""Turns the source's clock into a time that orders row versions, and notes it in the state."""


class Sessions:
    """The session that this process reads in; a new one when the connection that holds it is lost."""

    def __init__(self, info: str, table: Table, statement: str, read_at: ReadAt, first: Source | None = None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            info: libpq connection string.
            table: what is read.
            statement: the SELECT of all of it, which says what is to be locked.
            read_at: gives a session its place in the order of row versions.
            first: a transaction that has locked it already, for the first session.
        """
        self._info, self._table, self._statement, self._read_at = info, table, statement, read_at
        self._lock = threading.Lock()
        self._first = first
        self._source: Source | None = None
        self._snapshot: Snapshot | None = None

    def current(self) -> Snapshot:
        """The snapshot to read; the first call takes it.

        Raises:
            psycopg.OperationalError: the server cannot be reached, or a lock cannot be had.
        """
        with self._lock:
            if self._snapshot is None:
                self._snapshot = self._take()
            return self._snapshot

    def _take(self) -> Snapshot:
        self._source, self._first = self._first or self._locked(), None
        try:
            at = self._read_at(self._source.time())
            name, oldest = self._source.export()
            return Snapshot(name, oldest, at, self._source.storage(self._table), self._source.server())
        except BaseException:
            self._end()
            raise

    def _locked(self) -> Source:
        source = Source(connect(self._info))
        try:
            source.begin()
            source.estimate(self._statement)  # planning locks what is read: tables, partitions, what is below views
        except BaseException:
            source.close()
            raise
        return source

    def check(self, snapshot: Snapshot) -> str | None:
        """After a read broke off: give the session up if that is why, or helps; what was found, or None.

        Behind somebody who waits for a stronger lock on the table, the readers of further chunks wait, and he waits for
        the session.
        """
        with self._lock:
            if self._source is None or self._snapshot != snapshot:
                return "the session has ended, and with it the snapshot"
            try:
                waited_for = self._source.waited_for()
            except psycopg.Error:
                log.warning("session.lost", snapshot=snapshot.name)
                self._end()
                return "the session's connection was lost, and with it the snapshot"
            if waited_for:
                self._end()
                return "somebody waits to change the table, and the session lets it go (lock timeout)"
            return None

    def close(self) -> None:
        """Let the snapshot and the locks go."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        for source in (self._source, self._first):
            if source is not None:
                source.close()
        self._source = self._first = self._snapshot = None

    def __enter__(self) -> "Sessions":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
