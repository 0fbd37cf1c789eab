"""The source's catalog and clock, read with psycopg: small questions before the big read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.conninfo import make_conninfo
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from services.core.errors import ConfigurationError
from services.core.settings import SourceSettings
from services.core.tables import Table

_CATALOG = """
SELECT a.attname, t.typname, a.atttypmod
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

# A backend that has begun a transaction may still write, whether it has a transaction id yet or not. Prepared
# transactions have no backend, and only the time of PREPARE is known, not their start.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
_CLOCK = """
SELECT
  clock_timestamp(),
  (SELECT min(xact_start) FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()),
  (SELECT min(prepared) FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()),
  (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""


@dataclass(frozen=True)
class SourceColumn:
    """A column as the source's catalog has it."""

    name: str
    type: str
    """``pg_type.typname``: int8, numeric, timestamptz, _text, …"""
    modifier: int
    """``pg_attribute.atttypmod``: precision and scale of a numeric; -1 for none."""


@dataclass(frozen=True)
class SourceClock:
    """The source's time, and what its open transactions allow; all times UTC."""

    now: datetime
    oldest_transaction: datetime | None
    """Start of the oldest open transaction that can be seen."""
    oldest_prepared: datetime | None
    """When the oldest prepared transaction was prepared; it began earlier."""
    sees_others: bool
    """Whether other users' transactions can be seen at all."""


def conninfo(settings: SourceSettings) -> str:
    """Libpq connection string, in UTC and ISO dates whatever the server's defaults.

    It has no password: clients print connection strings in their errors. ``PGPASSWORD`` carries it (``__main__``).
    """
    return make_conninfo(
        host=settings.postgres_host,
        port=settings.postgres_port,
        dbname=settings.postgres_db,
        user=settings.postgres_user,
        sslmode=settings.postgres_sslmode,
        connect_timeout=10,
        application_name="credix-extractor",
        client_encoding="utf8",  # a SQL_ASCII database would give names and texts as bytes
        options="-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c extra_float_digits=1",
    )


class Source:
    """A read-only connection that never stays in a transaction."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self._connection = connection

    def columns(self, table: Table) -> dict[str, SourceColumn]:
        """Columns of a table's source relation, by name.

        Raises:
            ConfigurationError: the relation is not there, or not visible to this user.
        """
        rows = self._connection.execute(_CATALOG, (table.schema_name, table.relation_name)).fetchall()
        if not rows:
            raise ConfigurationError(
                f"table {table.name}: source {table.source} does not exist in this database; "
                "correct 'source' in tables.yaml or create it"
            )
        columns = [SourceColumn(str(name), str(type_), int(str(modifier))) for name, type_, modifier in rows]
        return {column.name: column for column in columns}

    def clock(self) -> SourceClock:
        """The server's clock and its open transactions, in one statement."""
        row = self._connection.execute(_CLOCK).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        now, oldest, prepared, sees_others = row
        assert isinstance(now, datetime)  # noqa: S101 - narrows the type for mypy
        return SourceClock(
            now=now,
            oldest_transaction=oldest if isinstance(oldest, datetime) else None,
            oldest_prepared=prepared if isinstance(prepared, datetime) else None,
            sees_others=bool(sees_others),
        )

    def count(self, statement: str) -> int:
        """Rows that a counting statement finds."""
        row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has one row
        return int(str(row[0]))


@retry(
    retry=retry_if_exception_type(psycopg.OperationalError),
    stop=stop_after_attempt(4),
    wait=wait_exponential_jitter(initial=0.5, max=5),
    reraise=True,
)
def _connect(info: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(info, autocommit=True)


@contextmanager
def open_source(info: str) -> Iterator[Source]:
    """Connect, with a few retries.

    Raises:
        psycopg.OperationalError: the server cannot be reached, or refuses this user.
    """
    with _connect(info) as connection:
        yield Source(connection)
