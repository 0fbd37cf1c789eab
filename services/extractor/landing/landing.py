"""Lands a batch: parts are uploaded while reading goes on, the manifest last of all."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import structlog

from services.core.batch import Batch, Manifest, ManifestColumn, Part
from services.core.errors import DataError
from services.core.naming import batch_objects_prefix, manifest_object, part_object
from services.core.rejection import reject
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore
from services.core.tables import Table
from services.extractor.progress import Progress

UPLOADS = 2
"""Uploads under way beside the reads; each holds one part in memory, and one more may wait."""

log = structlog.get_logger()


class Landing:
    """Uploads the parts of one batch in the background, a bounded number at a time."""

    def __init__(
        self, objects: Callable[[], ObjectStore], settings: CoreSettings, batch: Batch, progress: Progress
    ) -> None:
        self._objects, self._settings, self._batch, self._progress = objects, settings, batch, progress
        self._room = threading.Semaphore(UPLOADS + 1)
        self._pool = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")

    def __enter__(self) -> "Landing":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put(self, name: str, content: io.BytesIO, rows: int) -> Future[Part]:
        """Upload a part; waits while enough are under way.

        Args:
            name: object name.
            content: the Parquet file.
            rows: rows in it.
        """
        self._room.acquire()
        # The ids bound to the log belong to this thread's context.
        future = self._pool.submit(copy_context().run, self._upload, name, content, rows)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _upload(self, name: str, content: io.BytesIO, rows: int) -> Part:
        batch = self._batch
        stored = self._objects().create(
            self._settings.landing_bucket,
            name,
            content,
            "application/vnd.apache.parquet",
            {"table": batch.table, "batch_id": batch.id, "run_id": batch.run_id},
        )
        self._progress.landed(batch.table, rows, stored.size)
        log.info("part.landed", object=stored.name, rows=rows, bytes=stored.size)
        return Part(
            object_name=stored.name, generation=stored.generation, rows=rows, size=stored.size, crc32c=stored.crc32c
        )

    def part_name(self, chunk: int, piece: int, attempt: int) -> str:
        """Object name of a part of this batch."""
        return part_object(self._settings.landing_prefix, self._batch.table, self._batch.id, chunk, piece, attempt)


def write_manifest(
    objects: ObjectStore, settings: CoreSettings, table: Table, batch: Batch, columns: list[ManifestColumn],
    parts: list[Part],
) -> Manifest:  # fmt: skip
    """Write the batch's commit marker; from here on the batch exists for the loader."""
    manifest = Manifest.of(table, batch, columns, parts)
    objects.create(
        settings.landing_bucket,
        manifest_object(settings.landing_prefix, table.name, batch.id),
        io.BytesIO(manifest.model_dump_json(indent=2).encode()),
        "application/json",
        {"table": table.name, "batch_id": batch.id, "run_id": batch.run_id},
    )
    return manifest


def reject_superseded(objects: ObjectStore, settings: CoreSettings, batch: Batch, parts: list[Part]) -> None:
    """Before the manifest: move what broken attempts left of the batch to failed/, so that nothing stays behind."""
    prefix = batch_objects_prefix(settings.landing_prefix, batch.table, batch.id)
    kept = {part.object_name for part in parts}
    names = [stored.name for stored in objects.list(settings.landing_bucket, prefix) if stored.name not in kept]
    message = "an attempt at this part of the table broke off; the rows are in the parts that the manifest names"
    reject(objects, settings, names, DataError("superseded_part", message, table=batch.table, batch_id=batch.id))
