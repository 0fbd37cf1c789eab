"""A connection to a stack's source database."""

from typing import Any

import psycopg

from local.stack.postgres import PostgresAccess


def connect(access: PostgresAccess) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect to the source database of a stack, in UTC.

    Raises:
        psycopg.OperationalError: it cannot be reached.
    """
    return psycopg.connect(
        host=access.host,
        port=access.port,
        dbname=access.database,
        user=access.user,
        password=access.password.get_secret_value(),
        sslmode=access.sslmode,
        options="-c TimeZone=UTC",
    )
