"""One table's extraction: lease, leftovers of a crash, plan, read, land, note."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import structlog

from services.core.arrow import arrow_schema
from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.errors import DataError, LeaseBusy, TransientError
from services.core.faults import fault_point
from services.core.landing import batch_objects, put_manifest
from services.core.manifest import Manifest, Part, manifest_fingerprint
from services.core.naming import manifest_object, new_batch_id
from services.core.parquet import empty_part
from services.core.rejection import reject
from services.core.settings import ExtractorSettings
from services.core.state.extractions import ExtractionNote
from services.core.state.lease import Lease, holding, look
from services.core.state.memory import remember
from services.core.state.state import PipelineState
from services.core.state.store import DocumentChanged
from services.core.storage import ObjectStore
from services.core.tables import Mode, Table
from services.core.telling import kind, kind_and_words, told, where
from services.extractor.fingerprints import forget_older, keep, recall
from services.extractor.landing import Landing, reject_superseded
from services.extractor.planning.plan import ChunkResult, Plan, catch_up_from
from services.extractor.planning.preparation import Prepared, prepare
from services.extractor.progress import Progress
from services.extractor.reading.engine import Engine
from services.extractor.reading.guard import SourceRewritten
from services.extractor.reading.reading import Read, Reading, Troubled
from services.extractor.reading.sieve import Sieve
from services.extractor.reading.work import Work, share, shared_plan, shared_plans
from services.extractor.source.connection import Connections, conninfo
from services.extractor.source.database import Source, open_source
from services.extractor.source.session import Sessions
from services.extractor.tasks import Task

HELP_SECONDS = 30.0
"""How long a task without work waits for another of its execution to share some."""

Facts = dict[str, Any]
"""Fields of a batch that are known from now on."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What an extraction did."""

    table: str
    outcome: Literal["landed", "no_changes", "busy", "failed"]
    rows: int = 0
    rows_known: int = 0
    """Rows that were read again and did not land, because bronze has them as they are."""
    parts: int = 0
    bytes: int = 0
    batch_id: str | None = None
    watermark: str | None = None
    window_high: str | None = None
    unrepresentable: dict[str, int] | None = None
    changes: list[str] | None = None
    """What had changed at the source, or in tables.yaml."""
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Turn:
    """A table's turn: what this process holds while it extracts it."""

    lease: Lease
    note: ExtractionNote
    """What the state says of the extraction."""

    def troubled(self, error: BaseException) -> None:
        """Note that a read broke off and is tried again."""
        self.note.troubled(kind_and_words(error))


