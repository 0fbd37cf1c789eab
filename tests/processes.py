"""Single processes of the local stack, for tests that need one of them and not the whole."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.stack import postgres
from local.stack.component import Component
from local.stack.emulators import find_java_emulators, firestore_emulator
from local.stack.home import Home
from local.stack.ports import HOST, choose_ports
from local.stack.postgres_programs import find_binaries, server_user
from local.stack.process import spawn, stop
from local.stack.readiness import wait_until_ready

WITHOUT_PANDAS = """
import sys
class WithoutPandas:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutPandas())
"""
"""What every Python imports first. As in the image, there is no pandas: the engine imports it where it is, which takes
a third of a short run."""


@contextmanager
def process(component: Component) -> Iterator[None]:
    """Run a component for a block."""
    started = spawn(component)
    try:
        wait_until_ready(component, started, threading.Event())
        yield
    finally:
        stop(started, component.stop_signal, component.stop_seconds)


@contextmanager
def throwaway_postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of its own; yields a superuser's connection string."""
    user = server_user()
    binaries = find_binaries(user)
    cluster = postgres.new_cluster(folder / "postgres", user)
    postgres.initialise(cluster, binaries)
    port = choose_ports(["postgres"])["postgres"]
    try:
        with process(postgres.component(cluster, binaries, port, folder / "postgres.log")):
            password = cluster.superuser_password.get_secret_value()
            yield f"host={HOST} port={port} dbname=postgres user={postgres.SUPERUSER} password={password}"
    finally:
        # Elsewhere when the server's user may not enter the preferred folder.
        shutil.rmtree(cluster.folder, ignore_errors=True)


@contextmanager
def firestore(folder: Path) -> Iterator[str]:
    """Google's Firestore emulator; yields host:port."""
    home = Home.at(folder)
    home.make()
    ports = choose_ports(["state", "websocket"])
    component = firestore_emulator(find_java_emulators(), home, ports["state"], ports["websocket"])
    with process(component):
        yield f"{HOST}:{ports['state']}"
