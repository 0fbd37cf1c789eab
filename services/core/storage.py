"""Objects in buckets: create once, read, list, copy where nothing is, delete one generation."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol


@dataclass(frozen=True)
class StoredObject:
    """An object as the bucket describes it; ``bucket/name#generation`` is its identity."""

    bucket: str
    name: str
    generation: int
    size: int
    """Bytes."""
    crc32c: str
    """Base64."""
    created_at: datetime
    """UTC."""


Copied = Literal["there", "taken", "gone"]
"""How a copy ended: the object is there; another one is, and stays; this generation of the source is gone."""


class ObjectStore(Protocol):
    """What the pipeline needs of a bucket service."""

    def create(
        self, bucket: str, name: str, data: io.BytesIO, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        """Write an object that is not there yet; the same content again is no error, other content is a DataError."""

    def replace(
        self, bucket: str, name: str, data: bytes, content_type: str, cache_control: str | None = None
    ) -> StoredObject:
        """Write an object whether it is there or not.

        Without ``cache_control`` a public object may be shown for an hour after it was replaced
        (https://cloud.google.com/storage/docs/metadata#cache-control).
        """

    def read(self, bucket: str, name: str) -> bytes | None:
        """An object's content, or None."""

    def open(self, stored: StoredObject) -> BinaryIO:
        """An object's content, of which only what is asked for is fetched.

        Raises:
            TransientError: it is gone, or another generation of it is there; that one has an event of its own.
        """

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        """An object's description, or None."""

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        """The objects below a prefix, by name."""

    def copy(self, stored: StoredObject, to_bucket: str, to_name: str) -> Copied:
        """Copy this generation of an object to a name that is free, or has the same content already.

        Harmless however late it is sent: it never writes over another object.
        """

    def delete(self, stored: StoredObject) -> bool:
        """Delete this generation of an object; False when it is gone, or another one is in its place."""
