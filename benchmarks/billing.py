"""What a run bills, as multiples of the table: ``python -m benchmarks.billing``.

On a stack of its own, per number of rows: everything once, then for each number of changed rows one run of extractor,
loader and transformer. Bytes are those that the local warehouse's meter says BigQuery would bill on demand
(docs/emulator.md): processed, and billed with BigQuery's minimum of 10 MB per table and statement. ``S`` is the logical
size of the installments in bronze. Prints a table, or JSON when it is piped.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from google.cloud import bigquery
from rich.console import Console
from rich.table import Table

from local.cycle import Client, run_cycle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import StackOptions
from services.core.warehouse import bigquery_client
from tests.pipeline import filled

WAIT = timedelta(minutes=20)
GIGABYTE = 1e9


@dataclass(frozen=True)
class Run:
    """A run, and what it billed."""

    rows: int
    changed: int
    size: int
    """Logical bytes of the installments in bronze."""
    statements: int
    processed: dict[str, int]
    """Bytes by stage: bronze, silver and gold, tests, audit, other."""
    processed_least: int
    """Bytes, if every block of a clustered table is left out that can be."""
    billed: int

    @property
    def multiple(self) -> float:
        """Bytes processed, as a multiple of the table."""
        return sum(self.processed.values()) / self.size


def change(client: Client, rows: int) -> None:
    """Change so many installments at the source, spread over the table."""
    if rows:
        with connect(client.stack.postgres) as source:
            source.execute(
                "UPDATE oltp.business_case_installments SET paid_amount_in_cents = paid_amount_in_cents + 1, "
                "invoice_issue_date = current_date WHERE asset_id IN (SELECT asset_id FROM "
                "oltp.business_case_installments ORDER BY md5(asset_id::text) LIMIT %s)",
                [rows],
            )


def jobs_since(warehouse: bigquery.Client, began: datetime) -> Iterator[bigquery.QueryJob]:
    """The query jobs that began since then."""
    for job in warehouse.list_jobs(min_creation_time=began, all_users=True):
        if isinstance(job, bigquery.QueryJob) and job.created and job.created >= began:
            yield job


def stage_of(job: bigquery.QueryJob) -> str:
    """What a job was for, by its labels."""
    labels = job.labels
    if labels.get("credix_kind") in ("test", "unit_test"):
        return "tests"
    if labels.get("credix_layer") == "bronze":
        return "bronze"
    if labels.get("credix_layer") in ("silver", "gold"):
        return "silver and gold"
    return {"tests": "tests", "audit": "audit"}.get(labels.get("credix_stage", ""), "other")


def measured(client: Client, rows: int, changed: int) -> Run:
    """Change rows, run everything, and read what the jobs billed."""
    warehouse = bigquery_client(client.variables["GCP_PROJECT"], "US")
    change(client, changed)
    began = datetime.now(UTC)
    run_cycle(client, WAIT)
    processed: Counter[str] = Counter()
    least = billed = statements = 0
    for job in jobs_since(warehouse, began):
        statements += 1
        processed[stage_of(job)] += job.total_bytes_processed or 0
        billed += job.total_bytes_billed or 0
        # Of the local warehouse's own: the client has no name for it.
        least += int(job._properties["statistics"].get("query", {}).get("leastBytesProcessed", 0))
    table = f"{client.variables['GCP_PROJECT']}.{client.variables['DATASET_BRONZE']}.installments"
    whole = warehouse.query(f"select * from `{table}`", bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))
    return Run(rows, changed, int(whole.total_bytes_processed or 0), statements, dict(processed), least, billed)


def main(
    rows: Annotated[list[int] | None, typer.Option(help="Installments in the source; repeatable.")] = None,
    changed: Annotated[list[int] | None, typer.Option(help="Rows that change before a run; repeatable.")] = None,
) -> None:
    """Measure and print."""
    runs = []
    for number in rows or [20_000, 5_000_000]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            options = StackOptions(home=folder / "stack", ephemeral=True)
            with filled(options, SampleSpec(rows=number, seed=5)) as client:
                run_cycle(client, WAIT)
                runs += [measured(client, number, each) for each in changed or [0, 40, 1_000, 100_000]]
    show(runs)


def show(runs: list[Run]) -> None:
    """Print what the runs billed."""
    if not sys.stdout.isatty():
        sys.stdout.write(json.dumps([asdict(run) | {"multiple": round(run.multiple, 3)} for run in runs]) + "\n")
        return
    table = Table(title="Bytes that a run bills, as multiples of the installments in bronze (S)", title_justify="left")
    stages = sorted({stage for run in runs for stage in run.processed})
    for heading in ("rows", "S, MB", "changed", "statements", *stages, "processed", "at least", "billed, GB"):
        table.add_column(heading, justify="right")
    for run in runs:
        multiples = [f"{run.processed.get(stage, 0) / run.size:.2f}" for stage in stages]
        least = f"{run.processed_least / run.size:.2f}"
        table.add_row(
            *(f"{run.rows:,}", f"{run.size / 1e6:,.0f}", f"{run.changed:,}", f"{run.statements}"),
            *(*multiples, f"{run.multiple:.2f} S", f"{least} S", f"{run.billed / GIGABYTE:.2f}"),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    typer.run(main)
