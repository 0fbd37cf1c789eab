"""A whole local pipeline for tests: started, filled, and its processes stopped in their tracks."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil

from local.cycle import Client
from local.sample.seeding import seed
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import StackOptions
from local.stack.stack import load, running


@contextmanager
def filled(options: StackOptions, spec: SampleSpec) -> Iterator[Client]:
    """A stack whose source has the sample, for a block; its logs outlive it, beside its home."""
    home = options.home
    with running(options) as stack:
        client = Client.of(stack)
        try:
            with connect(stack.postgres) as connection:
                seed(connection, spec)
            yield client
        finally:
            shutil.copytree(home / "logs", home.with_name(f"{home.name}-logs"), dirs_exist_ok=True)


@contextmanager
def paused(client: Client, *names: str) -> Iterator[None]:
    """Stop components' processes in their tracks for a block.

    Not killed: Google's emulator 0.8.20 no longer delivers a message whose push was refused about three times.
    """
    stack = load(client.stack.home)  # as it is now: a component that was started again has another process
    assert stack is not None
    with ExitStack() as resumed:
        for name in names:
            process = psutil.Process(stack.processes[name].pid)
            for each in [process, *process.children(recursive=True)]:
                each.suspend()
                resumed.callback(_resume, each)
        yield


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.resume()
