"""The transformer under functions-framework: ``batch.loaded`` in, bronze, watermark, silver and gold out.

``functions-framework --target handle --source services/transformer/main.py --signature-type cloudevent``. The event is
only a hint to look at the state. An exception answers 500: Pub/Sub delivers again with backoff, and dead-letters.
"""

import os
import socket
from functools import lru_cache

import functions_framework
import structlog
from cloudevents.http import CloudEvent

from services.core.events import parse_message
from services.core.service import start
from services.core.settings import TransformerSettings
from services.transformer.observability.observation import Observer, observe_after_work
from services.transformer.reconcile import Transformer
from services.transformer.wiring import open_observer, open_transformer

log = structlog.get_logger()

# Read when the container starts, not with the first event: a wrong setting or table fails the revision at once.
_SETTINGS, _TABLES = start(TransformerSettings, "transformer")


@lru_cache(maxsize=1)
def _transformer() -> Transformer:
    return open_transformer(_SETTINGS, _TABLES)


@lru_cache(maxsize=1)
def _observer() -> Observer:
    return open_observer(_SETTINGS)


@functions_framework.cloud_event
def handle(event: CloudEvent) -> None:
    """Reconcile, whatever the event says; leave it to the process that is at it, if one is."""
    try:
        message = parse_message(event.data)
    except ValueError as error:
        log.warning("event.ignored", reason=str(error))
        return
    holder = f"{socket.gethostname()}-{os.getpid()}-{message.id}"
    with structlog.contextvars.bound_contextvars(service="transformer", message_id=message.id):
        try:
            reports = _transformer().reconcile_or_leave(holder)
        except Exception as error:
            log.exception("event.failed", reason=str(error))
            raise
        log.info("event.handled", passes=len(reports) if reports is not None else None)
        if reports:
            observe_after_work(_SETTINGS, _observer, holder)
