"""Start and stop processes that outlive the command that started them.

A process is known by its pid and its creation time: a pid that the system has given to another process is never
signalled.
"""

import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from local.stack.component import Component
from local.stack.errors import ComponentError
from local.stack.users import as_user

CREATION_TOLERANCE_SECONDS = 2.0
"""psutil derives a creation time from the boot time, which moves a little when the clock is corrected."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Started by this interpreter: asked for their exit status, or a dead one would stay a zombie."""


class ProcessId(BaseModel):
    """A process that cannot be confused with a later one of the same pid."""

    model_config = ConfigDict(frozen=True)

    pid: int
    created: float


def spawn(component: Component) -> ProcessId:
    """Start a component in a session of its own, its output appended to its log.

    Raises:
        ComponentError: the program cannot be started.
    """
    component.log.parent.mkdir(parents=True, exist_ok=True)
    if "HOME" in component.env:
        Path(component.env["HOME"]).mkdir(parents=True, exist_ok=True)
    with component.log.open("ab") as log:
        log.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {component.command}\n".encode())
        log.flush()
        try:
            child = subprocess.Popen(
                as_user(component.argv, component.user),
                env=component.env,
                cwd=component.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ComponentError(
                component.name, f"could not be started: {error}", component.command, component.log
            ) from error
    _children[child.pid] = child
    return ProcessId(pid=child.pid, created=psutil.Process(child.pid).create_time())


def find(process: ProcessId) -> psutil.Process | None:
    """Return the running process, or None when it has ended, is a zombie, or its pid is another process's now."""
    if process.pid in _children and _children[process.pid].poll() is not None:
        del _children[process.pid]
        return None
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created) <= CREATION_TOLERANCE_SECONDS
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def stop(process: ProcessId, stop_signal: int, seconds: float) -> bool:
    """Ask a process to end, and kill it with its children when it has not within the given seconds.

    Returns:
        Whether it ended when asked; True when it was not running.
    """
    running = find(process)
    if running is None:
        return True
    family = _family(running)
    _signal([running], stop_signal)
    _wait([running], seconds)
    ended = not _alive([running])
    # A child may outlive its parent, be it stopped or killed.
    _signal(_alive(family), signal.SIGKILL)
    _wait(family, 5.0)
    return ended


def kill(process: ProcessId) -> None:
    """End a process and its children at once with SIGKILL, as a crash of its container would."""
    running = find(process)
    if running is None:
        return
    family = _family(running)
    _signal(family, signal.SIGKILL)
    _wait(family, 5.0)


def memory_bytes(process: ProcessId) -> int | None:
    """Return the resident memory of a process and its children, in bytes; None when it does not run.

    Linux's proportional share is used where it can be read, so that memory shared by PostgreSQL's processes, or by a
    server and its forked worker, is counted once.
    """
    running = find(process)
    if running is None:
        return None
    total = 0
    for member in _family(running):
        try:
            total += _proportional_bytes(member)
        except psutil.NoSuchProcess:
            continue
    return total


def _proportional_bytes(member: psutil.Process) -> int:
    try:
        memory = member.memory_full_info()
        return int(getattr(memory, "pss", memory.rss))
    except psutil.AccessDenied:
        return int(member.memory_info().rss)


def _family(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [parent]


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # psutil checks the creation time once more
        except psutil.NoSuchProcess:
            continue


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        if process.pid in _children:
            _children[process.pid].poll()
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive


def _wait(processes: list[psutil.Process], seconds: float) -> None:
    """Wait until all have ended, at most the given seconds. psutil's own wait takes a zombie for a running process."""
    waiting = Retrying(stop=stop_after_delay(seconds), wait=wait_fixed(0.02), retry=retry_if_result(bool))
    with suppress(RetryError):
        waiting(_alive, processes)
