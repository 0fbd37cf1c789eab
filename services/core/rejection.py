"""What cannot be loaded: objects go from landing/ to failed/, each with a machine-readable reason beside it."""

import json
from collections.abc import Iterable

import structlog

from services.core import machine
from services.core.errors import DataError
from services.core.landing import put_away
from services.core.naming import mirrored
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore, StoredObject

REASON = ".error.json"
"""What a reason's name has after the object's."""

log = structlog.get_logger()


def reject(
    objects: ObjectStore, settings: CoreSettings, found: Iterable[StoredObject], error: DataError, attempts: int = 1
) -> None:
    """Move landed objects to failed/ with ``<object>.error.json``.

    The object is copied, then its reason is written, then it is deleted in landing/: whoever finds it gone from there
    writes nothing, and whoever ends in between leaves it there, to be rejected again. Safe to repeat.

    Args:
        objects: the buckets.
        settings: where landing/ and failed/ are.
        found: objects in landing/; those that are gone were moved by another process, which says why.
        error: the reason.
        attempts: how often it was tried.
    """
    for stored in found:
        target = mirrored(stored.name, settings.landing_prefix, settings.failed_prefix)
        if target.endswith(REASON):
            target = f"{target}~{stored.generation}"  # it is no reason, and must not be in the place of one
        place = put_away(objects, stored, settings.landing_bucket, target)
        if place is None:
            continue
        content = json.dumps(error_document(stored, error, attempts), indent=2, ensure_ascii=False).encode()
        objects.replace(settings.landing_bucket, f"{place}{REASON}", content, "application/json")
        objects.delete(stored)
        log.error("object.rejected", object=stored.name, failed_object=place, code=error.code, reason=str(error))


def error_document(stored: StoredObject, error: DataError, attempts: int) -> dict[str, object]:
    """What ``<object>.error.json`` says."""
    return {
        "code": error.code,
        "message": str(error),
        "table": error.table,
        "batch_id": error.batch_id,
        "column": error.column,
        "object": f"gs://{stored.bucket}/{stored.name}",
        "generation": stored.generation,
        "first_seen": stored.created_at.isoformat(),
        "attempts": attempts,
        "failed_at": machine.now().isoformat(),
    }
