"""The services' jobs of a long run: started as Cloud Run would, and stopped in their tracks like any process."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from local.cycle import Client
from local.stack.options import REPOSITORY

MOST_SECONDS = 300.0
"""For a job to end; one that does not hangs."""


class Jobs:
    """Starts jobs, and knows which of them run."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.hung: list[str] = []
        """Jobs that did not end; where they hung is in their log."""

    def start(self, module: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start one of the services' jobs; its log goes to the stack's."""
        with (self._client.stack.home / "logs" / "jobs.log").open("ab") as log:
            job = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONFAULTHANDLER": "1", **self._client.variables},
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        with self._lock:
            self._started = [(name, each) for name, each in self._started if each.poll() is None]
            self._started.append((module, job))
        return job

    def run(self, module: str, *arguments: str) -> int:
        """Run one to its end; its exit code."""
        code, _ = self.ended(self.start(module, *arguments))
        return code

    def ended(self, job: "subprocess.Popen[bytes]") -> tuple[int, bytes]:
        """Wait for a job; its exit code and what it printed. One that hangs is ended, and says where it was."""
        try:
            printed, _ = job.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            self.hung.append(f"{' '.join(map(str, job.args[2:]))} did not end")  # type: ignore[index]  # a list
            job.send_signal(signal.SIGABRT)  # the fault handler writes the stacks of all threads
            printed, _ = job.communicate()
        return job.returncode, printed

    def running(self, module: str, seconds: float) -> "subprocess.Popen[bytes] | None":
        """One that runs now, or within some seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                for name, job in self._started:
                    if name == module and job.poll() is None:
                        return job
            time.sleep(0.05)
        return None


@contextmanager
def frozen(job: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Stop a job's processes for a block; without effect when it has ended."""
    with suppress(psutil.NoSuchProcess):
        for each in _family(job):
            each.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            for each in _family(job):
                each.resume()


def _family(job: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    process = psutil.Process(job.pid)
    return [process, *process.children(recursive=True)]
