"""Lands a batch: parts are uploaded while reading goes on, the manifest last of all."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import structlog

from services.core.batch import Batch, Manifest, ManifestColumn, Part, schema_fingerprint
from services.core.naming import manifest_object, part_object
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore
from services.core.tables import Table

_UPLOADS = 2
"""Uploads under way beside the read; each holds one part in memory."""

log = structlog.get_logger()


def upload_parts(
    objects: ObjectStore, settings: CoreSettings, batch: Batch, parts: Iterable[tuple[bytes, int]]
) -> list[Part]:
    """Upload parts as they come; returns them in order."""
    landed: list[Part] = []
    under_way: deque[Future[Part]] = deque()

    def upload(number: int, content: bytes, rows: int) -> Part:
        stored = objects.create(
            settings.landing_bucket,
            part_object(settings.landing_prefix, batch.table, batch.id, number),
            content,
            "application/vnd.apache.parquet",
            {"table": batch.table, "batch_id": batch.id, "run_id": batch.run_id},
        )
        log.info("part.landed", object=stored.name, part=number, rows=rows, bytes=stored.size)
        return Part(
            object_name=stored.name, generation=stored.generation, rows=rows, size=stored.size, crc32c=stored.crc32c
        )

    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload") as pool:
        for number, (content, rows) in enumerate(parts):
            # The ids bound to the log belong to this thread's context.
            under_way.append(pool.submit(copy_context().run, upload, number, content, rows))
            while len(under_way) > _UPLOADS:
                landed.append(under_way.popleft().result())
        landed.extend(future.result() for future in under_way)
    return landed


def write_manifest(
    objects: ObjectStore, settings: CoreSettings, table: Table, batch: Batch, parts: list[Part]
) -> Manifest:
    """Write the batch's commit marker; from here on the batch exists for the loader."""
    manifest = Manifest(
        batch_id=batch.id,
        run_id=batch.run_id,
        table=table.name,
        source=table.source,
        mode=batch.mode,
        window=batch.window,
        extracted_at=batch.extracted_at,
        rows=sum(part.rows for part in parts),
        columns=[ManifestColumn(name=c.name, type=c.type) for c in table.columns],
        schema_fingerprint=schema_fingerprint(table),
        parts=parts,
    )
    objects.create(
        settings.landing_bucket,
        manifest_object(settings.landing_prefix, table.name, batch.id),
        manifest.model_dump_json(indent=2).encode(),
        "application/json",
        {"table": table.name, "batch_id": batch.id, "run_id": batch.run_id},
    )
    return manifest
