"""Start, stop and look at a stack.

`up` makes what runs equal to what is asked: components that run as planned are left alone, dead ones are started again
on their ports and data, changed ones are replaced. So a second `up` finds nothing to do, a half dead stack is repaired,
and what a killed `up` left behind is taken over.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from local.stack import postgres, postgres_programs
from local.stack.component import Component
from local.stack.emulators import find_java_emulators, storage_binary
from local.stack.errors import StackBusyError, StackError
from local.stack.home import Home
from local.stack.lock import locked
from local.stack.options import StackOptions
from local.stack.plan import PORT_NAMES, Programs, plan_components
from local.stack.ports import choose_ports
from local.stack.process import find, kill, memory_bytes
from local.stack.readiness import is_ready
from local.stack.record import Keepsake, Stack, read_keepsake, read_stack, write_record
from local.stack.signals import terminable, uninterrupted
from local.stack.start import Starter, create_resources, plan_steps, stop_components
from local.stack.steps import OnProgress, Progress, run_steps

LOCK_SECONDS = 120.0
"""How long to wait for another `up` or `down` of the same home."""


class ComponentStatus(BaseModel):
    """How a component is now."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["ready", "unresponsive", "stopped"] = Field(
        description="unresponsive: its process runs but does not answer."
    )
    pid: int | None
    ports: dict[str, int]
    memory_bytes: int | None = Field(description="Of the process and its children; shared memory counted once.")
    started: datetime | None
    log: Path


def _silent(progress: Progress) -> None:
    del progress


def up(options: StackOptions, on_progress: OnProgress = _silent) -> Stack:
    """Start a stack, or what is missing of it, and return when all of it is ready.

    The processes go on when the caller ends; `down` ends them. When something fails, or the caller is interrupted,
    everything that this call started is stopped again (and removed, when the stack is ephemeral; after a failure the
    logs stay).

    Args:
        options: what to start.
        on_progress: called, in the caller's thread, for each thing started (`ready`) or found running (`running`).

    Raises:
        NotInstalledError: a program is missing.
        ComponentError: a component did not start; holds its command and its log's end.
        StackBusyError: another process works on the same home.
        StackError: anything else.
    """
    home = Home.at(options.home)
    with terminable(), _changing(home, on_progress):
        recorded = read_stack(home.record)
        stack, programs = _plan(options, home, recorded)
        if recorded:
            stop_components(recorded, set(_living(recorded)) - set(stack.processes), on_progress)
        for component in stack.components:
            if component.name in stack.processes:
                on_progress(Progress(component.name, "running"))
        starter = Starter(stack)
        try:
            if not (recorded and recorded.complete and len(stack.processes) == len(stack.components)):
                run_steps(plan_steps(starter, programs), on_progress)
            return starter.finish()
        except BaseException as error:
            with uninterrupted():
                nothing_runs = starter.undo(on_progress)
                if nothing_runs and options.ephemeral:
                    _remove_data(home, keep_logs=isinstance(error, Exception))
            raise


def down(home: Path, *, remove_data: bool | None = None, on_progress: OnProgress = _silent) -> tuple[str, ...]:
    """Stop a stack: its components in the reverse order of starting. Fine when none runs.

    Args:
        home: the stack's folder.
        remove_data: remove everything the stack wrote, also when it does not run any more; by default only when it was
            started as ephemeral.
        on_progress: called for each component stopped.

    Returns:
        The components that were running.

    Raises:
        StackBusyError: another process works on the same home.
        StackError: a process cannot be ended.
    """
    place = Home.at(home)
    if not place.record.exists() and not place.keepsake.exists():
        return ()
    with _changing(place, on_progress):
        stack = read_stack(place.record)
        running = tuple(_living(stack))
        if stack:
            stop_components(stack, running, on_progress)
            place.record.unlink()
        ephemeral = stack is not None and stack.options.ephemeral
        if ephemeral if remove_data is None else remove_data:
            _remove_data(place)
        return running


@contextmanager
def running(options: StackOptions, on_progress: OnProgress = _silent) -> Iterator[Stack]:
    """Start a stack for the length of a `with`; it is always stopped at the end, its data removed when ephemeral.

    Raises:
        StackError: a stack runs in this home already; it is left alone.
    """
    if _living(load(options.home)):
        raise StackError(f"a stack runs in {options.home} already: stop it first, or use another home")
    with terminable():
        stack = up(options, on_progress)
        try:
            yield stack
        finally:
            with uninterrupted():
                down(options.home, on_progress=on_progress)


def load(home: Path) -> Stack | None:
    """Return the stack that was started in a folder and not stopped, or None. Its processes may have ended since.

    Raises:
        StackError: the record is not this version's.
    """
    return read_stack(Home.at(home).record)


def status(home: Path) -> list[ComponentStatus]:
    """Look at every component of the stack started in a folder; empty when there is none."""
    stack = load(home)
    return [_look(stack, component) for component in stack.components] if stack else []


