"""What an engine's words mean, when it could not read: none of them is kept that could quote a value."""

import re

from services.core.errors import TransientError

_SERVER_SAID = re.compile(r"(?:^|: )([^\s:\"]+):  ")
"""Before a server's own words libpq puts their severity, a colon and two blanks, in every language."""

_PASSING = re.compile(
    r"(?:ERROR|FATAL|PANIC):\s+(?P<server>(?:terminating connection|canceling statement|deadlock detected"
    r"|the database system is|sorry, too many clients|too many connections|remaining connection slots"
    r"|could not serialize access|out of (?:shared )?memory|snapshot \"[^\"]*\" does not exist)[^\n]*)"
    r"|(?P<connection>(?:server closed the connection|could not receive data|could not send data|connection to server "
    r"|no connection to the server|SSL (?:SYSCALL )?error|failed to allocate)[^\n]*)"
)
"""Words of PostgreSQL and libpq that pass, and quote no value; in other languages the SQLSTATE is asked for."""

_REFUSED = re.compile(r"column (\S+): BigQuery's \w+ has no (?!')")
"""Of the error that ``contract.mapping`` makes PostgreSQL raise. In the statement, which may be in the message too, the
apostrophe is doubled."""


class EngineFailed(Exception):
    """The engine could not read. Its own text can quote a value, and not every engine has a SQLSTATE.

    Attributes:
        spoken: whether the server said something: then it has a SQLSTATE, which another connection gets to know.
        passing: whether its words are of those that pass.
        words: what may be told of it.
        column: the column that has a value which its type lacks, where PostgreSQL's check says so.
        rows: how many had come before.
    """

    def __init__(self, text: str, rows: int = 0) -> None:
        """Take the engine's words apart; none of them is kept that could quote a value."""
        super().__init__()
        passing, refused = _PASSING.search(text), _REFUSED.search(text)
        self.rows = rows
        self.spoken = _SERVER_SAID.search(text) is not None
        self.passing = passing is not None
        self.words = "the engine could not read on"
        if passing is not None:
            self.words = str(passing["server"] or passing["connection"]).strip()
        self.column = refused[1] if refused is not None else None


class RowsTooWide(TransientError):
    """Rows take more memory than the engine has for those that it reads at once; the next attempt reads by bytes."""
