"""What `credix audit` shows: how every test stands, by the newest audit and by the batches since."""

from datetime import datetime

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from services.core.health.standing import Standing, standings
from services.core.state.quality import Audits, Group, Trouble, audits, row_tests
from services.core.state.state import PipelineState
from services.core.words import counted, minute

_STYLES = {"pass": "green", "warn": "yellow", "error": "bold red", "fail": "bold red"}


class AuditStatus(BaseModel):
    """How the tests stand."""

    audited_at: datetime | None
    """When the newest audit began; None when there was none."""
    run_id: str | None
    seconds: float | None
    trouble: Trouble | None
    """Why an audit after that found out nothing."""
    tests: list[Standing]
    """The worst first."""
    figures: dict[str, list[Group]]
    """Counts of the newest audit."""

    @property
    def sound(self) -> bool:
        """Whether there was an audit, the last one came to its end, and no test fails or could not be run."""
        return (
            self.audited_at is not None
            and self.trouble is None
            and all(test.status in ("pass", "warn") for test in self.tests)
        )


def read_audit(state: PipelineState) -> AuditStatus:
    """Ask the state.

    Raises:
        Exception: it does not answer.
    """
    noted: Audits = audits(state.store)
    newest = noted.newest
    return AuditStatus(
        audited_at=newest.at if newest else None,
        run_id=newest.id if newest else None,
        seconds=newest.seconds if newest else None,
        trouble=noted.trouble,
        tests=standings(newest, row_tests(state.store)),
        figures=newest.figures if newest else {},
    )


def print_audit(found: AuditStatus, console: Console) -> None:
    """Show it: what is wrong first, then every test."""
    if found.trouble:
        words = f"The audit of {minute(found.trouble.at)} UTC found out nothing: {found.trouble.why}"
        console.print(Text(words, style="bold red", overflow="fold"))
    if found.audited_at is None:
        console.print(Text("There was no audit yet: credix audit --run", style="yellow"))
    else:
        words = f"The newest audit began {minute(found.audited_at)} UTC and took {found.seconds:.1f} s"
        console.print(Text(f"{words}: {_counts(found)}.", overflow="fold"))
    if found.tests:
        console.print(_table(found))
    for test in found.tests:
        if test.message:
            console.print(Text(f"{test.name}: {test.message}", style="yellow", overflow="fold"))


def _counts(found: AuditStatus) -> str:
    words = {"fail": ("fails", "fail"), "error": ("could not be run", "could not be run"),
             "warn": ("warns", "warn"), "pass": ("passes", "pass")}  # fmt: skip
    numbers = {status: sum(test.status == status for test in found.tests) for status in words}
    told = [f"{counted(number, 'test')} {words[status][number != 1]}" for status, number in numbers.items() if number]
    return ", ".join(told) or "there are no tests"


def _table(found: AuditStatus) -> RichTable:
    table = RichTable(box=None, padding=(0, 1, 0, 0))
    table.add_column("test", overflow="fold")
    table.add_column("result", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("as of", no_wrap=True)
    for test in found.tests:
        where = f" a batch of {test.table}" if test.table else ""
        table.add_row(
            Text(test.name),
            Text(test.status, style=_STYLES[test.status]),
            "–" if test.failures is None else f"{test.failures:,}",
            f"{minute(test.as_of)}{where}",
        )
    return table