def kill_component(stack: Stack, name: str) -> Stack:
    """End a component at once with SIGKILL, as a crash would. Returns the stack as recorded."""
    with _recorded(stack) as current:
        component = current.component(name)
        if component.name in current.processes:
            kill(current.processes[component.name])
        return current


def start_component(stack: Stack, name: str) -> Stack:
    """Start a component that does not run, with the same command, ports and data, and wait until it is ready.

    Google's Pub/Sub emulator forgets its topics with its process, so a started bus gets its resources again.

    Returns:
        The stack as recorded now; unchanged when the component runs.

    Raises:
        ComponentError: it did not start; it is stopped again.
    """
    with terminable(), _recorded(stack) as current:
        component = current.component(name)
        if name in _living(current):
            return current
        starter = Starter(current)
        try:
            starter.start(component, threading.Event())
            if name == "bus":
                create_resources(current, bus_only=True)
        except BaseException:
            with uninterrupted():
                stop_components(starter.stack, [name], _silent)
            raise
        return starter.stack


def restart_component(stack: Stack, name: str) -> Stack:
    """Stop a component in order and start it again. Raises as `start_component` does."""
    with _recorded(stack) as current:
        current.component(name)
        stop_components(current, [name], _silent)
    return start_component(current, name)


def _plan(options: StackOptions, home: Home, recorded: Stack | None) -> tuple[Stack, Programs]:
    """Return the stack to be, with the processes that can stay as they are, and the programs to start the rest."""
    living = _living(recorded)
    left = read_keepsake(home.keepsake) or Keepsake(ports={}, cluster=None)
    java = find_java_emulators() if options.profile == "emulators" else None
    storage = storage_binary()
    home.make()
    used = frozenset(port for component in living.values() for port in component.ports)
    ports = choose_ports(PORT_NAMES, preferred=left.ports, keep=used)
    cluster = left.cluster
    if options.postgres_dsn is None:
        binaries, cluster = _server(cluster, home)
        access = postgres.access(cluster, ports["postgres"])
        programs = Programs(storage, (binaries, cluster), java)
    else:
        access = postgres.existing(options.postgres_dsn)
        programs = Programs(storage, None, java)
    write_record(home.keepsake, Keepsake(ports=ports, cluster=cluster))

    components = plan_components(options, ports, programs)
    kept = [component.name for component in components if living.get(component.name) == component]
    stack = Stack(
        options=options,
        ports=ports,
        postgres=access,
        components=components,
        processes={name: recorded.processes[name] for name in kept} if recorded else {},
        started=recorded.started if recorded and kept else datetime.now(UTC),
    )
    return stack, programs


def _server(left: postgres.Cluster | None, home: Home) -> tuple[postgres_programs.Binaries, postgres.Cluster]:
    """Return the cluster an earlier run left, or a new one, and programs that can run it."""
    if left and left.folder.exists():
        return postgres_programs.find_binaries(left.user, postgres.made_by(left)), left
    user = postgres_programs.server_user()
    return postgres_programs.find_binaries(user), postgres.new_cluster(home.postgres, user)


def _living(stack: Stack | None) -> dict[str, Component]:
    """Return the components whose process runs, by name."""
    if stack is None:
        return {}
    return {
        component.name: component
        for component in stack.components
        if component.name in stack.processes and find(stack.processes[component.name])
    }


def _look(stack: Stack, component: Component) -> ComponentStatus:
    process = stack.processes.get(component.name)
    alive = process is not None and find(process) is not None
    if process is None or not alive:
        state: Literal["ready", "unresponsive", "stopped"] = "stopped"
    else:
        state = "ready" if is_ready(component.probe) else "unresponsive"
    return ComponentStatus(
        name=component.name,
        state=state,
        pid=process.pid if process and alive else None,
        ports=component.ports,
        memory_bytes=memory_bytes(process) if process else None,
        started=datetime.fromtimestamp(process.created, UTC) if process and alive else None,
        log=component.log,
    )


def _remove_data(home: Home, keep_logs: bool = False) -> None:
    keepsake = read_keepsake(home.keepsake)
    if keepsake and keepsake.cluster:
        shutil.rmtree(keepsake.cluster.folder, ignore_errors=True)  # it may lie outside the home
    home.remove_data(keep_logs)


@contextmanager
def _changing(home: Home, on_progress: OnProgress) -> Iterator[None]:
    """Hold the home's lock; say so when that takes a while."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(home.lock, timeout=0.5))
        except StackBusyError:
            on_progress(Progress("lock", "waiting"))
            held.enter_context(locked(home.lock, timeout=LOCK_SECONDS))
        yield


@contextmanager
def _recorded(stack: Stack) -> Iterator[Stack]:
    """Hold the lock of a stack's home and give the stack as it is recorded now.

    Raises:
        StackError: it was stopped.
    """
    home = Home.at(stack.home)
    with _changing(home, _silent):
        current = read_stack(home.record)
        if current is None:
            raise StackError(f"the stack in {stack.home} was stopped")
        yield current
