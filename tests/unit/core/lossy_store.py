"""A document store whose answers get lost, and the store of a process that stands behind it."""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from services.core.errors import TransientError
from services.core.state.certain import CertainStore
from services.core.state.store import Data, Document, DocumentStore

T = TypeVar("T")

TRIES = 3
"""How often a call is repeated in these tests, without a pause."""


class Fate(StrEnum):
    """What becomes of a call."""

    PASSES = "passes"
    LOST = "done, the answer lost"
    TWICE = "done twice, the second answered"
    REFUSED = "not done"
    LATE = "done later, when the caller has gone on"


class LossyStore:
    """Stands before a store and loses what it is told to lose."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self.fates: deque[Fate] = deque()
        """Of the next calls; then all pass."""
        self._then: dict[int, Callable[[], object]] = {}
        self.late: list[Callable[[], object]] = []
        """Writes that are still under way."""
        self.calls = 0

    def then(self, action: Callable[[], object], calls: int = 1) -> None:
        """Have another process do something after that many calls from now, before the answer comes, or is lost."""
        self._then[self.calls + calls] = action

    def begin(self, fates: list[Fate]) -> None:
        """Have these fates and no others from now on."""
        self.fates = deque(fates)
        self._then.clear()

    def _call(self, work: Callable[[], T], *, writes: bool) -> T:
        self.calls += 1
        fate = self.fates.popleft() if self.fates else Fate.PASSES
        if fate is Fate.LATE and writes:
            self.late.append(work)
        if fate in (Fate.REFUSED, Fate.LATE):
            raise TransientError(f"injected: {fate}")
        if fate is Fate.TWICE and writes:
            work()
        result = work()
        self._then.pop(self.calls, lambda: None)()
        if fate is Fate.LOST:
            raise TransientError(f"injected: {fate}")
        return result

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        return self._call(lambda: self._store.create(collection, id, data, forget_after=forget_after), writes=True)

    def get(self, collection: str, id: str) -> Document | None:
        return self._call(lambda: self._store.get(collection, id), writes=False)

    def update(self, document: Document, data: Data) -> Document:
        return self._call(lambda: self._store.update(document, data), writes=True)

    def delete(self, document: Document) -> None:
        return self._call(lambda: self._store.delete(document), writes=True)

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        return self._call(lambda: self._store.query(collection, where, from_id), writes=False)

    def close(self) -> None:
        self._store.close()


def certain(store: DocumentStore) -> CertainStore:
    """As ``open_state`` opens it, but impatient."""
    again = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(TRIES),
        sleep=lambda _: None,
        reraise=True,
    )
    return CertainStore(store, again)
