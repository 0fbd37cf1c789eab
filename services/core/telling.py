"""What may be told of an error, in the state, a log or a report: no value of a row, and no secret.

An error's text is as free as what went wrong: PostgreSQL, Arrow and Python quote the value that they could not take. So
an error is told in its own words only where those are known to be about names and places. Of any other, its class is
told, and where in the code it happened.
"""

import re
import traceback

from services.core.errors import DataError, PipelineError

MOST_LETTERS = 600
"""Of what is told; an error can quote a whole statement."""

_NAMES_ONLY = ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")
"""Classes of SQLSTATE whose messages name objects and settings, never a value of a row: 22 and 23 quote it, and P0 is
whatever a function says (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")
"""Of an address: an upload's session is in it, by which anybody may write."""


def kind(error: BaseException) -> str:
    """A word that tells errors apart: a DataError's code, else the class."""
    return error.code if isinstance(error, DataError) else type(error).__name__


def told(error: BaseException) -> str:
    """What went wrong, in one line."""
    words = " ".join(_words(error).split())
    words = _QUERY.sub(r"\1?…", words)
    return words if len(words) <= MOST_LETTERS else f"{words[: MOST_LETTERS - 1]}…"


def kind_and_words(error: BaseException) -> str:
    """Class and words, where there is one place for both."""
    return f"{type(error).__name__}: {told(error)}"


def where(error: BaseException) -> list[str]:
    """Where in this project's code it happened, the innermost place first: for a log that must not have its words."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{_module(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)][:12]


def _module(filename: str) -> str:
    path = filename.replace("\\", "/")
    for root in ("/services/", "/site-packages/"):
        if root in path:
            return path.split(root)[-1]
    return path.rsplit("/", 1)[-1]


def _words(error: BaseException) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "the process was told to end"
    if hasattr(error, "sqlstate"):
        return _words_of_database(error, error.sqlstate)
    # Clients of Google Cloud and of HTTP tell the address, the answer's code and its reason.
    if isinstance(error, OSError) or type(error).__module__.startswith(("google.", "sqlite3")):
        return str(error)
    return "an error that nobody foresaw; the log says where it happened"


def _words_of_database(error: BaseException, sqlstate: str | None) -> str:
    """PostgreSQL's own words, where they cannot quote a value; what a driver finds by itself, only of a connection."""
    if sqlstate is None:
        return str(error) if type(error).__name__ == "OperationalError" else "the driver could not take a value"
    said = getattr(error, "diag", None)
    # With a context it came from within a function or another server, whose words can be anything, whatever the code.
    if sqlstate.startswith(_NAMES_ONLY) and not getattr(said, "context", None):
        words = getattr(said, "message_primary", None) or "no reason"
        why = getattr(said, "message_detail", None) if sqlstate.startswith("08") else None
        return f"{words}{f': {why}' if why else ''} (SQLSTATE {sqlstate})"
    if sqlstate.startswith(_NAMES_ONLY):
        return f"PostgreSQL refused it from within a function (SQLSTATE {sqlstate}); its own log says why"
    return f"PostgreSQL refused a value (SQLSTATE {sqlstate}); its own log says which"
