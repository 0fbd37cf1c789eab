"""Logging: structlog, as JSON for Cloud Logging or coloured lines on a terminal; ids are bound once for every line."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from services.core.settings import CoreSettings


def _severity(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cloud Logging's names (https://cloud.google.com/logging/docs/structured-logging)."""
    event["severity"] = str(event.pop("level", "info")).upper()
    event["message"] = event.pop("event")
    return event


def configure_logging(settings: CoreSettings, service: str) -> None:
    """Send this process's log to stderr in the settings' format; library logs at WARNING and above go the same way."""
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    renderers: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, _severity, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        # One logger, whatever a module is called: functions-framework loads main.py under another name.
        logger_factory=lambda *_: logging.getLogger("services"),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("services").setLevel(settings.log_level)
    structlog.contextvars.bind_contextvars(service=service)
