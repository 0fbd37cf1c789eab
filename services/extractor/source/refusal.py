"""Why a server refuses a connection: the SQLSTATE, which libpq receives and does not hand over.

Its message is in the server's language. libpq can write down what it sends and receives, though, and the refusal is
there with its fields (https://www.postgresql.org/docs/current/libpq-control.html#LIBPQ-PQTRACE).
"""

import os
import re
import select

from psycopg import OperationalError, pq

from services.core import machine

SPOKEN = re.compile(r"failed: [^\s:]+:  ")
"""A message that came from a server: libpq puts its severity, a colon and two blanks before it, in every language."""

_FIELDS = re.compile(r'^B\t\d+\tErrorResponse\t.* C "([0-9A-Z]{5})"', re.MULTILINE)

_READS, _WRITES = pq.PollingStatus.READING, pq.PollingStatus.WRITING


def spoken(error: OperationalError) -> bool:
    """Whether a server answered a connection that failed: it can be reached, and says no."""
    return SPOKEN.search(str(error)) is not None


def sqlstate_of_refusal(info: str, seconds: float = 10) -> str | None:
    """Try to connect once more; the SQLSTATE of the refusal, or None where there is none any more.

    Args:
        info: libpq connection string.
        seconds: how long at most.
    """
    trace = os.memfd_create("refusal")  # in memory only: what is sent may be a password
    connection = pq.PGconn.connect_start(info.encode())
    try:
        connection.trace(trace)
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        deadline = machine.monotonic() + seconds
        status = int(_WRITES)
        while status in (_READS, _WRITES) and (left := deadline - machine.monotonic()) > 0:
            reads, writes = ([connection.socket] if status == waiting else [] for waiting in (_READS, _WRITES))
            select.select(reads, writes, [], left)
            status = connection.connect_poll()
        connection.untrace()
        os.lseek(trace, 0, os.SEEK_SET)
        with os.fdopen(os.dup(trace), encoding="utf-8", errors="replace") as written:
            found = _FIELDS.search(written.read())
        return found[1] if found else None
    except OperationalError:  # there is no socket to wait for: not even an address
        return None
    finally:
        connection.finish()
        os.close(trace)
