"""How the source is reached: the connection string, the environment, and a connection with a few retries."""

import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from tenacity import retry, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential_jitter

from services.core.errors import ConfigurationError
from services.core.settings import SourceSettings
from services.extractor.source.errors import PROTOCOL_VIOLATION, may_pass, one_line
from services.extractor.source.refusal import spoken, sqlstate_of_refusal
from services.extractor.source.terms import APPLICATION, MARK, PROCESS

Connection = psycopg.Connection[tuple[Any, ...]]


def conninfo(settings: SourceSettings) -> str:
    """Libpq connection string. It has no secret: clients print it in their errors. ``environment`` carries the rest."""
    return make_conninfo(
        host=settings.postgres_host,
        port=settings.postgres_port,
        dbname=settings.postgres_db,
        user=settings.postgres_user,
        sslmode=settings.postgres_sslmode,
        connect_timeout=10,
        # A server that is gone is noticed while a read waits for it, not hours later.
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=60_000,
        application_name=APPLICATION,
        client_encoding="utf8",
    )


OPTIONS = "PGOPTIONS"
"""Environment variable by which libpq has the startup options of every session."""


def environment(settings: SourceSettings, secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    """What libpq reads from the environment: the password, and ``secrets`` as startup options of every session.

    Neither shows in a statement, an error or the server's list of activities. Without secrets there are no options,
    which some poolers refuse.
    """
    password = settings.postgres_password.get_secret_value()
    found = {"PGPASSWORD": password} if password else {}
    if secrets:
        options = {**secrets, MARK: PROCESS}
        found[OPTIONS] = " ".join(f"-c {name}={value}" for name, value in options.items())
    return found


def refuses_options(info: str) -> bool:
    """Whether startup options are refused, as some poolers do; asked once, and a server that is away does not say.

    Raises nothing: what else is wrong with the connection, the first question says.
    """
    try:
        psycopg.connect(info, autocommit=True).close()
    except psycopg.OperationalError as error:
        return spoken(error) and sqlstate_of_refusal(info) == PROTOCOL_VIOLATION
    return False


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError)


@retry(
    retry=retry_if_exception(_may_pass),
    stop=stop_after_attempt(6) | stop_after_delay(30),
    wait=wait_exponential_jitter(initial=0.5, max=10),
    reraise=True,
)
def connect(info: str) -> Connection:
    """Connect, with a few retries over about twenty seconds: a server that restarts is back by then.

    One that does not answer at all is given up sooner than in six times ten seconds: within a minute people see why.

    Raises:
        ConfigurationError: the server refuses this user, or what is asked of the session.
        psycopg.OperationalError: the server cannot be reached, or not now.
    """
    try:
        # A pooler may give every transaction another session: no statement is prepared for the next one.
        return psycopg.connect(info, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        code = sqlstate_of_refusal(info) if spoken(error) else None
        if code is None or may_pass(code, str(error)):
            raise
        raise ConfigurationError(f"the source refuses the connection (SQLSTATE {code}): {one_line(error)}") from None


class Connections:
    """Takes connections up again: to make one, and to let PostgreSQL learn its catalog anew, takes longer than to ask.

    All that a transaction of ours sets ends with it (``terms``), so one that begins on a connection which was taken up
    again is like one on a new connection. None waits inside a transaction. Safe between threads.
    """

    def __init__(self) -> None:
        """There is none yet."""
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def take(self) -> Connection | None:
        """One that waits; its server may have ended it meanwhile."""
        with self._lock:
            return self._idle.pop() if self._idle else None

    def give_back(self, connection: Connection) -> None:
        """End a connection's transaction and let it wait for the next one; close it where that cannot be."""
        try:
            if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close those that wait."""
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
