"""A bucket, whose notifications of manifests can be delivered any number of times."""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.core.errors import DataError
from services.core.settings import LoaderSettings
from services.core.storage import Copied, StoredObject

BUCKET = str(LoaderSettings.model_fields["landing_bucket"].default)
LANDING = str(LoaderSettings.model_fields["landing_prefix"].default)
DAMAGED = b"PAR1 this is no Parquet PAR1"


@dataclass
class Bucket:
    """Objects; ``manifests`` are the notifications that can be delivered any number of times."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: list[str] = field(default_factory=list)

    def create(self, bucket: str, name: str, data: io.BytesIO, *_: object) -> StoredObject:
        if self.objects.setdefault((bucket, name), data.getvalue()) != data.getvalue():
            raise DataError("object_differs", name)
        if name.endswith(".manifest.json"):
            self.manifests.append(name)
        return self._described(bucket, name)

    def replace(self, bucket: str, name: str, data: bytes, *_: object) -> StoredObject:
        self.objects[bucket, name] = data
        return self._described(bucket, name)

    def _described(self, bucket: str, name: str) -> StoredObject:
        content = self.objects[bucket, name]
        return StoredObject(bucket, name, 1, len(content), str(zlib.crc32(content)), datetime.now(UTC))

    def read(self, bucket: str, name: str) -> bytes | None:
        return self.objects.get((bucket, name))

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        return self._described(bucket, name) if (bucket, name) in self.objects else None

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        return [self._described(*place) for place in sorted(self.objects) if place[1].startswith(prefix)]

    def copy(self, stored: StoredObject, to_bucket: str, to_name: str) -> Copied:
        """As ``ObjectStore.copy``."""
        content = self.objects.get((stored.bucket, stored.name))
        if content is None:
            return "gone"
        return "there" if self.objects.setdefault((to_bucket, to_name), content) == content else "taken"

    def delete(self, stored: StoredObject) -> bool:
        """As ``ObjectStore.delete``."""
        return self.objects.pop((stored.bucket, stored.name), None) is not None

    def landed(self, prefix: str) -> Sequence[str]:
        return [name for _, name in sorted(self.objects) if name.startswith(prefix)]
