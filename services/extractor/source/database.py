"""The source's clock, catalog and planner, asked with psycopg: small questions before the big read."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog

from services.core.errors import ConfigurationError
from services.core.tables import Table
from services.extractor.source.catalog import SourceRelation, filled_columns, primary_key, read_relation
from services.extractor.source.clock import SourceClock, read_clock
from services.extractor.source.connection import Connection, Connections, connect
from services.extractor.source.cursor import CursorType, read_cursor_type
from services.extractor.source.errors import may_pass, one_line
from services.extractor.source.keys import KeyFacts, read_key
from services.extractor.source.locks import WAIT, foreign_locks
from services.extractor.source.origin import Origin, read_origin
from services.extractor.source.server import Server, read_server
from services.extractor.source.sql import quoted, text_literal
from services.extractor.source.storage import Storage, read_storage
from services.extractor.source.terms import (
    check_options,
    check_terms,
    hashed,
    read_terms,
    set_terms,
)

log = structlog.get_logger()

_WAITED_FOR = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_locks held
  JOIN pg_catalog.pg_locks waiting ON waiting.database = held.database AND waiting.relation = held.relation
  WHERE held.pid = pg_catalog.pg_backend_pid() AND held.locktype = 'relation' AND held.granted
    AND waiting.locktype = 'relation' AND NOT waiting.granted AND waiting.mode = 'AccessExclusiveLock'
)
"""

_FOREIGN = """
SELECT n.nspname, c.relname, pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_catalog.pg_backend_pid() AND c.relkind = 'f'
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
ORDER BY c.oid
"""


@dataclass(frozen=True)
class Estimate:
    """What the planner expects of a statement."""

    rows: int
    cost: float
    scans: frozenset[str]
    """Node types: Seq Scan, Index Scan, Bitmap Heap Scan, …"""


