"""One table's extraction: lease, leftovers of a crash, window, read, land, note."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from services.core.batch import Batch, BatchError, BatchState
from services.core.errors import DataError, LeaseBusy, PipelineError
from services.core.naming import batch_objects_prefix, manifest_object, new_batch_id
from services.core.rejection import reject
from services.core.settings import ExtractorSettings
from services.core.state.lease import Lease, holding
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.tables import Mode, Table
from services.core.window import Window
from services.extractor.landing import upload_parts, write_manifest
from services.extractor.parts import parquet_parts
from services.extractor.planning import Statement, next_window, refused_rows, statement, window_high
from services.extractor.reader import read
from services.extractor.source import Source, SourceClock, conninfo, open_source

log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What an extraction did."""

    table: str
    outcome: Literal["landed", "no_changes", "busy", "failed"]
    rows: int = 0
    parts: int = 0
    bytes: int = 0
    batch_id: str | None = None
    watermark: str | None = None
    window_high: str | None = None
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Extractor:
    """What every table's extraction shares."""

    settings: ExtractorSettings
    state: PipelineState
    objects: ObjectStore
    run_id: str

    def extract(self, table: Table, mode: Mode) -> Outcome:
        """Extract one table and say how it went; only a stop of the process itself is raised."""
        started = datetime.now(UTC)
        with structlog.contextvars.bound_contextvars(table=table.name):
            try:
                with holding(
                    self.state.store, f"extract-{table.name}", self.run_id, self.settings.extract_lease
                ) as lease:
                    outcome = self._extract_alone(table, mode, lease)
            except LeaseBusy as busy:
                log.warning("extraction.busy", reason=str(busy))
                outcome = Outcome(table.name, "busy", error=str(busy))
            except Exception as error:
                expected = isinstance(error, PipelineError)
                log.error("extraction.failed", reason=str(error), kind=type(error).__name__, exc_info=not expected)
                outcome = Outcome(table.name, "failed", error=f"{type(error).__name__}: {error}")
            seconds = (datetime.now(UTC) - started).total_seconds()
            log.info("extraction.finished", outcome=outcome.outcome, rows=outcome.rows, seconds=round(seconds, 3))
        return Outcome(**{**outcome.__dict__, "seconds": round(seconds, 3)})

    def _extract_alone(self, table: Table, mode: Mode, lease: Lease) -> Outcome:
        self._clear_leftovers(table)
        info = conninfo(self.settings)
        with open_source(info) as source:
            columns = source.columns(table)
            clock = source.clock()
            if not clock.sees_others:
                log.warning(
                    "window.safety_lag",
                    reason="this role cannot see other users' transactions; GRANT pg_read_all_stats to it",
                    safety_lag_seconds=self.settings.extract_safety_lag.total_seconds(),
                )
            progress = self.state.progress(table.name)
            window = self._window(table, mode, clock, progress.watermark)
            plan = statement(table, columns, mode, window)
            self._refuse(source, table, mode, window)
        # Orders row versions: never earlier than the extraction before, whatever the source's clock does.
        extracted_at = clock.now.astimezone(UTC)
        if progress.extracted_at is not None:
            extracted_at = max(extracted_at, progress.extracted_at + timedelta(microseconds=1))
        batch = Batch(
            id=new_batch_id(datetime.now(UTC)),
            run_id=self.run_id,
            table=table.name,
            mode=mode,
            window=window,
            extracted_at=extracted_at,
            started_at=datetime.now(UTC),
        )
        watermark = progress.watermark.isoformat() if progress.watermark else None
        landed = self._land(table, batch, plan, info, lease)
        if landed is None:
            return Outcome(table.name, "no_changes", watermark=watermark, window_high=window.high.isoformat())
        return Outcome(
            table.name,
            "landed",
            rows=landed.rows,
            parts=landed.parts,
            bytes=landed.size,
            batch_id=landed.id,
            watermark=watermark,
            window_high=window.high.isoformat(),
        )

    def _window(self, table: Table, mode: Mode, clock: SourceClock, watermark: datetime | None) -> Window:
        high = window_high(clock, table.cursor, self.settings.extract_safety_lag)
        window = next_window(mode, watermark, self.state.open_batches(table.name), high)
        log.info(
            "window.planned",
            mode=mode.value,
            low=window.low.isoformat() if window.low else None,
            high=window.high.isoformat(),
            oldest_transaction=clock.oldest_transaction.isoformat() if clock.oldest_transaction else None,
        )
        return window

    @staticmethod
    def _refuse(source: Source, table: Table, mode: Mode, window: Window) -> None:
        for what, counting in refused_rows(table, mode, window):
            if rows := source.count(counting):
                raise DataError(
                    "cursor_policy",
                    f"{rows} row(s) of {table.source} have {what}, and the policy in tables.yaml is 'fail'",
                    table=table.name,
                )

    def _land(self, table: Table, batch: Batch, plan: Statement, info: str, lease: Lease) -> Batch | None:
        """Read and land; None when there was nothing to read, and then nothing was written anywhere."""
        batches = read(info, table, plan)
        first = next(batches, None)
        if first is None:
            return None
        with structlog.contextvars.bound_contextvars(batch_id=batch.id):
            self.state.begin_extraction(table.name, batch.extracted_at, lease.token)
            self.state.create_batch(batch)
            try:
                parts = upload_parts(
                    self.objects, self.settings, batch, self._held(itertools.chain([first], batches), lease)
                )
                lease.renew()
                manifest = write_manifest(self.objects, self.settings, table, batch, parts)
            except BaseException as error:
                self._abandon(batch, "extraction_failed", f"{type(error).__name__}: {error}")
                raise
            size = sum(part.size for part in parts)
            counts = {"rows": manifest.rows, "parts": len(parts), "size": size}
            log.info("batch.landed", **counts)
            self.state.change_batch(
                batch.id,
                # The loader may have been faster than this note.
                lambda b: (
                    b.moved(BatchState.LANDED, datetime.now(UTC), **counts) if b.state is BatchState.EXTRACTING else b
                ),
            )
        return batch.model_copy(update=counts)

    def _held(self, batches: Iterator, lease: Lease) -> Iterator[tuple[bytes, int]]:  # type: ignore[type-arg]
        """Finished parts, as long as this process holds the table."""
        for part in parquet_parts(batches, self.settings.extract_part_rows):
            lease.renew()
            yield part

    def _clear_leftovers(self, table: Table) -> None:
        """Finish or give up what a crashed extraction of this table left: this process holds the lease now."""
        for batch in self.state.open_batches(table.name):
            if batch.state is not BatchState.EXTRACTING:
                continue
            name = manifest_object(self.settings.landing_prefix, table.name, batch.id)
            if self.objects.stat(self.settings.landing_bucket, name) is None:
                self._abandon(batch, "abandoned", "the extractor ended before the manifest was written")
            else:
                log.info("batch.found_landed", batch_id=batch.id)
                self.state.change_batch(
                    batch.id,
                    lambda b: b.moved(BatchState.LANDED, datetime.now(UTC)) if b.state is BatchState.EXTRACTING else b,
                )

    def _abandon(self, batch: Batch, code: str, reason: str) -> None:
        """Fail a batch in the state first, so that nobody loads it, then clear its objects away."""

        def fail(current: Batch) -> Batch:
            if current.state is not BatchState.EXTRACTING:
                return current
            error = BatchError(code=code, message=reason)
            return current.moved(BatchState.FAILED, datetime.now(UTC), error=error)

        failed = self.state.change_batch(batch.id, fail)
        if failed.state is not BatchState.FAILED:
            return
        prefix = batch_objects_prefix(self.settings.landing_prefix, batch.table, batch.id)
        names = [stored.name for stored in self.objects.list(self.settings.landing_bucket, prefix)]
        reject(self.objects, self.settings, names, DataError(code, reason, table=batch.table, batch_id=batch.id))
