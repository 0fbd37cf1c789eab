"""A batch in landing/: its objects, and the manifest that makes them a batch."""

import io
import itertools
from collections.abc import Iterator

from services.core.batch import Batch
from services.core.manifest import Manifest, Part
from services.core.naming import batch_objects_prefix, manifest_object, mirrored
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore, StoredObject


def batch_objects(objects: ObjectStore, settings: CoreSettings, table: str, batch_id: str) -> list[StoredObject]:
    """A batch's objects in landing/, the manifest last: while it is there, the event can be replayed."""
    prefix = batch_objects_prefix(settings.landing_prefix, table, batch_id)
    manifest = manifest_object(settings.landing_prefix, table, batch_id)
    found = objects.list(settings.landing_bucket, prefix)
    return sorted(found, key=lambda stored: (stored.name == manifest, stored.name))


def places(stored: StoredObject, name: str) -> Iterator[str]:
    """Where an object may go, in this order: under its own name, or, where other content has that, under another.

    The same whenever it is asked for: what a crash left half moved is moved on to the same place.
    """
    yield name
    yield f"{name}~{stored.generation}"
    for number in itertools.count(2):
        yield f"{name}~{stored.generation}~{number}"


def put_away(objects: ObjectStore, stored: StoredObject, bucket: str, name: str) -> str | None:
    """Copy an object to where it belongs, never over another one; it is still to be deleted in landing/.

    Returns:
        The copy's name; None when the object is gone from landing/: another process has moved it.
    """
    for place in places(stored, name):
        copied = objects.copy(stored, bucket, place)
        if copied != "taken":
            return place if copied == "there" else None
    raise AssertionError("there is always another place")


def archive(objects: ObjectStore, settings: CoreSettings, stored: StoredObject) -> None:
    """Move an object from landing/ to the archive; without effect when it is gone from landing/."""
    target = mirrored(stored.name, settings.landing_prefix, settings.archive_prefix)
    if put_away(objects, stored, settings.archive_bucket, target) is not None:
        objects.delete(stored)


def put_part(
    objects: ObjectStore, settings: CoreSettings, batch: Batch, name: str, data: io.BytesIO, rows: int
) -> Part:
    """Write a part of a batch.

    Raises:
        DataError: an object of this name is there, with other content.
    """
    stored = objects.create(settings.landing_bucket, name, data, "application/vnd.apache.parquet", _metadata(batch))
    return Part(object_name=stored.name, rows=rows, size=stored.size, crc32c=stored.crc32c)


def put_manifest(objects: ObjectStore, settings: CoreSettings, batch: Batch, manifest: Manifest) -> None:
    """Write the batch's commit marker; from here on the batch exists for the loader.

    The state has to know its fingerprint before (``PipelineState.announce``): the loader believes no other.

    Raises:
        DataError: an object of this name is there, with other content.
    """
    objects.create(
        settings.landing_bucket,
        manifest_object(settings.landing_prefix, batch.table, batch.id),
        io.BytesIO(manifest.encoded()),
        "application/json",
        _metadata(batch),
    )


def _metadata(batch: Batch) -> dict[str, str]:
    return {"table": batch.table, "batch_id": batch.id, "run_id": batch.run_id}