@dataclass(frozen=True)
class Extractor:
    """What every table's extraction shares."""

    settings: ExtractorSettings
    state: PipelineState
    open_objects: Callable[[], ObjectStore]
    """Opens the bucket, once: its client takes longer to import than all else together, and reading needs none."""
    run_id: str
    task: Task
    task_lease: Lease
    progress: Progress
    engine: Engine
    connections: Connections
    """For small questions: one table after the other asks on the same."""

    @property
    def objects(self) -> ObjectStore:
        """The buckets."""
        return self.open_objects()

    @property
    def patience(self) -> timedelta:
        """How long to wait for a lease: another try of this task may have died with it."""
        return self.settings.extract_lease + timedelta(seconds=5) if self.task.attempt else timedelta(0)

    def extract(self, table: Table, mode: Mode, *, accepted: bool = False) -> Outcome:
        """Extract one table and say how it went; only a stop of the process itself is raised.

        Args:
            table: the table.
            mode: how it is to be read, if nothing has changed.
            accepted: whether a person accepts what changed at the source; then it is a snapshot.
        """
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(table=table.name):
            try:
                with holding(
                    self.state.store,
                    f"extract-{table.name}",
                    self.run_id,
                    self.settings.extract_lease,
                    self.patience,
                ) as lease:
                    outcome = self._extract_noted(table, mode, lease, accepted)
            except LeaseBusy as busy:
                log.warning("extraction.busy", reason=str(busy))
                outcome = Outcome(table.name, "busy", error=str(busy))
            except Exception as error:  # noqa: BLE001 - the other tables go on
                outcome = _failed(table, error)
            self.progress.finished(table.name)
            seconds = round(time.monotonic() - started, 3)
            log.info(
                "extraction.finished",
                outcome=outcome.outcome,
                rows=outcome.rows,
                rows_known=outcome.rows_known,
                seconds=seconds,
            )
        return replace(outcome, seconds=seconds)

    def _extract_noted(self, table: Table, mode: Mode, lease: Lease, accepted: bool) -> Outcome:
        """Extract under the lease; the state hears that it began, and how it ended before the lease is given back."""
        turn = Turn(lease, ExtractionNote.begin(self.state.store, table.name, self.run_id))
        try:
            outcome = self._extract_alone(table, mode, turn, accepted)
        except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
            turn.note.failed(kind(error), told(error))
            return _failed(table, error)
        return outcome

    def _extract_alone(self, table: Table, mode: Mode, turn: Turn, accepted: bool) -> Outcome:
        resumed = self._clear_leftovers(table)
        if resumed is not None:
            batch, plan = resumed
            turn.note.batch_id = batch.id
            log.info("extraction.resumed", batch_id=batch.id, attempt=self.task.attempt)
            self.progress.started(table.name, plan.estimated_rows)
            watermark = self.state.progress(table.name).watermark
            landed, known = self._land(table, batch, turn, lambda: self._chunks(table, batch, plan, turn)), 0
        else:
            batch_id, execution = new_batch_id(datetime.now(UTC)), self.task.execution
            with ExitStack() as hold:
                prepared = prepare(
                    *(self.settings, self.state, table, mode, batch_id, execution, hold),
                    connections=self.connections,
                    accepted=accepted,
                )
                batch, plan, source = self._batch(prepared), prepared.plan, prepared.source
                watermark = prepared.progress.watermark
                self.progress.started(table.name, plan.estimated_rows)

                def begin() -> None:
                    self._begin(batch, prepared, turn)

                if plan.bounds:
                    begin()
                    share(self.state.store, plan)
                    read = partial(self._chunks, table, batch, plan, turn, source)
                    landed, known = self._land(table, batch, turn, read), 0
                else:
                    hold.close()  # who waits for its locks would make the read wait too, which takes locks of its own
                    landed, known = self._land_news(table, batch, prepared, turn, begin)
        noted = watermark.isoformat() if watermark else None
        high = batch.window.high.isoformat() if batch.window else None
        turn.note.succeeded(quiet=None if landed else batch.window)
        if landed is None:
            changes = batch.changes or None
            return Outcome(
                table.name, "no_changes", rows_known=known, watermark=noted, window_high=high, changes=changes
            )
        return Outcome(
            table.name,
            "landed",
            rows=landed.rows,
            rows_known=known,
            parts=len(landed.parts),
            bytes=sum(part.size for part in landed.parts),
            batch_id=landed.batch_id,
            watermark=noted,
            window_high=high,
            unrepresentable=landed.unrepresentable or None,
            changes=batch.changes or None,
        )

    def _batch(self, prepared: Prepared) -> Batch:
        return Batch(
            id=prepared.plan.batch_id,
            run_id=self.run_id,
            table=prepared.plan.table,
            mode=prepared.decision.mode,
            window=prepared.window,
            anew=prepared.decision.anew,
            changes=prepared.decision.said,
            extracted_at=prepared.extracted_at,
            started_at=datetime.now(UTC),
            drift=prepared.drift,
            unseen=prepared.unseen,
        )

    def _begin(self, batch: Batch, prepared: Prepared, turn: Turn) -> None:
        self.state.begin_extraction(batch.table, batch.extracted_at, turn.lease.token)
        remember(self.state.store, batch.table, batch.id, prepared.seen, prepared.counting)
        fault_point("extractor.remembered")
        self.state.create_batch(batch)
        turn.note.batch_id = batch.id
        fault_point("extractor.batch_noted")

    def _land_news(
        self, table: Table, batch: Batch, prepared: Prepared, turn: Turn, begin: Callable[[], None]
    ) -> tuple[Manifest | None, int]:
        """Read by one statement and land what is news; also how many rows were none."""
        sieve, plan = Sieve(self.settings.extract_fingerprints), prepared.plan
        with closing(sieve):
            if prepared.tip is not None:
                recall(self.settings, self.state, self.objects, prepared.tip, sieve)
            read = partial(self._stream, table, batch, plan, turn, begin, sieve)
            landed = self._land(table, batch, turn, read, lambda: self._kept(prepared, sieve))
            if landed is not None and plan.again:
                forget_older(self.settings, self.objects, table.name, batch.id)
            return landed, sieve.dropped

    def _kept(self, prepared: Prepared, sieve: Sieve) -> Facts:
        """Keep fingerprints of what the next window reads again; what the batch notes of them."""
        kept = keep(self.settings, self.objects, prepared, sieve)
        fault_point("extractor.fingerprints_kept")
        return {"rows_known": sieve.dropped, "fingerprints": kept}

    def _land(
        self,
        table: Table,
        batch: Batch,
        turn: Turn,
        read: Callable[[], tuple[Plan, Read] | None],
        keep: Callable[[], Facts] = dict,
    ) -> Manifest | None:
        """Read and land; None when there was nothing to read, and then nothing is left of it anywhere.

        Args:
            table: the table.
            batch: its batch.
            turn: the table's turn.
            read: reads; None when there was nothing.
            keep: called once all parts have landed; what the batch notes with its manifest.
        """
        with structlog.contextvars.bound_contextvars(batch_id=batch.id):
            try:
                result = read()
                if result is None:
                    return None
                plan, found = result
                turn.lease.renew()
                reject_superseded(self.objects, self.settings, batch, found.parts)
                counts = found.unrepresentable
                columns = [c.model_copy(update={"unrepresentable": counts.get(c.name, 0)}) for c in plan.columns]
                fault_point("extractor.read")
                manifest = batch.manifest(table, columns, found.parts)
                facts = keep()
                self.state.announce(batch.id, manifest_fingerprint(manifest.encoded()), **facts)
                fault_point("extractor.manifest_announced")
                put_manifest(self.objects, self.settings, batch, manifest)
            except BaseException as error:
                if self._goes_on(batch, error):
                    log.warning("extraction.left_for_the_next_try", reason=told(error), kind=kind(error))
                else:
                    self._give_up(batch, error, turn)
                raise
            fault_point("extractor.manifest_landed")
            self._note_landed(manifest, facts.get("rows_known", 0))
            fault_point("extractor.landed")
            self.state.forget_plan(batch.id)
        return manifest

    def _give_up(self, batch: Batch, error: BaseException, turn: Turn) -> None:
        """Clear away a batch that failed. What cannot be cleared away now, the sweep does: the error itself is told."""
        if isinstance(error, Exception):
            turn.note.failed(kind(error), told(error))  # at once: a bucket that is away holds up what follows
        try:
            self._abandon(batch, "extraction_failed", kind_and_words(error))
        except Exception:
            log.exception("extraction.not_cleared")

    def _goes_on(self, batch: Batch, error: BaseException) -> bool:
        """Whether another try of this task, which Cloud Run starts when this one fails, can go on with the batch."""
        passing = isinstance(error, TransientError) or not isinstance(error, Exception)
        lasting = isinstance(error, SourceRewritten)
        on_cloud_run = bool(self.settings.cloud_run_execution)
        return on_cloud_run and passing and not lasting and shared_plan(self.state.store, batch.id) is not None

    def _note_landed(self, manifest: Manifest, known: int) -> None:
        log.info(
            "batch.landed",
            **manifest.counts,
            rows_known=known,
            unrepresentable=manifest.unrepresentable,
            drift=manifest.drift,
        )
        facts = {**manifest.counts, "unrepresentable": manifest.unrepresentable}
        # Without effect if the loader was faster than this note.
        self.state.step(manifest.batch_id, Step.LAND, **facts)

    def _reading(self, plan: Plan, landing: Landing, lease: Lease, troubled: Troubled) -> Reading:
        rows, attempts = self.settings.extract_part_rows, self.settings.extract_attempts
        return Reading(conninfo(self.settings), self.engine, plan, landing, rows, attempts, lease.renew, troubled)

    def _stream(
        self, table: Table, batch: Batch, plan: Plan, turn: Turn, begin: Callable[[], None], sieve: Sieve
    ) -> tuple[Plan, Read] | None:
        """Read by one statement; the state hears of the batch when the first rows are there."""
        with Landing(self.open_objects, self.settings, batch, self.progress) as landing:
            reading = self._reading(plan, landing, turn.lease, turn.troubled)
            read = reading.stream(batch.extracted_at, begin, sieve)
            if read is None and _needs_a_batch(table, batch):
                begin()
                read = Read([self._empty(landing, plan)])
        if read is None:
            if self.state.batch(batch.id) is not None:  # a broken attempt had found rows, which are gone now
                reject_superseded(self.objects, self.settings, batch, [])
                self.state.forget_batch(batch.id)
            return None
        return plan, read

    @staticmethod
    def _empty(landing: Landing, plan: Plan) -> Part:
        return landing.put(landing.part_name(0, 0, 1), empty_part(arrow_schema(plan.columns)), 0).result()

    def _chunks(
        self, table: Table, batch: Batch, plan: Plan, turn: Turn, source: Source | None = None
    ) -> tuple[Plan, Read] | None:
        """Read by chunks, with whichever task of the execution helps; then look at what snapshots disagree on."""
        work = Work(self.state.store, plan, self.task_lease)
        with (
            Landing(self.open_objects, self.settings, batch, self.progress) as landing,
            self._sessions(table, plan, source) as sessions,
        ):
            reading = self._reading(plan, landing, turn.lease, turn.troubled)
            results: list[ChunkResult] = []
            while len(results) < len(plan.bounds):
                reading.chunks(work, sessions, self.settings.extract_readers)
                results = work.results()
                if len(results) < len(plan.bounds):
                    sessions.close()  # it would keep others from the table, and vacuum from its dead rows
                    turn.lease.renew()
                    time.sleep(0.5)  # another task is at the rest; if it dies, its chunks can be claimed again
            read = Read()
            for result in results:
                read.add(result)
            newer_than = catch_up_from(results)
            if newer_than is not None:
                late = reading.catch_up(newer_than, sessions)
                read.parts += late.parts
                read.unrepresentable.update(late.unrepresentable)
            with open_source(conninfo(self.settings)) as now:
                reading.confirm(now, table)
            if not read.parts and _needs_a_batch(table, batch):
                read.parts.append(self._empty(landing, plan))
        if not read.parts:
            self.state.forget_plan(batch.id)
            self.state.forget_batch(batch.id)
            return None
        return plan, read

    def _sessions(self, table: Table, plan: Plan, first: Source | None = None) -> Sessions:
        info, statement = conninfo(self.settings), plan.statement()
        return Sessions(info, table, statement, lambda now: self.state.take_time(table.name, now), first)

    def help(self, tables: list[Table]) -> None:
        """Read chunks of the large tables that other tasks of the execution extract, until there are none left.

        Raises:
            Exception: a chunk could not be read; the table's own task takes it over once this process has ended.
        """
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < HELP_SECONDS:
            for plan in shared_plans(self.state.store, self.task.execution):
                table = next((t for t in tables if t.name == plan.table), None)
                if table is not None and self._help_with(table, plan):
                    quiet_since = time.monotonic()
            if not self._others_may_share(tables):
                return
            time.sleep(0.5)

    def _others_may_share(self, tables: list[Table]) -> bool:
        """Whether another task extracts a table of its own, or has not begun: they do not all start in one moment."""
        own, store = self.task.own(tables), self.state.store
        leases = [look(store, f"extract-{table.name}") for table in tables if table not in own]
        at_work = any(lease is not None and lease.held(datetime.now(UTC)) for lease in leases)
        return at_work or any(look(store, name) is None for name in self.task.others())

    def _help_with(self, table: Table, plan: Plan) -> bool:
        """Read what can be claimed of a plan; whether that was anything."""
        batch = self.state.batch(plan.batch_id)
        if batch is None or batch.state is not BatchState.EXTRACTING:
            return False
        with structlog.contextvars.bound_contextvars(table=table.name, batch_id=batch.id):
            self.progress.started(table.name, plan.estimated_rows)
            try:
                with (
                    Landing(self.open_objects, self.settings, batch, self.progress) as landing,
                    self._sessions(table, plan) as sessions,
                ):
                    work = Work(self.state.store, plan, self.task_lease)
                    # What breaks off here is the table's own task's to tell, if it breaks off there too.
                    reading = self._reading(plan, landing, self.task_lease, lambda _: None)
                    read = reading.chunks(work, sessions, self.settings.extract_readers)
            except DocumentChanged as error:
                log.warning("extraction.help_not_needed", reason=str(error))  # the batch has ended meanwhile
                return False
            finally:
                self._clear_after_help(batch)
            if read:
                log.info("extraction.helped", chunks=read)
        return read > 0

    def _clear_after_help(self, batch: Batch) -> None:
        """If the batch failed meanwhile: what this process put since then, nobody else clears away."""
        now = self.state.batch(batch.id)
        if now is not None and now.state is BatchState.FAILED:
            error = now.error or BatchError(code="extraction_failed", message="the batch failed")
            self._reject_objects(now, DataError(error.code, error.message, table=now.table, batch_id=now.id))
            self.state.forget_plan(now.id)

    def _clear_leftovers(self, table: Table) -> tuple[Batch, Plan] | None:
        """Finish or give up what a crashed extraction of this table left: this process holds the lease now.

        Returns:
            The batch to go on with: this execution's own, begun by a try of the task that ended before its time.
        """
        resumed = None
        self.state.forget_finished_plans()
        for batch in self.state.open_batches(table.name):
            if batch.state is not BatchState.EXTRACTING:
                continue
            name = manifest_object(self.settings.landing_prefix, table.name, batch.id)
            announced = batch.manifest_sha256 is not None  # else what is there is no manifest of an extraction
            if announced and self.objects.stat(self.settings.landing_bucket, name) is not None:
                log.info("batch.found_landed", batch_id=batch.id)
                self.state.step(batch.id, Step.LAND)
                self.state.forget_plan(batch.id)
                continue
            plan = shared_plan(self.state.store, batch.id)
            if plan is not None and plan.execution == self.task.execution:
                resumed = batch, plan
            else:
                self._abandon(batch, "abandoned", "the extractor ended before the manifest was written")
        return resumed

    def _abandon(self, batch: Batch, code: str, reason: str) -> None:
        """Fail a batch in the state first, so that nobody loads it, then clear its objects away."""
        if self.state.batch(batch.id) is None:
            return  # it failed before anything of it was written
        failed = self.state.step(batch.id, Step.ABANDON, error=BatchError(code=code, message=reason))
        if failed.state is not BatchState.FAILED:
            return
        self.state.forget_plan(batch.id)
        self._reject_objects(batch, DataError(code, reason, table=batch.table, batch_id=batch.id))

    def _reject_objects(self, batch: Batch, error: DataError) -> None:
        reject(self.objects, self.settings, batch_objects(self.objects, self.settings, batch.table, batch.id), error)


def _failed(table: Table, error: Exception) -> Outcome:
    """Say that an extraction failed, without words that could quote a value."""
    log.error("extraction.failed", table=table.name, reason=told(error), kind=kind(error), where=where(error))
    return Outcome(table.name, "failed", error=kind_and_words(error))


def _needs_a_batch(table: Table, batch: Batch) -> bool:
    """Whether even no rows are news: a snapshot without rows says that all of them are gone, or begins anew."""
    return batch.mode is Mode.SNAPSHOT and (table.deletes == "soft" or not table.key or batch.anew)
