"""What cannot be loaded: objects go from landing/ to failed/, each with a machine-readable reason beside it."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from services.core.errors import DataError
from services.core.landing import free_name
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

    The reason is written before the object moves, so that no object is ever in failed/ without one. Safe to repeat.

    Args:
        objects: the buckets.
        settings: where landing/ and failed/ are.
        found: objects in landing/; those that are gone were rejected before.
        error: the reason.
        attempts: how often it was tried.
    """
    for stored in found:
        target = mirrored(stored.name, settings.landing_prefix, settings.failed_prefix)
        if target.endswith(REASON):
            target = f"{target}~{stored.generation}"  # it is no reason, and must not be in the place of one
        target = free_name(objects, stored, settings.landing_bucket, target)
        content = json.dumps(error_document(stored, error, attempts), indent=2, ensure_ascii=False).encode()
        objects.replace(settings.landing_bucket, f"{target}{REASON}", content, "application/json")
        objects.move(stored, settings.landing_bucket, target)
        log.error("object.rejected", object=stored.name, failed_object=target, code=error.code, reason=str(error))


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
        "failed_at": datetime.now(UTC).isoformat(),
    }
