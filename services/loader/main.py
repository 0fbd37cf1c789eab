"""The loader under functions-framework: a Pub/Sub push with a bucket notification in, a loaded batch out.

``functions-framework --target handle --source services/loader/main.py --signature-type cloudevent``. An exception
answers 500, which is a negative acknowledgement: Pub/Sub delivers again with backoff and dead-letters in the end.
"""

from functools import lru_cache

import functions_framework
import structlog
from cloudevents.http import CloudEvent

from services.core.events import parse_message, parse_object_finalized
from services.core.service import start
from services.core.settings import LoaderSettings
from services.loader.loading import Loader
from services.loader.wiring import open_loader

log = structlog.get_logger()

# Read when the container starts, not with the first event: a wrong setting or table fails the revision at once.
_SETTINGS, _TABLES = start(LoaderSettings, "loader")


@lru_cache(maxsize=1)
def _loader() -> Loader:
    return open_loader(_SETTINGS, _TABLES)


@functions_framework.cloud_event
def handle(event: CloudEvent) -> None:
    """Handle one bucket notification; anything else is acknowledged without effect."""
    try:
        message = parse_message(event.data)
    except ValueError as error:
        log.warning("event.ignored", reason=str(error))
        return
    with structlog.contextvars.bound_contextvars(service="loader", message_id=message.id):
        finalized = parse_object_finalized(message)
        if finalized is None:
            log.warning("event.ignored", reason="not an OBJECT_FINALIZE notification", attributes=message.attributes)
            return
        try:
            result = _loader().handle(finalized)
        except Exception as error:
            log.exception("event.failed", object=finalized.name, reason=str(error))
            raise
        log.info("event.handled", object=finalized.name, result=result)
