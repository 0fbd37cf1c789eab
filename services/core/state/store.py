"""The document store behind the state: create-if-absent, update-if-unchanged, and nothing that waits on a lock."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from services.core.errors import PipelineError

Data = dict[str, Any]
"""A document's content: JSON values only, so that every implementation keeps the same."""


@dataclass(frozen=True)
class Document:
    """A document as it was read or written."""

    collection: str
    id: str
    data: Data
    version: Any
    """Opaque; changes with every write."""


class DocumentExists(PipelineError):
    """create: a document of that id is there already."""


class DocumentChanged(PipelineError):
    """update, delete: the document has changed since it was read; update: or is gone."""


class DocumentStore(Protocol):
    """Small documents in collections. Every method is one atomic step, safe between threads and processes.

    Every method raises TransientError when the store does not answer; a write may have been done then.
    """

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        """Create a document; raises DocumentExists.

        Args:
            collection: the collection.
            id: the document's id.
            data: its content.
            forget_after: from then on the store may delete it by itself; never before.
        """

    def get(self, collection: str, id: str) -> Document | None:
        """Read a document, or None."""

    def update(self, document: Document, data: Data) -> Document:
        """Replace a document that is still as it was read; raises DocumentChanged.

        ``data`` has the same top-level fields as before or more: a field is never removed.
        """

    def delete(self, document: Document) -> None:
        """Delete a document that is still as it was read, or is gone already; raises DocumentChanged.

        Nobody can tell who deleted a document, and a deletion is repeated when its answer was lost.
        """

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        """All documents whose fields equal these values, ordered by id; strongly consistent.

        Args:
            collection: the collection.
            where: fields and their values.
            from_id: only documents with this id or a later one.
        """

    def close(self) -> None:
        """Release connections."""
