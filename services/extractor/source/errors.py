"""PostgreSQL's errors, told apart by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html).

Messages are in the server's language, codes are not.
"""

PROTOCOL_VIOLATION = "08P01"
"""With this, PgBouncer says nearly everything that it says of its own, in one language."""

_PASSING = ("08", "25P0", "40", "53", "55P03", "55006", "57", "58", "72", "XX000")
"""What begins so may be over at the next attempt: connections, transactions that others ended, resources, locks, a
server that stops or starts, an internal error."""

_LASTING = ("57P04",)
"""The exception: a database that was dropped."""

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
