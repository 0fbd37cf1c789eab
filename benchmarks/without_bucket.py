"""The extractor without a bucket: parts are finished, checked and dropped, so that the emulator's work is not measured.

On Google Cloud the bucket is another machine; the local one runs on the same cores as the extractor and the source.
"""

import base64
import io
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import google_crc32c

from services.core import gcs
from services.core.storage import StoredObject
from services.extractor import __main__ as extractor


class Nowhere(gcs.GcsObjectStore):
    """A bucket that keeps nothing, and says what the real one would."""

    def create(
        self, bucket: str, name: str, data: io.BytesIO, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        """Take an object's checksum, as the client does, and drop it."""
        content = data.getbuffer()
        checksum: bytes = google_crc32c.Checksum(bytes(content)).digest()  # type: ignore[no-untyped-call]
        return StoredObject(bucket, name, 1, len(content), base64.b64encode(checksum).decode(), datetime.now(UTC))

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Nothing is there."""
        return []


if __name__ == "__main__":
    gcs.GcsObjectStore = Nowhere  # type: ignore[misc]
    sys.exit(extractor.main(sys.argv[1:]))
