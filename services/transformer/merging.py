"""One round of merges: all that fits into one dbt run; what fails is tried alone, then by halves of its batches.

So a bad batch, model or table stops nobody else. A batch that cannot be merged is *held* for a person. A table whose
model does not work, or that BigQuery does not answer for, keeps its batches, with the reason in their ``trouble``.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.errors import LeaseLost, TransientError
from services.core.faults import fault_point
from services.core.jobs import new_job_id, settle, take_turn
from services.core.settings import TransformerSettings
from services.core.state.lease import Lease
from services.core.state.state import PipelineState
from services.core.tables import Table, Tables
from services.core.warehouse import REQUEST_SECONDS, RETRY, hashed_table_id, temp_table
from services.transformer.batch_rows import Loaded
from services.transformer.dbt_project import DbtError, DbtProject, NodeResult
from services.transformer.handover import halves, handed_over, that_fit
from services.transformer.shrinking import deletes, shrinkage

MERGE_WAIT = timedelta(minutes=30)
"""For a MERGE to end; dbt gives one up after as long (dbt/profiles.yml)."""

_LOOKS = 8
"""Hashed tables that are looked at side by side."""

_MOST_MESSAGE = 1_000
"""Characters of an error that are kept in the state."""

log = structlog.get_logger()


@dataclass
class Round:
    """What a round of merges did."""

    stuck: dict[str, bool] = field(default_factory=dict)
    """Tables that could not be merged; whether a retry may cure that, or only a person."""
    merges: list[dict[str, Any]] = field(default_factory=list)
    """Per merge of a table: batches, rows, rows that the merge changed, seconds."""
    nodes: list[NodeResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What a retry, or a person, may cure; each names the table."""


@dataclass(frozen=True)
class Merged:
    """A merge that did its work."""

    rows: int | None
    """Rows that it changed."""
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why a table's merge failed."""

    message: str
    lasting: bool
    """Whether the same statement fails again; else what failed may pass."""


@dataclass(frozen=True)
class Attempt:
    """Merges that are tried in one dbt run."""

    batches: Mapping[str, list[Loaded]]
    """By table; none for a table that is only made."""
    again: bool = False
    """Whether just these batches failed before."""


