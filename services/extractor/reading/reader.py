"""The big read: SELECTs streamed from PostgreSQL as Arrow batches by DuckDB's postgres extension."""

import importlib.resources
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from services.core.arrow import conform
from services.extractor.planning.plan import LEAST_ROWS, Plan
from services.extractor.reading.guard import check_server
from services.extractor.reading.sieve import Sieve
from services.extractor.source.locks import SECOND_WAIT, foreign_locks, opening
from services.extractor.source.server import answered, asking
from services.extractor.source.session import Snapshot
from services.extractor.source.sql import text_literal
from services.extractor.source.terms import check_options, check_terms, read_terms, set_terms


def _load_extension(connection: duckdb.DuckDBPyConnection) -> None:
    """Load the signed extension straight from its package: no home folder, no copy, no download."""
    folder = importlib.resources.files("duckdb_extension_postgres_scanner") / "extensions" / f"v{duckdb.__version__}"
    with importlib.resources.as_file(folder / "postgres_scanner.duckdb_extension") as path:
        connection.execute(f"LOAD {text_literal(str(path))}")


_SERVER_SAID = re.compile(r"(?:^|: )([^\s:\"]+):  ")
"""Before a server's own words libpq puts their severity, a colon and two blanks, in every language."""

_PASSING = re.compile(
    r"(?:ERROR|FATAL|PANIC):\s+(?P<server>(?:terminating connection|canceling statement|deadlock detected"
    r"|the database system is|sorry, too many clients|too many connections|remaining connection slots"
    r"|could not serialize access|out of (?:shared )?memory|snapshot \"[^\"]*\" does not exist)[^\n]*)"
    r"|(?P<connection>(?:server closed the connection|could not receive data|could not send data|connection to server "
    r"|no connection to the server|SSL (?:SYSCALL )?error|failed to allocate)[^\n]*)"
)
"""Words of PostgreSQL and libpq that pass, and quote no value; in other languages the SQLSTATE is asked for."""

_REFUSED = re.compile(r"column (\S+): BigQuery's \w+ has no (?!')")
"""Of the error that ``contract.mapping`` makes PostgreSQL raise. In the statement, which may be in the message too, the
apostrophe is doubled."""


class EngineFailed(Exception):
    """The engine could not read. Its own text can quote a value, and has no SQLSTATE.

    Attributes:
        spoken: whether the server said something: then it has a SQLSTATE, which another connection gets to know.
        passing: whether its words are of those that pass.
        words: what may be told of it.
        column: the column that has a value which its type lacks, where PostgreSQL's check says so.
        rows: how many had come before.
    """

    def __init__(self, error: duckdb.Error, rows: int = 0) -> None:
        """Take the engine's words apart; none of them is kept that could quote a value."""
        super().__init__()
        text = str(error)
        passing, refused = _PASSING.search(text), _REFUSED.search(text)
        self.rows = rows
        self.spoken = _SERVER_SAID.search(text) is not None
        self.passing = passing is not None
        self.words = "the engine could not read on"
        if passing is not None:
            self.words = str(passing["server"] or passing["connection"]).strip()
        self.column = refused[1] if refused is not None else None


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
        self,
        plan: Plan,
        statement: str,
        snapshot: Snapshot | None,
        read_at: datetime,
        counts: Counter[str],
        sieve: Sieve | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Stream a statement's rows as batches of the plan's columns, in memory that does not grow with the table.

        Args:
            plan: the columns.
            statement: what is read.
            snapshot: the snapshot to read under; None for one of its own, taken once what is read is locked.
            read_at: value of ``_extracted_at``.
            counts: per column, the values that could not be held; added to.
            sieve: tells what is no news, and is left out, in a plan whose rows have an ``Again``.

        Raises:
            ConfigurationError: the session does not keep what was set.
            DataError: a value does not fit its column.
            EngineFailed: anything else; this reader connects again at its next use.
        """
        rows = 0
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            self._open(connection, plan, statement, snapshot)
            # Rows that wait to be taken, without their texts: the default, 1 MB, is 40,000 rows of any width.
            waiting = "1KB" if plan.batch_rows <= LEAST_ROWS else "1MB"
            connection.execute(f"SET streaming_buffer_size = '{waiting}'")
            result = connection.execute("SELECT * FROM postgres_query('source', ?)", [statement])
            width = len(plan.columns)
            for batch in result.to_arrow_reader(plan.batch_rows):
                if not batch.num_rows:
                    continue
                rows += batch.num_rows
                landing = conform(batch, plan.columns, plan.table, read_at)
                news = sieve.news(landing, batch.column(width + len(plan.flags))) if sieve and plan.again else None
                if news is not None:
                    batch, landing = batch.filter(news), landing.filter(news)
                for offset, name in enumerate(plan.flags):
                    counts[name] += pc.sum(batch.column(width + offset)).as_py() or 0
                if landing.num_rows:
                    yield landing
            connection.execute("COMMIT")
        except duckdb.Error as error:
            self.close()
            raise EngineFailed(error, rows) from None
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, SystemExit | KeyboardInterrupt):
                raise error.__cause__ from None  # the engine makes a RuntimeError of a signal's exception
            raise

    @staticmethod
    def _open(connection: duckdb.DuckDBPyConnection, plan: Plan, statement: str, snapshot: Snapshot | None) -> None:
        """Begin the transaction: its terms, its locks, its snapshot; and see that the terms are kept."""
        name = text_literal(snapshot.name) if snapshot is not None else None
        begin = opening(statement, set_terms(), name, plan.view_lock)
        begin += foreign_locks(plan.foreign_tables, SECOND_WAIT)
        connection.execute("CALL postgres_execute('source', ?)", ["; ".join(begin)])
        found = connection.execute("SELECT * FROM postgres_query('source', ?)", [read_terms()]).fetchone() or ()
        check_terms(found)
        check_options(found, plan.table, plan.hashed)
        if plan.server is not None:
            server = connection.execute("SELECT * FROM postgres_query('source', ?)", [asking(plan.server)]).fetchone()
            check_server(plan, answered(server or ()))
