"""A source, the three services on the real state, and everything that happens to them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa

from services.core.events import ObjectFinalized
from services.core.settings import ExtractorSettings, LoaderSettings, S, TransformerSettings, read_settings
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Column, ColumnType, Compaction, Mode, Table, Tables
from services.extractor.extraction.extractor import Extractor
from services.extractor.extraction.workplace import Workplace
from services.extractor.progress import LoggedProgress
from services.extractor.source.connection import Connections
from services.extractor.tasks import Task
from services.loader.loading import Loader
from services.transformer.dbt_project import DbtProject
from services.transformer.quality.guard import Guard
from services.transformer.reconcile import Transformer
from tests.unit.extractor.history.bucket import BUCKET, DAMAGED, LANDING, Bucket
from tests.unit.extractor.history.cells import START
from tests.unit.extractor.history.counting import COUNTS
from tests.unit.extractor.history.inventing import BUSINESS, KEYS, MOST_STEPS, SCALES, TICK, Declared, Happening
from tests.unit.extractor.history.processes import AT_WORK, LEASE, Process, Stepwise, Wall
from tests.unit.extractor.history.source import Database
from tests.unit.extractor.history.warehouse import Warehouse

EXPECTED = ("DataError", "DocumentChanged", "LeaseLost", "TransientError")
"""How an extraction may fail in a history."""


@cache
def configured(kind: type[S]) -> S:
    """A service's settings; reading them takes longer than most of what it does here."""
    return read_settings(kind)


class NoArtifacts:
    """Keeps nothing."""

    def keep(self, run_id: str, stage: str) -> None:
        """As the real one."""
        return


