"""The whole pipeline in one process: the services' own code on parts in memory, in the scheduler's time."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, Literal, cast

import pyarrow as pa
import pytest
import structlog
from tenacity import wait_none

from services.core import machine
from services.core.batch import Batch, BatchState
from services.core.errors import DataError, LeaseLost, SourceChanged, TransientError
from services.core.events import ObjectFinalized
from services.core.naming import manifest_object, new_batch_id, parse_landed, part_object
from services.core.settings import ExtractorSettings, LoaderSettings, S, TransformerSettings, read_settings
from services.core.state.certain import CertainStore
from services.core.state.lease import holding
from services.core.state.state import PipelineState
from services.core.state.store import DocumentChanged
from services.core.tables import Column, ColumnType, Compaction, Cursor, Mode, OnFailedTests, Table, Tables
from services.core.warehouse import hashed_table_id
from services.extractor import landing
from services.extractor.extraction import rows, workplace
from services.extractor.extraction.extractor import Extractor
from services.extractor.extraction.helping import help_others
from services.extractor.extraction.workplace import Workplace
from services.extractor.planning import preparation
from services.extractor.progress import LoggedProgress
from services.extractor.reading import reading
from services.extractor.source.connection import Connections
from services.extractor.tasks import Task
from services.loader.loading import Loader
from services.loader.sweep import Sweep
from services.ops.held import NotHeld, discard, release
from services.transformer.dbt_project import DbtProject
from services.transformer.reconcile import Transformer
from tests.simulation.buckets import MemoryBuckets
from tests.simulation.bus import Subscription
from tests.simulation.choices import Choices
from tests.simulation.client import Client
from tests.simulation.dbt import Dbt
from tests.simulation.outside import Outside
from tests.simulation.row_tests import RowTests
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.sifting import PlainSieve
from tests.simulation.source import Reader, Source
from tests.simulation.statements import Row
from tests.simulation.store import MemoryStore
from tests.simulation.warehouse import Warehouse, as_new
from tests.unit.extractor.history.cells import Cells
from tests.unit.extractor.history.processes import AT_WORK, Inline
from tests.unit.extractor.history.source import Sessions

_ENVIRONMENT = {
    **{"POSTGRES_HOST": "h", "POSTGRES_USER": "u", "GCP_PROJECT": "p", "EXTRACT_PART_ROWS": "2"},
    **{"EXTRACT_CHUNK_PAGES": "1", "EXTRACT_SAFETY_LAG": "PT2M"},
}

BRONZE = "p.business_case_bronze.t"
KEY = ("id",)
EXPECTED = (DataError, DocumentChanged, LeaseLost, SourceChanged, TransientError)
"""How an extraction may fail."""
TASKS = 2
"""Of an execution where a table is read by chunks."""
MOST_TRIES = 3
"""Of a task of the extractor, as Terraform sets it."""


Dropped = Literal["damaged manifest", "others' manifest", "part", "damaged file", "note"]
"""What somebody puts into landing/, and what can be no batch."""


@dataclass(frozen=True)
class Held:
    """A row of bronze, as the judge looks at it."""

    n: int
    as_new: tuple[datetime, str]
    deleted: bool


@dataclass(frozen=True)
class Declared:
    """How the table is declared, and what the extractor's role sees."""

    cursor: Cursor
    cells: Cells
    deletes: Literal["keep", "soft"]
    sight: str
    by_pages: bool
    compaction: Compaction
    on_failed_tests: OnFailedTests


@cache
def configured(kind: type[S]) -> S:
    """A service's settings; reading them takes longer than most of what it does here."""
    return read_settings(kind)


@contextmanager
def _asked_source(info: str, hold: ExitStack | None = None, **_: object) -> Iterator[Any]:
    yield AT_WORK.get()


