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
from services.core.errors import ConfigurationError, DataError, TransientError
from services.extractor.planning.plan import LEAST_ROWS, Plan
from services.extractor.reading.guard import check_server
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
            snapshot: the snapshot to read under; None for one of its own, taken once what is read is locked.
            read_at: value of ``_extracted_at``.
            counts: per column, the values that could not be held; added to.

        Raises:
            ConfigurationError: the session does not keep what was set.
            DataError: a value does not fit its column.
            TransientError: the source broke off; this reader connects again at its next use.
        """
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


# What PostgreSQL and libpq say of connections, names and limits. Anything else can quote a value, as a function's own
# RAISE does, and is not passed on.
_OF_THE_SERVER = re.compile(
    r"(?:ERROR|FATAL|PANIC): (?P<said>"
    r"terminating connection|canceling statement|deadlock detected|the database system is|sorry, too many clients|"
    r"too many connections|remaining connection slots|permission denied for|(?:relation|column|schema|role|database) |"
    r"(?:function|operator|type|snapshot) .* does not exist|could not (?:open|read|access|extend|map|resize|serialize)|"
    r"out of (?:memory|shared memory)|cache lookup failed|invalid snapshot identifier|no pg_hba\.conf entry|"
    r"password authentication failed|division by zero|requested length too large|null character not permitted|"
    r"cannot (?:export|import|use|execute|open|access))[^\n]*",
)
_OF_THE_CONNECTION = re.compile(
    r"(?:connection to server |server closed the connection|could not receive data|could not send data|SSL "
    r"|no connection to the server|Out of Memory Error: failed to allocate)[^\n]*"
)
_OF_A_VALUE = re.compile(
    r"ERROR: (invalid input (?:syntax|value) for (?:type|enum) [\w .]+|[\w /]+ out of range|invalid byte sequence)"
)


def without_values(message: str) -> str:
    """What the engine says of an error of the source, if it cannot quote a value; else only that there was one."""
    message = re.split(r" (?:DETAIL|HINT|CONTEXT|QUERY|STATEMENT|LINE \d+): ", re.sub(r"\s+", " ", message))[0]
    for known in (_OF_THE_SERVER, _OF_THE_CONNECTION):
        if found := known.search(message):
            return found[0].strip()
    if found := _OF_A_VALUE.search(message):
        return found[1].strip()
    return "PostgreSQL's words are not repeated here, because they can quote a value; its own log has them"


def told_apart(error: duckdb.Error, table: str) -> Exception:
    """Say whether a source error is about a value or may pass; DuckDB has one class for both."""
    message = " ".join(str(error).split())  # the statement in it may have several lines, and the reason follows
    words = without_values(message)
    # In the statement, which may be in the message too, the apostrophe is doubled.
    if refused := re.search(r"column (\S+): (BigQuery's \w+ has no [^\"]*)", message):
        text = f"column {refused[1]}: {refused[2]}; correct it, or choose another on_unrepresentable in tables.yaml"
        return DataError("value_does_not_fit", text, table=table, column=refused[1])
    if "invalid input syntax" in message or "out of range" in message or "invalid byte sequence" in message:
        return DataError("value_does_not_fit", f"a value is refused by PostgreSQL: {words}", table=table)
    lost_session = "SET TRANSACTION SNAPSHOT" in message  # whose snapshot does not exist any more
    if "permission denied" in message or ("does not exist" in message and not lost_session):
        return ConfigurationError(f"table {table}: the source refused the read: {words}")
    return TransientError(f"table {table}: the source broke off: {words}")
