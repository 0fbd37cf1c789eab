"""One cycle of the pipeline on a stack: run the extractor, let the events do the rest, gather what happened."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from google.cloud import bigquery

from local.comparison import Comparison, compare
from local.source import connect
from local.stack.environment import environment
from local.stack.errors import StackError
from local.stack.options import PROJECT, REPOSITORY
from local.stack.record import Stack
from services.core.batch import Batch, BatchState
from services.core.gcs import GcsObjectStore
from services.core.settings import OpsSettings
from services.core.state.quality import Audit, audits
from services.core.state.state import PipelineState, Run, open_state
from services.core.tables import Tables, load_tables
from services.core.warehouse import bigquery_client


class CycleFailed(StackError):
    """A stage did not do its work; the message says which, and where its log is."""


@dataclass
class Client:
    """A client of a running stack."""

    stack: Stack
    variables: dict[str, str]
    settings: OpsSettings
    tables: Tables
    state: PipelineState
    objects: GcsObjectStore
    warehouse: bigquery.Client

    @classmethod
    def of(cls, stack: Stack) -> "Client":
        """Open a client; the stack's variables also go into this process's environment, where Google's clients look."""
        variables = environment(stack)
        os.environ.update(variables)
        settings = OpsSettings()  # type: ignore[call-arg]  # from the environment
        return cls(
            stack=stack,
            variables=variables,
            settings=settings,
            tables=load_tables(settings.tables_file),
            state=open_state(settings),
            objects=GcsObjectStore(PROJECT),
            warehouse=bigquery_client(PROJECT, settings.bigquery_location),
        )

    def bronze(self, model: str) -> str:
        """Full id of a bronze table."""
        return f"{PROJECT}.{self.settings.dataset_bronze}.{model}"

    def compare(self, names: list[str] | None = None) -> list[Comparison]:
        """Compare the source with bronze, table by table."""
        with connect(self.stack.postgres) as connection:
            return [
                compare(connection, self.warehouse, table, self.bronze(table.bronze_model))
                for table in self.tables.select(names or [])
            ]

    def count(self, dataset: str, table: str) -> int:
        """Rows of a table of the warehouse."""
        [row] = self.warehouse.query(f"SELECT count(*) FROM `{PROJECT}.{dataset}.{table}`").result()  # noqa: S608
        return int(row[0])

    def hashed_tables(self) -> list[str]:
        """Temp tables of batches, which nothing but a batch on its way leaves."""
        stable = set(self.tables.names())
        return [t.table_id for t in self.warehouse.list_tables(self.settings.dataset_temp) if t.table_id not in stable]

    def landed(self) -> list[str]:
        """Objects in landing/; none at rest."""
        return [o.name for o in self.objects.list(self.settings.landing_bucket, f"{self.settings.landing_prefix}/")]

    def failed(self) -> list[str]:
        """Objects in failed/."""
        return [o.name for o in self.objects.list(self.settings.landing_bucket, f"{self.settings.failed_prefix}/")]


@dataclass
class TableCycle:
    """What a cycle did to one table."""

    table: str
    outcome: str
    extracted: int = 0
    loaded: int = 0
    merged: int | None = None
    """Rows that the merge wrote; None when the warehouse did not say."""
    watermark_before: datetime | None = None
    watermark_after: datetime | None = None
    extract_seconds: float = 0.0
    load_seconds: float = 0.0
    merge_seconds: float = 0.0
    """From loaded to merged, the wait for the transformer included."""


@dataclass
class Cycle:
    """What a cycle did."""

    tables: list[TableCycle] = field(default_factory=list)
    seconds: float = 0.0
    downstream_seconds: float = 0.0
    tests: dict[str, int] = field(default_factory=dict)
    """Number of row tests by status."""
    runs: list[Run] = field(default_factory=list)


