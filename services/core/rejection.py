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

log = structlog.get_logger()


def reject(
    objects: ObjectStore, settings: CoreSettings, names: Iterable[str], error: DataError, attempts: int = 1
) -> list[str]:
    """Move landed objects to failed/ with ``<object>.error.json``; returns the names there.

    The reason is written before the object moves, so that no object is ever in failed/ without one. Safe to repeat.

    Args:
        objects: the buckets.
        settings: where landing/ and failed/ are.
        names: objects in landing/; those that are gone were rejected before.
        error: the reason.
        attempts: how often it was tried.
    """
    rejected = []
    for name in names:
        stored = objects.stat(settings.landing_bucket, name)
        if stored is None:
            continue
        target = mirrored(name, settings.landing_prefix, settings.failed_prefix)
        target = free_name(objects, stored, settings.landing_bucket, target)
        reason = error_document(stored, error, attempts)
        content = json.dumps(reason, indent=2, ensure_ascii=False).encode()
        objects.replace(settings.landing_bucket, f"{target}.error.json", content, "application/json")
        objects.move(settings.landing_bucket, name, settings.landing_bucket, target)
        log.error("object.rejected", object=name, failed_object=target, code=error.code, reason=str(error))
        rejected.append(target)
    return rejected


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