@contextmanager
def simulated() -> Iterator[None]:
    """For a block, what the services open of the outside is simulated, and nothing is logged."""
    logged = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(preparation, "open_source", _asked_source)
        patch.setattr(rows, "open_source", _asked_source)
        patch.setattr(workplace, "Sessions", Sessions)
        patch.setattr(workplace, "Sieve", PlainSieve)
        patch.setattr(reading, "Reader", Reader)
        patch.setattr(reading, "ThreadPoolExecutor", Inline)
        patch.setattr(reading, "wait_exponential_jitter", lambda **_: wait_none())
        patch.setattr(landing, "ThreadPoolExecutor", Inline)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        try:
            yield
        finally:
            structlog.configure(**logged)


@dataclass
class Heard:
    """Who is told of what the loader did."""

    loaded: Subscription
    alerts: list[str] = field(default_factory=list)

    def publish(self, batch: Batch) -> str:
        """A loaded batch."""
        self.loaded.publish(batch.id)
        return "id"

    def alert(self, error: DataError, objects: list[str]) -> str:
        """What was refused."""
        self.alerts.append(error.code)
        return "id"


class World:
    """Everything, and everything that can happen in it."""

    def __init__(self, choices: Choices, declared: Declared) -> None:
        """Begin with an empty pipeline, and a source that has some rows.

        Args:
            choices: decide.
            declared: of the table.
        """
        self.scheduler = Scheduler(choices)
        self.declared, self.cursor, self.cells, self.sight = declared, declared.cursor, declared.cells, declared.sight
        columns = [Column(name=name, type=ColumnType.INT64, required=True) for name in ("id", "n")]
        columns += [Column(name=name, type=self.cells.landed) for name in ("a", "b")]
        self.table = Table(
            name="t",
            source="shop.orders",
            key=list(KEY),
            cursor=self.cursor,
            deletes=declared.deletes,
            max_deleted_share=0.7,
            bronze_model="t",
            compaction=declared.compaction,
            on_failed_tests=declared.on_failed_tests,
            columns=columns,
        )
        self.database = Source(
            self.scheduler,
            self.table,
            self.cells,
            sees_others=self.sight != "own",
            replica=self.sight == "replica",
            by_pages=declared.by_pages,
        )
        self.database.drops = self._dropped
        self.store = MemoryStore()
        self.state = PipelineState(self.store)
        """As it is, without a call outside."""
        self.landings = Subscription(self.scheduler, "loader", self._load, self._start)
        self.loaded = Subscription(self.scheduler, "transformer", self._reconcile_or_leave, self._start)
        self.buckets = MemoryBuckets(self.scheduler.now, self._finalized)
        self.warehouse = Warehouse(self.scheduler, self.buckets)
        self.heard = Heard(self.loaded)
        self.landed: set[str] = set()
        """Names of all objects that ever were in landing/."""
        self.manifests: list[ObjectFinalized] = []
        """All notifications of manifests."""
        self.errors: list[BaseException] = []
        """What processes ended with."""
        self.runs = 0
        self.raised_at: int | None = None
        """After which run somebody declared a longer lag."""
        self.definition = "views"

    # --- processes ----------------------------------------------------------------------------------------------------

    def _start(
        self, name: str, work: Callable[[], object], then: Callable[[Process], object] = lambda process: None
    ) -> Process:
        """Start a process on a machine whose clock may be ahead."""
        scheduler = self.scheduler
        skew = 0.0 if scheduler.quiet else (0.0, 0.0, 0.4, -0.4)[scheduler.choices.one_of(4, 0.1)]

        def ended(process: Process) -> None:
            if process.error is not None:
                self.errors.append(process.error)
                scheduler.say(f"{name} ends with {type(process.error).__name__}: {str(process.error)[:150]}")
            then(process)

        return scheduler.start(name, work, skew, then=ended)

    def _outside(self, name: str, part: object) -> Any:
        return Outside(self.scheduler, name, part)

    def _state(self) -> PipelineState:
        return PipelineState(CertainStore(self._outside("state", self.store)))

    def _client(self) -> Any:
        return Client(self.scheduler, self.warehouse)

    @property
    def tables(self) -> Tables:
        """As they are declared now."""
        return Tables(version=1, tables=[self.table])

    def extractor(self, mode: Mode) -> None:
        """Start an execution of the extractor: a task, and one that helps where tables are read by chunks."""
        self.runs += 1
        for index in range(TASKS if self.declared.by_pages else 1):
            self._task(mode, Task(f"run-{self.runs}", index, TASKS if self.declared.by_pages else 1, 0))

    def _task(self, mode: Mode, task: Task) -> None:
        """Start a task; it is tried again when it fails, as Cloud Run does."""
        tried = f", try {task.attempt + 1}" if task.attempt else ""
        name = f"extractor {task.execution}{f' task {task.index}' if task.count > 1 else ''}{tried}"
        number = self.runs

        def again(process: Process) -> None:
            if (process.dead or process.error is not None) and task.attempt + 1 < MOST_TRIES:
                self._task(mode, replace(task, attempt=task.attempt + 1))

        self._start(name, lambda: self._extract(mode, task, f"run-{number}"), again)

    def _extract(self, mode: Mode, task: Task, run_id: str) -> None:
        """What a task does, as ``services.extractor.__main__.run`` does it."""
        settings = configured(ExtractorSettings).model_copy(update={"cloud_run_execution": task.execution})
        objects, state = self._outside("bucket", self.buckets), self._state()
        AT_WORK.set(self._outside("the source", self.database))
        self.database.catch_up()
        with holding(state.store, task.lease, run_id, settings.extract_lease, settings.extract_lease) as task_lease:
            state.forget_finished_plans()
            place = Workplace(
                settings=settings,
                state=state,
                open_objects=lambda: objects,
                run_id=run_id,
                task=task,
                task_lease=task_lease,
                progress=LoggedProgress(),
                engine=cast(Any, (self.scheduler, self.database)),
                connections=Connections(),
            )
            extractor = Extractor(place)
            outcomes = [extractor.extract(table, mode) for table in task.own([self.table])]
            if task.count > 1:
                try:
                    help_others(place, [self.table])
                except EXPECTED as error:
                    self.scheduler.say(f"help failed: {error}")
        for outcome in outcomes:
            self.scheduler.say(f"extractor: {outcome.outcome} {outcome.batch_id or ''} {outcome.error or ''}")
            if outcome.outcome == "failed":
                kind = (outcome.error or "").split(":")[0]
                assert kind in {each.__name__ for each in EXPECTED}, f"failed by a mistake: {outcome.error}"
                raise ExtractionFailed(outcome.error)

    def _loader(self) -> Loader:
        return Loader(
            settings=configured(LoaderSettings),
            tables=self.tables,
            state=self._state(),
            objects=self._outside("bucket", self.buckets),
            client=self._client(),
            announcer=self._outside("bus", self.heard),
        )

    def _load(self, event: ObjectFinalized) -> object:
        return self._loader().handle(event)

    def _transformer(self) -> Transformer:
        client = self._client()
        return Transformer(
            settings=configured(TransformerSettings),
            tables=self.tables,
            state=self._state(),
            client=client,
            dbt=cast(DbtProject, Dbt(client, BRONZE.rsplit(".", 1)[0], self.definition)),
            row_tests=RowTests(client),
            artifacts=SimpleNamespace(keep=lambda run_id, stage: None),
            reports=SimpleNamespace(publish=lambda run_id: None),
            alert=lambda batch: self.heard.alerts.append(batch.hold.code if batch.hold else "held"),
        )

    def _reconcile_or_leave(self, event: object) -> object:
        return self._transformer().reconcile_or_leave(f"transformer {machine.token_hex(2)}")

    def sweep(self) -> Process:
        """Start the sweep."""

        def work() -> None:
            self.swept = Sweep(self._loader()).run()

        return self._start("sweep", work)

    def reconcile(self) -> Process:
        """Start the transformer's job."""
        return self._start("transformer's job", lambda: self._reconcile_or_leave(None))

    def maintain(self) -> Process:
        """Start the maintenance that is done once a day."""
        return self._start("maintenance", lambda: self._transformer().maintain("maintenance"))

    # --- what is outside ----------------------------------------------------------------------------------------------

    def _finalized(self, event: ObjectFinalized) -> None:
        settings = configured(LoaderSettings)
        if event.bucket != settings.landing_bucket or not event.name.startswith(f"{settings.landing_prefix}/"):
            return
        self.landed.add(event.name)
        landed = parse_landed(settings.landing_prefix, event.name)
        if landed is not None and not landed.is_manifest:
            return  # of a part the loader looks at the name, and that is all
        if landed is not None:
            self.manifests.append(event)
        self.landings.publish(event)

    def _dropped(self, rows: pa.RecordBatch) -> None:
        """Rows that do not land because they are no news: bronze has them just so, or will have."""
        versions = [row for batch in self.loaded_rows.values() for row in batch]
        for row in rows.to_pylist():
            assert any(row["id"] == each["id"] and row["n"] == each["n"] for each in versions), (
                "a row was dropped that no batch has"
            )

    @property
    def loaded_rows(self) -> dict[str, list[Row]]:
        """What was ever loaded, by hashed table."""
        return self.warehouse.loaded

    # --- as the judge looks at it -------------------------------------------------------------------------------------

    def rows_of(self, batch: Batch) -> list[Row]:
        """The rows that a batch was loaded with."""
        settings = configured(LoaderSettings)
        return self.loaded_rows.get(hashed_table_id(settings.gcp_project, settings.dataset_temp, batch), [])

    @property
    def bronze(self) -> dict[int, Held]:
        """What people see."""
        if self.warehouse.table(BRONZE) is None:
            return {}
        seen = self.warehouse.view(BRONZE, KEY)
        return {row["id"]: Held(row["n"], as_new(row), row["_deleted_at"] is not None) for row in seen}

    # --- what people do -----------------------------------------------------------------------------------------------

    def decide_about_held(self, *, let_go: bool) -> None:
        """A person releases, or discards, all batches that are held."""
        for batch in self.state.batches_in(BatchState.HELD):
            self.scheduler.say(f"a person {'releases' if let_go else 'discards'} {batch.id}")
            try:
                release(self.state, batch.id, "a person") if let_go else discard(self.state, batch.id, "a person")
            except NotHeld:
                continue

    def drop(self, what: Dropped) -> None:
        """Somebody puts into landing/ what no extraction has written, and what can be no batch."""
        settings = configured(LoaderSettings)
        prefix, bucket, batch_id = settings.landing_prefix, settings.landing_bucket, new_batch_id(machine.now())
        name, content = f"{prefix}/t-{batch_id}.parquet", b"PAR1 no rows PAR1"
        match what:
            case "damaged manifest":
                name, content = manifest_object(prefix, "t", batch_id), b'{"batch_id": '
            case "others' manifest":
                manifests = [each.name for each in self.manifests]
                found = next((m for m in map(partial(self.buckets.read, bucket), manifests) if m is not None), None)
                if found is None:
                    return
                name, content = manifest_object(prefix, "t", batch_id), found
            case "part":
                name = part_object(prefix, "t", batch_id, 0)
            case "note":
                name = f"{prefix}/read-me-{batch_id}.txt"
        self.scheduler.say(f"somebody puts {name} into landing/: {what}")
        self.buckets.replace(bucket, name, content, "")

    def raise_lag(self, by: timedelta) -> None:
        """Somebody declares a longer lag, and deploys it."""
        if self.raised_at is None:
            self.cursor = self.cursor.model_copy(update={"lag": self.cursor.lag + by})
            self.table = self.table.model_copy(update={"cursor": self.cursor})
            self.raised_at = self.runs
            self.scheduler.say("a longer lag is deployed")


class ExtractionFailed(Exception):
    """A task of the extractor ends with an exit code, because an extraction failed."""


@contextmanager
def playing(seed: int) -> Iterator[None]:
    """For a block, what the libraries take from chance is taken from a seed."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