def extract(client: Client, arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the extractor as the Cloud Run job does; returns its report.

    Raises:
        CycleFailed: it ended with an error.
    """
    log = client.stack.home / "logs" / "extractor.log"
    report: dict[str, Any] = json.loads(_job(client, log, ["services.extractor", *(arguments or [])]))
    return report


def audit(client: Client) -> Audit:
    """Make an audit as the Cloud Run job does; returns what it found.

    Raises:
        CycleFailed: it ended with an error.
    """
    log = client.stack.home / "logs" / "audit.log"
    _job(client, log, ["services.transformer", "--audit"])
    newest = audits(client.state.store).newest
    if newest is None:
        raise CycleFailed(f"there is no audit; {log}")
    return newest


def _job(client: Client, log: Path, command: list[str]) -> bytes:
    """Run a module as a job, with its log in a file; returns what it printed.

    Raises:
        CycleFailed: it ended with an error.
    """
    with log.open("ab") as stderr:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **client.variables},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise CycleFailed(f"{' '.join(command)} ended with exit code {done.returncode}; {log}:\n{tail}")
    return done.stdout


def settle(client: Client, batch_ids: list[str], timeout: timedelta) -> list[Batch]:
    """Wait until batches are merged, silver and gold are built, and nothing is left in landing/.

    Raises:
        CycleFailed: a batch failed, or it took too long; says what is missing.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        batches = [batch for id in batch_ids if (batch := client.state.batch(id)) is not None]
        for batch in batches:
            if batch.state is BatchState.FAILED:
                raise CycleFailed(f"batch {batch.id} of {batch.table} failed: {batch.error}")
        waiting = [f"{batch.table}: batch {batch.id} is {batch.state}" for batch in batches if batch.open]
        if client.state.downstream_due() is not None:
            waiting.append("silver and gold are not built")
        if landed := client.landed():
            waiting.append(f"{len(landed)} object(s) in landing/")
        if not waiting:
            return batches
        if time.monotonic() > deadline:
            raise CycleFailed(
                f"not done after {timeout.total_seconds():.0f} s: {'; '.join(waiting)}; "
                f"logs in {client.stack.home / 'logs'}"
            )
        time.sleep(0.2)


def run_cycle(client: Client, timeout: timedelta = timedelta(seconds=120)) -> Cycle:
    """Run the extractor and wait until its batches are in bronze, and silver and gold are built."""
    started = time.monotonic()
    known = {run.id for run in client.state.runs("transformer")}
    before = {name: client.state.progress(name).watermark for name in client.tables.names()}
    report = extract(client)
    batches = settle(client, [entry["batch_id"] for entry in report["tables"] if entry["batch_id"]], timeout)
    runs = [run for run in _finished_runs(client, known, expected=bool(batches)) if run.id not in known]
    merged: dict[str, int | None] = {}
    for merge in (merge for run in runs for merge in run.details["merges"]):
        merged[merge["table"]] = merge["rows_merged"]
    by_table = {batch.table: batch for batch in batches}
    cycle = Cycle(runs=runs)
    for entry in report["tables"]:
        name = entry["table"]
        line = TableCycle(name, entry["outcome"], entry["rows"], watermark_before=before[name])
        line.watermark_after = client.state.progress(name).watermark
        line.extract_seconds = entry["seconds"]
        if batch := by_table.get(name):
            line.loaded, line.merged = batch.rows, merged.get(name)
            line.load_seconds = batch.load_seconds or 0.0
            if batch.loaded_at and batch.merged_at:
                line.merge_seconds = (batch.merged_at - batch.loaded_at).total_seconds()
        cycle.tables.append(line)
    cycle.downstream_seconds = sum(run.details["seconds"].get("downstream", 0.0) for run in runs)
    tests = [node for node in runs[-1].details["nodes"] if node["resource_type"] == "test"] if runs else []
    cycle.tests = {
        status: sum(node["status"] == status for node in tests) for status in ("pass", "warn", "fail", "error")
    }
    cycle.seconds = time.monotonic() - started
    return cycle


def _finished_runs(client: Client, known: set[str], *, expected: bool) -> list[Run]:
    """Runs of the transformer; the last one is noted a moment after silver and gold are built."""
    deadline = time.monotonic() + 30
    while True:
        runs = client.state.runs("transformer")
        if not expected or any(run.id not in known for run in runs) or time.monotonic() > deadline:
            return runs
        time.sleep(0.1)
