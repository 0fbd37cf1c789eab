"""Who the source's server is, as far as it says so to this role."""

from typing import Any

import psycopg

from services.core.state.memory import ServerSeen

Connection = psycopg.Connection[tuple[Any, ...]]

_DATABASE = "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
_SYSTEM = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
# The name of the file that is written now has the timeline; the last checkpoint has the old one after a promotion.
_PRIMARY = """
SELECT ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int,
  (pg_catalog.pg_current_wal_lsn() OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::bigint
WHERE NOT pg_catalog.pg_is_in_recovery()
"""
_REPLICA = "SELECT received_tli, NULL FROM pg_catalog.pg_stat_wal_receiver WHERE pg_catalog.pg_is_in_recovery()"


def read_server(connection: Connection) -> ServerSeen:
    """The server's identity; what it does not say is None.

    A managed server can keep these functions for itself, or have no WAL of this kind.
    """
    (database,) = _asked(connection, _DATABASE) or (0,)
    (system,) = _asked(connection, _SYSTEM) or (None,)
    timeline, position = _asked(connection, _PRIMARY) or _asked(connection, _REPLICA) or (None, None)
    return ServerSeen(system=system, database=int(database), timeline=timeline, position=position)


def _asked(connection: Connection, question: str) -> tuple[Any, ...] | None:
    """The answer; None when this role may not ask, the server knows no such thing, or there is none."""
    try:
        with connection.transaction():  # a refusal ends no more than this
            return connection.execute(question.encode()).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction, psycopg.NotSupportedError):
        return None
