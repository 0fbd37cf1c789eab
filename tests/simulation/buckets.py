"""Buckets in memory, with generations, and a notification of every object that is complete."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import google_crc32c

from services.core.errors import DataError, TransientError
from services.core.events import ObjectFinalized
from services.core.storage import Copied, StoredObject


@dataclass(frozen=True)
class Content:
    """An object as it lies there."""

    described: StoredObject
    bytes: bytes


class MemoryBuckets:
    """What ``ObjectStore`` promises, for all buckets of one process."""

    def __init__(self, now: Callable[[], datetime], finalized: Callable[[ObjectFinalized], object]) -> None:
        """Begin with nothing.

        Args:
            now: the buckets' time.
            finalized: takes the notification of every object that is complete.
        """
        self._now, self._finalized = now, finalized
        self._held: dict[tuple[str, str], Content] = {}
        self._last = 0

    def create(
        self, bucket: str, name: str, data: io.BytesIO, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        """Write an object that is not there yet; the same content again is no error, other content is a DataError."""
        held, content = self._held.get((bucket, name)), data.getvalue()
        if held is None:
            return self._put(bucket, name, content)
        if held.bytes != content:
            raise DataError("object_exists", f"gs://{bucket}/{name} exists with other content", object_name=name)
        return held.described

    def replace(
        self, bucket: str, name: str, data: bytes, content_type: str, cache_control: str | None = None
    ) -> StoredObject:
        """Write an object whether it is there or not."""
        return self._put(bucket, name, data)

    def read(self, bucket: str, name: str) -> bytes | None:
        """An object's content, or None."""
        held = self._held.get((bucket, name))
        return held.bytes if held else None

    def open(self, stored: StoredObject) -> BinaryIO:
        """An object's content.

        Raises:
            TransientError: it is gone, or another generation of it is there.
        """
        held = self._held.get((stored.bucket, stored.name))
        if held is None or held.described.generation != stored.generation:
            raise TransientError(f"gs://{stored.bucket}/{stored.name}#{stored.generation} is no longer there")
        return io.BytesIO(held.bytes)

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        """An object's description, or None."""
        held = self._held.get((bucket, name))
        return held.described if held else None

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        """The objects below a prefix, by name."""
        places = sorted(place for place in self._held if place[0] == bucket and place[1].startswith(prefix))
        return [self._held[place].described for place in places]

    def copy(self, stored: StoredObject, to_bucket: str, to_name: str) -> Copied:
        """Copy this generation of an object to a name that is free, or has the same content already."""
        held = self._held.get((stored.bucket, stored.name))
        if held is None or held.described.generation != stored.generation:
            return "gone"
        there = self._held.get((to_bucket, to_name))
        if there is not None:
            return "there" if there.bytes == held.bytes else "taken"
        self._put(to_bucket, to_name, held.bytes)
        return "there"

    def delete(self, stored: StoredObject) -> bool:
        """Delete this generation of an object; False when it is gone, or another one is in its place."""
        held = self._held.get((stored.bucket, stored.name))
        if held is None or held.described.generation != stored.generation:
            return False
        del self._held[stored.bucket, stored.name]
        return True

    def _put(self, bucket: str, name: str, content: bytes) -> StoredObject:
        self._last += 1
        described = StoredObject(bucket, name, self._last, len(content), checksum(content), self._now())
        self._held[bucket, name] = Content(described, content)
        self._finalized(ObjectFinalized(bucket, name, self._last))
        return described


def checksum(content: bytes) -> str:
    """CRC32C in base64, as Cloud Storage gives it."""
    return base64.b64encode(int(google_crc32c.value(content)).to_bytes(4, "big")).decode()
