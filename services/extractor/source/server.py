"""Who the source's server is and how far its WAL is, as far as it says so to this role.

A plan is made on one server and read in many sessions: after a failover, or behind an address with several servers,
they may reach another one. So every session asks, and ``services.extractor.reading.guard`` compares.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict, Field

from services.extractor.source.connection import Connection


class Server(BaseModel):
    """The server that answers; None where it does not say."""

    model_config = ConfigDict(frozen=True)

    database: int = Field(description="Oid of the database.")
    in_recovery: bool = Field(description="Whether it is a replica.")
    system: str | None = Field(default=None, description="The cluster's system identifier.")
    timeline: int | None = Field(default=None, description="Of its WAL: another one after a promotion.")
    position: int | None = Field(default=None, description="Bytes of WAL that it has written, or replayed.")


_ALWAYS = (
    "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
    "pg_catalog.pg_is_in_recovery()",
)
# The name of the file that is written now has the timeline; the last checkpoint has the old one after a promotion.
_IF_IT_SAYS_SO = {
    "system": "(SELECT system_identifier::text FROM pg_catalog.pg_control_system())",
    "timeline": """CASE WHEN pg_catalog.pg_is_in_recovery()
  THEN (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver)
  ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int
END""",
    "position": """((CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
  ELSE pg_catalog.pg_current_wal_lsn() END) OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::bigint""",
}


def read_server(connection: Connection) -> Server:
    """The server that a connection has reached; the connection is in a transaction, which goes on.

    A managed server can keep these functions for itself, or have no WAL of this kind.
    """
    if (row := _asked(connection, [*_ALWAYS, *_IF_IT_SAYS_SO.values()])) is not None:
        return answered(row)
    says = [(_asked(connection, [expression]) or (None,))[0] for expression in _IF_IT_SAYS_SO.values()]
    always = connection.execute(f"SELECT {', '.join(_ALWAYS)}".encode()).fetchone() or (0, False)
    return answered((*always, *says))


def _asked(connection: Connection, expressions: Sequence[str]) -> tuple[Any, ...] | None:
    """The values, by one message; None when this role may not ask for one, or the server does not know it."""
    try:
        # A refusal ends no more than the savepoint, which the same message has set before.
        answers = connection.execute(f"SAVEPOINT says; SELECT {', '.join(expressions)}; RELEASE says".encode())
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction, psycopg.NotSupportedError):
        connection.execute("ROLLBACK TO says; RELEASE says")
        return None
    answers.nextset()
    return answers.fetchone()


def asking(known: Server) -> str:
    """The SELECT of one row that asks another session what this server has answered, and nothing that it refuses."""
    says = [
        expression if getattr(known, name) is not None else "NULL::bigint"
        for name, expression in _IF_IT_SAYS_SO.items()
    ]
    return f"SELECT {', '.join(f'{each} AS c{number}' for number, each in enumerate((*_ALWAYS, *says)))}"


def answered(row: tuple[Any, ...]) -> Server:
    """What the row of ``asking`` says."""
    database, in_recovery, *says = row
    return Server.model_validate(
        {"database": database, "in_recovery": in_recovery, **dict(zip(_IF_IT_SAYS_SO, says, strict=True))}
    )
