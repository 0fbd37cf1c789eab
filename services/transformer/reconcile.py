"""Reconcile: look at the state, do what is due, look again. One process at a time, under a lease."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog
from google.cloud import bigquery

from services.core import machine
from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.cost.interrupted import note_interrupted
from services.core.cost.keeping import keep_cost, log_cost
from services.core.cost.run_cost import RunCost
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.faults import fault_point
from services.core.labels import jobs_of
from services.core.naming import new_batch_id
from services.core.settings import TransformerSettings
from services.core.state.lease import Lease, holding, look
from services.core.state.state import PipelineState, Run, TableProgress
from services.core.tables import Mode, Tables
from services.core.warehouse import REQUEST_SECONDS, RETRY, hashed_table_id
from services.transformer.bronze.notes import Notes, Round
from services.transformer.bronze.round import Bronze
from services.transformer.bronze.testing import Tester
from services.transformer.dbt_project import DbtError, DbtProject, NodeResult
from services.transformer.outcome import Outcome, outcome

LEASE = "transform"

DOWNSTREAM = ["run", "--selector", "downstream"]
"""The views of silver and gold; the selector is in dbt/selectors.yml."""

VIEWS = [*DOWNSTREAM, "--exclude", "config.materialized:table", "config.materialized:incremental"]
"""Only those of them that are views; the audit builds the others anew."""

STAGES = frozenset({"bronze", "downstream", "hold", "tests"})
"""What the jobs are for that only a reconcile sends."""

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
    """What could not be done; a retry, or a person, cures it."""
    unbuilt: bool = False
    """Whether silver and gold could not be built."""

    def details(self) -> dict[str, Any]:
        """What the history keeps."""
        return {
            "seconds": self.seconds,
            "merges": self.merges,
            "watermarks": self.watermarks,
            "nodes": [asdict(node) for node in self.nodes],
            "problems": self.problems,
        }

    def outcome(self) -> Outcome:
        """One word for the history."""
        return outcome(self.problems, self.nodes)


@dataclass(frozen=True)
class Transformer:
    """The transformer's work, given its surroundings."""

    settings: TransformerSettings
    tables: Tables
    state: PipelineState
    client: bigquery.Client
    dbt: DbtProject
    row_tests: Tester
    artifacts: ArtifactKeeper
    reports: ReportPublisher
    alert: Callable[[Batch], object]
    """Says that a batch waits for a person."""

    def reconcile(self, holder: str) -> list[RunReport]:
        """Do all that is due, pass by pass, until nothing is.

        Raises:
            LeaseBusy: another process is at it.
            TransientError: something could not be done now; everything else was. What only a person can cure is in the
                reports' problems instead: no retry would help.
        """
        reports: list[RunReport] = []
        stuck: dict[str, bool] = {}
        while True:
            with holding(self.state.store, LEASE, holder, self.settings.transform_lease) as lease:
                while self._loaded(stuck) or (not reports and self._leftovers()):
                    reports.append(self._pass(lease, stuck))
            # A batch that was loaded after the last look, and whose event found the lease held, is seen here.
            if not self._loaded(stuck):
                break
        if any(stuck.values()) or (reports and reports[-1].unbuilt):
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

    def maintain(self, holder: str) -> RunReport:
        """Do what is due once a day: merge what has waited long in deltas, and make all views anew.

        Views that somebody has dropped or changed by hand are as the project defines them afterwards.

        Raises:
            LeaseBusy: another process is at it.
            Exception: the state or the warehouse does not answer.
        """
        report = RunReport(run_id=new_batch_id(machine.now()), started_at=machine.now())
        with (
            structlog.contextvars.bound_contextvars(run_id=report.run_id),
            jobs_of(report.run_id),
            holding(self.state.store, LEASE, holder, self.settings.transform_lease) as lease,
        ):
            self._timed(report, "bronze", lambda: self._add(report, self._bronze(report).compact(lease)))
            self._timed(report, "downstream", lambda: self._views(lease, report))
            log.info("maintenance.finished", outcome=report.outcome(), seconds=report.seconds, problems=report.problems)
            self._note(report)
            log_cost(report.run_id, self._cost(report), self.settings.bigquery_usd_per_tib)
        return report

    def _holder_lives(self) -> bool:
        """Watch the lease until it is renewed (True), or free (False)."""
        first = look(self.state.store, LEASE)
        while first is not None and first.held(machine.now()):
            machine.sleep(0.25)
            now = look(self.state.store, LEASE)
            if now is None or now.token != first.token or not now.held(machine.now()):
                return False
            if now.expires_at > first.expires_at:
                return True
        return False

    def _loaded(self, stuck: dict[str, bool]) -> list[Batch]:
        """Loaded batches, oldest first, but for those of tables that this reconcile could not merge."""
        return [
            batch
            for batch in self.state.batches_in(BatchState.LOADED)
            if batch.table not in stuck and self.tables.get(batch.table) is not None
        ]

    def _leftovers(self) -> bool:
        """Whether a crash left something to do though nothing is to be merged."""
        return self.state.downstream_due() is not None or bool(self.state.batches_in(BatchState.MERGED))

    def _pass(self, lease: Lease, stuck: dict[str, bool]) -> RunReport:
        """Take in, round by round, then build what is due; tables that cannot be taken in go to ``stuck``."""
        report = RunReport(run_id=new_batch_id(machine.now()), started_at=machine.now())
        with structlog.contextvars.bound_contextvars(run_id=report.run_id), jobs_of(report.run_id):
            batches = self._loaded(stuck)
            log.info("reconcile.started", batches=[batch.id for batch in batches])
            self._timed(report, "finish", lambda: self._finish(lease, report))
            for _ in range(MOST_ROUNDS):
                if not (batches := self._loaded(stuck)):
                    break
                done = self._timed(report, "bronze", lambda: self._round(lease, batches, report))
                stuck |= done.stuck
                self._timed(report, "finish", lambda: self._finish(lease, report))
            if self.state.downstream_due(self._definition()) is not None:
                stuck |= self._timed(report, "bronze", lambda: self._completed(lease, report))
                if not report.unbuilt:
                    self._timed(report, "downstream", lambda: self._downstream(lease, report))
            log.info("reconcile.finished", outcome=report.outcome(), seconds=report.seconds, problems=report.problems)
            fault_point("transformer.run_unnoted")
            self._note(report)
            log_cost(report.run_id, self._cost(report), self.settings.bigquery_usd_per_tib)
            self.reports.publish(report.run_id)
            nothing = RunReport(report.run_id, report.started_at).details()
            note_interrupted(self.state, self.client, "transformer", STAGES, report.started_at, nothing)
        return report

    def _cost(self, report: RunReport) -> RunCost:
        """Note what the run has cost; the report, which asks the warehouse nothing, tells it."""
        return keep_cost(self.state, self.client, report.run_id, report.started_at)

    def _note(self, report: RunReport) -> None:
        self.state.add_run(
            Run(
                id=report.run_id,
                service="transformer",
                started_at=report.started_at,
                finished_at=machine.now(),
                outcome=report.outcome(),
                details=report.details(),
            )
        )

    @staticmethod
    def _timed(report: RunReport, stage: str, work: Callable[[], T]) -> T:
        started = machine.monotonic()
        try:
            return work()
        finally:
            report.seconds[stage] = round(report.seconds.get(stage, 0.0) + machine.monotonic() - started, 3)

    def _definition(self) -> str | None:
        """How the project defines silver and gold; None when it does not parse, which the round has said."""
        try:
            return self.dbt.definition()
        except DbtError as error:
            log.error("dbt.not_parsed", reason=str(error))
            return None

    def _bronze(self, report: RunReport) -> Bronze:
        keep = partial(self.artifacts.keep, report.run_id, "bronze")
        return Bronze(self.settings, self.tables, self.state, self.client, self.dbt, self.row_tests, keep, self.alert)

    def _round(self, lease: Lease, batches: list[Batch], report: RunReport) -> Round:
        try:
            done = self._bronze(report).round(lease, batches)
        except LeaseLost:
            raise
        except Exception as error:
            Notes(self.state, self.alert).trouble(batches, f"{type(error).__name__}: {error}")
            raise
        self._add(report, done)
        return done

    @staticmethod
    def _add(report: RunReport, done: Round) -> None:
        report.merges += done.merges
        report.nodes += done.nodes
        report.problems += done.problems

    def _finish(self, lease: Lease, report: RunReport) -> None:
        """Drop the hashed tables of merged batches and move the watermarks; also what a crash left undone."""
        merged = self.state.batches_in(BatchState.MERGED)
        for batch in merged:
            table_id = hashed_table_id(self.settings.gcp_project, self.settings.dataset_temp, batch)
            lease.renew()
            self.client.delete_table(table_id, not_found_ok=True, retry=RETRY, timeout=REQUEST_SECONDS)
            fault_point("transformer.hashed_dropped")
        for table in sorted({batch.table for batch in merged}):
            before = self.state.progress(table).watermark
            progress = self.state.advance(table, lease.token)
            after = progress.watermark
            self._give_up_superseded(table, progress)
            first = report.watermarks.get(table, {}).get("before", before.isoformat() if before else None)
            report.watermarks[table] = {"before": first, "after": after.isoformat() if after else None}
            log.info("watermark.advanced", table=table, **report.watermarks[table])
            fault_point("transformer.advanced")

    def _give_up_superseded(self, table: str, progress: TableProgress) -> None:
        """Close held snapshots that a newer one in bronze makes pointless: nobody need look at them any more."""
        if progress.merged_snapshot is None or progress.merged_snapshot_at is None:
            return
        merged = (progress.merged_snapshot_at, progress.merged_snapshot)
        for batch in self.state.batches_in(BatchState.HELD):
            if batch.table == table and batch.mode is Mode.SNAPSHOT and (batch.extracted_at, batch.id) < merged:
                error = BatchError(code="superseded", message=f"snapshot {merged[1]}, which is newer, is in bronze")
                self.state.step(batch.id, Step.DISCARD, error=error)
                log.info("batch.superseded", table=table, batch_id=batch.id, newer=merged[1])

    def _completed(self, lease: Lease, report: RunReport) -> dict[str, bool]:
        """Make what bronze lacks, which silver and gold need; the tables for which that failed.

        Only now: while a first run of many tables still brings them, the batches of each make it.
        """
        try:
            done = self._bronze(report).complete(lease)
        except (DbtError, LeaseLost):
            raise
        except Exception as error:
            log.exception("bronze.not_completed")
            report.problems.append(f"bronze could not be looked at: {type(error).__name__}: {error}")
            report.unbuilt = True
            return {}
        self._add(report, done)
        return done.stuck

    def _views(self, lease: Lease, report: RunReport) -> None:
        """Build the views, due or not; what is due is noted as built."""
        if self.state.downstream_due(self.dbt.definition()) is not None:
            self._downstream(lease, report)
        else:
            self._built(lease, report, VIEWS)

    def _downstream(self, lease: Lease, report: RunReport) -> None:
        """Build silver and gold. A failure here does not hold back the watermark."""
        up_to = self.state.downstream_due(self.dbt.definition())
        if up_to is not None and self._built(lease, report, DOWNSTREAM):
            self.state.note_downstream_built(up_to, self.dbt.definition())

    def _built(self, lease: Lease, report: RunReport, arguments: list[str]) -> bool:
        """Build models; whether all of them are built."""
        lease.renew()
        results = self.dbt.run("downstream", arguments)
        fault_point("transformer.downstream_built")
        self.artifacts.keep(report.run_id, "downstream")
        report.nodes += results
        broken = [result for result in results if result.broken]
        if errors := [result for result in broken if result.status != "skipped"]:
            report.problems += [f"{result.resource_type} {result.name}: {result.message}" for result in errors]
            report.unbuilt = True
            log.error("downstream.failed", nodes=[result.name for result in broken])
        return not errors
