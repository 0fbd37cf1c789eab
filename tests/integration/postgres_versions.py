"""PostgreSQL of every version that can be had here.

The database they give has unusual defaults, so that what depends on a session's settings shows.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from local.stack import postgres
from local.stack.errors import StackError
from local.stack.ports import HOST, choose_ports
from local.stack.postgres_programs import Binaries, binary_folders, find_binaries, server_user
from services.core.settings import SourceSettings
from services.extractor.contract.masking import mask_settings
from services.extractor.source.connection import environment
from services.extractor.source.terms import set_terms
from tests.processes import process

VERSIONS = (15, 18)
SECRET = SecretStr("a secret of the tests, with 'quotes' and \\ in it")
DATABASE = "types"
UNUSUAL = {
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "xmloption": "document",
}


@dataclass(frozen=True)
class Server:
    """A running server of one version."""

    version: int
    dsn: str = field(repr=False)

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A superuser's connection with the settings that the extractor's transactions have."""
        connection = psycopg.connect(self.dsn, autocommit=True)
        for statement in set_terms():
            connection.execute(statement.replace("SET LOCAL", "SET").encode())
        # What a test makes without a schema is in the usual one.
        connection.execute("SET search_path = public")
        return connection


def binaries_of(version: int) -> Binaries | None:
    """The programs of a version, where this machine has them and may run them."""
    for folder in binary_folders():
        try:
            found = find_binaries(server_user(), folders=[folder])
        except StackError:
            continue
        if found.major == version:
            return found
    return None


@contextmanager
def running(version: int, binaries: Binaries, folder: Path) -> Iterator[Server]:
    """Run a server for a block; its cluster is gone afterwards."""
    cluster = postgres.new_cluster(folder / "postgres", server_user())
    try:
        postgres.initialise(cluster, binaries)
        port = choose_ports(["postgres"])["postgres"]
        password = cluster.superuser_password.get_secret_value()
        access = f"host={HOST} port={port} user={postgres.SUPERUSER} password={password}"
        with process(postgres.component(cluster, binaries, port, folder / "postgres.log")):
            with psycopg.connect(make_conninfo(access, dbname="postgres"), autocommit=True) as connection:
                database = sql.Identifier(DATABASE)
                connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
                for name, value in UNUSUAL.items():
                    setting = sql.SQL("ALTER DATABASE {} SET {} = {}")
                    connection.execute(setting.format(database, sql.Identifier(name), sql.Literal(value)))
            yield Server(version, make_conninfo(access, dbname=DATABASE, client_encoding="utf8"))
    finally:
        # Elsewhere when the server's user may not enter the preferred folder.
        shutil.rmtree(cluster.folder, ignore_errors=True)


@contextmanager
def served(version: int) -> Iterator[Server]:
    """A server for a block, in which libpq's environment is the extractor's; skips when there is none."""
    binaries = binaries_of(version)
    if binaries is None:
        pytest.skip(f"no PostgreSQL {version} on this machine")
    settings = SourceSettings(postgres_host=HOST, postgres_user=postgres.SUPERUSER)
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        running(version, binaries, Path(folder)) as server,
    ):
        for name, value in environment(settings, mask_settings(SECRET)).items():
            patch.setenv(name, value)
        yield server
