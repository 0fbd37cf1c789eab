"""Reconcile: look at the state, do what is due, look again. One process at a time, under a lease."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import structlog
from google.cloud import bigquery

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.errors import LeaseBusy, TransientError
from services.core.faults import fault_point
from services.core.naming import hashed_table, new_batch_id
from services.core.settings import TransformerSettings
from services.core.state.lease import Lease, holding, look
from services.core.state.state import PipelineState, Run
from services.core.tables import Tables
from services.core.warehouse import hashed_table_id
from services.transformer.dbt_project import DbtProject, NodeResult, batches_variable

LEASE = "transform"

DOWNSTREAM = ["build", "--selector", "downstream"]
"""Silver, gold and the tests of all layers; the selector is in dbt/selectors.yml."""

MOST_ROUNDS = 5
"""Merges in a row before silver and gold are built: tables that land together are built once, and a steady stream of
batches cannot put them off for ever."""

T = TypeVar("T")

log = structlog.get_logger()


class ArtifactKeeper(Protocol):
    """Keeps a run's artifacts."""

    def keep(self, run_id: str, stage: str) -> None:
        """Keep what dbt wrote in the stage that just ended."""


class ReportPublisher(Protocol):
    """Publishes the report of a run."""

    def publish(self, run_id: str) -> None:
        """Publish it; raises nothing."""


