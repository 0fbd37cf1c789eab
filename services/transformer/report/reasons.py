"""Why objects are in failed/: the documents beside them, whatever bytes those are. None of them stops the report."""

import json
from dataclasses import dataclass
from typing import Any

import structlog

from services.core.errors import TransientError
from services.core.rejection import REASON
from services.core.storage import ObjectStore, StoredObject
from services.core.telling import kind_and_words

MOST_SHOWN = 30
"""Reasons that are shown; the newest."""

MOST_BYTES = 64 * 1024
"""Of a document that are read: the loader writes less than a tenth of that."""

MOST_LETTERS = 2_000
"""Of a text in a document that are shown."""

UNREADABLE = "unreadable"
"""Code of an object whose document says nothing: nobody of this pipeline wrote it."""

log = structlog.get_logger()


@dataclass(frozen=True)
class FailedObject:
    """An object in failed/, as the document beside it says."""

    object: str
    code: str
    message: str
    table: str | None
    failed_at: str


def read_reasons(objects: ObjectStore, reasons: list[StoredObject]) -> list[FailedObject]:
    """The newest reasons; of a document that has gone since it was listed, none."""
    newest = sorted(reasons, key=lambda stored: (stored.created_at, stored.name), reverse=True)[:MOST_SHOWN]
    return [found for stored in newest if (found := _read(objects, stored)) is not None]


def _read(objects: ObjectStore, stored: StoredObject) -> FailedObject | None:
    if stored.size > MOST_BYTES:
        return _unreadable(stored, f"its reason has {stored.size:,} bytes, and was not read")
    try:
        with objects.open(stored) as content:
            return parse_reason(stored, content.read(MOST_BYTES))
    except TransientError:
        return None
    except Exception as error:
        log.exception("reason.not_read", object=stored.name)
        return _unreadable(stored, f"its reason could not be read: {kind_and_words(error)}")


def parse_reason(stored: StoredObject, content: bytes) -> FailedObject:
    """What a document says.

    Args:
        stored: the document's object.
        content: any bytes.
    """
    try:
        told: Any = json.loads(content)
    except (ValueError, RecursionError):
        return _unreadable(stored, "its reason is no JSON")
    if not isinstance(told, dict):
        return _unreadable(stored, "its reason is no JSON object")
    return FailedObject(
        object=_text(told.get("object")) or _object(stored),
        code=_text(told.get("code")) or "unknown",
        message=_text(told.get("message")) or "",
        table=_text(told.get("table")),
        failed_at=_text(told.get("failed_at")) or stored.created_at.isoformat(),
    )


def _unreadable(stored: StoredObject, why: str) -> FailedObject:
    return FailedObject(_object(stored), UNREADABLE, why, None, stored.created_at.isoformat())


def _object(stored: StoredObject) -> str:
    """The object that a document is about, by the document's own name."""
    return f"gs://{stored.bucket}/{stored.name.removesuffix(REASON)}"


def _text(value: object) -> str | None:
    """A text that can be written as UTF-8, of a length that can be shown; None for anything else."""
    if not isinstance(value, str):
        return None
    return value[:MOST_LETTERS].encode("utf-8", "replace").decode()
