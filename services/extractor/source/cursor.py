"""What PostgreSQL makes of a cursor's expression: its type, and whether it depends on the session's time zone."""

from dataclasses import dataclass

import psycopg

from services.core.errors import ConfigurationError
from services.core.tables import Table
from services.extractor.source.catalog import SourceRelation
from services.extractor.source.connection import Connection
from services.extractor.source.sql import bracketed, quoted, relation_sql

_ZONES = ("UTC", "Asia/Kathmandu", "America/Sao_Paulo")
"""No two of them ever show the same time, and at the tried hour they are in different days."""

_TRIED = {
    "timestamp": "TIMESTAMP '2026-06-01 01:30:00'",
    "timestamptz": "TIMESTAMPTZ '2026-06-01 01:30:00+00'",
    "date": "DATE '2026-06-01'",
}
_TEXTS = ("text", "varchar")


@dataclass(frozen=True)
class CursorType:
    """The type of a cursor's expression."""

    name: str
    """``pg_type.typname`` below all domains: timestamptz, timestamp, date, int8, …"""
    shown: str
    """The type as format_type() writes it."""
    modifier: int
    """Type modifier: the digits of a second that timestamptz(0) keeps; -1 where PostgreSQL does not know any."""
    column: bool
    """Whether the expression is nothing but a column."""
    zoned: bool | None
    """Whether its value depends on the session's time zone; None where that could not be tried."""


def read_cursor_type(connection: Connection, table: Table, relation: SourceRelation) -> CursorType | None:
    """The type of a table's cursor as PostgreSQL has it; None for a table without a cursor. No row is read.

    Raises:
        ConfigurationError: what is declared is not one expression over a row of the source.
    """
    if table.cursor is None:
        return None
    expression = bracketed(table.cursor.expression)
    # Three places at once: no text but one expression fits all of them. WHERE takes no aggregates.
    asked = (
        f"SELECT {expression}, pg_catalog.pg_typeof({expression}) FROM {relation_sql(table)} "  # noqa: S608
        f"WHERE {expression} IS NULL LIMIT 0"
    )
    try:
        result = connection.execute(asked.encode()).pgresult
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise _no_expression(table, str(error.diag.message_primary or error)) from None
    assert result is not None  # noqa: S101 - an executed statement has a result
    if result.nfields != 2:
        raise _no_expression(table, "it is more than one")
    type_, modifier = result.ftype(0), result.fmod(0)
    found = connection.execute(
        "SELECT typname, pg_catalog.format_type(oid, %s) FROM pg_catalog.pg_type WHERE oid = %s", (modifier, type_)
    ).fetchone()
    name, shown = found or ("unknown", "unknown")
    column = result.ftable(0) != 0
    zoned = False if column or name not in _TRIED else _depends_on_the_zone(connection, table, relation, expression)
    return CursorType(str(name), str(shown), modifier, column, zoned)


def _no_expression(table: Table, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"table {table.name}: cursor.expression is not one SQL expression over a row of {table.source}: {why}"
    )


def _depends_on_the_zone(
    connection: Connection, table: Table, relation: SourceRelation, expression: str
) -> bool | None:
    """Compute the expression for one row that is made up, in several time zones."""
    for texts in ("'2026-06-01 01:30:00'", None):
        row = ", ".join(_value(table, name, type_.type, texts) for name, type_ in relation.columns.items())
        tried = f"SELECT extract(epoch FROM {expression}) FROM (SELECT {row}) AS {quoted(table.relation_name)}"  # noqa: S608
        try:
            return len({_in_zone(connection, tried, zone) for zone in _ZONES}) > 1
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            continue  # not an expression for such a row
    return None


def _value(table: Table, name: str, type_: str, texts: str | None) -> str:
    if type_ in _TRIED:
        value = _TRIED[type_]
    elif type_ in _TEXTS and texts is not None:
        value = f"{texts}::text"
    else:
        value = f"(NULL::{relation_sql(table)}).{quoted(name)}"
    return f"{value} AS {quoted(name)}"


def _in_zone(connection: Connection, statement: str, zone: str) -> object:
    # Rolled back, because a setting outlives its savepoint, and the session's zone is one of its terms.
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT pg_catalog.set_config('TimeZone', %s, true)", (zone,))
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None
