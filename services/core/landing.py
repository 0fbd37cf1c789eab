"""A batch in landing/: its objects, and the manifest that makes them a batch."""

import io

from services.core.batch import Batch
from services.core.manifest import Manifest, ManifestColumn, Part
from services.core.naming import batch_objects_prefix, manifest_object, mirrored
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import Table


def batch_objects(objects: ObjectStore, settings: CoreSettings, table: str, batch_id: str) -> list[StoredObject]:
    """A batch's objects in landing/, the manifest last: while it is there, the event can be replayed."""
    prefix = batch_objects_prefix(settings.landing_prefix, table, batch_id)
    manifest = manifest_object(settings.landing_prefix, table, batch_id)
    found = objects.list(settings.landing_bucket, prefix)
    return sorted(found, key=lambda stored: (stored.name == manifest, stored.name))


def free_name(objects: ObjectStore, stored: StoredObject, bucket: str, name: str) -> str:
    """Where an object can go without writing over another: the name, or, if other content has it, one of its own.

    The same whenever it is asked for: what a crash left half moved is moved on to the same place.
    """
    there = objects.stat(bucket, name)
    return name if there is None or there.crc32c == stored.crc32c else f"{name}~{stored.generation}"


def archive(objects: ObjectStore, settings: CoreSettings, stored: StoredObject) -> None:
    """Move an object from landing/ to the archive; without effect when it is gone from landing/."""
    target = mirrored(stored.name, settings.landing_prefix, settings.archive_prefix)
    target = free_name(objects, stored, settings.archive_bucket, target)
    objects.move(stored, settings.archive_bucket, target)


def put_part(
    objects: ObjectStore, settings: CoreSettings, batch: Batch, name: str, data: io.BytesIO, rows: int
) -> Part:
    """Write a part of a batch.

    Raises:
        DataError: an object of this name is there, with other content.
    """
    stored = objects.create(settings.landing_bucket, name, data, "application/vnd.apache.parquet", _metadata(batch))
    return Part(
        object_name=stored.name, generation=stored.generation, rows=rows, size=stored.size, crc32c=stored.crc32c
    )


def put_manifest(
    objects: ObjectStore, settings: CoreSettings, table: Table, batch: Batch, columns: list[ManifestColumn],
    parts: list[Part],
) -> Manifest:  # fmt: skip
    """Write the batch's commit marker; from here on the batch exists for the loader."""
    manifest = batch.manifest(table, columns, parts)
    objects.create(
        settings.landing_bucket,
        manifest_object(settings.landing_prefix, table.name, batch.id),
        io.BytesIO(manifest.model_dump_json(indent=2).encode()),
        "application/json",
        _metadata(batch),
    )
    return manifest


def _metadata(batch: Batch) -> dict[str, str]:
    return {"table": batch.table, "batch_id": batch.id, "run_id": batch.run_id}
