"""How the newest extractions of each table went: what `credix status`, the report and the alerts tell of the source.

An extraction is noted when it begins and when it ends, so that one whose process died in between is seen too. The note
of the end keeps the note of the beginning as its precondition: an older extraction never writes over a newer one.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core import machine
from services.core.errors import TransientError
from services.core.state.store import Document, DocumentChanged, DocumentExists, DocumentStore
from services.core.window import Window

_COLLECTION = "extractions"
_TRIES = 20
"""How often a write is tried again when another process was faster."""

INTERRUPTED = "interrupted"
"""Kind of error of an extraction that never said how it ended."""

log = structlog.get_logger()


class ExtractionError(BaseModel):
    """Why an extraction failed: no value of a row, and no secret (``services.core.telling``)."""

    model_config = ConfigDict(frozen=True)

    kind: str
    message: str


class LastExtractions(BaseModel):
    """How the newest extractions of a table went."""

    model_config = ConfigDict(frozen=True)

    table: str
    run_id: str = Field(description="The run that began last.")
    begun_at: AwareDatetime = Field(description="When it began.")
    ended_at: AwareDatetime | None = Field(default=None, description="None: it is at work, or its process died.")
    trouble: str | None = Field(default=None, description="Why the one at work reads again what broke off.")
    batch_id: str | None = Field(default=None, description="The last batch that one of them brought, or failed to.")
    succeeded_at: AwareDatetime | None = None
    succeeded_from: AwareDatetime | None = Field(default=None, description="When the last one that succeeded began.")
    failed_at: AwareDatetime | None = None
    failing_since: AwareDatetime | None = Field(default=None, description="When the first of failures in a row was.")
    failures: int = Field(default=0, description="Failures in a row.")
    error: ExtractionError | None = Field(default=None, description="Of the last one, as long as none succeeded.")
    quiet: Window | None = Field(default=None, description="The last window in which there was nothing to bring.")

    @classmethod
    def first(cls, table: str, run_id: str, at: datetime) -> "LastExtractions":
        """What is known when the first extraction of a table begins."""
        return cls(table=table, run_id=run_id, begun_at=at)

    def begun(self, run_id: str, at: datetime) -> "LastExtractions":
        """After another one has begun. One before it that has not said how it ended was interrupted: a failure."""
        before = self
        if self.ended_at is None:
            message = "it ended before it could say how; its process was killed, or its machine went away"
            before = self.failed(self.begun_at, ExtractionError(kind=INTERRUPTED, message=message), self.batch_id)
        return before.model_copy(update={"run_id": run_id, "begun_at": at, "ended_at": None, "trouble": None})

    def succeeded(self, at: datetime, batch_id: str | None, quiet: Window | None) -> "LastExtractions":
        """After the one that began has landed a batch, or has found nothing to bring in a window."""
        return self.model_copy(
            update={
                "ended_at": at,
                "trouble": None,
                "batch_id": batch_id or self.batch_id,
                "succeeded_at": at,
                "succeeded_from": self.begun_at,
                "failing_since": None,
                "failures": 0,
                "error": None,
                "quiet": quiet or self.quiet,
            }
        )

    def failed(self, at: datetime, error: ExtractionError, batch_id: str | None) -> "LastExtractions":
        """After the one that began has failed."""
        return self.model_copy(
            update={
                "ended_at": at,
                "trouble": None,
                "batch_id": batch_id or self.batch_id,
                "failed_at": at,
                "failing_since": self.failing_since or at,
                "failures": self.failures + 1,
                "error": error,
            }
        )


Change = Callable[[LastExtractions], LastExtractions]


class ExtractionNote:
    """The note of one extraction, from its beginning to its end; for several threads.

    What cannot be noted is logged and nothing else: it must not stop an extraction, or hide why one failed.
    """

    def __init__(self, store: DocumentStore, document: Document) -> None:
        """Take up a note that ``begin`` has made."""
        self._store = store
        self._document = document
        self._own = _identity(LastExtractions.model_validate(document.data))
        self._lock = threading.Lock()
        self.batch_id: str | None = None
        """The batch that it brings, once there is one."""

    @classmethod
    def begin(cls, store: DocumentStore, table: str, run_id: str) -> "ExtractionNote":
        """Note that an extraction begins, under the table's lease.

        Raises:
            Exception: the state cannot be written; then nothing else of the extraction could be noted either.
        """
        now = machine.now()
        for _ in range(_TRIES):
            document = store.get(_COLLECTION, table)
            try:
                if document is None:
                    return cls(
                        store, store.create(_COLLECTION, table, _data(LastExtractions.first(table, run_id, now)))
                    )
                before = LastExtractions.model_validate(document.data)
                if _identity(before) == (run_id, now):
                    return cls(store, document)  # this one, noted by a request whose answer was lost
                return cls(store, store.update(document, _data(before.begun(run_id, now))))
            except (DocumentExists, DocumentChanged):
                continue
        raise TransientError(f"table {table}: the note on its extractions changed {_TRIES} times while it was updated")

    def succeeded(self, quiet: Window | None) -> None:
        """Note that it landed its batch, or that there was nothing to bring in a window."""
        self._note(lambda last: last.succeeded(machine.now(), None if quiet else self.batch_id, quiet))

    def failed(self, kind: str, message: str) -> None:
        """Note that it failed, and why."""
        error = ExtractionError(kind=kind, message=message)
        self._note(lambda last: last.failed(machine.now(), error, self.batch_id))

    def troubled(self, reason: str) -> None:
        """Note why it reads again what broke off."""
        self._note(lambda last: last.model_copy(update={"trouble": reason}))

    def _note(self, change: Change) -> None:
        try:
            with self._lock:
                self._change(change)
        except Exception:
            log.exception("extraction.not_noted", table=self._document.id)

    def _change(self, change: Change) -> None:
        for _ in range(_TRIES):
            current = LastExtractions.model_validate(self._document.data)
            if _identity(current) != self._own:
                log.warning("extraction.superseded", table=current.table, newer_run=current.run_id)
                return
            if current.ended_at is not None:
                return  # noted by a request whose answer was lost
            try:
                self._document = self._store.update(self._document, _data(change(current)))
            except DocumentChanged:
                found = self._store.get(_COLLECTION, current.table)
                if found is None:
                    return
                self._document = found
                continue
            return
        raise TransientError(f"the note changed {_TRIES} times while it was updated")


def last_extractions(store: DocumentStore, table: str) -> LastExtractions | None:
    """How a table's newest extractions went; None when none was ever begun."""
    document = store.get(_COLLECTION, table)
    return LastExtractions.model_validate(document.data) if document else None


def all_last_extractions(store: DocumentStore) -> dict[str, LastExtractions]:
    """How the newest extractions went, by table."""
    return {document.id: LastExtractions.model_validate(document.data) for document in store.query(_COLLECTION, {})}


def _identity(last: LastExtractions) -> tuple[str, datetime]:
    return last.run_id, last.begun_at


def _data(last: LastExtractions) -> dict[str, Any]:
    return last.model_dump(mode="json")
