"""Runs a command and measures it from outside: seconds, CPU seconds, peak memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_WATCH = """
import json, os, sys, time
started = time.monotonic()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.monotonic() - started
with open(sys.argv[1], "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], report)
"""
"""A small process between this one and the command: Linux counts to a process's peak the memory of what started it."""


@dataclass(frozen=True)
class Measured:
    """What a command cost."""

    seconds: float
    cpu_seconds: float
    """User and system, of the process and its threads; not of the servers it talks to."""
    peak_bytes: int
    """The most memory that it, or a process that it started, had at one time."""
    output: str
    """What it printed."""


class CommandFailed(Exception):
    """The command ended with another exit code than it may.

    Attributes:
        wrote: the end of what it wrote to stderr.
    """

    def __init__(self, said: str, wrote: str) -> None:
        super().__init__(f"{said}: {wrote}")
        self.wrote = wrote


def measure(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    codes: Sequence[int] = (0,),
) -> Measured:
    """Run a command to its end.

    Args:
        command: program and arguments.
        environment: variables on top of this process's.
        folder: where it runs; None for here.
        codes: exit codes with which it is content.

    Raises:
        CommandFailed: it was not run, or ended with another exit code.
    """
    with (
        tempfile.NamedTemporaryFile() as report,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        # As in an image, Python reads what it has compiled before; the first run of a program compiles it.
        variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(environment or {})}
        watched = [sys.executable, "-I", "-S", "-c", _WATCH, report.name, *command]
        subprocess.run(watched, stdout=output, stderr=errors, env=variables, cwd=folder, check=False)
        output.seek(0)
        errors.seek(0)
        wrote = errors.read().decode(errors="replace")[-2000:]
        if not (found := Path(report.name).read_text()):
            raise CommandFailed(f"{command[0]} was not run", wrote)
        code, seconds, cpu_seconds, kibibytes = json.loads(found)
        if code not in codes:
            raise CommandFailed(f"{command[0]} ended with {code}", wrote)
        return Measured(seconds, cpu_seconds, int(kibibytes) * 1024, output.read().decode())