class Source:
    """A connection for small questions, in one transaction from its begin to its end.

    The transaction keeps every lock that a question takes: nobody can rewrite or alter in between what was asked about.
    It is READ COMMITTED, so that every question sees what was committed before it, also if it had to wait for a lock.
    """

    def __init__(self, connection: Connection, give_back: Callable[[Connection], None] | None = None) -> None:
        """Take a connection.

        Args:
            connection: with no transaction begun.
            give_back: what is done with it in the end; without it, it is closed.
        """
        self._connection = connection
        self._give_back = give_back or psycopg.Connection.close
        self._closed = False
        self._terms: Sequence[object] = ()

    def begin(self, snapshot: str | None = None) -> None:
        """Begin the transaction, on the terms that every transaction has.

        Args:
            snapshot: name of the one that all its questions see; without it, each sees what was committed before it.

        Raises:
            ConfigurationError: the session does not keep them, or has no transactions.
        """
        begin = ["BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"]
        if snapshot is not None:
            take = f"SET TRANSACTION SNAPSHOT {text_literal(snapshot)}"
            begin = ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", take]
        try:
            answers = self._connection.execute("; ".join([*begin, *set_terms(), read_terms()]).encode())
        except psycopg.errors.ProtocolViolation as error:
            if may_pass(error.sqlstate, str(error)):
                raise
            raise ConfigurationError(
                f"the source has no transactions: {one_line(error)}; connect to PostgreSQL itself (POSTGRES_HOST, "
                "POSTGRES_PORT), or to a pooler in session or transaction mode"
            ) from None
        while answers.nextset():
            pass
        self._terms = answers.fetchone() or ()
        check_terms(self._terms)

    def relation(self, table: Table) -> SourceRelation:
        """The table's source relation as the catalog has it, locked against being rewritten and altered.

        Raises:
            ConfigurationError: it is not there, or this role may not read it, not all of its rows, or not as declared.
            psycopg.errors.LockNotAvailable: somebody is at rewriting it.
        """
        check_options(self._terms, table.name, hashed(table))
        relation = f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
        reading = f"EXPLAIN SELECT FROM {relation} WHERE false".encode()
        try:
            # Planning a read locks every kind of relation, whatever columns may be read; LOCK TABLE does not. It leaves
            # partitions out, of which a window may not read most.
            self._connection.execute(reading)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege):
            self._connection.execute("ROLLBACK")
            self.begin()
            read_relation(self._connection, table)  # says what is missing
            self._refuse_hidden_rows(table, reading)
            raise
        return read_relation(self._connection, table)

    def _refuse_hidden_rows(self, table: Table, reading: bytes) -> None:
        """If what is refused is not when policies may hide rows, they are why."""
        self._connection.execute("SET LOCAL row_security = on")
        try:
            self._connection.execute(reading)
        except psycopg.errors.InsufficientPrivilege:
            return
        raise ConfigurationError(
            f"table {table.name}: row-level security hides rows of {table.source}, or of a table that it reads, from "
            f"this role, and a copy would lack them without a word; ALTER ROLE {quoted(self._role())} BYPASSRLS (for a "
            "view: its owner), or declare a view whose owner may see all that is to arrive"
        )

    def _role(self) -> str:
        row = self._connection.execute("SELECT current_user").fetchone()
        return str(row[0]) if row else ""

    def primary_key(self, schema: str, relation: str) -> list[str]:
        """The columns of a relation's primary key, in the key's order; none where it has no such key."""
        return primary_key(self._connection, schema, relation)

    def key(self, relation: SourceRelation, names: Sequence[str]) -> KeyFacts:
        """What the catalog says of a key of these columns."""
        return read_key(self._connection, relation.oid, names)

    def view_lock(self, table: Table) -> str:
        """The LOCK TABLE statement of a view; empty where the role, or the view's owner, may not lock all below it."""
        relation = f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
        statement = f"LOCK TABLE {relation} IN ACCESS SHARE MODE"
        try:
            with self._connection.transaction():
                self._connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return ""
        return statement

    def foreign_tables(self, estimate: Estimate) -> list[str]:
        """The foreign tables that an estimated statement reads, as SQL; those that the role may read itself."""
        if "Foreign Scan" not in estimate.scans:
            return []
        found = self._connection.execute(_FOREIGN).fetchall()
        for schema, name, may in found:
            if not may:
                log.warning(
                    "source.foreign_table_not_locked",
                    foreign_table=f"{schema}.{name}",
                    reason="this role reads it through a view or a partitioned table only, and cannot lock it on its "
                    "own server: a TRUNCATE there may be seen half; GRANT SELECT on it",
                )
        return [f"{quoted(schema)}.{quoted(name)}" for schema, name, may in found if may]

    def lock_foreign(self, tables: Sequence[str]) -> None:
        """Lock foreign tables on their own servers, until the transaction's end.

        Raises:
            psycopg.errors.QueryCanceled: somebody is at rewriting one.
        """
        for statement in foreign_locks(tables, WAIT):
            self._connection.execute(statement.encode())

    def export(self) -> tuple[str, int]:
        """Export a snapshot of this moment: its name, and the oldest transaction that it saw running."""
        row = self._connection.execute(
            "SELECT pg_catalog.pg_export_snapshot(), "
            "pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        return str(row[0]), int(row[1])

    def oldest_running(self) -> int:
        """The oldest transaction that runs now: what all earlier ones did, every later snapshot sees."""
        row = self._connection.execute(
            "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        return int(row[0])

    def time(self) -> datetime:
        """The server's time."""
        row = self._connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        now: datetime = row[0]
        return now

    def waited_for(self) -> bool:
        """Whether somebody waits for this transaction to end, to change what it has locked."""
        row = self._connection.execute(_WAITED_FOR).fetchone()
        return row is not None and bool(row[0])

    def read_away(self, statement: str, most: int | None = None) -> None:
        """Run a statement as the engine does, and leave its rows: what PostgreSQL says of it has a SQLSTATE here.

        Args:
            statement: a SELECT.
            most: rows after which it is enough; None for all.

        Raises:
            psycopg.Error: it fails.
        """
        with self._connection.cursor().copy(f"COPY ({statement}) TO STDOUT (FORMAT binary)".encode()) as rows:
            for number, _ in enumerate(rows):
                if most is not None and number >= most:
                    break

    def fails(self, statement: str) -> str | None:
        """The SQLSTATE with which a statement fails, or None; the transaction goes on either way."""
        try:
            with self._connection.transaction():
                self._connection.execute(statement.encode())
        except psycopg.Error as error:
            return error.sqlstate
        return None

    def limit(self, wait: str) -> None:
        """Let no further statement of the transaction take longer.

        Args:
            wait: a time as PostgreSQL writes it.
        """
        self._connection.execute(f"SET LOCAL statement_timeout = {text_literal(wait)}".encode())

    def close(self) -> None:
        """End the transaction, and the connection if nobody takes it back. Once: then it may be another's."""
        if not self._closed:
            self._closed = True
            self._give_back(self._connection)

    def cursor_type(self, table: Table, relation: SourceRelation) -> CursorType | None:
        """The type of the table's cursor; None for a table without one.

        Raises:
            ConfigurationError: what is declared is not one expression over a row of the source.
        """
        return read_cursor_type(self._connection, table, relation)

    def origin(self, relation: SourceRelation) -> Origin:
        """Where the relation's rows come from."""
        return read_origin(self._connection, relation.oid)

    def server(self) -> Server:
        """Who the server is and how far it is, as far as it says so."""
        return read_server(self._connection)

    def filled(self, members: list[int], names: list[str]) -> set[str]:
        """Columns in which rows that are older than the column can have a value."""
        return filled_columns(self._connection, members, names)

    def partition_bounds(self, oid: int) -> str | None:
        """What a partition's rows have in common, as an SQL condition; None for what is no partition."""
        row = self._connection.execute("SELECT pg_catalog.pg_get_partition_constraintdef(%s)", (oid,)).fetchone()
        return row[0] if row else None

    def clock(self) -> SourceClock:
        """The server's clock and its open transactions, in one statement."""
        return read_clock(self._connection)

    def storage(self, table: Table) -> Storage:
        """How the table's rows are stored."""
        return read_storage(self._connection, table)

    def estimate(self, statement: str, *, index_only: bool = False) -> Estimate:
        """What the planner expects of a statement, without running it; locks what it reads, as ``lock`` does.

        Args:
            statement: a SELECT.
            index_only: as if sequential scans were out of the question, to see whether an index could serve.
        """
        if index_only:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute("SET LOCAL enable_seqscan = off")
                return self.estimate(statement)
        row = self._connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode()).fetchone()
        assert row is not None  # noqa: S101 - EXPLAIN answers
        plan = (row[0] if isinstance(row[0], list) else json.loads(row[0]))[0]["Plan"]
        return Estimate(int(plan["Plan Rows"]), float(plan["Total Cost"]), frozenset(_scans(plan)))

    def shows_none(self, statement: str) -> bool:
        """Whether a statement has no rows now, under a snapshot that is taken after all that was asked before.

        It is planned as one whose rows are all read, and stops at the first. After an error the transaction is at its
        end, and the answer is no: a refusal is never taken for nothing there, and the read itself says what is wrong.

        Args:
            statement: a SELECT.
        """
        # A materialized WITH is planned for all its rows: EXISTS alone can take a scan of the whole table for cheap.
        asked = f"WITH found AS MATERIALIZED ({statement}) SELECT NOT EXISTS (SELECT FROM found)"  # noqa: S608
        try:
            row = self._connection.execute(asked.encode()).fetchone()
        except psycopg.Error as error:
            log.info("source.emptiness_unknown", sqlstate=error.sqlstate)  # its words can quote a value
            return False
        return row is not None and bool(row[0])

    def count(self, statement: str) -> int:
        """Rows that a counting statement finds; one that is refused leaves the transaction as it was."""
        with self._connection.transaction():
            row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has one row
        return int(row[0])


def _scans(node: Mapping[str, Any]) -> Iterator[str]:
    if "Scan" in node["Node Type"]:
        yield node["Node Type"]
    for child in node.get("Plans", []):
        yield from _scans(child)


@contextmanager
def open_source(
    info: str, hold: ExitStack | None = None, *, snapshot: str | None = None, kept: Connections | None = None
) -> Iterator[Source]:
    """A connection for small questions, for a block.

    Args:
        info: libpq connection string.
        hold: what ends the connection; without it, the end of the block does.
        snapshot: name of the one that it sees; without it, each question sees what was committed before it.
        kept: connections of this string that wait, and with which this one waits in the end.

    Raises:
        psycopg.OperationalError: the server cannot be reached, or refuses this user.
    """
    with ExitStack() as block:
        source = _taken_up(kept, snapshot) if kept is not None else None
        if source is None:
            source = Source(connect(info), kept.give_back if kept is not None else None)
            (hold or block).callback(source.close)
            source.begin(snapshot)
        else:
            (hold or block).callback(source.close)
        yield source


def _taken_up(kept: Connections, snapshot: str | None) -> Source | None:
    """A transaction on a connection that waited; None where none did, or its server has ended it meanwhile."""
    connection = kept.take()
    if connection is None:
        return None
    source = Source(connection, kept.give_back)
    try:
        source.begin(snapshot)
    except psycopg.Error as error:
        log.info("source.connection_lost", reason=one_line(error))
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return source