class History:
    """What happens, one after the other."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.cursor, self.cells, self.sight = declared.cursor, declared.cells, declared.sight
        self.scale = SCALES[self.cells.kind]
        self.raised_at: int | None = None
        """After which run somebody declared a longer lag."""
        self.processes: list[Process] = []
        self.killed: set[str] = set()
        """Kinds of processes that were."""
        self.left: str | None = None
        """Execution of the extractor that was killed last; its task can be tried again."""
        self.runs = 0
        Wall.shown = START["timestamp"]
        columns = [Column(name=name, type=ColumnType.INT64, required=True) for name in ("id", "n")]
        columns += [Column(name=name, type=self.cells.landed) for name in ("a", "b")]
        self.table = Table(
            name="t",
            source="shop.orders",
            key=["id"],
            cursor=self.cursor,
            deletes=declared.deletes,
            bronze_model="t",
            compaction=Compaction(max_share=1, min_base=0),
            columns=columns,
        )
        start = START[self.cells.kind]
        sees_others, replica = self.sight != "own", self.sight == "replica"
        self.database = Database(self.table, self.cells, sees_others, replica, declared.by_pages, start, start)
        self.bucket = Bucket()
        self.warehouse = Warehouse(self.bucket, self.table)
        self.database.drops = self._dropped
        self.store = SqliteStore(Path(":memory:"))
        self.state = PipelineState(self.store)
        for key in range(KEYS - 1):
            transaction = self.database.begin()
            self.database.write(transaction, key, "skewed", self.scale.spans[key])
            self.database.end(transaction, commit=True)
        self.database.pass_time(self.scale.spans[4])
        self.database.replayed = len(self.database.commits)
        self.cycle(Mode.INCREMENTAL)
        for what in (
            f"nulls: {self.cursor.nulls}",
            f"future: {self.cursor.future}",
            f"sight: {self.sight}",
            f"by pages: {declared.by_pages}",
        ):
            COUNTS[f"histories with {what}"] += 1

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
        self.store.close()
        self.database.engine.close()

    def happens(self, it: Happening) -> None:
        """Let something happen."""
        if it.what in BUSINESS:
            self._business(it)
        else:
            self._pipeline(it)

    # the business

    def _business(self, it: Happening) -> None:
        database, by = self.database, self.scale.spans[it.by]
        database.pass_time(self.scale.spans[it.pause])
        transaction = database.open[it.which % len(database.open)] if database.open else None
        message = database.messages[it.which % len(database.messages)] if database.messages else None
        match it.what:
            case "clock set back":
                database.now -= by
            case "replay":
                database.replayed = min(database.replayed + 1 + it.which % 3, len(database.commits))
            case "attach":
                database.attach([it.key, (it.key + 1) % KEYS], by)
            case "lag raised" if self.raised_at is None:
                self.cursor = self.cursor.model_copy(update={"lag": self.cursor.lag + self.scale.spans[5]})
                self.table = self.table.model_copy(update={"cursor": self.cursor})
                self.raised_at = self.runs
                COUNTS["lags raised"] += 1
            case "change":  # a whole transaction
                begun = database.begin()
                database.write(begun, it.key, it.how, by)
                database.end(begun, commit=True)
            case "begin":
                hidden = it.which % 7 == 3 and not database.replica
                COUNTS["transactions hidden"] += hidden
                database.write(database.begin(it.which % 4 == 0, hidden), it.key, it.how, by)
            case "message":
                database.send(it.which % 4 == 0)
            case "next of a message" if message is not None:
                begun_next = database.go_on(message)
                if begun_next is not None:
                    database.write(begun_next, it.key, it.how, by)
                    COUNTS["transactions of messages"] += 1
            case "message over" if message is not None and not database.is_busy(message):
                database.messages.remove(message)
            case "write" if transaction is not None:
                database.write(transaction, it.key, it.how, by)
            case "savepoint" if transaction is not None and transaction.writes and not transaction.prepared:
                transaction.writes.popitem()
            case "prepare" if transaction is not None and transaction.prepared is None:
                transaction.prepared = database.now
                COUNTS["transactions prepared"] += 1
            case "commit" | "roll back" if transaction is not None:
                database.end(transaction, commit=it.what == "commit")

    # the pipeline

    def _start(self, kind: str, work: Callable[[Process], object]) -> Process:
        process = Process(kind, work)
        self.processes.append(process)
        COUNTS[f"processes started: {kind}"] += 1
        return process

    def extractor(self, mode: Mode, execution: str | None = None) -> Process:
        """Start an extractor, of an execution of its own or as another try of one's task."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        task_lease = SimpleNamespace(name=f"task-{run_id}", token=self.runs)

        def work(process: Process) -> object:
            source = Stepwise(process, "source", self.database)
            objects = cast(Any, Stepwise(process, "bucket", self.bucket))
            place = Workplace(
                settings=configured(ExtractorSettings).model_copy(update={"extract_safety_lag": self.scale.safety}),
                state=PipelineState(cast(Any, Stepwise(process, "state", self.store))),
                open_objects=lambda: objects,
                run_id=run_id,
                task=Task(execution or run_id, 0, 1, 0),
                task_lease=cast(Any, task_lease),
                progress=LoggedProgress(),
                engine=cast(Any, (process, self.database)),
                connections=Connections(),
            )
            AT_WORK.set(source)
            outcome = Extractor(place).extract(self.table, mode)
            COUNTS[f"extractions: {outcome.outcome}"] += 1
            if outcome.outcome == "failed":
                assert outcome.error is not None
                assert outcome.error.split(":")[0] in EXPECTED, outcome.error
            return None

        process = self._start("extractor", work)
        process.execution = execution or run_id
        return process

    def loader(self, manifest: str) -> Process:
        """Start a loader with a manifest's notification."""

        def work(process: Process) -> object:
            settings = configured(LoaderSettings)
            loader = Loader(
                settings=settings,
                tables=Tables(version=1, tables=[self.table]),
                state=PipelineState(cast(Any, Stepwise(process, "state", self.store))),
                objects=cast(Any, Stepwise(process, "bucket", self.bucket)),
                client=cast(Any, Stepwise(process, "warehouse", self.warehouse)),
                announcer=cast(Any, SimpleNamespace(publish=lambda batch: "id", alert=lambda error, objects: "id")),
            )
            return loader.handle(ObjectFinalized(bucket=settings.landing_bucket, name=manifest, generation=1))

        return self._start("loader", work)

    def transformer(self) -> Process:
        """Start a transformer."""

        def work(process: Process) -> object:
            warehouse = Stepwise(process, "warehouse", self.warehouse)
            dbt = SimpleNamespace(parsed=warehouse.parsed, refused={}, run=warehouse.run)
            dbt.described, dbt.definition = lambda model: "", lambda: "views"
            transformer = Transformer(
                settings=configured(TransformerSettings),
                tables=Tables(version=1, tables=[self.table]),
                state=PipelineState(cast(Any, Stepwise(process, "state", self.store))),
                client=cast(Any, warehouse),
                dbt=cast(DbtProject, dbt),
                row_tests=SimpleNamespace(results=lambda *_: [], guard=lambda table: Guard("", ""), told=lambda *_: []),
                artifacts=NoArtifacts(),
                reports=cast(Any, SimpleNamespace(publish=lambda run_id: None)),
                alert=lambda batch: None,
            )
            return transformer.reconcile("transformer")

        return self._start("transformer", work)

    def _pipeline(self, it: Happening) -> None:
        process = self.processes[it.which % len(self.processes)] if self.processes else None
        match it.what:
            case "cycle":
                if it.which % 2:
                    self.let_all_finish()
                self.cycle(it.mode)
            case "extraction":  # of which nobody hears yet
                self.extractor(it.mode).finish()
            case "extractor":
                self._for_a_while(self.extractor(it.mode), it)
            case "notification" if self.bucket.manifests:
                waiting = self._waiting()  # else any of them, again and again
                names = waiting if waiting and it.key else self.bucket.manifests
                self._for_a_while(self.loader(names[it.which % len(names)]), it)
            case "transformer":
                self._for_a_while(self.transformer(), it)
            case "going on" if process is not None:
                self._for_a_while(process, it)
            case "leases expire":  # whoever holds one was paused for longer than it lasts
                Wall.shown += LEASE + TICK
            case "damage":
                parts = [name for name in self.bucket.landed(LANDING) if name.endswith(".parquet")]
                for name in parts[it.which % (len(parts) or 1) :][:1]:
                    self.bucket.objects[BUCKET, name] = DAMAGED
                    COUNTS["parts damaged"] += 1
            case "broken read":
                self.database.broken_reads = 1
            case "session lost":
                COUNTS["sessions lost"] += len(self.database.snapshots) > 0
                self.database.snapshots.clear()
            case "task tried again" if self.left is not None:
                execution, self.left = self.left, None
                Wall.shown += LEASE + TICK
                COUNTS["tasks tried again"] += 1
                self._for_a_while(self.extractor(it.mode, execution), it)
            case "failing merge":
                self.warehouse.failing_merges = 1

    def _dropped(self, rows: pa.RecordBatch) -> None:
        """Rows that do not land because they are no news: bronze has them just so, and goes on having them."""
        for row in rows.to_pylist():
            held = self.warehouse.bronze.get(row["id"])
            assert held is not None, "a row was dropped that bronze does not have"
            assert (held.n, held.deleted) == (row["n"], False), "a row was dropped that bronze has otherwise"
        COUNTS["rows dropped"] += rows.num_rows

    def _waiting(self) -> list[str]:
        """Manifests whose batch was not loaded yet."""
        return [name for name in self.bucket.landed(LANDING) if name in self.bucket.manifests]

    def _for_a_while(self, process: Process, it: Happening) -> None:
        """Let a process do some steps; every third one dies after them."""
        process.advance(it.steps if it.steps < MOST_STEPS - 10 else 1_000)
        if it.which % 3 == 0 and not process.ended:
            COUNTS[f"killed: {process.kind} before {process.before}"] += 1
            self.killed.add(process.kind)
            self.left = process.execution or self.left
            self.processes.remove(process)
            process.kill()

    def let_all_finish(self) -> None:
        """Let all processes come to their end, and all leases expire."""
        for process in self.processes:
            process.finish()
        Wall.shown += LEASE + TICK

    def cycle(self, mode: Mode) -> None:
        """An extraction, its events, the merge: without anything in between."""
        self.extractor(mode).finish()
        for manifest in self._waiting():
            self.loader(manifest).finish()
        self.transformer().finish()
