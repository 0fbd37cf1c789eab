"""What a run bills, as multiples of the table: ``python -m benchmarks.billing``; with ``--day``, what a day of 96 does.

On a stack of its own, per number of rows: everything once, then for each number of changed rows one run of extractor,
loader and transformer. Bytes are those that the local warehouse's meter says BigQuery would bill on demand
(docs/emulator.md): processed, and billed with BigQuery's minimum of 10 MB per table and statement. ``S`` is the logical
size of the installments in bronze. A day is 96 runs, each with the changed rows, and the audit; beside it a compaction,
which with these changes falls due after five days, or after seven (docs/bronze.md). Prints a table, or JSON
when it is piped.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import measure
from local.cycle import Client, run_cycle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import StackOptions
from tests.billed import Billed, billed_since, now, size_of_bronze
from tests.pipeline import filled

WAIT = timedelta(minutes=20)
GIGABYTE = 1e9
RUNS_OF_A_DAY = 96
"""Every quarter of an hour."""

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Run:
    """A run, or a day of them, and what it billed."""

    what: str
    rows: int
    changed: int
    size: int
    """Logical bytes of the installments in bronze."""
    statements: int
    processed: dict[str, int]
    """Bytes by what they were read for."""
    processed_least: int
    """Bytes, if every block of a clustered table is left out that can be."""
    billed: int

    @classmethod
    def of(cls, what: str, rows: int, changed: int, size: int, billed: Billed) -> "Run":
        """What a span billed."""
        stages = sorted({each.stage for each in billed.reading})
        processed = {stage: billed.of(stage).processed for stage in stages}
        return cls(what, rows, changed, size, len(billed.reading), processed, billed.least, billed.billed)

    @property
    def billed_multiple(self) -> float:
        """Bytes billed, as a multiple of the table."""
        return self.billed / self.size

    @property
    def multiple(self) -> float:
        """Bytes processed, as a multiple of the table."""
        return sum(self.processed.values()) / self.size


def change(client: Client, rows: int, seed: int = 0) -> None:
    """Change so many installments at the source: on some pages by chance, with keys from all over the table."""
    if rows:
        with connect(client.stack.postgres) as source:
            table = "oltp.business_case_installments"
            [held] = source.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [table]).fetchone() or [
                0
            ]
            percent = min(100.0, 100 * 5 * (rows + 1_000) / max(held, 1))
            source.execute(
                f"UPDATE {table} SET paid_amount_in_cents = paid_amount_in_cents + 1, "
                "invoice_issue_date = current_date WHERE asset_id IN (SELECT asset_id FROM "
                f"{table} TABLESAMPLE SYSTEM (%s) REPEATABLE (%s) LIMIT %s)",
                [percent, seed, rows],
            )


def run_once(client: Client, changed: int, seed: int = 0) -> Billed:
    """Change rows, run everything, and read what the jobs billed."""
    change(client, changed, seed)
    began = now()
    run_cycle(client, WAIT)
    return billed_since(client, began)


def day(client: Client, rows: int, changed: int, number: int) -> list[Run]:
    """What the runs of a day bill, the audit after them, and a compaction, which falls due once in several days."""
    runs = [run_once(client, changed, seed) for seed in range(number)]
    audit = audited(client)
    progress = client.state.progress("installments")
    client.state.note_delta("installments", None, progress.merge_token)
    client.state.note_delta("installments", LONG_AGO, progress.merge_token)
    compaction = audited(client).of("bronze")
    size = size_of_bronze(client, "installments")
    spans = {
        "first run": runs[0],
        "last run": runs[-1],
        f"{number} runs": sum(runs, Billed()),
        "audit": audit,
        "day": sum([*runs, audit], Billed()),
    }
    if compaction.billed:  # a small table has no delta: each run merges
        spans |= {"compaction": compaction, "day with one": sum([*runs, audit, compaction], Billed())}
    return [Run.of(what, rows, changed, size, billed) for what, billed in spans.items()]


PATIENT_AUDIT = """
from services.core import warehouse
warehouse.REQUEST_SECONDS = 600.0
from services.transformer.__main__ import main
raise SystemExit(main(["--audit"]))
"""
"""The audit, with patience: BigQuery answers at once that it has a job, the local warehouse when the job is done."""


def audited(client: Client) -> Billed:
    """What the audit job bills: the audit, and the compaction if one is due."""
    began = now()
    measure([sys.executable, "-c", PATIENT_AUDIT], client.variables)
    return billed_since(client, began)


@contextmanager
def stack(rows: int) -> Iterator[Client]:
    """A pipeline that has brought everything once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        options = StackOptions(home=folder / "stack", ephemeral=True)
        with filled(options, SampleSpec(rows=rows, seed=5)) as client:
            run_cycle(client, WAIT)
            # The second run makes the delta of a table that is no longer small.
            run_once(client, 1)
            yield client


def main(
    rows: Annotated[list[int] | None, typer.Option(help="Installments in the source; repeatable.")] = None,
    changed: Annotated[list[int] | None, typer.Option(help="Rows that change before a run; repeatable.")] = None,
    whole_day: Annotated[bool, typer.Option("--day", help="Measure a day of runs, and the audit.")] = False,
    runs_a_day: Annotated[int, typer.Option("--runs", help="Runs of a day.")] = RUNS_OF_A_DAY,
) -> None:
    """Measure and print."""
    runs = []
    for number in rows or [20_000, 5_000_000]:
        with stack(number) as client:
            if whole_day:
                runs += day(client, number, (changed or [1_000])[0], runs_a_day)
                continue
            for each in changed or [0, 40, 1_000, 100_000]:
                billed = run_once(client, each)
                runs.append(Run.of("run", number, each, size_of_bronze(client, "installments"), billed))
    show(runs)


def show(runs: list[Run]) -> None:
    """Print what the runs billed."""
    if not sys.stdout.isatty():
        sys.stdout.write(
            json.dumps(
                [
                    asdict(run) | {"multiple": round(run.multiple, 3), "billed_multiple": round(run.billed_multiple, 3)}
                    for run in runs
                ]
            )
            + "\n"
        )
        return
    table = Table(title="Bytes that a run bills, as multiples of the installments in bronze (S)", title_justify="left")
    stages = sorted({stage for run in runs for stage, size in run.processed.items() if size})
    for heading in (
        "",
        "rows",
        "S, MB",
        "changed",
        "statements",
        *stages,
        "processed",
        "at least",
        "billed, GB",
        "billed",
    ):
        table.add_column(heading, justify="right")
    for run in runs:
        multiples = [f"{run.processed.get(stage, 0) / run.size:.3f}" for stage in stages]
        least = f"{run.processed_least / run.size:.3f}"
        table.add_row(
            *(run.what, f"{run.rows:,}", f"{run.size / 1e6:,.0f}", f"{run.changed:,}", f"{run.statements}"),
            *(
                *multiples,
                f"{run.multiple:.3f} S",
                f"{least} S",
                f"{run.billed / GIGABYTE:.3f}",
                f"{run.billed_multiple:.2f} S",
            ),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    typer.run(main)
