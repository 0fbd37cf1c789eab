"""What cannot be loaded: objects go from landing/ to failed/, each with a machine-readable reason beside it."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from services.core.errors import DataError
from services.core.naming import mirrored
from services.core.settings import CoreSettings
from services.core.storage import ObjectStore

log = structlog.get_logger()


def reject(objects: ObjectStore, settings: CoreSettings, names: Iterable[str], error: DataError) -> list[str]:
    """Move landed objects to failed/ with ``<object>.error.json``; returns the names there.

    The reason is written before the object moves, so that no object is ever in failed/ without one. Safe to repeat.
    """
    rejected = []
    for name in names:
        target = mirrored(name, settings.landing_prefix, settings.failed_prefix)
        reason = {
            "code": error.code,
            "message": str(error),
            "table": error.table,
            "batch_id": error.batch_id,
            "column": error.column,
            "object": f"gs://{settings.landing_bucket}/{name}",
            "failed_at": datetime.now(UTC).isoformat(),
        }
        objects.replace(
            settings.landing_bucket,
            f"{target}.error.json",
            json.dumps(reason, indent=2, ensure_ascii=False).encode(),
            "application/json",
        )
        objects.move(settings.landing_bucket, name, settings.landing_bucket, target)
        log.error("object.rejected", object=name, failed_object=target, code=error.code, reason=str(error))
        rejected.append(target)
    return rejected
