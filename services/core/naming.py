"""Names: batch ids, object paths, temp tables, job ids. Pure functions; the one place that knows their form.

business_case/landing/ingestion_dt=2026-11-22/installments_20261122T170000123456Z-1a2b3c4d.part-00000.parquet
business_case/landing/ingestion_dt=2026-11-22/installments_20261122T170000123456Z-1a2b3c4d.manifest.json
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from services.core import machine

BATCH_ID = r"\d{8}T\d{12}Z-[0-9a-f]{8}"
_MOST_NAME_BYTES = 990
_OBJECT = re.compile(
    rf"ingestion_dt=(?P<day>\d{{4}}-\d{{2}}-\d{{2}})/(?P<table>[a-z_][a-z0-9_]*?)_(?P<batch_id>{BATCH_ID})"
    r"\.(?:(?P<manifest>manifest\.json)|part-(?P<part>\d{5})(?:-\d+)?(?:-try\d+)?\.parquet)",
    re.ASCII,
)


def new_batch_id(at: datetime) -> str:
    """Make a batch id: sortable by time (UTC, microseconds), unique by 32 random bits."""
    return f"{at:%Y%m%dT%H%M%S%f}Z-{machine.token_hex(4)}"


def batch_time(batch_id: str) -> datetime | None:
    """The time that a batch id begins with; None when there is no such time."""
    try:
        return datetime.strptime(batch_id.split("Z")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def file_batch_id(bucket: str, object_name: str, generation: int, created_at: datetime) -> str:
    """Batch id of a file that was dropped into landing/ by hand: the same however often its event comes."""
    digest = hashlib.sha256(f"{bucket}/{object_name}#{generation}".encode()).hexdigest()[:8]
    return f"{created_at:%Y%m%dT%H%M%S%f}Z-{digest}"


def file_table(object_name: str, tables: Iterable[str]) -> str | None:
    """The table that a file in landing/ is for: ``<table>.parquet``, or ``<table>``, one of ``._-``, anything.

    Of several tables with such a name, the longest; None when there is none.
    """
    name = object_name.rsplit("/", 1)[-1]
    fitting = [table for table in tables if re.fullmatch(rf"{re.escape(table)}([._-].*)?\.parquet", name)]
    return max(fitting, key=len, default=None)


def batch_digest(batch_id: str) -> str:
    """Twelve hexadecimal digits that stand for a batch where a short name is needed."""
    return hashlib.sha256(batch_id.encode()).hexdigest()[:12]


def hashed_table(table: str, batch_id: str) -> str:
    """Name of a batch's own temp table, without the dataset."""
    return f"{table}__{batch_digest(batch_id)}"


def load_job_id(table: str, batch_id: str, attempt: int) -> str:
    """Client-chosen id of the load job of a batch's attempt (from 1): a repeated insert answers 409."""
    return f"credix-load-{table}-{batch_id}-{attempt}"


def stable_job_id(table: str, batch_id: str) -> str:
    """An id for the job that copies a batch over the stable table; another each time. It tells the batch."""
    return f"credix-stable-{table}-{batch_id}-{machine.token_hex(4)}"


def batch_of_stable_job(job_id: str) -> str:
    """The batch of a job that copies the stable table.

    Raises:
        ValueError: this is no such job's id.
    """
    found = re.fullmatch(rf"credix-stable-[a-z0-9_]+-(?P<batch_id>{BATCH_ID})-[0-9a-f]{{8}}", job_id)
    if found is None:
        raise ValueError(f"{job_id} is not the id of a job that copies a stable table")
    return found["batch_id"]


def _folder(prefix: str, batch_id: str) -> str:
    return f"{prefix}/ingestion_dt={batch_id[:4]}-{batch_id[4:6]}-{batch_id[6:8]}"


def part_object(prefix: str, table: str, batch_id: str, part: int, piece: int = 0, attempt: int = 1) -> str:
    """Object name of a Parquet part of a batch.

    Args:
        prefix: landing prefix.
        table: table.
        batch_id: batch.
        part: number of the part, from 0.
        piece: number of the piece, from 0, of a part that is too large for one object.
        attempt: which attempt at reading it this is, from 1; another attempt never writes over what one before wrote.
    """
    name = f"{part:05}{f'-{piece}' if piece else ''}{f'-try{attempt}' if attempt > 1 else ''}"
    return f"{_folder(prefix, batch_id)}/{table}_{batch_id}.part-{name}.parquet"


def manifest_object(prefix: str, table: str, batch_id: str) -> str:
    """Object name of a batch's manifest."""
    return f"{_folder(prefix, batch_id)}/{table}_{batch_id}.manifest.json"


def batch_objects_prefix(prefix: str, table: str, batch_id: str) -> str:
    """Prefix that all objects of a batch, and no others, start with."""
    return f"{_folder(prefix, batch_id)}/{table}_{batch_id}."


def fingerprints_object(prefix: str, table: str, batch_id: str) -> str:
    """Object name of the fingerprints that a batch keeps of what the next window reads again.

    Args:
        prefix: the fingerprints' prefix, which is no part of landing/.
        table: table.
        batch_id: batch.
    """
    return f"{fingerprints_prefix(prefix, table)}{batch_id}.parquet"


def fingerprints_prefix(prefix: str, table: str) -> str:
    """Prefix that the fingerprints of all batches of a table, and nothing else, start with."""
    return f"{prefix}/{table}/"


@dataclass(frozen=True)
class LandedObject:
    """What an object's name in landing/ says."""

    table: str
    batch_id: str
    part: int | None
    """Part number, or None for the manifest."""

    @property
    def is_manifest(self) -> bool:
        """Whether the object is a batch's commit marker."""
        return self.part is None


def parse_landed(prefix: str, object_name: str) -> LandedObject | None:
    """Read an object name in landing/; None when this pipeline does not make such names."""
    if not object_name.startswith(f"{prefix}/"):
        return None
    match = _OBJECT.fullmatch(object_name.removeprefix(f"{prefix}/"))
    if match is None or match["day"].replace("-", "") != match["batch_id"][:8]:
        return None
    return LandedObject(match["table"], match["batch_id"], None if match["manifest"] else int(match["part"]))


def mirrored(object_name: str, from_prefix: str, to_prefix: str) -> str:
    """Object name at the same place below another prefix.

    Raises:
        ValueError: the object is not below ``from_prefix``.
    """
    if not object_name.startswith(f"{from_prefix}/"):
        raise ValueError(f"{object_name} is not below {from_prefix}/")
    return _fitting(f"{to_prefix}/{object_name.removeprefix(f'{from_prefix}/')}")


def _fitting(object_name: str) -> str:
    """A name with room for ``~<generation>`` and ``.error.json``: longer ones are cut and get a hash.

    An object's name has at most 1,024 bytes (https://cloud.google.com/storage/docs/objects#naming).
    """
    encoded = object_name.encode()
    if len(encoded) <= _MOST_NAME_BYTES:
        return object_name
    return f"{encoded[:950].decode(errors='ignore')}~{hashlib.sha256(encoded).hexdigest()[:16]}"
