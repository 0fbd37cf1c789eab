"""Lands parts: they are uploaded while reading goes on."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import structlog

from services.core.batch import Batch
from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.landing import batch_objects, put_part
from services.core.manifest import Part
from services.core.naming import manifest_object, part_object
from services.core.parquet import GROUP_BYTES, PART_BYTES
from services.core.rejection import reject
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore
from services.extractor.progress import Progress

UPLOADS = 2
"""Uploads under way beside the reads."""

WAITING_BYTES = UPLOADS * (PART_BYTES + GROUP_BYTES)
"""Of the parts that are being uploaded or wait for it; a larger one is there alone."""

log = structlog.get_logger()


class Room:
    """A number of bytes that several threads share."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Take some; waits until there are as many, or, for more than there ever are, until nobody else has any."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size

    def give_back(self, size: int) -> None:
        """Give them back."""
        with self._changed:
            self._taken -= size
            self._changed.notify_all()


class Landing:
    """Uploads the parts of one batch in the background, a bounded number at a time."""

    def __init__(
        self, objects: Callable[[], ObjectStore], settings: CoreSettings, batch: Batch, progress: Progress
    ) -> None:
        self._objects, self._settings, self._batch, self._progress = objects, settings, batch, progress
        self._room = Room(WAITING_BYTES)
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
        size = content.getbuffer().nbytes
        self._room.take(size)
        # The ids bound to the log belong to this thread's context.
        future = self._pool.submit(copy_context().run, self._upload, name, content, rows)
        future.add_done_callback(lambda _: self._room.give_back(size))
        return future

    def _upload(self, name: str, content: io.BytesIO, rows: int) -> Part:
        batch = self._batch
        with content:  # its memory is free at once, whoever still refers to it
            part = put_part(self._objects(), self._settings, batch, name, content, rows)
        fault_point("extractor.part_landed")
        self._progress.landed(batch.table, rows, part.size)
        log.info("part.landed", object=part.object_name, rows=rows, bytes=part.size)
        return part

    def part_name(self, chunk: int, piece: int, attempt: int) -> str:
        """Object name of a part of this batch."""
        return part_object(self._settings.landing_prefix, self._batch.table, self._batch.id, chunk, piece, attempt)


def reject_superseded(objects: ObjectStore, settings: CoreSettings, batch: Batch, parts: list[Part]) -> None:
    """Before the manifest: move what is no part of the batch to failed/, so that nothing stays behind.

    That is what broken attempts left, and a manifest that somebody else has put there.
    """
    kept = {part.object_name for part in parts}
    manifest = manifest_object(settings.landing_prefix, batch.table, batch.id)
    others = [o for o in batch_objects(objects, settings, batch.table, batch.id) if o.name not in kept]
    for code, message, found in (
        (
            "superseded_part",
            "an attempt at this part of the table broke off; the rows are in the parts that the manifest names",
            [stored for stored in others if stored.name != manifest],
        ),
        (
            "manifest_invalid",
            "a manifest that is not this extraction's, which has yet to write its own",
            [stored for stored in others if stored.name == manifest],
        ),
    ):
        reject(objects, settings, found, DataError(code, message, table=batch.table, batch_id=batch.id))
