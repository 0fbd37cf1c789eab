"""Merges into bases: all that fits into one dbt run; what fails is tried alone, then by halves of its batches.

A small table's batches are tested by the MERGE itself: it raises an error unless every row test passes, and then merges
nothing and bills nothing (appending.py has the same). What its error tells is noted; then it is sent again without
them.

So a bad batch, model or table stops nobody else. A batch that cannot be merged is *held* for a person. A table whose
model does not work, or that BigQuery does not answer for, keeps its batches, with the reason in their ``trouble``.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from google.api_core.exceptions import GoogleAPICallError

from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.jobs import new_job_id
from services.core.tables import Table
from services.transformer.bronze import delta as delta_table
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.compaction import Way
from services.transformer.bronze.handover import halves, handed_over
from services.transformer.bronze.notes import Done, Failure, Notes
from services.transformer.bronze.tables import BronzeTables, look
from services.transformer.bronze.testing import Testing
from services.transformer.bronze.turn import Turns
from services.transformer.dbt_project import DbtError, DbtProject, NodeResult
from services.transformer.quality.guard import Guard

log = structlog.get_logger()


@dataclass(frozen=True)
class Merge:
    """What is to be done in a table's base."""

    table: Table
    found: BronzeTables
    batches: list[Loaded]
    """What is merged; with none, and without the delta, base, delta and view are only made."""
    delta: bool = False
    """Whether what waits in the delta is merged, too."""
    guard: Guard | None = None
    """What lets it run only if the row tests of its batches pass; None when it is known how they end."""

    @property
    def writes(self) -> bool:
        """Whether it sends a MERGE."""
        return bool(self.batches) or self.delta


@dataclass(frozen=True)
class Attempt:
    """Merges that are tried in one dbt run."""

    merges: list[Merge]
    again: bool = False
    """Whether just these batches failed before."""


