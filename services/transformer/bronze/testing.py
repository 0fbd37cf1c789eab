"""Row tests of batches that are about to go in; under ``on_failed_tests: hold`` a bad batch waits instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from services.core import machine
from services.core.batch import Batch, BatchError
from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.state.quality import row_tests_complain
from services.core.state.state import PipelineState
from services.core.tables import OnFailedTests, Table
from services.core.telling import kind_and_words
from services.transformer.bronze.batch_rows import Loaded, bronze_columns
from services.transformer.bronze.delta import rows_of
from services.transformer.bronze.notes import Notes
from services.transformer.dbt_project import DbtError, NodeResult
from services.transformer.quality.guard import Guard
from services.transformer.quality.noting import note_rows
from services.transformer.quality.row_tests import why_held

log = structlog.get_logger()


class Tester(Protocol):
    """Runs the tests of single rows (``services.transformer.quality.row_tests.RowTests``)."""

    def results(self, client: bigquery.Client, table: Table, rows: str) -> list[NodeResult]:
        """How a table's row tests end on rows that bronze is about to take in."""

    def guard(self, table: Table) -> Guard | None:
        """What makes a SELECT of rows raise an error unless each of the table's row tests passes on them."""

    def told(self, table: Table, error: str | None, seconds: float) -> list[NodeResult] | None:
        """What the table's row tests found, as a guarded SELECT told it by its error, or by raising none."""


@dataclass(frozen=True)
class Tested:
    """What the row tests found of a table's batches."""

    passed: list[Loaded]
    """The batches that go on."""
    results: list[NodeResult]
    held: list[tuple[Batch, BatchError]]
    """Those that wait for a person, and why."""
    failure: str | None = None
    """Why nothing is known of any of them."""


@dataclass(frozen=True)
class Testing:
    """Tests the batches of a round."""

    state: PipelineState
    client: bigquery.Client
    row_tests: Tester
    notes: Notes

    def guard(self, table: Table, batches: list[Loaded]) -> Guard | None:
        """What lets a MERGE of batches run only if their row tests pass.

        None where the MERGE cannot tell that of all: of snapshots of a table without a key it reads the newest alone,
        and none that is older than bronze's. None where nothing is known of the tests. And None where tests have found
        something since the last audit, and may again: to merge a second time takes longer than to ask first.
        """
        if not table.key and (len(batches) != 1 or self._overtaken(batches[0].batch)):
            return None
        if row_tests_complain(self.state.store, table.name):
            return None
        try:
            return self.row_tests.guard(table)
        except DbtError:
            return None  # the batches are tested by themselves, which says why they cannot be

    def _overtaken(self, snapshot: Batch) -> bool:
        newest = self.state.newest_snapshot(snapshot.table)
        return newest is not None and (snapshot.extracted_at, snapshot.id) < (newest.extracted_at, newest.id)

    def told(self, table: Table, batches: list[Loaded], refused: str | None, seconds: float) -> bool:
        """Note what a guarded statement told of batches: before one that was refused is sent without the guard.

        Args:
            table: the batches' table.
            batches: what it takes in.
            refused: the words of its error; None when it ran, so that all tests passed.
            seconds: what it took.

        Returns:
            Whether it told what becomes of each batch; else they are to be tested by themselves.

        Raises:
            TransientError: the state does not answer.
        """
        if refused is not None and table.on_failed_tests is OnFailedTests.HOLD:
            return False
        results = self.row_tests.told(table, refused, seconds)
        if results is None:
            return False
        self.notes.round.nodes += results
        note_rows(self.state.store, table.name, results, [each.batch.id for each in batches])
        if refused is not None:
            _all_is_noted()
        return True

    def passed(
        self, tables: list[Table], batches: Mapping[str, list[Loaded]], waiting: Mapping[str, list[Loaded]]
    ) -> dict[str, list[Loaded]]:
        """The batches that go on, by table; what the tests found is noted before bronze has them.

        Args:
            tables: the tables whose batches are tested.
            batches: by table.
            waiting: by table, all batches that wait if nothing can be known of them.

        Raises:
            TransientError: the state does not answer.
        """
        asked = [table for table in tables if batches[table.name]]
        going: dict[str, list[Loaded]] = {}
        for table, tested in zip(
            asked, machine.side_by_side(asked, lambda t: self._test(t, batches[t.name])), strict=True
        ):
            self.notes.round.nodes += tested.results
            if tested.failure is not None:
                self.notes.stuck(table.name, waiting[table.name], tested.failure)
                continue
            note_rows(self.state.store, table.name, tested.results, [each.batch.id for each in batches[table.name]])
            for batch, why in tested.held:
                self.notes.hold(batch, why.code, why.message)
            going[table.name] = tested.passed
        if asked:
            _all_is_noted()
        return going

    def _test(self, table: Table, batches: list[Loaded]) -> Tested:
        """Test batches: all in one statement, or each by itself where a bad one is to wait."""
        holds = table.on_failed_tests is OnFailedTests.HOLD
        tested = Tested([], [], [])
        for part in [[each] for each in batches] if holds else [batches]:
            try:
                results = self._results(table, part)
            except (DbtError, GoogleAPICallError) as error:
                return Tested([], tested.results, [], f"row tests: {kind_and_words(error)}")
            tested.results.extend(results)
            why = why_held(table, results) if part[0].batch.released_at is None else None
            if why is None:
                tested.passed.extend(part)
            else:
                tested.held.append((part[0].batch, why))
        return tested

    def _results(self, table: Table, part: list[Loaded]) -> list[NodeResult]:
        try:
            # Their own columns suffice: what bronze has beyond them is null in their rows, and in no test.
            columns = bronze_columns(table, {}, part)
            rows = rows_of(table, columns, part)
        except DataError as error:
            log.warning("batch.not_tested", table=table.name, reason=str(error))  # it is refused further on
            return []
        return self.row_tests.results(self.client, table, rows)


def _all_is_noted() -> None:
    """Where a test lets a process die: what the tests found is noted, nothing of their batches is in bronze."""
    fault_point("transformer.tested")
