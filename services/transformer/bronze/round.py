"""A round: the loaded batches of each table come into bronze, as many as fit into one statement.

What may not go in yet is set aside. The others are appended to deltas, side by side, or merged into bases by dbt.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from google.cloud import bigquery

from services.core import machine
from services.core.batch import Batch, BatchError, Step
from services.core.faults import fault_point
from services.core.settings import TransformerSettings
from services.core.state.lease import Lease
from services.core.state.state import PipelineState
from services.core.tables import Table, Tables
from services.core.warehouse import REQUEST_SECONDS, RETRY, hashed_table_id, temp_table
from services.transformer.bronze.appending import Append, Appending
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.compaction import Choice, Way, choose
from services.transformer.bronze.handover import that_fit, view_definition
from services.transformer.bronze.merging import Merge, Merging
from services.transformer.bronze.notes import Notes, Round
from services.transformer.bronze.shrinking import deletes, shrinkage
from services.transformer.bronze.tables import BASE, BronzeTables, look
from services.transformer.bronze.testing import Tester, Testing
from services.transformer.bronze.turn import Turns
from services.transformer.dbt_project import DbtError, DbtProject

log = structlog.get_logger()


@dataclass(frozen=True)
class Bronze:
    """What brings batches into bronze, given its surroundings."""

    settings: TransformerSettings
    tables: Tables
    state: PipelineState
    client: bigquery.Client
    dbt: DbtProject
    row_tests: Tester
    keep: Callable[[], None]
    """Keeps what dbt wrote in a run."""
    alert: Callable[[Batch], object]
    """Says that a batch waits for a person."""

    def round(self, lease: Lease, batches: list[Batch]) -> Round:
        """Take in the oldest batches of each table.

        Args:
            lease: the transformer's.
            batches: loaded batches of declared tables.

        Raises:
            LeaseLost: another process is at it.
            Exception: the state or the warehouse does not answer.
        """
        notes = Notes(self.state, self.alert)
        lease.renew()
        loaded = self._looked_at(batches)
        try:
            self.dbt.parsed()
        except DbtError as error:
            for name, mine in _by_table(loaded).items():
                notes.stuck(name, mine, str(error), curable=False)
            return notes.round
        waiting = self._mergeable(loaded, notes)
        for name, mine in waiting.items():
            waiting[name] = self._allowed(self._table(name), mine, notes)
        first = {name: that_fit(self._table(name), mine) for name, mine in waiting.items() if mine}
        self._take_in(Turns(self.state, self.client, lease), notes, first, waiting)
        return notes.round

    def complete(self, lease: Lease) -> Round:
        """Make the tables that bronze does not have yet, empty: silver and gold, about to be built, need them all.

        Raises:
            LeaseLost: another process is at it.
            Exception: the state or the warehouse does not answer.
        """
        lease.renew()
        self.dbt.parsed()
        return self._without_batches(lease, self._absent())

    def compact(self, lease: Lease) -> Round:
        """Merge the deltas whose rows have waited for as long as their tables declare, and see that all views are made.

        Raises:
            LeaseLost: another process is at it.
            Exception: the state or the warehouse does not answer.
        """
        lease.renew()
        self.dbt.parsed()
        return self._without_batches(
            lease, [table for table in self.tables.tables if table.name not in self.dbt.refused]
        )

    def _without_batches(self, lease: Lease, tables: list[Table]) -> Round:
        """Do for tables what is due without a new batch."""
        notes = Notes(self.state, self.alert)
        self._take_in(Turns(self.state, self.client, lease), notes, {table.name: [] for table in tables}, {})
        return notes.round

    def _table(self, name: str) -> Table:
        table = self.tables.get(name)
        if table is None:
            raise KeyError(name)
        return table

    # --- what may go in -----------------------------------------------------------------------------------------------

    def _looked_at(self, batches: list[Batch]) -> list[Loaded]:
        """The batches with their hashed tables. One whose table is gone has failed: it could never be merged."""
        project, dataset = self.settings.gcp_project, self.settings.dataset_temp
        ids = [hashed_table_id(project, dataset, batch) for batch in batches]
        found = machine.side_by_side(ids, lambda id_: temp_table(self.client, id_))
        for batch, temp in zip(batches, found, strict=True):
            if temp is None:
                message = "its hashed table expired, or was dropped, before it was merged; " + (
                    "its window is read again" if batch.window else f"copy it from the archive: {batch.source}"
                )
                error = BatchError(code="hashed_table_gone", message=message)
                failed = self.state.step(batch.id, Step.EXPIRE, error=error)
                log.error("batch.expired", table=batch.table, batch_id=batch.id, state=failed.state, reason=message)
        return [Loaded(batch, temp) for batch, temp in zip(batches, found, strict=True) if temp is not None]

    def _mergeable(self, loaded: Iterable[Loaded], notes: Notes) -> dict[str, list[Loaded]]:
        """The batches by table, oldest first, of tables whose bronze model is as declared."""
        by_table, refused = _by_table(loaded), self.dbt.refused
        for name in refused.keys() & by_table.keys():
            notes.stuck(name, by_table.pop(name), refused[name], curable=False)
        return dict(sorted(by_table.items()))

    def _allowed(self, table: Table, loaded: list[Loaded], notes: Notes) -> list[Loaded]:
        """Without snapshots that would delete too much: they are held, unless a person has let them go."""
        allowed = []
        for each in loaded:
            why = None
            if deletes(table, each.batch) and each.batch.released_at is None:
                bronze = f"{self._dataset}.{table.bronze_model}"
                why = shrinkage(self.client, table, bronze, each).too_much(table)
            if why is None:
                allowed.append(each)
            else:
                notes.hold(each.batch, why.code, why.message)
        return allowed

    @property
    def _dataset(self) -> str:
        return f"{self.settings.gcp_project}.{self.settings.dataset_bronze}"

    def _absent(self) -> list[Table]:
        """Tables that bronze does not have yet."""
        there = {item.table_id for item in self.client.list_tables(self._dataset, retry=RETRY, timeout=REQUEST_SECONDS)}
        return [
            table
            for table in self.tables.tables
            if not {table.bronze_model, f"{table.bronze_model}{BASE}"} <= there and table.name not in self.dbt.refused
        ]

    # --- going in -----------------------------------------------------------------------------------------------------

    def _take_in(
        self, turns: Turns, notes: Notes, batches: Mapping[str, list[Loaded]], waiting: Mapping[str, list[Loaded]]
    ) -> None:
        """Choose each table's way; append first, which is quick, then merge."""
        tables = [self._table(name) for name in batches]
        found = machine.side_by_side(tables, lambda table: look(self.client, self._dataset, table))
        chosen = [self._choice(table, seen, batches[table.name]) for table, seen in zip(tables, found, strict=True)]
        appending = Appending(turns, notes, self.row_tests)
        done, merges = appending.append_tested(
            [
                Append(table, seen, batches[table.name])
                for table, seen, (choice, _) in zip(tables, found, chosen, strict=True)
                if choice.way is Way.APPEND and batches[table.name]
            ],
            waiting,
        )
        testing = Testing(self.state, self.client, self.row_tests, notes)
        guards = {
            table.name: guard
            for table, (choice, _) in zip(tables, chosen, strict=True)
            if choice.way is Way.MERGE and batches[table.name] and (guard := testing.guard(table, batches[table.name]))
        }
        tested = testing.passed(
            [
                table
                for table, (choice, _) in zip(tables, chosen, strict=True)
                if choice.way is not Way.MAKE and table.name not in done | guards.keys()
            ],
            batches,
            waiting,
        )
        appends: list[Append] = []
        remade = False
        for table, seen, (choice, wanted) in zip(tables, found, chosen, strict=True):
            guard = guards.get(table.name)
            mine = batches[table.name] if guard else tested.get(table.name, [])
            if choice.way is Way.MAKE or (choice.way is Way.MERGE and (mine or not batches[table.name])):
                reason = choice.reason
                log.info("bronze.way", table=table.name, way=str(choice.way), reason=reason, batches=len(mine))
                merges.append(Merge(table, seen, mine, choice.way is Way.MERGE and seen.delta_rows > 0, guard))
                remade = remade or seen.definition != wanted
            elif mine:
                appends.append(Append(table, seen, mine))
        merges += appending.append(appends, waiting)
        if remade:
            self.state.note_downstream_due()
            fault_point("transformer.downstream_noted")
        Merging(self.dbt, turns, notes, testing, self.keep).merge(merges, waiting)

    def _choice(self, table: Table, found: BronzeTables, batches: list[Loaded]) -> tuple[Choice, str]:
        """The way of a table's batches, and the fingerprint that its view is to have."""
        wanted = view_definition(table, found, self.dbt.described(table.bronze_model), batches)
        since, snapshot = self.state.progress(table.name).delta_since, self.state.newest_snapshot(table.name)
        choice = choose(table, found, wanted, batches, snapshot, since, machine.now())
        if choice.way is Way.MERGE and not batches and not found.delta_rows:
            # Nothing is to be merged; whether all is made as it is to be is another question.
            made = found.base is not None and found.definition == wanted
            return Choice(Way.APPEND if made else Way.MAKE, choice.reason), wanted
        return choice, wanted


def _by_table(loaded: Iterable[Loaded]) -> dict[str, list[Loaded]]:
    found: dict[str, list[Loaded]] = {}
    for each in loaded:
        found.setdefault(each.batch.table, []).append(each)
    return found
