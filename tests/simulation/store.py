"""The state's documents, in memory: each method one atomic step, as every ``DocumentStore`` promises."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.core.state.store import Data, Document, DocumentChanged, DocumentExists

_JUDGED = frozenset({"batches", "tables"})


class MemoryStore:
    """Documents of one process. Versions come from one counter, so that none comes again."""

    def __init__(self) -> None:
        self._documents: dict[str, dict[str, tuple[int, Data]]] = {}
        self.changes = 0
        """How many writes there were."""
        self.judged = 0
        """How many writes there were of batches, and of how far tables are."""

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        """Create a document; raises DocumentExists."""
        if id in self._documents.get(collection, {}):
            raise DocumentExists(f"{collection}/{id}")
        return self._written(collection, id, dict(data))

    def get(self, collection: str, id: str) -> Document | None:
        """Read a document, or None."""
        found = self._documents.get(collection, {}).get(id)
        return Document(collection, id, dict(found[1]), found[0]) if found else None

    def update(self, document: Document, data: Data) -> Document:
        """Replace a document that is still as it was read; raises DocumentChanged."""
        found = self._documents.get(document.collection, {}).get(document.id)
        if found is None or found[0] != document.version:
            raise DocumentChanged(f"{document.collection}/{document.id}")
        return self._written(document.collection, document.id, found[1] | data)

    def delete(self, document: Document) -> None:
        """Delete a document that is still as it was read, or is gone already; raises DocumentChanged."""
        found = self._documents.get(document.collection, {}).get(document.id)
        if found is None:
            return
        if found[0] != document.version:
            raise DocumentChanged(f"{document.collection}/{document.id}")
        del self._documents[document.collection][document.id]
        self.changes += 1
        self.judged += document.collection in _JUDGED

    def query(self, collection: str, where: Mapping[str, Any], from_id: str = "") -> list[Document]:
        """All documents whose fields equal these values, or those from an id on, ordered by id."""
        wanted = where.items()
        return [
            Document(collection, id, dict(data), version)
            for id, (version, data) in sorted(self._documents.get(collection, {}).items())
            if id >= from_id and wanted <= data.items()
        ]

    def close(self) -> None:
        """Nothing to release."""

    def _written(self, collection: str, id: str, data: Data) -> Document:
        self.changes += 1
        self.judged += collection in _JUDGED
        self._documents.setdefault(collection, {})[id] = (self.changes, data)
        return Document(collection, id, dict(data), self.changes)
