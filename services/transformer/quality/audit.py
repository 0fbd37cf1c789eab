"""The audit: all data tests on everything, and the report's figures, in one statement; once a day."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import structlog
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from services.core import machine
from services.core.batch import BatchState
from services.core.cost.interrupted import note_interrupted
from services.core.cost.keeping import note_with_cost
from services.core.errors import LeaseBusy
from services.core.labels import job_labels, jobs_of
from services.core.naming import new_batch_id
from services.core.settings import TransformerSettings
from services.core.state.lease import holding
from services.core.state.quality import Audit, Group, Trouble, note_audit, note_audit_trouble
from services.core.state.state import PipelineState, Run
from services.core.tables import Tables
from services.core.telling import kind_and_words
from services.transformer.dbt_project import DbtError, DbtProject, NodeResult
from services.transformer.outcome import Outcome, outcome
from services.transformer.quality.asking import ask
from services.transformer.quality.compiled import Compiled, compiled_project
from services.transformer.quality.fused import Groups, Part, broken, fused, judged
from services.transformer.quality.noting import as_noted, log_results

LEASE = "audit"
STAGES = frozenset({"audit"})
"""What the jobs are for that only an audit sends."""

FIGURES = {
    "rejected": ("installments_rejected", "rejection_reason"),
    "tiers": ("company_payment_summary", "payment_tier"),
}
"""What is counted for the run report: a model's rows by a column. A project without the model has no such figure."""

TABLES = frozenset({"table", "incremental"})
"""Materializations of models that hold rows of their own. A bronze model has another."""

log = structlog.get_logger()


@dataclass
class AuditReport:
    """What one audit did; kept in the run history."""

    id: str
    started_at: datetime
    nodes: list[NodeResult] = field(default_factory=list)
    figures: dict[str, list[Group]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Per step: compile, tables, ask."""
    problems: list[str] = field(default_factory=list)
    """What could not be tested or counted, and why."""
    nothing: bool = False
    """Whether there is nothing to audit yet."""

    def details(self) -> dict[str, Any]:
        """What the history keeps."""
        return {
            "seconds": self.seconds,
            "nodes": [asdict(node) for node in self.nodes],
            "figures": {name: [group.model_dump() for group in groups] for name, groups in self.figures.items()},
            "problems": self.problems,
        }

    def outcome(self) -> Outcome:
        """One word for the history."""
        return outcome(self.problems, self.nodes)


@dataclass(frozen=True)
class Auditor:
    """Makes audits, given its surroundings."""

    settings: TransformerSettings
    tables: Tables
    state: PipelineState
    client: bigquery.Client
    dbt: DbtProject

    def audit(self, holder: str) -> AuditReport | None:
        """Make an audit and note what it found; None when another process is at it.

        What fails is among its problems, and in the state.

        Raises:
            Exception: the state does not answer.
        """
        try:
            with holding(self.state.store, LEASE, holder, self.settings.transform_lease):
                return self._made()
        except LeaseBusy as busy:
            log.info("audit.left_to_holder", reason=str(busy))
            return None

    def _made(self) -> AuditReport:
        started_at = machine.now()
        report = AuditReport(new_batch_id(started_at), started_at)
        if not any(self.state.progress(table.name).merged_batch for table in self.tables.tables):
            report.nothing = True
            log.info("audit.nothing", reason="bronze has no batch yet")
            return report
        with structlog.contextvars.bound_contextvars(audit_id=report.id), jobs_of(report.id):
            unseen = self._unseen()
            try:
                self._ask(report)
            except (GoogleAPICallError, DbtError) as error:
                why = kind_and_words(error)
                report.problems.append(why)
                note_audit_trouble(self.state.store, Trouble(at=started_at, why=why))
                log.error("audit.failed", reason=why)
            else:
                note_audit(self.state.store, _noted(report), unseen)
            self._note_run(report)
        return report

    def _unseen(self) -> dict[str, list[str]]:
        """By table, the batches that are not in bronze, and may have been tested."""
        found: dict[str, list[str]] = {}
        for state in (BatchState.LOADED, BatchState.HELD):
            for batch in self.state.batches_in(state):
                found.setdefault(batch.table, []).append(batch.id)
        return found

    def _ask(self, report: AuditReport) -> None:
        with _timed(report, "compile"):
            project = compiled_project(self.dbt)
        with _timed(report, "tables"):
            self._rebuild(report, project)
        tests, groups = [test for test in project.tests if test.sql is not None], figures(project)
        parts: list[Part] = [*tests, *groups]
        with _timed(report, "ask"):
            answers = ask(self.client, parts, fused, job_labels("audit"))
        for test, answer in zip(tests, answers, strict=False):
            if answer.refused is not None:
                report.nodes.append(broken(test, answer.refused, answer.seconds))
            else:
                report.nodes.append(judged(test, answer.rows[0], answer.seconds))
        report.nodes += [broken(test, f"dbt: {test.why_not}") for test in project.tests if test.sql is None]
        report.problems += [f"test {node.name}: {node.message}" for node in report.nodes if node.status == "error"]
        for group, answer in zip(groups, answers[len(tests) :], strict=True):
            if answer.refused is not None:
                report.problems.append(f"figure {group.name}: {answer.refused}")
            else:
                counted = [Group(name=str(row.name), count=row.number or 0) for row in answer.rows]
                report.figures[group.name] = sorted(counted, key=lambda each: (-each.count, each.name))
        log_results(report.nodes)

    def _rebuild(self, report: AuditReport, project: Compiled) -> None:
        """Build models that are tables anew: what they hold is as old as the last time."""
        tables = sorted(model.name for model in project.models.values() if model.materialized in TABLES)
        if tables:
            results = self.dbt.run("audit", ["run", "--select", *tables])
            report.problems += [f"model {each.name}: {each.message}" for each in results if each.broken]

    def _note_run(self, report: AuditReport) -> None:
        run = Run(
            id=report.id,
            service="audit",
            started_at=report.started_at,
            finished_at=machine.now(),
            outcome=report.outcome(),
            details=report.details(),
        )
        log.info("audit.finished", outcome=run.outcome, tests=len(report.nodes), seconds=report.seconds)
        note_with_cost(self.state, self.client, run, self.settings.bigquery_usd_per_tib)
        nothing = AuditReport(report.id, report.started_at).details()
        note_interrupted(self.state, self.client, "audit", STAGES, report.started_at, nothing)


def _noted(report: AuditReport) -> Audit:
    """What the state keeps."""
    return Audit(
        id=report.id,
        at=report.started_at,
        seconds=round(sum(report.seconds.values()), 3),
        tests=as_noted(report.nodes),
        figures=report.figures,
    )


def figures(project: Compiled) -> list[Groups]:
    """The groups that the project has."""
    known = {name: project.model(model) for name, (model, _) in FIGURES.items()}
    return [Groups(name, model.relation, FIGURES[name][1]) for name, model in known.items() if model]


@contextmanager
def _timed(report: AuditReport, step: str) -> Iterator[None]:
    started = machine.monotonic()
    try:
        yield
    finally:
        report.seconds[step] = round(machine.monotonic() - started, 3)
