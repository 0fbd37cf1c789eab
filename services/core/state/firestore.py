"""The state on Google Cloud, or on Google's Firestore emulator (``FIRESTORE_EMULATOR_HOST``)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from services.core.state.store import Data, Document, DocumentChanged, DocumentExists

FORGET_AFTER = "forget_after"
"""Field of Firestore's own deletion (TTL): a timestamp, which Terraform names to it. Not a part of the content."""


class FirestoreStore:
    """Documents in Firestore, guarded by ``create()`` and ``last_update_time`` preconditions.

    No transactions: on a hot document they are slow or give up, while a precondition answers at once.
    Equality filters on several fields need no composite index
    (https://cloud.google.com/firestore/docs/query-data/index-overview).
    """

    def __init__(self, project: str, database: str, namespace: str) -> None:
        self._client = firestore.Client(project=project, database=database)
        self._namespace = namespace

    def _reference(self, collection: str, id: str) -> firestore.DocumentReference:
        return self._client.collection(f"{self._namespace}-{collection}").document(id)

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        """Create a document; raises DocumentExists."""
        kept = data if forget_after is None else {**data, FORGET_AFTER: forget_after}
        try:
            result = self._reference(collection, id).create(kept)
        except AlreadyExists as error:
            raise DocumentExists(f"{collection}/{id}") from error
        return Document(collection, id, data, result.update_time)

    def get(self, collection: str, id: str) -> Document | None:
        """Read a document, or None."""
        snapshot = self._reference(collection, id).get()
        return Document(collection, id, _content(snapshot), snapshot.update_time) if snapshot.exists else None

    def update(self, document: Document, data: Data) -> Document:
        """Replace a document that is still as it was read; raises DocumentChanged."""
        option = self._client.write_option(last_update_time=document.version)
        try:
            result = self._reference(document.collection, document.id).update(data, option=option)
        except (FailedPrecondition, NotFound) as error:
            raise DocumentChanged(f"{document.collection}/{document.id}") from error
        return Document(document.collection, document.id, {**document.data, **data}, result.update_time)

    def delete(self, document: Document) -> None:
        """Delete a document that is still as it was read; raises DocumentChanged."""
        option = self._client.write_option(last_update_time=document.version)
        try:
            self._reference(document.collection, document.id).delete(option=option)
        except (FailedPrecondition, NotFound) as error:
            raise DocumentChanged(f"{document.collection}/{document.id}") from error

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        """All documents whose fields equal these values, or those from an id on, ordered by id."""
        query: Any = self._client.collection(f"{self._namespace}-{collection}")
        for field, value in where.items():
            query = query.where(filter=FieldFilter(field, "==", value))
        if from_id:  # a range of ids needs no index of its own; Firestore scans them upwards only
            query = query.where(filter=FieldFilter("__name__", ">=", self._reference(collection, from_id)))
        found = [Document(collection, s.id, _content(s), s.update_time) for s in query.stream()]
        return sorted(found, key=lambda document: document.id)

    def close(self) -> None:
        """Close the channel."""
        self._client.close()  # type: ignore[no-untyped-call]


def _content(snapshot: Any) -> Data:
    data: Data = snapshot.to_dict() or {}
    return {name: value for name, value in data.items() if name != FORGET_AFTER}
