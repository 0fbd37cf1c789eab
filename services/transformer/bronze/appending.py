"""Batches are appended to deltas, tables side by side: tested and appended in one statement where that can be.

BigQuery bills at least 10 MB for a table in a statement, whatever it reads of it. A batch of a few rows would cost
twice that: once to test it, once to append it. So both are one INSERT, which raises an error unless every test passes.
A statement that fails is not billed (https://cloud.google.com/bigquery/pricing#on_demand_pricing), and appends
nothing; its error says which tests do not pass, and what they count. Then the rows are appended without the tests, or,
where a bad batch is to wait for a person, each batch is tested by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from google.api_core.exceptions import GoogleAPICallError

from services.core import machine
from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.jobs import new_job_id
from services.core.tables import OnFailedTests, Table
from services.core.telling import kind_and_words
from services.transformer.bronze import delta
from services.transformer.bronze.batch_rows import Loaded, bronze_columns
from services.transformer.bronze.compaction import Way
from services.transformer.bronze.merging import Merge
from services.transformer.bronze.notes import Done, Failure, Notes
from services.transformer.bronze.tables import BronzeTables
from services.transformer.bronze.testing import Tester
from services.transformer.bronze.turn import Turns
from services.transformer.dbt_project import DbtError, NodeResult
from services.transformer.quality.noting import note_rows

log = structlog.get_logger()


@dataclass(frozen=True)
class Append:
    """Batches that are to be appended to a table's delta."""

    table: Table
    found: BronzeTables
    batches: list[Loaded]

    @property
    def columns(self) -> dict[str, str]:
        """Bronze's columns, without those that it adds, with their types."""
        assert self.found.base is not None  # noqa: S101 - only then is it appended
        return bronze_columns(self.table, self.found.base.columns, self.batches)


@dataclass(frozen=True)
class Appended:
    """How testing and appending a table's batches in one statement ended."""

    results: list[NodeResult]
    outcome: Done | Failure


@dataclass(frozen=True)
class Appending:
    """The appends of a round, given their surroundings."""

    turns: Turns
    notes: Notes
    row_tests: Tester

    def append_tested(
        self, appends: Sequence[Append], waiting: Mapping[str, list[Loaded]]
    ) -> tuple[set[str], list[Merge]]:
        """Test and append.

        Args:
            appends: one per table.
            waiting: by table, all batches that wait if that fails.

        Returns:
            The tables that are done with, and what is merged instead, because its append was refused. Of the others
            nothing is known yet: their batches are to be tested by themselves.

        Raises:
            LeaseLost: another process is at it.
            TransientError: the state does not answer.
        """
        ends = machine.side_by_side(appends, self._append_tested)
        self.turns.lease.renew()  # who stood still meanwhile judges nothing
        done, merges = set(), []
        for append, end in zip(appends, ends, strict=True):
            if end is not None:
                done.add(append.table.name)
                self.notes.round.nodes += end.results
                merges += self._noted(append, end.outcome, waiting)
        return done, merges

    def append(self, appends: Sequence[Append], waiting: Mapping[str, list[Loaded]]) -> list[Merge]:
        """Append batches whose tests are known.

        Args:
            appends: one per table.
            waiting: by table, all batches that wait if that fails.

        Returns:
            What is merged instead, because its append was refused.

        Raises:
            LeaseLost: another process is at it.
            TransientError: the state does not answer.
        """
        outcomes = machine.side_by_side(appends, self._append)
        self.turns.lease.renew()
        ended = zip(appends, outcomes, strict=True)
        return [merge for append, outcome in ended for merge in self._noted(append, outcome, waiting)]

    def _noted(self, append: Append, outcome: Done | Failure, waiting: Mapping[str, list[Loaded]]) -> list[Merge]:
        """Note how an append ended. One that was refused is merged, so that the bad batch is found."""
        table, found = append.table.name, append.found
        if isinstance(outcome, Done):
            self.notes.taken_in(table, Way.APPEND, append.batches, outcome)
            return []
        if outcome.lasting:
            log.warning("bronze.not_appended", table=table, reason=outcome.message)
            return [Merge(append.table, found, append.batches, delta=found.delta_rows > 0)]
        self.notes.stuck(table, waiting[table], outcome.message)
        return []

    def _append_tested(self, append: Append) -> Appended | None:
        """How that ended; None where one statement cannot do it, or does not say what is to become of a batch."""
        table, columns = append.table, append.columns
        try:
            rows = delta.rows_of(table, columns, append.batches)
            guard = self.row_tests.guard(table)
        except DataError:
            return None  # it is refused further on, by name
        except DbtError as error:
            return Appended([], Failure(f"row tests: {kind_and_words(error)}", lasting=False))
        if guard is None:
            return None
        started = machine.monotonic()
        outcome = self._sent(append, guard.around(rows))
        if isinstance(outcome, Failure) and not outcome.lasting:
            return Appended([], outcome)
        refused = outcome.message if isinstance(outcome, Failure) else None
        results = self.row_tests.told(table, refused, machine.monotonic() - started)
        if results is None or (refused is not None and table.on_failed_tests is OnFailedTests.HOLD):
            return None
        # Before bronze has rows that do not pass: a death in between hides nothing.
        note_rows(self.notes.state.store, table.name, results, [each.batch.id for each in append.batches])
        return Appended(results, outcome if isinstance(outcome, Done) else self._sent(append, rows))

    def _append(self, append: Append) -> Done | Failure:
        """How appending ended."""
        try:
            rows = delta.rows_of(append.table, append.columns, append.batches)
        except DataError as error:
            return Failure(str(error), lasting=True)
        return self._sent(append, rows)

    def _sent(self, append: Append, rows: str) -> Done | Failure:
        """Append what a SELECT gives by one job; how that ended."""
        started, table, job_id = machine.monotonic(), append.table, new_job_id("append", append.table.name)
        self.notes.state.note_delta(table.name, machine.now(), self.turns.lease.token)
        if failure := self.turns.not_taken(table.name, job_id):
            return failure
        fault_point("transformer.append_noted")
        client, statement = self.turns.client, delta.insertion(append.found.delta_id, append.columns, rows)
        try:
            delta.send(client, table, statement, job_id)
        except GoogleAPICallError as error:
            log.warning("append.not_answered", table=table.name, job_id=job_id, reason=kind_and_words(error))
        job = self.turns.ended(job_id)
        fault_point("transformer.appended")
        if isinstance(job, Failure):
            return job
        if job.done:
            return Done(job.rows, round(machine.monotonic() - started, 3))
        return Failure(job.message, job.lasting if job.sent else False)