@dataclass(frozen=True)
class Merging:
    """The merges of a pass, given their surroundings."""

    settings: TransformerSettings
    tables: Tables
    state: PipelineState
    client: bigquery.Client
    dbt: DbtProject
    keep: Callable[[], None]
    """Keeps what dbt wrote in a run."""
    alert: Callable[[Batch], object]
    """Says that a batch waits for a person."""

    def round(self, lease: Lease, batches: list[Batch]) -> Round:
        """Merge the oldest batches of each table, as many as fit into one statement.

        Args:
            lease: the transformer's.
            batches: loaded batches of declared tables.

        Raises:
            LeaseLost: another process is at it.
            Exception: the state or the warehouse does not answer.
        """
        done = Round()
        lease.renew()
        by_table = self._mergeable(self._looked_at(batches), done)
        for name, mine in by_table.items():
            by_table[name] = self._allowed(self._table(name), mine, done)
        first = {name: that_fit(self._table(name), mine) for name, mine in by_table.items() if mine}
        first |= {table.name: [] for table in self._absent() if table.name not in first}
        waiting = deque([Attempt(first)] if first else [])
        while waiting:
            lease.renew()
            waiting.extendleft(reversed(self._tried(lease, waiting.popleft(), by_table, done)))
        return done

    def _table(self, name: str) -> Table:
        table = self.tables.get(name)
        if table is None:
            raise KeyError(name)
        return table

    # --- what may be merged -------------------------------------------------------------------------------------------

    def _looked_at(self, batches: list[Batch]) -> list[Loaded]:
        """The batches with their hashed tables. One whose table is gone has failed: it could never be merged."""
        project, dataset = self.settings.gcp_project, self.settings.dataset_temp
        with ThreadPoolExecutor(_LOOKS, thread_name_prefix="look") as pool:
            ids = [hashed_table_id(project, dataset, batch) for batch in batches]
            asked = [pool.submit(temp_table, self.client, id_) for id_ in ids]
            found = [answer.result() for answer in asked]
        for batch, temp in zip(batches, found, strict=True):
            if temp is None:
                message = "its hashed table expired, or was dropped, before it was merged; " + (
                    "its window is read again" if batch.window else f"copy it from the archive: {batch.source}"
                )
                error = BatchError(code="hashed_table_gone", message=message)
                failed = self.state.step(batch.id, Step.EXPIRE, error=error)
                log.error("batch.expired", table=batch.table, batch_id=batch.id, state=failed.state, reason=message)
        return [Loaded(batch, temp) for batch, temp in zip(batches, found, strict=True) if temp is not None]

    def _mergeable(self, loaded: Iterable[Loaded], done: Round) -> dict[str, list[Loaded]]:
        """The batches by table, oldest first, of tables whose bronze model is as declared."""
        by_table: dict[str, list[Loaded]] = {}
        for each in loaded:
            by_table.setdefault(each.batch.table, []).append(each)
        try:
            self.dbt.parsed()
            refused: Mapping[str, str] = self.dbt.refused
        except DbtError as error:
            refused = dict.fromkeys(by_table, str(error))
        for name in refused.keys() & by_table.keys():
            self._stuck(name, by_table.pop(name), refused[name], done, curable=False)
        return dict(sorted(by_table.items()))

    def _allowed(self, table: Table, loaded: list[Loaded], done: Round) -> list[Loaded]:
        """Without snapshots that would delete too much: they are held, unless a person has let them go."""
        allowed = []
        for each in loaded:
            why = None
            if deletes(table, each.batch) and each.batch.released_at is None:
                bronze = f"{self.settings.gcp_project}.{self.settings.dataset_bronze}.{table.bronze_model}"
                why = shrinkage(self.client, table, bronze, each).too_much(table)
            if why is None:
                allowed.append(each)
            else:
                self._hold(each.batch, why)
        return allowed

    def _absent(self) -> list[Table]:
        """Tables that bronze does not have yet: silver and gold need them all, be they empty."""
        dataset = f"{self.settings.gcp_project}.{self.settings.dataset_bronze}"
        there = {item.table_id for item in self.client.list_tables(dataset, retry=RETRY, timeout=REQUEST_SECONDS)}
        return [t for t in self.tables.tables if t.bronze_model not in there and t.name not in self.dbt.refused]

    # --- trying -------------------------------------------------------------------------------------------------------

    def _tried(
        self, lease: Lease, attempt: Attempt, by_table: Mapping[str, list[Loaded]], done: Round
    ) -> list[Attempt]:
        """Merge in one dbt run; returns what is to be tried next, because something failed."""
        following: list[Attempt] = []
        outcomes = self._run(lease, attempt.batches, done)
        lease.renew()  # who stood still meanwhile judges nothing
        for name, outcome in outcomes.items():
            mine = attempt.batches[name]
            if isinstance(outcome, Merged):
                self._note_merged(name, mine, outcome, done)
            elif len(attempt.batches) > 1:
                following.append(Attempt({name: mine}, again=True))
            elif not mine or not outcome.lasting:
                self._stuck(name, by_table.get(name, []), outcome.message, done)
            elif isinstance(broken := self._run(lease, {name: []}, done)[name], Failure):
                self._stuck(name, by_table[name], broken.message, done)  # the model itself, not its batches
            elif parts := halves(mine):
                following += [Attempt({name: part}) for part in parts]
            elif not attempt.again:
                following.append(Attempt({name: mine}, again=True))
            else:
                self._hold(mine[0].batch, BatchError(code="merge_refused", message=_shortened(outcome.message)))
        return following

    def _run(
        self, lease: Lease, batches: Mapping[str, list[Loaded]], done: Round
    ) -> dict[str, Merged | Failure]:  # fmt: skip
        """Run the models of some tables once; per table, how that ended."""
        outcomes: dict[str, Merged | Failure] = {}
        jobs: dict[str, str] = {}
        variable: dict[str, Any] = {}
        for name, mine in batches.items():
            table, job_id = self._table(name), new_job_id("merge", name)
            if mine and (failure := self._turn_not_taken(lease, name, job_id)):
                outcomes[name] = failure
                continue
            jobs[name] = job_id
            variable[table.bronze_model] = handed_over(table, self.state.newest_snapshot(name), job_id, mine)
        fault_point("transformer.merge_noted")
        nodes, message = self._dbt_run(variable, done)
        for name, job_id in jobs.items():
            node = nodes.get(self._table(name).bronze_model)
            outcomes[name] = self._outcome(job_id if batches[name] else None, node, message)
        return outcomes

    def _turn_not_taken(self, lease: Lease, name: str, job_id: str) -> Failure | None:
        """Note the job that is about to be sent; why that could not be done, if it could not."""
        try:
            take_turn(
                self.client,
                job_id,
                lambda: self.state.progress(name).merge_job,
                lambda new, after: self.state.note_merge_job(name, new, lease.token, after),
                MERGE_WAIT,
            )
        except LeaseLost:
            raise
        except (TransientError, GoogleAPICallError) as error:
            return Failure(str(error), lasting=False)
        return None

    def _dbt_run(self, variable: dict[str, Any], done: Round) -> tuple[dict[str, NodeResult], str]:
        """Run dbt on some bronze models; how each ended, and dbt's own error when it ended without results."""
        if not variable:
            return {}, ""
        try:
            results = self.dbt.run("bronze", ["run", "--select", *sorted(variable)], {"bronze": variable})
        except DbtError as error:
            return {}, str(error)
        finally:
            fault_point("transformer.bronze_built")
            self.keep()
        done.nodes += results
        return {result.name: result for result in results}, ""

    def _outcome(self, job_id: str | None, node: NodeResult | None, message: str) -> Merged | Failure:
        """What became of a model's run. Of a merge its job tells: dbt's answer, or its silence, may be wrong."""
        said = node.message if node else message or "dbt did not run the model"
        if job_id is None:
            ran = node is not None and node.status == "success"
            return Merged(None, node.seconds) if ran and node else Failure(said, lasting=True)
        try:
            job = settle(self.client, job_id, MERGE_WAIT)
        except (TransientError, GoogleAPICallError) as error:
            return Failure(f"{said}; {error}", lasting=False)
        if job.done:
            return Merged(job.rows, node.seconds if node else 0.0)
        if job.sent:
            return Failure(job.message, job.lasting)
        if node is not None and node.status == "success":
            return Failure(f"dbt did not send the merge as job {job_id}, or too late", lasting=False)
        return Failure(said, lasting=True)

    # --- noting -------------------------------------------------------------------------------------------------------

    def _note_merged(self, name: str, mine: list[Loaded], merged: Merged, done: Round) -> None:
        if not mine:
            return
        for each in mine:
            self.state.step(each.batch.id, Step.MERGE)
        fault_point("transformer.merged")
        entry = {
            "batches": [each.batch.id for each in mine],
            "rows": sum(each.batch.rows for each in mine),
            "rows_merged": merged.rows,
            "seconds": merged.seconds,
        }
        done.merges.append({"table": name, **entry})
        log.info("bronze.merged", table=name, **entry)

    def _stuck(self, name: str, waiting: Iterable[Loaded], reason: str, done: Round, *, curable: bool = True) -> None:
        """Note why a table's batches wait; somebody who looks at one of them sees it."""
        message = _shortened(reason)
        self.note_trouble((each.batch for each in waiting), message)
        done.stuck[name] = curable
        done.problems.append(f"table {name}: {message}")
        log.error("bronze.failed", table=name, reason=message)

    def note_trouble(self, batches: Iterable[Batch], reason: str) -> None:
        """Note in loaded batches why they wait."""
        message = _shortened(reason)
        for batch in batches:
            self.state.change_batch(batch.id, lambda batch: batch.in_trouble(BatchState.LOADED, message))
            log.warning("batch.waits", table=batch.table, batch_id=batch.id, reason=message)

    def _hold(self, batch: Batch, why: BatchError) -> None:
        """Set a batch aside until a person has looked at it."""
        held = self.state.step(batch.id, Step.HOLD, hold=why)
        log.error("batch.held", table=batch.table, batch_id=batch.id, code=why.code, reason=why.message)
        try:
            self.alert(held)
        except Exception:
            # It is noted and logged, and status shows it: a bus that is away must not stop the merges of others.
            log.exception("alert.not_sent", table=batch.table, batch_id=batch.id)


def _shortened(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _MOST_MESSAGE else f"{text[:_MOST_MESSAGE]}…"
