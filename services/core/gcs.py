"""Google Cloud Storage as the pipeline's buckets; apart, because importing its client takes a quarter of a second."""

import base64
import io
from collections.abc import Mapping
from typing import BinaryIO, cast

import google_crc32c
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.api_core.retry import Retry
from google.cloud.storage import Blob, Client
from google.cloud.storage.retry import DEFAULT_RETRY

from services.core.errors import DataError, TransientError
from services.core.storage import Copied, StoredObject

_UPLOAD_BYTES = 8 * 1024 * 1024
"""What the client copies of an object at a time while it sends it."""

_REQUEST_SECONDS = 60.0
"""For Cloud Storage to answer one request; Google's own default."""

_RANGE_BYTES = 1024 * 1024
"""What is fetched at a time of an object that is read in places."""

_TRIES = 5
"""How often a copy looks again at a name that another process takes or frees in the same moment."""


class GcsObjectStore:
    """Google Cloud Storage, or an emulator through ``STORAGE_EMULATOR_HOST``."""

    def __init__(self, project: str, retry_seconds: float | None = None) -> None:
        """Open it; nobody is asked yet.

        Args:
            project: Google Cloud project.
            retry_seconds: how long a request is repeated while the bucket is away; two minutes if not said, for
                whoever would have to begin anew, as an extraction would. Shorter for whoever is asked again anyhow,
                and has to say what is wrong.
        """
        self._client = Client(project=project)
        self._retry = DEFAULT_RETRY if retry_seconds is None else DEFAULT_RETRY.with_timeout(retry_seconds)
        self._seconds = _REQUEST_SECONDS if retry_seconds is None else min(_REQUEST_SECONDS, retry_seconds)

    def create(
        self, bucket: str, name: str, data: io.BytesIO, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        """Write an object that is not there yet; the same content again is no error, other content is a DataError."""
        blob = self._client.bucket(bucket).blob(name, chunk_size=_UPLOAD_BYTES)
        blob.metadata = dict(metadata or {})
        try:
            blob.upload_from_file(
                data,
                rewind=True,
                content_type=content_type,
                if_generation_match=0,
                checksum="crc32c",
                retry=self._retry,
            )
        except PreconditionFailed:
            # Either a retry whose first answer was lost, or somebody else's object.
            found = self._client.bucket(bucket).get_blob(name, retry=self._retry, timeout=self._seconds)
            # Compared by its description: somebody else's object may be of any size.
            if found is None or (found.size, found.crc32c) != (data.getbuffer().nbytes, _crc32c(data)):
                raise DataError(
                    "object_exists", f"gs://{bucket}/{name} exists with other content", object_name=name
                ) from None
            return _described(found)
        return _described(blob)

    def replace(
        self, bucket: str, name: str, data: bytes, content_type: str, cache_control: str | None = None
    ) -> StoredObject:
        """Write an object whether it is there or not."""
        blob = self._client.bucket(bucket).blob(name)
        blob.cache_control = cache_control
        blob.upload_from_string(data, content_type=content_type, checksum="crc32c", retry=self._retry)
        return _described(blob)

    def read(self, bucket: str, name: str) -> bytes | None:
        """An object's content, or None."""
        try:
            blob = self._client.bucket(bucket).blob(name)
            content: bytes = blob.download_as_bytes(retry=self._retry, timeout=self._seconds)
        except NotFound:
            return None
        return content

    def open(self, stored: StoredObject) -> BinaryIO:
        """An object's content, of which only what is asked for is fetched."""
        blob = self._client.bucket(stored.bucket).get_blob(stored.name, retry=self._retry, timeout=self._seconds)
        if blob is None or int(blob.generation) != stored.generation:
            raise TransientError(f"gs://{stored.bucket}/{stored.name}#{stored.generation} is no longer there")
        return cast(BinaryIO, blob.open("rb", chunk_size=_RANGE_BYTES, retry=self._retry))

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        """An object's description, or None."""
        blob = self._client.bucket(bucket).get_blob(name, retry=self._retry, timeout=self._seconds)
        return _described(blob) if blob else None

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        """The objects below a prefix, by name."""
        found = self._client.list_blobs(bucket, prefix=prefix, retry=self._retry, timeout=self._seconds)
        return [_described(blob) for blob in found]

    def copy(self, stored: StoredObject, to_bucket: str, to_name: str) -> Copied:
        """Copy this generation of an object to a name that is free, or has the same content already.

        The rewrite is sent with "only if nothing is there", so that one which arrives late cannot write over what was
        put there meanwhile.

        Raises:
            TransientError: others took and freed the name all the time.
        """
        source = self._client.bucket(stored.bucket).get_blob(stored.name, retry=self._retry, timeout=self._seconds)
        if source is None or int(source.generation) != stored.generation:
            return "gone"
        bucket = self._client.bucket(to_bucket)
        for _ in range(_TRIES):
            there = bucket.get_blob(to_name, retry=self._retry, timeout=self._seconds)
            if there is not None:
                return "there" if (there.size, there.crc32c) == (stored.size, stored.crc32c) else "taken"
            try:
                _rewrite(source, bucket.blob(to_name), self._retry)
            except NotFound:
                return "gone"  # another handler of the same batch was faster
            except PreconditionFailed:
                continue  # another process has put an object there: look at it
        raise TransientError(f"gs://{to_bucket}/{to_name} was taken and freed {_TRIES} times by others")

    def delete(self, stored: StoredObject) -> bool:
        """Delete this generation of an object; False when it is gone, or another one is in its place."""
        try:
            self._client.bucket(stored.bucket).delete_blob(
                stored.name, if_generation_match=stored.generation, retry=self._retry
            )
        except (NotFound, PreconditionFailed):
            return False
        return True


def _rewrite(source: Blob, target: Blob, retry: Retry) -> None:
    """Copy inside Cloud Storage, of this generation of the source, to a name that has no object.

    Raises:
        NotFound: the source is gone.
        PreconditionFailed: the name has an object.
    """
    token = None
    while True:
        token, _, _ = target.rewrite(source, token=token, if_generation_match=0, retry=retry)
        if token is None:
            return


def _crc32c(data: io.BytesIO) -> str:
    """Base64, as Cloud Storage gives it."""
    return base64.b64encode(int(google_crc32c.value(data.getvalue())).to_bytes(4, "big")).decode()


def _described(blob: Blob) -> StoredObject:
    return StoredObject(
        blob.bucket.name, blob.name, int(blob.generation), int(blob.size), str(blob.crc32c), blob.time_created
    )