@dataclass
class RunReport:
    """What one pass did; kept in the run history."""

    run_id: str
    started_at: datetime
    seconds: dict[str, float] = field(default_factory=dict)
    """Per stage: bronze, finish, downstream."""
    merges: list[dict[str, Any]] = field(default_factory=list)
    """Per merge of a table: batches, rows, rows that the merge changed, seconds."""
    watermarks: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """Per table: before and after."""
    nodes: list[NodeResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What a retry may cure; any of them makes the event come again."""

    def outcome(self) -> str:
        """One word for the history."""
        if self.problems:
            return "failed"
        return "tests_failed" if any(node.status == "fail" for node in self.nodes) else "succeeded"


@dataclass(frozen=True)
class Transformer:
    """The transformer's work, given its surroundings."""

    settings: TransformerSettings
    tables: Tables
    state: PipelineState
    client: bigquery.Client
    dbt: DbtProject
    artifacts: ArtifactKeeper
    reports: ReportPublisher

    def reconcile(self, holder: str) -> list[RunReport]:
        """Do all that is due, pass by pass, until nothing is.

        Raises:
            LeaseBusy: another process is at it.
            TransientError: something could not be done now; everything else was.
        """
        reports: list[RunReport] = []
        given_up: set[str] = set()
        while True:
            with holding(self.state.store, LEASE, holder, self.settings.transform_lease) as lease:
                while (due := self._due(given_up, first=not reports)) is not None:
                    reports.append(self._pass(lease, due, given_up))
            # A batch that was loaded after the last look, and whose event found the lease held, is seen here.
            if not self._loaded(given_up):
                break
        if reports and (given_up or reports[-1].problems):
            raise TransientError("; ".join(problem for report in reports for problem in report.problems))
        return reports

    def reconcile_or_leave(self, holder: str) -> list[RunReport] | None:
        """Reconcile, or leave it to the process that is at it (None).

        A holder that shows a sign of life will look again before it ends; one that is dead is replaced when its lease
        has expired.
        """
        while True:
            try:
                return self.reconcile(holder)
            except LeaseBusy as busy:
                if self._holder_lives():
                    log.info("reconcile.left_to_holder", reason=str(busy))
                    return None

    def _holder_lives(self) -> bool:
        """Watch the lease until it is renewed (True), or free (False)."""
        first = look(self.state.store, LEASE)
        while first is not None and first.held(datetime.now(UTC)):
            time.sleep(0.25)
            now = look(self.state.store, LEASE)
            if now is None or now.token != first.token or not now.held(datetime.now(UTC)):
                return False
            if now.expires_at > first.expires_at:
                return True
        return False

    def _loaded(self, given_up: set[str]) -> list[Batch]:
        return [
            batch
            for batch in self.state.batches_in(BatchState.LOADED)
            if batch.id not in given_up and self.tables.get(batch.table) is not None
        ]

    def _due(self, given_up: set[str], *, first: bool) -> list[Batch] | None:
        """Loaded batches to merge; an empty list when only a crash's leftovers are due; None when nothing is."""
        if loaded := self._loaded(given_up):
            return loaded
        leftovers = first and (
            self.state.downstream_due() is not None or bool(self.state.batches_in(BatchState.MERGED))
        )
        return [] if leftovers else None

    def _pass(self, lease: Lease, batches: list[Batch], given_up: set[str]) -> RunReport:
        report = RunReport(run_id=new_batch_id(datetime.now(UTC)), started_at=datetime.now(UTC))
        with structlog.contextvars.bound_contextvars(run_id=report.run_id):
            log.info("reconcile.started", batches=[batch.id for batch in batches])
            rounds = 0
            while batches and rounds < MOST_ROUNDS:
                due = batches
                done = self._timed(report, "bronze", lambda: self._bronze(lease, due, report))  # noqa: B023
                given_up.update(batch.id for batch in due if batch.id not in done)
                self._timed(report, "finish", lambda: self._finish(lease, report))
                batches, rounds = self._loaded(given_up), rounds + 1
            if not rounds:
                self._timed(report, "finish", lambda: self._finish(lease, report))
            if (up_to := self.state.downstream_due()) is not None:
                self._timed(report, "downstream", lambda: self._downstream(lease, report, up_to))
            log.info("reconcile.finished", outcome=report.outcome(), seconds=report.seconds, problems=report.problems)
            fault_point("transformer.run_unnoted")
            self.state.add_run(
                Run(
                    id=report.run_id,
                    service="transformer",
                    started_at=report.started_at,
                    finished_at=datetime.now(UTC),
                    outcome=report.outcome(),
                    details={
                        "seconds": report.seconds,
                        "merges": report.merges,
                        "watermarks": report.watermarks,
                        "nodes": [asdict(node) for node in report.nodes],
                        "problems": report.problems,
                    },
                )
            )
            self.reports.publish(report.run_id)
        return report

    @staticmethod
    def _timed(report: RunReport, stage: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return work()
        finally:
            report.seconds[stage] = round(report.seconds.get(stage, 0.0) + time.monotonic() - started, 3)

    def _fail_expired(self, batches: list[Batch]) -> set[str]:
        """Fail the batches whose hashed table is gone: merged never, they would fail their table's model for ever."""
        dataset = f"{self.settings.gcp_project}.{self.settings.dataset_temp}"
        there = {item.table_id for item in self.client.list_tables(dataset)}
        expired = set()
        for batch in batches:
            if hashed_table(batch.table, batch.id) not in there:
                message = "its hashed table expired, or was dropped, before it was merged; " + (
                    "its window is read again" if batch.window else f"copy it from the archive: {batch.source}"
                )
                error = BatchError(code="hashed_table_gone", message=message)
                failed = self.state.step(batch.id, Step.EXPIRE, error=error)
                log.error("batch.expired", table=batch.table, batch_id=batch.id, state=failed.state, reason=message)
                expired.add(batch.id)
        return expired

    def _bronze(self, lease: Lease, batches: list[Batch], report: RunReport) -> set[str]:
        """Merge batches in one dbt run; returns the ids of those of which nothing is left to do: merged, or failed."""
        lease.renew()
        expired = self._fail_expired(batches)
        batches = [batch for batch in batches if batch.id not in expired]
        if not batches:
            return expired
        self.state.note_downstream_due()
        fault_point("transformer.downstream_noted")
        tables = {name: table for name in {b.table for b in batches} if (table := self.tables.get(name))}
        models = sorted({table.bronze_model for table in tables.values()} | self._absent_models())
        variables = {"batches": batches_variable(self.settings, tables, batches, self.state.merged_snapshots(tables))}
        results = self.dbt.run(["run", "--select", *models], variables)
        fault_point("transformer.bronze_built")
        self.artifacts.keep(report.run_id, "bronze")
        report.nodes += results
        by_model = {result.name: result for result in results}
        merged = expired
        for name, table in sorted(tables.items()):
            mine = [batch for batch in batches if batch.table == name]
            result = by_model.get(table.bronze_model)
            if result is None or result.status != "success":
                message = result.message if result else "dbt did not run the model"
                report.problems.append(f"table {name}: bronze model {table.bronze_model} failed: {message}")
                log.error("bronze.failed", table=name, model=table.bronze_model, reason=message)
                continue
            lease.renew()
            for batch in mine:
                self.state.step(batch.id, Step.MERGE)
            merged.update(batch.id for batch in mine)
            fault_point("transformer.merged")
            entry = {
                "batches": [batch.id for batch in mine],
                "rows": sum(batch.rows for batch in mine),
                "rows_merged": result.rows_affected,
                "seconds": result.seconds,
            }
            report.merges.append({"table": name, **entry})
            log.info("bronze.merged", table=name, **entry)
        return merged

    def _absent_models(self) -> set[str]:
        """Bronze models whose table is not there yet: silver and gold need them all, be they empty."""
        dataset = f"{self.settings.gcp_project}.{self.settings.dataset_bronze}"
        there = {item.table_id for item in self.client.list_tables(dataset)}
        return {table.bronze_model for table in self.tables.tables} - there

    def _finish(self, lease: Lease, report: RunReport) -> None:
        """Drop the hashed tables of merged batches and move the watermarks; also what a crash left undone."""
        merged = self.state.batches_in(BatchState.MERGED)
        for batch in merged:
            table_id = hashed_table_id(self.settings.gcp_project, self.settings.dataset_temp, batch)
            lease.renew()
            self.client.delete_table(table_id, not_found_ok=True)
            fault_point("transformer.hashed_dropped")
        for table in sorted({batch.table for batch in merged}):
            before = self.state.progress(table).watermark
            after = self.state.advance(table, lease.token).watermark
            first = report.watermarks.get(table, {}).get("before", before.isoformat() if before else None)
            report.watermarks[table] = {"before": first, "after": after.isoformat() if after else None}
            log.info("watermark.advanced", table=table, **report.watermarks[table])
            fault_point("transformer.advanced")

    def _downstream(self, lease: Lease, report: RunReport, up_to: int) -> None:
        """Build and test silver and gold, up to a change of bronze. A failure here does not hold back the watermark."""
        lease.renew()
        results = self.dbt.run(DOWNSTREAM)
        fault_point("transformer.downstream_built")
        self.artifacts.keep(report.run_id, "downstream")
        report.nodes += results
        broken = [result for result in results if result.broken]
        for result in results:
            if result.status == "fail":
                log.error("test.failed", test=result.name, failures=result.failures, reason=result.message)
            elif result.status == "warn":
                log.warning("test.warned", test=result.name, failures=result.failures, reason=result.message)
        if errors := [result for result in broken if result.status != "skipped"]:
            report.problems += [f"{result.resource_type} {result.name}: {result.message}" for result in errors]
            log.error("downstream.failed", nodes=[result.name for result in broken])
        else:
            self.state.note_downstream_built(up_to)
