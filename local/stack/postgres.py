"""The local PostgreSQL: its cluster, its process, its database, and how clients reach it.

Durability is switched off (`fsync`): the data survives the end of any process, but not a crash of the machine.
"""

import os
import pwd
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, SecretStr, field_serializer

from local.stack.component import Component, PostgresProbe
from local.stack.errors import StackError
from local.stack.ports import HOST
from local.stack.postgres_programs import Binaries, clean_environment, leading_number, run_as
from services.core.settings import SourceSettings

DATABASE = str(SourceSettings.model_fields["postgres_db"].default)
USER = "credix"
SUPERUSER = "postgres"

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes; TCP is enough
    "wal_level": "logical",
    "max_prepared_transactions": "16",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A commit still goes to the operating system (synchronous_commit stays on): a killed server loses none.
    "fsync": "off",
    "full_page_writes": "off",
}


class Cluster(BaseModel):
    """A cluster's folder, owner and passwords: what is needed to start it again."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    user: str | None
    superuser_password: SecretStr
    password: SecretStr

    @field_serializer("superuser_password", "password", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.folder / "data"


class PostgresAccess(BaseModel):
    """How a client reaches the source database."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    database: str
    user: str
    password: SecretStr
    sslmode: str

    @field_serializer("password", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


def cluster_folder(preferred: Path, user: str | None) -> Path:
    """Make and return a folder that the server's user owns and can reach.

    The preferred one when that user can enter all its parents, else a new one in the system's temporary folder (the
    repository may be in root's home, which no other user may enter).
    """
    if user is None:
        preferred.mkdir(parents=True, exist_ok=True)
        return preferred
    account = pwd.getpwnam(user)
    preferred.parent.mkdir(parents=True, exist_ok=True)
    if run_as(user, ["test", "-x", str(preferred.parent)], cwd=Path("/")).returncode == 0:
        preferred.mkdir(exist_ok=True)
        folder = preferred
    else:
        folder = Path(tempfile.mkdtemp(prefix="credix-postgres-"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def new_cluster(preferred: Path, user: str | None) -> Cluster:
    """Return a cluster with new passwords and its folder made; `initialise` fills it."""
    return Cluster(
        folder=cluster_folder(preferred, user),
        user=user,
        superuser_password=SecretStr(secrets.token_urlsafe(24)),
        password=SecretStr(secrets.token_urlsafe(24)),
    )


def made_by(cluster: Cluster) -> int | None:
    """Return the major version of PostgreSQL that made the cluster; None when it is not made yet."""
    version = cluster.data / "PG_VERSION"
    return leading_number(version.read_text()) if version.exists() else None


def initialise(cluster: Cluster, binaries: Binaries) -> None:
    """Run initdb unless the cluster exists. It is made aside and renamed, so an interrupted start leaves no half of it.

    Raises:
        StackError: initdb failed.
    """
    if made_by(cluster) is not None:
        return
    unfinished = cluster.folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file = cluster.folder / "superuser-password"
    _write_secret(password_file, cluster.superuser_password, cluster.user)
    try:
        for locale in ("C.UTF-8", "C"):  # the first is not on every machine
            problem = _initdb(cluster, binaries, unfinished, password_file, locale)
            if problem is None:
                break
        else:
            raise StackError(f"initdb in {cluster.folder} failed: {problem}")
    finally:
        password_file.unlink()
    unfinished.rename(cluster.data)


def component(cluster: Cluster, binaries: Binaries, port: int, log: Path) -> Component:
    """Plan the server's process."""
    settings = [f"--{name}={value}" for name, value in SERVER_SETTINGS.items()]
    return Component(
        name="postgres",
        argv=(str(binaries.server), "-D", str(cluster.data), "-p", str(port), *settings),
        env=clean_environment(),
        cwd=cluster.folder,
        ports={"postgres": port},
        probe=PostgresProbe(host=HOST, port=port),
        log=log,
        user=cluster.user,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
    )


def access(cluster: Cluster, port: int) -> PostgresAccess:
    """Return how a client reaches the cluster's database."""
    return PostgresAccess(
        host=HOST, port=port, database=DATABASE, user=USER, password=cluster.password, sslmode="disable"
    )


def create_database(cluster: Cluster, port: int) -> None:
    """Create the database and its owner; also when they exist already.

    The owner is no superuser, so a privilege that production lacks is missed here too. It may read every session's
    statistics (which the extraction's windows need), replicate, and create databases and roles for tests.
    """
    superuser = psycopg.connect(
        host=HOST,
        port=port,
        dbname="postgres",
        user=SUPERUSER,
        password=cluster.superuser_password.get_secret_value(),
        sslmode="disable",
        autocommit=True,
    )
    with superuser as connection:
        # Only the verifier is sent: a statement with a password in it could end in the server's log.
        verifier = connection.pgconn.encrypt_password(
            cluster.password.get_secret_value().encode(), USER.encode(), b"scram-sha-256"
        ).decode()
        user, database = sql.Identifier(USER), sql.Identifier(DATABASE)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [USER]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {}").format(user))
        connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN REPLICATION CREATEDB CREATEROLE PASSWORD {}").format(
                user, sql.Literal(verifier)
            )
        )
        connection.execute(sql.SQL("GRANT pg_read_all_stats TO {}").format(user))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))


def existing(dsn: str) -> PostgresAccess:
    """Connect to a database that is there already and return how its clients reach it.

    Raises:
        StackError: it cannot be reached; the message holds no password.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            info = connection.info
            used = psycopg.conninfo.conninfo_to_dict(dsn)
            return PostgresAccess(
                host=info.host,
                port=info.port,
                database=info.dbname,
                user=info.user,
                password=SecretStr(info.password),
                sslmode=str(used.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"),
            )
    except psycopg.Error as error:
        raise StackError(f"cannot connect to the given database: {error}") from error


def _initdb(cluster: Cluster, binaries: Binaries, folder: Path, password_file: Path, locale: str) -> str | None:
    """Make the cluster's files; return what went wrong, or None."""
    command = [
        str(binaries.folder / "initdb"),
        f"--pgdata={folder}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        f"--locale={locale}",
        "--no-sync",
    ]
    done = run_as(cluster.user, command, cwd=cluster.folder)
    return None if done.returncode == 0 else (done.stderr or done.stdout or f"exit status {done.returncode}").strip()


def _write_secret(path: Path, secret: SecretStr, owner: str | None) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secret.get_secret_value())
    if owner:
        account = pwd.getpwnam(owner)
        os.chown(path, account.pw_uid, account.pw_gid)
