"""What the loader does with an object in landing/: check, load, refresh the stable table, note, archive, announce.

Every step may run again: a redelivered event goes through all of them and changes nothing that is done.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import structlog
from google.cloud import bigquery

from services.core import machine
from services.core.batch import IN_TEMP, Batch, BatchError, BatchState, Step
from services.core.errors import DataError
from services.core.events import ObjectFinalized
from services.core.faults import fault_point
from services.core.jobs import StillRunning
from services.core.labels import jobs_of
from services.core.landing import archive, batch_objects, put_manifest
from services.core.manifest import Manifest, manifest_fingerprint
from services.core.naming import LandedObject, file_table, manifest_object, parse_landed
from services.core.rejection import reject
from services.core.settings import LoaderSettings
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import Table, Tables
from services.core.telling import kind_and_words
from services.core.warehouse import hashed_table_id
from services.loader.checks import changed_since, check_parts, check_table, check_unannounced
from services.loader.files.landing import file_batch, land_parts
from services.loader.load_job import load
from services.loader.manifests import MOST_MANIFEST_BYTES, ForeignManifest, check_announced, check_size, read_manifest
from services.loader.stable import refresh_stable

log = structlog.get_logger()

FINISHING = "it is loaded, but not archived and announced: "
"""How the trouble begins of a batch that is loaded; the trouble of its next step is the transformer's."""

Result = Literal["loaded", "already_loaded", "rejected", "ignored"]


