"""Batches are appended to deltas, tables side by side: tested and appended in one statement where that can be.

BigQuery bills at least 10 MB for a table in a statement, whatever it reads of it. A batch of a few rows would cost
twice that: once to test it, once to append it. So both are one INSERT, which raises an error unless every test passes.
A statement that fails is not billed (https://cloud.google.com/bigquery/pricing#on_demand_pricing), and appends
nothing: then the batches are tested by themselves, which tells which test fails, on which batch, and how often.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from google.api_core.exceptions import GoogleAPICallError

from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.jobs import new_job_id
from services.core.state.quality import all_passed
from services.core.tables import Table
from services.core.telling import kind_and_words
from services.transformer.bronze import delta
from services.transformer.bronze.batch_rows import Loaded, bronze_columns
from services.transformer.bronze.compaction import Way
from services.transformer.bronze.merging import Merge
from services.transformer.bronze.notes import Done, Failure, Notes
from services.transformer.bronze.side_by_side import side_by_side
from services.transformer.bronze.tables import BronzeTables
from services.transformer.bronze.testing import Tester
from services.transformer.bronze.turn import Turns
from services.transformer.dbt_project import DbtError
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
class Appending:
    """The appends of a round, given their surroundings."""

    turns: Turns
    notes: Notes
    row_tests: Tester

    def append_tested(self, appends: Sequence[Append], waiting: Mapping[str, list[Loaded]]) -> set[str]:
        """Test and append in one statement.

        Args:
            appends: one per table.
            waiting: by table, all batches that wait if nothing can be known of them.

        Returns:
            The tables that are done with: their batches are in bronze, or nothing can be known of them now. What is to
            become of the others' batches, their tests have to say.

        Raises:
            LeaseLost: another process is at it.
            TransientError: the state does not answer.
        """
        outcomes = side_by_side(appends, self._append_tested)
        self.turns.lease.renew()  # who stood still meanwhile judges nothing
        settled = set()
        for append, outcome in zip(appends, outcomes, strict=True):
            table, ids = append.table.name, [each.batch.id for each in append.batches]
            if isinstance(outcome, Done):
                results = self.row_tests.all_pass(append.table, outcome.seconds)
                self.notes.round.nodes += results
                note_rows(self.notes.state.store, table, results, ids)
                self.notes.taken_in(table, Way.APPEND, append.batches, outcome)
                settled.add(table)
            elif outcome is not None and not outcome.lasting:
                self.notes.stuck(table, waiting[table], outcome.message)
                settled.add(table)
        return settled

    def append(self, appends: Sequence[Append], waiting: Mapping[str, list[Loaded]]) -> list[Merge]:
        """Append batches whose tests are known.

        Args:
            appends: one per table.
            waiting: by table, all batches that wait if that fails.

        Returns:
            What is merged instead, because its append was refused: so the bad batch is found.

        Raises:
            LeaseLost: another process is at it.
            TransientError: the state does not answer.
        """
        merges = []
        outcomes = side_by_side(appends, self._append)
        self.turns.lease.renew()
        for append, outcome in zip(appends, outcomes, strict=True):
            if isinstance(outcome, Done):
                self.notes.taken_in(append.table.name, Way.APPEND, append.batches, outcome)
            elif outcome.lasting:
                log.warning("bronze.not_appended", table=append.table.name, reason=outcome.message)
                merges.append(Merge(append.table, append.found, append.batches, delta=append.found.delta_rows > 0))
            else:
                self.notes.stuck(append.table.name, waiting[append.table.name], outcome.message)
        return merges

    def _append_tested(self, append: Append) -> Done | Failure | None:
        """How testing and appending in one ended; None where the tests would not pass, or cannot be asked so."""
        table, columns = append.table, append.columns
        if not all_passed(self.notes.state.store, table.name):
            return None
        try:
            rows = delta.rows_of(table, columns, append.batches)
            guarded = self.row_tests.only_if_all_pass(table, rows, delta.columns_of(columns))
        except DataError:
            return None  # it is refused further on, by name
        except DbtError as error:
            return Failure(f"row tests: {kind_and_words(error)}", lasting=False)
        if guarded is None:
            return None
        outcome = self._sent(append, guarded)
        if isinstance(outcome, Failure) and outcome.lasting:
            # What BigQuery says can quote a value.
            log.info("bronze.not_appended_at_once", table=table.name, reason="a row test does not pass, or is refused")
        return outcome

    def _append(self, append: Append) -> Done | Failure:
        """How appending ended."""
        try:
            rows = delta.rows_of(append.table, append.columns, append.batches)
        except DataError as error:
            return Failure(str(error), lasting=True)
        return self._sent(append, rows)

    def _sent(self, append: Append, rows: str) -> Done | Failure:
        """Append what a SELECT gives by one job; how that ended."""
        started, table, job_id = time.monotonic(), append.table, new_job_id("append", append.table.name)
        self.notes.state.note_delta(table.name, datetime.now(UTC), self.turns.lease.token)
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
            return Done(job.rows, round(time.monotonic() - started, 3))
        return Failure(job.message, job.lasting if job.sent else False)
