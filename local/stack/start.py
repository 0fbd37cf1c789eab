"""Carry out a plan: start components, each written down as soon as it runs, and undo that when something fails."""

import threading
from collections.abc import Iterable

from local.stack import postgres
from local.stack.component import Component
from local.stack.environment import pipeline_variables
from local.stack.errors import StackError
from local.stack.home import Home
from local.stack.plan import Programs
from local.stack.ports import HOST
from local.stack.process import find, spawn, stop
from local.stack.readiness import wait_until_ready
from local.stack.record import Stack, write_record
from local.stack.steps import OnProgress, Progress, Step

RESOURCE_NEEDS = frozenset({"storage", "warehouse", "bus"})
"""Components that must be ready before resources can be created in them."""


class Starter:
    """Starts components of one stack, from several threads at once."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._home = Home.at(stack.home)
        self._started: list[str] = []
        self._mutex = threading.Lock()

    def start(self, component: Component, cancel: threading.Event) -> None:
        """Start a component and wait until it is ready.

        Raises:
            ComponentError: it is not.
            StepCancelledError: `cancel` was set meanwhile.
        """
        with self._mutex:
            process = spawn(component)
            self._started.append(component.name)
            self.stack = self.stack.model_copy(update={"processes": {**self.stack.processes, component.name: process}})
            write_record(self._home.record, self.stack)
        wait_until_ready(component, process, cancel)

    def finish(self) -> Stack:
        """Write down that all is ready."""
        self.stack = self.stack.model_copy(update={"complete": True})
        write_record(self._home.record, self.stack)
        return self.stack

    def undo(self, on_progress: OnProgress) -> bool:
        """Stop what was started. Returns whether nothing of the stack runs any more; its record is then gone."""
        stop_components(self.stack, self._started, on_progress)
        left = {name: process for name, process in self.stack.processes.items() if find(process)}
        if left:
            write_record(self._home.record, self.stack.model_copy(update={"processes": left, "complete": False}))
        else:
            self._home.record.unlink(missing_ok=True)
        return not left


def plan_steps(starter: Starter, programs: Programs) -> list[Step]:
    """Return the steps that bring up everything of the starter's stack that does not run."""
    stack = starter.stack
    steps = [_client_libraries(), _resources(stack)]
    if programs.postgres:
        binaries, cluster = programs.postgres
        port = stack.ports["postgres"]
        steps.append(Step("initdb", lambda cancel: postgres.initialise(cluster, binaries)))
        steps.append(Step("database", lambda cancel: postgres.create_database(cluster, port), frozenset({"postgres"})))
    for component in stack.components:
        if component.name not in stack.processes:
            steps.append(_component_step(starter, component))
    return steps


def stop_components(stack: Stack, names: Iterable[str], on_progress: OnProgress) -> None:
    """Stop components in the reverse order of starting.

    Raises:
        StackError: one does not even end by SIGKILL.
    """
    names = set(names)
    for component in reversed(stack.components):
        process = stack.processes.get(component.name)
        if component.name not in names or process is None or find(process) is None:
            continue
        on_progress(Progress(component.name, "stopping"))
        stop(process, component.stop_signal, component.stop_seconds)
        if find(process):
            raise StackError(f"{component.name} (pid {process.pid}) cannot be ended; is it another user's?")
        on_progress(Progress(component.name, "stopped"))


def create_resources(stack: Stack, *, bus_only: bool = False) -> None:
    """Create the buckets, datasets, topics and subscriptions of a stack; those that exist stay.

    Args:
        stack: the stack.
        bus_only: only topics and subscriptions; bucket and warehouse are not asked.

    Raises:
        StackError: an emulator refused.
    """
    # Google's client libraries take two seconds to import: `down` and `status` go without.
    from local.stack.provision import Endpoints, provision
    from local.stack.resources import ResourceSettings, plan_resources

    variables = pipeline_variables(stack.options, stack.ports)
    settings = ResourceSettings.model_validate(
        {"GCP_PROJECT": variables["GCP_PROJECT"], **{name.lower(): value for name, value in variables.items()}}
    )
    loader_url, transformer_url = (f"http://{HOST}:{stack.ports[name]}/" for name in ("loader", "transformer"))
    provision(
        plan_resources(settings, loader_url, transformer_url),
        Endpoints(
            storage=variables["STORAGE_EMULATOR_HOST"],
            bigquery=variables["BIGQUERY_EMULATOR_HOST"],
            pubsub=variables["PUBSUB_EMULATOR_HOST"],
        ),
        bus_only=bus_only,
    )


def _component_step(starter: Starter, component: Component) -> Step:
    needs = frozenset({"initdb"}) if component.name == "postgres" else frozenset[str]()
    return Step(component.name, lambda cancel: starter.start(component, cancel), needs)


def _client_libraries() -> Step:
    def load(cancel: threading.Event) -> None:
        import local.stack.provision  # noqa: F401 - slow, and nothing else needs the processor's every moment yet

    return Step("client libraries", load)


def _resources(stack: Stack) -> Step:
    return Step("resources", lambda cancel: create_resources(stack), RESOURCE_NEEDS | {"client libraries"})