class Announcer(Protocol):
    """Says to others what the loader did."""

    def publish(self, batch: Batch) -> str:
        """Announce a loaded batch; returns the message id."""

    def alert(self, error: DataError, objects: list[str]) -> str:
        """Say what was refused; returns the message id."""


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
            return self._handle_file(event.name)
        if not landed.is_manifest:
            return "ignored"  # A part: its manifest says when the batch is whole.
        with structlog.contextvars.bound_contextvars(table=landed.table, batch_id=landed.batch_id):
            try:
                return self._handle_manifest(landed)
            except DataError as error:
                return self.reject_batch(landed.table, landed.batch_id, error)
            except StillRunning:
                raise
            except Exception as error:
                self._note_trouble(landed.batch_id, error)
                raise

    def _note_trouble(self, batch_id: str, error: Exception) -> None:
        """Let the state say why a batch is not loaded yet, or not announced: its event comes again, and fails again."""
        try:
            batch = self.state.batch(batch_id)
            if batch is None or batch.state is BatchState.FAILED:
                return
            what = f"{FINISHING if batch.state in IN_TEMP else ''}{kind_and_words(error)}"
            self.state.change_batch(batch_id, lambda b: b.in_trouble(batch.state, what))
        except Exception:
            log.exception("trouble.not_noted")  # the state is away too; the error itself is what is told
            return
        log.warning("batch.trouble", table=batch.table, batch_id=batch_id, reason=what)

    def _handle_file(self, name: str) -> Result:
        """A file that the extractor did not write."""
        stored = self.objects.stat(self.settings.landing_bucket, name)
        if stored is None:
            return "ignored"  # The event came again after the file was archived or rejected.
        try:
            table = self._table_of(name)
        except DataError as error:
            self.reject_objects([stored], error)
            return "rejected"
        batch = file_batch(stored, table)
        with structlog.contextvars.bound_contextvars(table=table.name, batch_id=batch.id):
            try:
                result = self._load_file(stored, table, batch)
                archive(self.objects, self.settings, stored)
            except DataError as error:
                return self.reject_batch(table.name, batch.id, error, [stored])
            except StillRunning:
                raise
            except Exception as error:
                self._note_trouble(batch.id, error)
                raise
            return result

    def _table_of(self, name: str) -> Table:
        names = self.tables.names()
        if not name.endswith(".parquet"):
            raise DataError(
                "unknown_object",
                "neither a batch of the extractor (<table>_<batch id>.part-NNNNN.parquet and .manifest.json) "
                "nor a Parquet file with a table's name (<table>.parquet, <table>-<anything>.parquet)",
                object_name=name,
            )
        table = self.tables.get(file_table(name, names) or "")
        if table is None:
            raise DataError(
                "unknown_table",
                f"the file's name begins with no table of {self.settings.tables_file}: {', '.join(names)}",
                object_name=name,
            )
        return table

    def _load_file(self, stored: StoredObject, table: Table, batch: Batch) -> Result:
        known = self.state.batch(batch.id)
        if known is None or known.state in (BatchState.EXTRACTING, BatchState.LANDED):
            batch, manifest = land_parts(self.objects, self.settings, table, stored)
            self._note(batch, manifest, manifest.encoded())
            fault_point("loader.file_noted")
            put_manifest(self.objects, self.settings, batch, manifest)
            fault_point("loader.file_landed")
            log.info("file.landed", object=stored.name, rows=manifest.rows)
        return self._handle_manifest(LandedObject(table.name, batch.id, None))

    def _handle_manifest(self, landed: LandedObject) -> Result:
        name = manifest_object(self.settings.landing_prefix, landed.table, landed.batch_id)
        stored = self.objects.stat(self.settings.landing_bucket, name)
        readable = stored is not None and stored.size <= MOST_MANIFEST_BYTES
        content = self.objects.read(self.settings.landing_bucket, name) if readable else None
        # Asked after the manifest was read: an extraction announces its manifest before it writes it.
        batch = self.state.batch(landed.batch_id)
        if batch is not None and batch.table != landed.table:
            raise DataError("manifest_invalid", f"batch {batch.id} is one of table {batch.table}")
        if batch is not None and batch.state in IN_TEMP:
            self.finish(batch)
            return "already_loaded"
        if batch is not None and batch.state is BatchState.FAILED:
            raise _failed_before(batch)
        if stored is None or (readable and content is None):
            return self._without_manifest(landed)
        if batch is not None:
            try:
                check_announced(batch, content)
            except ForeignManifest as error:
                # The batch goes on: only this object is refused, and the extraction will write its own.
                error.table, error.batch_id = landed.table, landed.batch_id
                self.reject_objects([stored], error)
                return "rejected"
        check_size(stored.size)
        content = content or b""
        manifest = read_manifest(content, landed, self.settings.landing_prefix)
        table = check_table(manifest, self.tables, str(self.settings.tables_file))
        if batch is None:
            check_unannounced(manifest, table, stored.created_at)
        check_parts(manifest, self.objects, self.settings.landing_bucket)
        if batch is None:
            address = f"gs://{stored.bucket}/{name}#{stored.generation}"
            self._note(Batch.unannounced(manifest, stored.created_at, address), manifest, content)
        self.finish(self._load(table, manifest))
        return "loaded"

    def _note(self, batch: Batch, manifest: Manifest, content: bytes) -> None:
        """Note a batch that comes from no extraction, with its manifest, unless the state has it already.

        Raises:
            DataError: it has it with another manifest.
        """
        facts = manifest.counts | {"manifest_sha256": manifest_fingerprint(content)}
        self.state.note_unannounced(batch.table, batch.id)  # before its rows can be in bronze
        if not self.state.create_batch(batch.after(Step.LAND, machine.now(), **facts)):
            known = self.state.batch(batch.id)
            if known is not None:
                check_announced(known, content)

    def _without_manifest(self, landed: LandedObject) -> Result:
        """The manifest is gone: another handler of the same event has archived or rejected the batch meanwhile."""
        log.info("manifest.gone", reason="the event came again after the batch was archived or rejected")
        batch = self.state.batch(landed.batch_id)
        return "already_loaded" if batch and batch.loaded_at else "ignored"

    def _load(self, table: Table, manifest: Manifest) -> Batch:
        batch = self.state.change_batch(
            manifest.batch_id, lambda b: b.model_copy(update={"load_attempts": b.load_attempts + 1})
        )
        settings = self.settings
        hashed = hashed_table_id(settings.gcp_project, settings.dataset_temp, batch)
        started = machine.monotonic()
        stable = f"{settings.gcp_project}.{settings.dataset_temp}.{table.name}"
        with jobs_of(batch.run_id):
            job = load(
                self.client,
                table,
                manifest,
                hashed,
                settings.landing_bucket,
                settings.temp_table_days,
                settings.load_timeout,
            )
            # The parts may have changed under the load: what was loaded is what is there before it and after it.
            check_parts(manifest, self.objects, settings.landing_bucket)
            log.info("batch.in_temp", rows=job.output_rows, job_id=job.job_id, hashed_table=hashed)
            refresh_stable(self.client, self.state, batch, hashed, stable)
        fault_point("loader.loaded_unnoted")
        loaded = self.state.step(
            batch.id,
            Step.LOAD,
            **manifest.counts,
            load_seconds=round(machine.monotonic() - started, 3),
            # What a manifest says that no extraction announced counts for nothing beyond its parts.
            unrepresentable={} if batch.arrived_at else manifest.unrepresentable,
        )
        fault_point("loader.loaded")
        if loaded.state is BatchState.FAILED:
            raise _failed_before(loaded)
        return loaded

    def finish(self, batch: Batch) -> None:
        """Archive what is still in landing/ of a loaded batch, and announce it, unless it is merged already.

        A part that somebody wrote over after it was loaded is refused: bronze does not have it.
        """
        found = batch_objects(self.objects, self.settings, batch.table, batch.id)
        changed = self._changed_since_load(batch, found)
        for stored in found:
            if error := changed.get(stored.name):
                error.table, error.batch_id = batch.table, batch.id
                self.reject_objects([stored], error)
            else:
                archive(self.objects, self.settings, stored)
                fault_point("loader.object_archived")
        fault_point("loader.archived")
        if batch.state is BatchState.LOADED:
            message_id = self.announcer.publish(batch)
            log.info(
                "batch.loaded",
                table=batch.table,
                batch_id=batch.id,
                rows=batch.rows,
                message_id=message_id,
                seconds=batch.load_seconds,
            )
        if (batch.trouble or "").startswith(FINISHING):
            self.state.change_batch(batch.id, _without_trouble)

    def _changed_since_load(self, batch: Batch, found: list[StoredObject]) -> dict[str, DataError]:
        """The objects of a loaded batch, by name, that are no longer what its manifest says."""
        name = manifest_object(self.settings.landing_prefix, batch.table, batch.id)
        if not any(stored.name == name and stored.size <= MOST_MANIFEST_BYTES for stored in found):
            return {}  # its parts were archived before it
        content = self.objects.read(self.settings.landing_bucket, name)
        if content is None or manifest_fingerprint(content) != batch.manifest_sha256:
            return {}  # another process archived the batch's own, or this one is nobody's
        return {stored.name: error for stored, error in changed_since(Manifest.model_validate_json(content), found)}

    def reject_batch(
        self, table: str, batch_id: str, error: DataError, others: list[StoredObject] | None = None
    ) -> Result:
        """Fail a batch in the state, then move all its objects, and others that came with it, to failed/."""
        attempts = 1
        known = self.state.batch(batch_id)
        if known is not None and known.table == table:
            reason = BatchError(code=error.code, message=str(error), column=error.column)
            batch = self.state.step(batch_id, Step.REJECT, error=reason)
            if batch.state is not BatchState.FAILED:
                # A duplicate of the event loaded and archived the batch while this handler looked at its objects.
                self.finish(batch)
                return "already_loaded"
            attempts = max(1, batch.load_attempts)
        fault_point("loader.failed_noted")
        error.table, error.batch_id = table, batch_id
        found = [*batch_objects(self.objects, self.settings, table, batch_id), *(others or [])]
        self.reject_objects(found, error, attempts)
        return "rejected"

    def reject_objects(self, found: list[StoredObject], error: DataError, attempts: int = 1) -> None:
        """Say what is refused, then move it to failed/: if this process dies in between, it is said again."""
        names = [stored.name for stored in found]
        if names:
            self.announcer.alert(error, names)
        log.error("objects.rejected", code=error.code, reason=str(error), column=error.column, objects=names)
        for stored in found:
            reject(self.objects, self.settings, [stored], error, attempts)
            fault_point("loader.object_rejected")


def _without_trouble(batch: Batch) -> Batch:
    return batch.model_copy(update={"trouble": None}) if (batch.trouble or "").startswith(FINISHING) else batch


def _failed_before(batch: Batch) -> DataError:
    error = batch.error or BatchError(code="failed", message="the batch failed before")
    return DataError(error.code, error.message, column=error.column)
