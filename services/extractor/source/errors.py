"""PostgreSQL's errors, told apart by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html).

Messages are in the server's language, codes are not.
"""

import psycopg

from services.core.errors import ConfigurationError, DataError, PipelineError, TransientError
from services.core.telling import told
from services.extractor.source.refusal import SPOKEN

PROTOCOL_VIOLATION = "08P01"
"""With this, PgBouncer says nearly everything that it says of its own, in one language."""

_PASSING = ("08", "25P0", "40", "53", "55P03", "55006", "57", "58", "72", "XX000")
"""What begins so may be over at the next attempt: connections, transactions that others ended, resources, locks, a
server that stops or starts, an internal error."""

_LASTING = ("57P04",)
"""The exception: a database that was dropped."""

_OF_VALUES = ("21", "22", "23", "P0")
"""What begins so, a row's values brought about: a cast, a division, a check, a function's own RAISE."""

_FOREIGN_SERVER = "08001"
"""A server cannot be reached; from a server that was reached, this is about the one of a foreign table."""

_NOT_NOW = (
    "starting up",
    "shutting down",
    "in recovery",
    "not yet accepting",
    "too many",
    "remaining connection slots",
)
"""Of the words with which a foreign table's server refuses a connection, those that pass. They come without a SQLSTATE,
and in that server's language: in another one than English, they fail one run, which the next one makes good."""

_NOT_FOUND = ("42P01", "42883", "42704", "3F000")
"""A relation, a function, a type or a schema that is not there, or not on the path."""

_POOLER_SAYS_NO = (
    "unsupported startup parameter",
    "transaction blocks not allowed",
    "no such user",
    "no such database",
    "auth",
    "SASL",
    "password",
    "TLS",
    "SSL",
)
"""Of PgBouncer's own words, those that no retry cures."""


def may_pass(sqlstate: str | None, message: str) -> bool:
    """Whether the same may succeed at the next attempt.

    Args:
        sqlstate: five characters; None where the server said nothing, and the connection is gone.
        message: what came with it; looked at only where it is a pooler's, which has one code for all.
    """
    if sqlstate is None:
        return True
    if sqlstate == PROTOCOL_VIOLATION:
        return not any(words in message for words in _POOLER_SAYS_NO)
    return sqlstate.startswith(_PASSING) and sqlstate not in _LASTING


def one_line(error: Exception) -> str:
    """An error's text without its line breaks."""
    return " ".join(str(error).split())


def translated(error: psycopg.Error, table: str) -> PipelineError:
    """An error of the source as what the caller does about it, in words that quote no value.

    Args:
        error: psycopg's.
        table: the declared table's name.
    """
    code, words = error.sqlstate, told(error)
    detail = error.diag.message_detail or ""
    if code == _FOREIGN_SERVER and SPOKEN.search(detail) and not any(passing in detail for passing in _NOT_NOW):
        return ConfigurationError(
            f"table {table}: {words}: {' '.join(detail.split())}; correct the foreign server or its user mapping"
        )
    by_the_driver = code is None and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if may_pass(code, str(error)) and not by_the_driver:
        return TransientError(f"table {table}: the source broke off: {words}")
    if code is not None and code.startswith(_OF_VALUES):
        return DataError(
            "value_does_not_fit", f"PostgreSQL refuses a value: {condition(code)} (SQLSTATE {code})", table=table
        )
    advice = "; names of other schemas than pg_catalog have to be written with it" if code in _NOT_FOUND else ""
    return ConfigurationError(f"table {table}: the source refuses the read: {words}{advice}")


def condition(sqlstate: str) -> str:
    """The name of a SQLSTATE, for people: ``DivisionByZero``."""
    try:
        return psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return "an error"
