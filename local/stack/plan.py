"""Which components a stack has, and in what they depend on one another. Pure: nothing is started here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.stack import emulators, postgres, services
from local.stack.component import Component
from local.stack.emulators import JavaEmulators
from local.stack.environment import pipeline_variables
from local.stack.home import Home
from local.stack.options import StackOptions
from local.stack.postgres import Cluster
from local.stack.postgres_programs import Binaries
from local.stack.resources import LANDING_TOPIC

PORT_NAMES = (
    "postgres",
    "storage",
    "warehouse-rest",
    "warehouse-grpc",
    "bus",
    "state",
    "state-websocket",
    "loader",
    "transformer",
)
"""Every port there can be; each stack gets all, so that a changed profile changes no port."""


@dataclass(frozen=True)
class Programs:
    """What was found on this machine.

    Attributes:
        storage: fake-gcs-server.
        postgres: the server's programs and its cluster; None when a database was given.
        java: Google's emulators; None in the embedded profile.
    """

    storage: Path
    postgres: tuple[Binaries, Cluster] | None
    java: JavaEmulators | None


def plan_components(options: StackOptions, ports: Mapping[str, int], programs: Programs) -> tuple[Component, ...]:
    """Return the stack's components, each after those that it talks to; they are stopped in the reverse order."""
    home = Home.at(options.home)
    variables = pipeline_variables(options, ports)
    components: list[Component] = []
    if programs.postgres:
        binaries, cluster = programs.postgres
        components.append(postgres.component(cluster, binaries, ports["postgres"], home.log_of("postgres")))
    if programs.java:
        components.append(emulators.pubsub_emulator(programs.java, home, ports["bus"]))
        components.append(emulators.firestore_emulator(programs.java, home, ports["state"], ports["state-websocket"]))
    else:
        components.append(emulators.broker(home, ports["bus"]))
    components.append(emulators.warehouse(home, ports["warehouse-rest"], ports["warehouse-grpc"], options.analyzer))
    components.append(
        emulators.storage(
            programs.storage,
            home,
            ports["storage"],
            ports["bus"],
            bucket=variables["LANDING_BUCKET"],
            prefix=variables["LANDING_PREFIX"],
            topic=LANDING_TOPIC,
        )
    )
    if options.services:
        components.append(services.loader(home, options.loader_source, ports["loader"], variables))
        components.append(services.transformer(home, options.transformer_source, ports["transformer"], variables))
    return tuple(components)
