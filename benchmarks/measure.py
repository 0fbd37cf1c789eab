"""Runs a command and measures it from outside: seconds, CPU seconds, peak memory."""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """What a command cost."""

    seconds: float
    cpu_seconds: float
    """User and system, of the process and its threads; not of the servers it talks to."""
    peak_mib: float
    output: str
    """What it printed."""


class CommandFailed(Exception):
    """The command ended with another exit code than 0."""


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end.

    Raises:
        CommandFailed: with the end of what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise CommandFailed(f"{command[0]} ended with {process.returncode}: {errors.read().decode()[-2000:]}")
        return Measured(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mib=usage.ru_maxrss / 1024,  # kibibytes on Linux
            output=output.read().decode(),
        )
