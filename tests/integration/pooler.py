"""The real PgBouncer, before a server of the test's own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.stack.component import Component, PostgresProbe
from local.stack.ports import HOST, choose_ports
from local.stack.postgres_programs import clean_environment, server_user
from tests.integration.extractor_harness import PASSWORD, ROLE, short_folder
from tests.processes import process

PROGRAM = "pgbouncer"
FOLDERS = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer."""

    port: int
    log: Path


@contextmanager
def pooler(server_port: int, mode: str, **settings: str) -> Iterator[Pooler]:
    """Run PgBouncer for a block; skips where it is not installed.

    Args:
        server_port: of the PostgreSQL server behind it, for all its databases.
        mode: pool_mode: session, transaction or statement.
        settings: more of it, by name.
    """
    program = shutil.which(PROGRAM, path=FOLDERS)
    if program is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    port = choose_ports(["pooler"])["pooler"]
    with short_folder() as name:
        folder = Path(name)
        log = folder / "pgbouncer.log"
        facts = {
            "listen_addr": HOST,
            "listen_port": str(port),
            "unix_socket_dir": "",
            "pool_mode": mode,
            "auth_type": "scram-sha-256",
            "auth_file": str(folder / "users.txt"),
            "logfile": "",
            **settings,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in facts.items())
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={HOST} port={server_port}\n[pgbouncer]\n{lines}\n"
        )
        (folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        planned = Component(
            name=PROGRAM,
            argv=(program, str(folder / "pgbouncer.ini")),
            env=clean_environment(),
            cwd=folder,
            ports={"pooler": port},
            probe=PostgresProbe(host=HOST, port=port),
            log=log,
            user=server_user(),
        )
        with process(planned):
            yield Pooler(port, log)
