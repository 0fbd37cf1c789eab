"""A whole local pipeline for tests: started, filled, and its processes stopped in their tracks."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from local.cycle import Client
from local.sample.seeding import seed
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import load, running

LITTLE_DOWNSTREAM = """
selectors:
  - name: downstream
    definition: { method: fqn, value: cnpj_ws_clean, indirect_selection: empty }
"""


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


def little_dbt(folder: Path) -> Path:
    """A copy of the dbt project that builds but one view of silver and gold after a merge, into a new folder.

    For tests that disturb a run again and again and look at bronze and the state: the rest takes half of their time.
    """
    project = REPOSITORY / "dbt"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("target", "logs", "observability"))
    (folder / "selectors.yml").write_text(LITTLE_DOWNSTREAM)
    return folder


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
