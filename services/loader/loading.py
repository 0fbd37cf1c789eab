"""What the loader does with a landed batch: check, load, refresh the stable table, note, archive, announce.

Every step may run again: a redelivered event goes through all of them and changes nothing that is done.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

import structlog
from google.cloud import bigquery
from pydantic import ValidationError

from services.core.batch import Batch, BatchError, BatchState, Manifest
from services.core.errors import DataError
from services.core.events import ObjectFinalized
from services.core.naming import LandedObject, batch_objects_prefix, manifest_object, mirrored, parse_landed
from services.core.rejection import reject
from services.core.settings import LoaderSettings
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.tables import SchemaDrift, Table, Tables
from services.core.warehouse import hashed_table_id
from services.loader.load_job import load
from services.loader.stable import refresh_stable

log = structlog.get_logger()

Result = Literal["loaded", "already_loaded", "rejected", "ignored"]


class Announcer(Protocol):
    """Announces loaded batches."""

    def publish(self, batch: Batch) -> str:
        """Announce a batch; returns the message id."""


@dataclass(frozen=True)
class Loader:
    """The loader's work, given its surroundings."""

    settings: LoaderSettings
    tables: Tables
    state: PipelineState
    objects: ObjectStore
    client: bigquery.Client
    announcer: Announcer

    def handle(self, event: ObjectFinalized) -> Result:
        """Do what a finished object calls for.

        Raises:
            Exception: anything but a DataError, which is recorded here: the event must come again.
        """
        inside = event.bucket == self.settings.landing_bucket and event.name.startswith(
            f"{self.settings.landing_prefix}/"
        )
        if not inside or event.name.endswith("/"):
            return "ignored"
        landed = parse_landed(self.settings.landing_prefix, event.name)
        if landed is None:
            return self._reject_stranger(event.name)
        if not landed.is_manifest:
            return "ignored"  # A part: its manifest says when the batch is whole.
        with structlog.contextvars.bound_contextvars(table=landed.table, batch_id=landed.batch_id):
            try:
                return self._handle_manifest(landed, event.name)
            except DataError as error:
                return self._reject_batch(landed, error)

    def _handle_manifest(self, landed: LandedObject, name: str) -> Result:
        batch = self.state.batch(landed.batch_id)
        if batch is not None and batch.state in (BatchState.LOADED, BatchState.MERGED):
            self._finish(batch)
            return "already_loaded"
        if batch is not None and batch.state is BatchState.FAILED:
            error = batch.error or BatchError(code="failed", message="the batch failed before")
            raise DataError(error.code, error.message, column=error.column)
        content = self.objects.read(self.settings.landing_bucket, name)
        if content is None:
            return self._without_manifest(landed)
        manifest = self._manifest(content, landed)
        table = self._table(manifest)
        self._check_parts(manifest)
        self._finish(self._load(table, manifest))
        return "loaded"

    def _without_manifest(self, landed: LandedObject) -> Result:
        """The manifest is gone: another handler of the same event has archived or rejected the batch meanwhile."""
        log.info("manifest.gone", reason="the event came again after the batch was archived or rejected")
        batch = self.state.batch(landed.batch_id)
        return "already_loaded" if batch and batch.loaded_at else "ignored"

    def _manifest(self, content: bytes, landed: LandedObject) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:5])
            raise DataError("manifest_invalid", f"the manifest cannot be read: {problems}") from error
        if (manifest.table, manifest.batch_id) != (landed.table, landed.batch_id):
            raise DataError(
                "manifest_invalid",
                f"the manifest is of batch {manifest.batch_id} of {manifest.table}, its name says otherwise",
            )
        prefix = batch_objects_prefix(self.settings.landing_prefix, landed.table, landed.batch_id)
        if foreign := [part.object_name for part in manifest.parts if not part.object_name.startswith(prefix)]:
            raise DataError("manifest_invalid", f"the manifest names objects of others: {', '.join(foreign)}")
        if manifest.rows != sum(part.rows for part in manifest.parts) or not manifest.parts:
            raise DataError("manifest_invalid", "the manifest's row counts do not add up, or it has no parts")
        return manifest

    def _table(self, manifest: Manifest) -> Table:
        table = self.tables.get(manifest.table)
        if table is None:
            raise DataError("unknown_table", f"table {manifest.table} is not declared in {self.settings.tables_file}")
        written = {column.name: column.type for column in manifest.columns}
        declared = {column.name: column.type for column in table.landed_columns}
        # Columns beyond the declared ones are welcome where the table evolves.
        compared = declared.keys() if table.schema_drift is SchemaDrift.EVOLVE else written.keys() | declared.keys()
        if differing := sorted(name for name in compared if written.get(name) != declared.get(name)):
            raise DataError(
                "schema_changed",
                f"columns differ between the batch and tables.yaml: {', '.join(differing)}; extract the table again",
                column=differing[0],
            )
        return table

    def _check_parts(self, manifest: Manifest) -> None:
        """Every part is there as the extractor wrote it."""
        for part in manifest.parts:
            found = self.objects.stat(self.settings.landing_bucket, part.object_name)
            if found is None:
                raise DataError(
                    "part_missing", f"{part.object_name} is not in the bucket", object_name=part.object_name
                )
            if (found.size, found.crc32c) != (part.size, part.crc32c):
                raise DataError(
                    "part_changed",
                    f"{part.object_name} is not what the extractor wrote: {found.size} bytes, crc32c {found.crc32c}; "
                    f"the manifest says {part.size} bytes, {part.crc32c}",
                    object_name=part.object_name,
                )

    def _load(self, table: Table, manifest: Manifest) -> Batch:
        told = Batch.from_manifest(manifest, table)
        self.state.create_batch(told)
        batch = self.state.batch(manifest.batch_id) or told
        hashed = hashed_table_id(self.settings.gcp_project, self.settings.dataset_temp, batch)
        started = time.monotonic()
        job = load(
            self.client,
            table,
            manifest,
            hashed,
            self.settings.landing_bucket,
            self.settings.temp_table_days,
            self.settings.load_timeout,
        )
        log.info("batch.in_temp", rows=job.output_rows, job_id=job.job_id, hashed_table=hashed)
        stable = f"{self.settings.gcp_project}.{self.settings.dataset_temp}.{table.name}"
        refresh_stable(self.client, self.state, batch, hashed, stable)
        seconds = round(time.monotonic() - started, 3)

        def loaded(current: Batch) -> Batch:
            if current.state in (BatchState.LOADED, BatchState.MERGED):
                return current  # a duplicate of the event was faster
            if current.state is BatchState.FAILED:
                error = current.error or BatchError(code="failed", message="the batch failed meanwhile")
                raise DataError(error.code, error.message)
            return current.moved(
                BatchState.LOADED,
                datetime.now(UTC),
                rows=manifest.rows,
                parts=len(manifest.parts),
                size=sum(part.size for part in manifest.parts),
                load_seconds=seconds,
                added_columns=told.added_columns,
                unrepresentable=told.unrepresentable,
            )

        return self.state.change_batch(batch.id, loaded)

    def _objects(self, table: str, batch_id: str) -> list[str]:
        """Landed objects of a batch, the manifest last: while it is there, the event can be replayed."""
        prefix = batch_objects_prefix(self.settings.landing_prefix, table, batch_id)
        manifest = manifest_object(self.settings.landing_prefix, table, batch_id)
        names = [stored.name for stored in self.objects.list(self.settings.landing_bucket, prefix)]
        return sorted(names, key=lambda name: (name == manifest, name))

    def _finish(self, batch: Batch) -> None:
        """Archive what is still in landing/ and announce the batch, unless it is merged already."""
        settings = self.settings
        for name in self._objects(batch.table, batch.id):
            target = mirrored(name, settings.landing_prefix, settings.archive_prefix)
            self.objects.move(settings.landing_bucket, name, settings.archive_bucket, target)
        if batch.state is BatchState.LOADED:
            message_id = self.announcer.publish(batch)
            log.info("batch.loaded", rows=batch.rows, message_id=message_id, seconds=batch.load_seconds)

    def _reject_batch(self, landed: LandedObject, error: DataError) -> Result:
        """Fail the batch in the state, then move all its objects to failed/."""
        reason = BatchError(code=error.code, message=str(error), column=error.column)

        def fail(current: Batch) -> Batch:
            if current.state in (BatchState.EXTRACTING, BatchState.LANDED):
                return current.moved(BatchState.FAILED, datetime.now(UTC), error=reason)
            return current

        if self.state.batch(landed.batch_id) is not None:
            batch = self.state.change_batch(landed.batch_id, fail)
            if batch.state is not BatchState.FAILED:
                # A duplicate of the event loaded and archived the batch while this handler looked at its objects.
                self._finish(batch)
                return "already_loaded"
        error.table, error.batch_id = landed.table, landed.batch_id
        reject(self.objects, self.settings, self._objects(landed.table, landed.batch_id), error)
        log.error("batch.rejected", code=error.code, reason=str(error), column=error.column)
        return "rejected"

    def _reject_stranger(self, name: str) -> Result:
        if self.objects.stat(self.settings.landing_bucket, name) is None:
            return "ignored"  # The event came again after the object was rejected.
        error = DataError(
            "unknown_object",
            "not a name that the extractor gives; batches are <table>_<batch id>.part-NNNNN.parquet and .manifest.json",
            object_name=name,
        )
        reject(self.objects, self.settings, [name], error)
        return "rejected"
