"""Writes whose outcome is known, over a store whose answers can get lost.

A write that is repeated because its answer never came is refused by its own first try: "exists", "changed". So every
write leaves a mark of its own in the document. After a refusal the document is read again: with the mark in it, the
write was done. A document keeps the last mark of each of its last writers, so that a write is recognised also when
others have written since, however often.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from services.core import machine
from services.core.errors import TransientError
from services.core.state.store import Data, Document, DocumentChanged, DocumentExists, DocumentStore

MARKS = "_writes"
"""Field of the marks, the newest last. Not a part of the content; documents from before it have none."""

_WRITERS = 16
"""Marks that a document keeps: more threads than that do not write one document while an answer is waited for."""

Answer = TypeVar("Answer")

log = structlog.get_logger()


@dataclass(frozen=True)
class _Version:
    """The store's own version of a document, and the marks in it."""

    own: Any
    marks: tuple[str, ...]
    overtaken: bool = False
    """Of a write that was done, and that another has followed since: good for no further write."""


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("state.again", attempt=state.attempt_number, reason=str(error))


AGAIN = Retrying(
    retry=retry_if_exception_type(TransientError),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    stop=machine.stopping_after(60),
    before_sleep=_say,
    sleep=machine.sleep,
    reraise=True,
)
"""How a call is repeated: for a minute, then its error is the caller's."""


class CertainStore:
    """A document store that repeats what may pass, and whose refusals are another's doing.

    Raises TransientError only when a call has failed all the time. Whether it was done is not known then.
    """

    def __init__(self, store: DocumentStore, again: Retrying = AGAIN) -> None:
        """Stand before a store.

        Args:
            store: whose answers can get lost; it raises TransientError then.
            again: how a call is repeated.
        """
        self._store, self._retrying = store, again
        self._writers = machine.local()

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        """Create a document; raises DocumentExists."""
        mark = self._new_mark()
        marked = {**data, MARKS: mark}

        def write() -> Document:
            return self._store.create(collection, id, marked, forget_after=forget_after)

        return self._write(write, Document(collection, id, data, None), mark)

    def get(self, collection: str, id: str) -> Document | None:
        """Read a document, or None."""
        found = self._again(self._store.get, collection, id)
        return _shown(found) if found else None

    def update(self, document: Document, data: Data) -> Document:
        """Replace a document that is still as it was read; raises DocumentChanged."""
        version: _Version = document.version
        if version.overtaken:
            raise DocumentChanged(f"{document.collection}/{document.id}")
        mark = self._new_mark()
        marked = {**data, MARKS: " ".join(_kept(version.marks, mark))}
        own = replace(document, version=version.own)

        def write() -> Document:
            return self._store.update(own, marked)

        return self._write(write, replace(document, data={**document.data, **data}), mark)

    def _write(self, write: Callable[[], Document], meant: Document, mark: str) -> Document:
        """Write, again while that may pass, and recognise what an earlier try has done.

        Args:
            write: one try.
            meant: the document as it is when the write is done.
            mark: of the write.
        """

        def attempt() -> Document:
            try:
                return _shown(write())
            except (DocumentExists, DocumentChanged):
                found = self._store.get(meant.collection, meant.id)
                marks = _marks(found) if found else ()
                if found is None or mark not in marks:
                    raise
                log.info("state.write_recognised", document=f"{meant.collection}/{meant.id}")
                if marks[-1] == mark:
                    return _shown(found)
                return replace(meant, version=_Version(None, marks, overtaken=True))

        return self._again(attempt)

    def delete(self, document: Document) -> None:
        """Delete a document that is still as it was read, or is gone already; raises DocumentChanged."""
        version: _Version = document.version
        if version.overtaken:
            if self.get(document.collection, document.id) is None:
                return
            raise DocumentChanged(f"{document.collection}/{document.id}")
        self._again(self._store.delete, replace(document, version=version.own))

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        """All documents whose fields equal these values, or those from an id on, ordered by id."""
        return [_shown(found) for found in self._again(self._store.query, collection, where, from_id)]

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _again(self, call: Callable[..., Answer], *given: Any) -> Answer:
        """Call, and again while that may pass; what succeeds at once, as nearly all does, costs nothing more."""
        failed: list[TransientError] = []
        try:
            return call(*given)
        except TransientError as error:
            failed.append(error)

        def again() -> Answer:
            if failed:
                raise failed.pop()
            return call(*given)

        return self._retrying(again)

    def _new_mark(self) -> str:
        """``<writer>.<number>``; a writer is a thread: its last write is known, or given up, when it writes again."""
        if not hasattr(self._writers, "name"):
            self._writers.name, self._writers.numbers = machine.token_hex(6), itertools.count(1)
        return f"{self._writers.name}.{next(self._writers.numbers)}"


def _kept(marks: tuple[str, ...], mark: str) -> list[str]:
    writer = mark.split(".")[0]
    return [*(other for other in marks if other.split(".")[0] != writer), mark][-_WRITERS:]


def _marks(document: Document) -> tuple[str, ...]:
    return tuple(str(document.data.get(MARKS, "")).split())


def _shown(document: Document) -> Document:
    """The document without its marks, which its version keeps."""
    content = {name: value for name, value in document.data.items() if name != MARKS}
    return replace(document, data=content, version=_Version(document.version, _marks(document)))
