"""The state on Google Cloud, or on Google's Firestore emulator (``FIRESTORE_EMULATOR_HOST``)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InternalServerError,
    NotFound,
    ResourceExhausted,
    ServiceUnavailable,
    Unknown,
)
from google.api_core.retry import Retry, if_exception_type
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from services.core.errors import TransientError
from services.core.state.store import Data, Document, DocumentChanged, DocumentExists

FORGET_AFTER = "forget_after"
"""Field of Firestore's own deletion (TTL): a timestamp, which Terraform names to it. Not a part of the content."""

_PASSING = (
    Aborted,  # contention
    Cancelled,
    DeadlineExceeded,
    InternalServerError,
    ResourceExhausted,
    ServiceUnavailable,
    Unknown,
)
"""The same call may work later. A write that ends with one of these may have been done."""

_ONCE = Retry(predicate=if_exception_type())
"""The client repeats nothing by itself: who repeats a write must recognise what the first try has done."""

_CALL_SECONDS = 10.0
_QUERY_SECONDS = 60.0
"""For one try."""


class FirestoreStore:
    """Documents in Firestore, guarded by ``create()`` and ``last_update_time`` preconditions.

    No transactions: on a hot document they are slow or give up, while a precondition answers at once.
    Equality filters on several fields need no composite index
    (https://cloud.google.com/firestore/docs/query-data/index-overview).

    Every call is tried once; ``CertainStore`` tries again. Raises TransientError where that may help: a write may have
    been done then.
    """

    def __init__(self, project: str, database: str, namespace: str) -> None:
        self._client = firestore.Client(project=project, database=database)
        self._namespace = namespace

    def _reference(self, collection: str, id: str) -> firestore.DocumentReference:
        return self._client.collection(f"{self._namespace}-{collection}").document(id)

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        """Create a document; raises DocumentExists."""
        kept = data if forget_after is None else {**data, FORGET_AFTER: forget_after}
        with _transient(f"{collection}/{id}"):
            try:
                result = self._reference(collection, id).create(kept, retry=_ONCE, timeout=_CALL_SECONDS)
            except AlreadyExists as error:
                raise DocumentExists(f"{collection}/{id}") from error
        return Document(collection, id, data, result.update_time)

    def get(self, collection: str, id: str) -> Document | None:
        """Read a document, or None."""
        with _transient(f"{collection}/{id}"):
            snapshot = self._reference(collection, id).get(retry=_ONCE, timeout=_CALL_SECONDS)
        return Document(collection, id, _content(snapshot), snapshot.update_time) if snapshot.exists else None

    def update(self, document: Document, data: Data) -> Document:
        """Replace a document that is still as it was read; raises DocumentChanged."""
        option = self._client.write_option(last_update_time=document.version)
        reference = self._reference(document.collection, document.id)
        with _transient(f"{document.collection}/{document.id}"):
            try:
                result = reference.update(data, option=option, retry=_ONCE, timeout=_CALL_SECONDS)
            except (FailedPrecondition, NotFound) as error:
                raise DocumentChanged(f"{document.collection}/{document.id}") from error
        return Document(document.collection, document.id, {**document.data, **data}, result.update_time)

    def delete(self, document: Document) -> None:
        """Delete a document that is still as it was read, or is gone already; raises DocumentChanged."""
        option = self._client.write_option(last_update_time=document.version)
        reference = self._reference(document.collection, document.id)
        with _transient(f"{document.collection}/{document.id}"):
            try:
                reference.delete(option=option, retry=_ONCE, timeout=_CALL_SECONDS)
            except (FailedPrecondition, NotFound) as error:
                if self.get(document.collection, document.id) is not None:
                    raise DocumentChanged(f"{document.collection}/{document.id}") from error

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        """All documents whose fields equal these values, or those from an id on, ordered by id."""
        query: Any = self._client.collection(f"{self._namespace}-{collection}")
        for field, value in where.items():
            query = query.where(filter=FieldFilter(field, "==", value))
        if from_id:  # a range of ids needs no index of its own; Firestore scans them upwards only
            query = query.where(filter=FieldFilter("__name__", ">=", self._reference(collection, from_id)))
        with _transient(collection):
            snapshots = list(query.stream(retry=_ONCE, timeout=_QUERY_SECONDS))
        found = [Document(collection, s.id, _content(s), s.update_time) for s in snapshots]
        return sorted(found, key=lambda document: document.id)

    def close(self) -> None:
        """Close the channel."""
        self._client.close()  # type: ignore[no-untyped-call]


@contextmanager
def _transient(what: str) -> Iterator[None]:
    try:
        yield
    except _PASSING as error:
        raise TransientError(f"Firestore, {what}: {type(error).__name__}: {error}") from error


def _content(snapshot: Any) -> Data:
    data: Data = snapshot.to_dict() or {}
    return {name: value for name, value in data.items() if name != FORGET_AFTER}
