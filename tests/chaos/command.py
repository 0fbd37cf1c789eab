"""The command line of the long runs: options in, a table for people and JSON for scripts out."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from rich.console import Console
from rich.table import Table

from local.stack.errors import StackError


@dataclass(frozen=True)
class Options:
    """What to run."""

    seconds: float = 300
    writers: int = 8
    seed: int = 1
    profile: str = "embedded"


class Report(Protocol):
    """What a run found."""

    @property
    def equal(self) -> bool:
        """Whether all ended as it should."""

    @property
    def findings(self) -> list[str]:
        """What did not, for people."""


R = TypeVar("R", bound=Report)

_BAD = ("lost", "doubled", "different", "not_deleted")


def _show(name: str, report: Report) -> None:
    table = Table(title=name, title_justify="left", show_header=False)
    for field, value in vars(report).items():
        if isinstance(value, list):
            continue
        if isinstance(value, dict):
            text = ", ".join(f"{count:,} {what}" for what, count in sorted(value.items()))
        else:
            text = f"{value:,}" if isinstance(value, int | float) else str(value)
        table.add_row(field.replace("_", " "), f"[{'red' if value and field in _BAD else 'default'}]{text}[/]")
    console = Console(stderr=True)
    console.print(table)
    for line in report.findings:
        console.print(line, style="red", markup=False)


def run_command(
    name: str,
    summary: str,
    defaults: Options,
    run: Callable[[Options, Path], R],
    arguments: list[str] | None = None,
) -> int:
    """Run and report; returns the exit code: 0 when all is equal, 1 otherwise.

    Args:
        name: of the module below tests.chaos.
        summary: what it does, in a line.
        defaults: of the options.
        run: the run, in a folder whose ``logs`` stay when something was found.
        arguments: the command line; this process's by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tests.chaos.{name}", description=summary)
    parser.add_argument("--minutes", type=float, default=defaults.seconds / 60)
    parser.add_argument("--writers", type=int, default=defaults.writers)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--profile", choices=["embedded", "emulators"], default=defaults.profile)
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix=f"credix-{name}-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        report = run(Options(given.minutes * 60, given.writers, given.seed, given.profile), folder)
    except StackError as error:
        sys.stderr.write(f"{error}\nlogs in {folder / 'logs'}\n")
        return 1
    _show(name, report)
    found = {**vars(report), "equal": report.equal, "finished": datetime.now(UTC).isoformat()}
    sys.stdout.write(f"{json.dumps(found)}\n")
    if report.equal:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"logs in {folder / 'logs'}\n")
    return 0 if report.equal else 1