@dataclass(frozen=True)
class Merging:
    """The merges of a round, given their surroundings."""

    dbt: DbtProject
    turns: Turns
    notes: Notes
    testing: Testing
    keep: Callable[[], None]
    """Keeps what dbt wrote in a run."""
    _compacted: dict[str, list[str]] = field(default_factory=dict)
    """By table, the batches that its delta had before the MERGE."""

    def merge(self, merges: list[Merge], waiting: Mapping[str, list[Loaded]]) -> None:
        """Merge, side by side where nothing fails.

        Args:
            merges: one per table.
            waiting: by table, all batches that wait if its merge fails.

        Raises:
            LeaseLost: another process is at it.
        """
        attempts = deque([Attempt(merges)] if merges else [])
        while attempts:
            self.turns.lease.renew()
            attempts.extendleft(reversed(self._tried(attempts.popleft(), waiting)))

    def _tried(self, attempt: Attempt, waiting: Mapping[str, list[Loaded]]) -> list[Attempt]:
        """Merge in one dbt run; returns what is to be tried next, because something failed."""
        following: list[Attempt] = []
        refused: list[tuple[Merge, Failure]] = []
        outcomes = self._run(attempt.merges)
        self.turns.lease.renew()  # who stood still meanwhile judges nothing
        for merge, outcome in zip(attempt.merges, outcomes, strict=True):
            name, mine = merge.table.name, merge.batches
            if isinstance(outcome, Done):
                if merge.guard is not None:
                    self.testing.told(merge.table, mine, None, outcome.seconds)
                self._note(merge, outcome)
            elif merge.guard is not None and outcome.lasting:
                refused.append((merge, outcome))
            elif len(attempt.merges) > 1:
                following.append(Attempt([merge], again=True))
            elif not mine or not outcome.lasting:
                self.notes.stuck(name, waiting.get(name, []), outcome.message)
            elif isinstance(broken := self._run([Merge(merge.table, merge.found, [])])[0], Failure):
                self.notes.stuck(name, waiting[name], broken.message)  # the model itself, not its batches
            elif parts := halves(mine):
                following += [Attempt([Merge(merge.table, merge.found, part, merge.delta)]) for part in parts]
            elif not attempt.again:
                following.append(Attempt([merge], again=True))
            else:
                self.notes.hold(mine[0].batch, "merge_refused", outcome.message)
        return self._unguarded(refused, waiting) + following

    def _unguarded(self, refused: list[tuple[Merge, Failure]], waiting: Mapping[str, list[Loaded]]) -> list[Attempt]:
        """What guarded merges that were refused become, together: without the guard, once their tests are known."""
        untold = [
            merge for merge, why in refused if not self.testing.told(merge.table, merge.batches, why.message, 0.0)
        ]
        tested = {merge.table.name: merge.batches for merge, _ in refused}
        known = tested.keys() - {merge.table.name for merge in untold}
        passed = self.testing.passed([merge.table for merge in untold], tested, waiting)
        merges = []
        for merge, _ in refused:
            name = merge.table.name
            mine = merge.batches if name in known else passed.get(name, [])
            if not mine:
                continue  # all wait, and it is noted why
            try:
                # dbt has made, or adopted, the base since.
                found = look(self.turns.client, merge.found.name.rpartition(".")[0], merge.table)
            except GoogleAPICallError as error:
                self.notes.stuck(name, waiting[name], str(error))
            else:
                merges.append(Merge(merge.table, found, mine, merge.delta))
        return [Attempt(merges)] if merges else []

    def _note(self, merge: Merge, done: Done) -> None:
        if not merge.writes:
            return
        self.notes.taken_in(merge.table.name, Way.MERGE, merge.batches, done)
        if merge.delta:
            self._clear(merge)

    def _clear(self, merge: Merge) -> None:
        """Take out of the delta what the base has. Should that fail, the next compaction does it: nothing is wrong."""
        table, delta = merge.table, merge.found.delta_id
        fault_point("transformer.base_merged")
        try:
            delta_table.clear(self.turns.client, table, delta, self._compacted.pop(table.name))
        except GoogleAPICallError as error:
            log.warning("delta.not_cleared", table=table.name, reason=str(error))
            return
        self.notes.state.note_delta(table.name, None, self.turns.lease.token)

    def _run(self, merges: list[Merge]) -> list[Done | Failure]:
        """Run the models of some tables once; how each ended."""
        outcomes: dict[str, Done | Failure] = {}
        jobs: dict[str, str] = {}
        variable: dict[str, Any] = {}
        for merge in merges:
            name, job_id = merge.table.name, new_job_id("merge", merge.table.name)
            try:
                told = self._handed_over(merge, job_id)
            except DataError as error:
                outcomes[name] = Failure(str(error), lasting=True)
                continue
            if merge.writes and (failure := self.turns.not_taken(name, job_id) or self._seen(merge)):
                outcomes[name] = failure
                continue
            jobs[name] = job_id
            variable[merge.table.bronze_model] = told
        fault_point("transformer.merge_noted")
        nodes, message = self._dbt_run(variable)
        for merge in merges:
            if (job := jobs.get(merge.table.name)) is not None:
                node = nodes.get(merge.table.bronze_model)
                outcome = self._outcome(job if merge.writes else None, node, message)
                outcomes[merge.table.name] = outcome
                refused = merge.guard is not None and isinstance(outcome, Failure) and outcome.lasting
                self.notes.round.nodes += [node] if node and not refused else []
        return [outcomes[merge.table.name] for merge in merges]

    def _seen(self, merge: Merge) -> Failure | None:
        """Remember which batches the delta has before its MERGE; why that is not known, if it is not."""
        if merge.delta:
            try:
                found = delta_table.waiting_batches(self.turns.client, merge.table, merge.found.delta_id)
            except GoogleAPICallError as error:
                return Failure(str(error), lasting=False)
            self._compacted[merge.table.name] = found
        return None

    def _handed_over(self, merge: Merge, job_id: str) -> dict[str, Any]:
        table = merge.table
        snapshot = self.notes.state.newest_snapshot(table.name)
        described = self.dbt.described(table.bronze_model)
        return handed_over(
            table, merge.found, described, snapshot, job_id, merge.batches, delta=merge.delta, guard=merge.guard
        )

    def _dbt_run(self, variable: dict[str, Any]) -> tuple[dict[str, NodeResult], str]:
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
        return {result.name: result for result in results}, ""

    def _outcome(self, job_id: str | None, node: NodeResult | None, message: str) -> Done | Failure:
        """What became of a model's run. Of a merge its job tells: dbt's answer, or its silence, may be wrong."""
        said = node.message if node else message or "dbt did not run the model"
        ran = node is not None and node.status == "success"
        if job_id is None:
            return Done(None, node.seconds) if ran and node else Failure(said, lasting=True)
        job = self.turns.ended(job_id)
        if isinstance(job, Failure):
            return Failure(f"{said}; {job.message}", lasting=False)
        if job.done:
            return Done(job.rows, node.seconds if node else 0.0)
        if job.sent:
            return Failure(job.message, job.lasting)
        if ran:
            return Failure(f"dbt did not send the merge as job {job_id}, or too late", lasting=False)
        return Failure(said, lasting=True)
