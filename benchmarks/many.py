"""Many small tables of one database: ``python -m benchmarks.many [--tables 437]``.

On a stack of its own: the first run of all tables, then a run in which 3 of them changed, by the real services. Prints,
for each, when every stage ended in seconds after the run's start (the stages overlap), the CPU seconds of each process,
and the jobs that were sent to BigQuery, by what for. Exit code 1 when the first run takes longer than promised.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import measure
from local.cycle import Client
from local.sample.many_tables import ManyTable, change_many, many, seed_many, write_project, write_tables_file
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import running
from services.core.batch import Batch, BatchState
from services.core.health.overview import TRANSFORM_LEASE
from services.core.state.lease import look
from tests.billed import warehouse

WAIT = timedelta(minutes=20)
CHANGED = 3
COMPARED = 20
"""Tables of which source and bronze are compared in the end."""
FIRST_SECONDS = 60.0
PROMISED_TABLES = 437


@dataclass(frozen=True)
class Run:
    """One run of all services."""

    what: str
    batches: int
    ended: dict[str, float]
    """By stage, when its last batch was through, in seconds after the start."""
    cpu: dict[str, float]
    """CPU seconds by process."""
    jobs: dict[str, int]
    """Jobs that BigQuery was sent, by what for."""
    tables: int
    """Tables that any of the jobs was about."""


@contextmanager
def stack_of(tables: list[ManyTable], *, analyzer: bool = False) -> Iterator[Client]:
    """A stack whose source has the tables; nothing is extracted yet.

    Args:
        tables: the tables.
        analyzer: whether Google's analyzer is in front of the warehouse. It checks every statement, as the tests want
            it, and takes half of the warehouse's time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_tables_file(folder / "tables.yaml", tables)
        write_project(REPOSITORY / "dbt", folder / "dbt", tables)
        options = StackOptions(
            home=folder / "stack",
            tables_file=folder / "tables.yaml",
            dbt_project=folder / "dbt",
            analyzer="on" if analyzer else "off",
            ephemeral=True,
        )
        with running(options) as stack:
            with connect(stack.postgres) as source:
                seed_many(source, tables)
            yield Client.of(stack)


def run_once(client: Client, what: str) -> Run:
    """Run the extractor, and wait until bronze has all that it landed."""
    cpu, began, started = cpu_seconds(client), datetime.now(UTC), time.monotonic()
    extracted = measure([sys.executable, "-m", "services.extractor"], client.variables)
    extract_ended = time.monotonic() - started
    report = json.loads(extracted.output)
    ids = [entry["batch_id"] for entry in report["tables"] if entry["batch_id"]]
    batches = await_merged(client, ids)
    await_quiet(client, began)
    work_ended = time.monotonic() - started
    used = {name: round(seconds - cpu.get(name, 0.0), 1) for name, seconds in cpu_seconds(client).items()}
    jobs = list(warehouse(client).list_jobs(min_creation_time=began, all_users=True))
    about = {job.labels["credix_table"] for job in jobs if "credix_table" in job.labels}

    def last(moments: list[datetime | None]) -> float:
        return round(max(((moment - began).total_seconds() for moment in moments if moment), default=0.0), 1)

    return Run(
        what=what,
        batches=len(batches),
        ended={
            "extract": round(extract_ended, 1),
            "load": last([batch.loaded_at for batch in batches]),
            "bronze": last([batch.merged_at for batch in batches]),
            "all": round(work_ended, 1),
        },
        cpu={"extractor": round(extracted.cpu_seconds, 1), **used},
        jobs=dict(sorted(Counter(job.labels.get("credix_stage", "other") for job in jobs).items())),
        tables=len(about),
    )


def await_merged(client: Client, ids: list[str]) -> list[Batch]:
    """The batches, once the watermark has passed them.

    Raises:
        TimeoutError: that took too long, or one failed.
    """
    deadline = time.monotonic() + WAIT.total_seconds()
    waiting = list(ids)
    while waiting:
        # One after the other: whoever asks of all of them again and again takes the processor from those it waits for.
        batch = client.state.batch(waiting[-1])
        if batch is not None and not batch.open and batch.state is BatchState.MERGED:
            waiting.pop()
            continue
        if time.monotonic() > deadline or (batch is not None and batch.state is BatchState.FAILED):
            raise TimeoutError(f"batch {waiting[-1]} is not in bronze: {batch.state if batch else 'unknown'}")
        time.sleep(0.2)
    return [batch for id_ in ids if (batch := client.state.batch(id_)) is not None]


def await_quiet(client: Client, began: datetime) -> None:
    """Wait until a run of the transformer is in the history, and nobody is at it any more."""
    deadline = time.monotonic() + WAIT.total_seconds()
    while time.monotonic() < deadline:
        lease = look(client.state.store, TRANSFORM_LEASE)
        ended = client.state.runs("transformer", began)
        if ended and (lease is None or lease.holder is None) and not client.landed():
            return
        time.sleep(0.2)
    raise TimeoutError("the transformer did not end its work")


def cpu_seconds(client: Client) -> dict[str, float]:
    """CPU seconds that each process of the stack, with its children, has used so far."""
    return {name: _cpu(psutil.Process(process.pid)) for name, process in client.stack.processes.items()}


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    mine = times.user + times.system + times.children_user + times.children_system
    return mine + sum(_cpu(child) for child in process.children())


def main(
    tables: Annotated[int, typer.Option(help="Tables in the source.")] = PROMISED_TABLES,
    analyzer: Annotated[bool, typer.Option(help="With Google's analyzer in front of the warehouse.")] = False,
) -> None:
    """Measure, print, and end with 1 when the promise does not hold."""
    made = many(tables)
    with stack_of(made, analyzer=analyzer) as client:
        runs = [run_once(client, "first run")]
        for number in range(2):
            with connect(client.stack.postgres) as source:
                change_many(source, made[number :: max(1, len(made) // CHANGED)][:CHANGED])
            runs.append(run_once(client, f"{CHANGED} changed"))
        compared = client.compare([table.name for table in made[:COMPARED]])
    if unequal := [str(each) for each in compared if not each.equal]:
        sys.exit("\n".join(unequal))
    show(tables, runs)


def show(tables: int, runs: list[Run]) -> None:
    """Print the runs; ends the process with 1 when the first took too long."""
    if sys.stdout.isatty():
        out = Table(title=f"{tables} small tables", title_justify="left")
        for heading in ("run", "batches", *(f"{stage}, s" for stage in runs[0].ended), "CPU s", "jobs", "tables"):
            out.add_column(heading, justify="right")
        for run in runs:
            out.add_row(
                *(run.what, str(run.batches), *(f"{seconds:.1f}" for seconds in run.ended.values())),
                ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.cpu.items()),
                ", ".join(f"{what} {count}" for what, count in run.jobs.items()),
                str(run.tables),
            )
        Console().print(out)
    else:
        sys.stdout.write(json.dumps([asdict(run) for run in runs]) + "\n")
    late = runs[0].ended["bronze"] >= FIRST_SECONDS and tables <= PROMISED_TABLES
    if late:
        sys.stderr.write(f"not as promised: all in bronze within {FIRST_SECONDS:.0f} s\n")
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    typer.run(main)
