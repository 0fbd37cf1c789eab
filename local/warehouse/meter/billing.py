"""Bytes processed and billed by BigQuery's rules of on-demand pricing.

- A query is billed the columns that it reads, whole: a filter saves nothing but partitions, a LIMIT nothing at all
  (https://cloud.google.com/bigquery/pricing#on_demand_pricing).
- INSERT, and a MERGE that only inserts: what is read (q). UPDATE, DELETE, any other MERGE: also all columns of the
  target, or of the partitions that are scanned (q + t)
  (https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#on-demand_query_size_calculation).
- DDL without a query is free, and so are load, copy and export jobs (https://cloud.google.com/bigquery/pricing#free).
- At least 10 MB per table that is referenced, and whole megabytes. A query that reads no bytes is free.
- INFORMATION_SCHEMA: 10 MB a view (https://cloud.google.com/bigquery/docs/information-schema-intro#pricing).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from local.googlesql.reads import Bound, Read, Reads

MEGABYTE = 1024 * 1024
LEAST_PER_TABLE = 10 * MEGABYTE

Bounds = Mapping[str, tuple[Bound, ...]]
Size = Callable[[str, frozenset[str] | None, Bounds], int]
"""Logical bytes of a table's columns (None: of all) in the partitions that the bounds leave."""


@dataclass(frozen=True)
class Bill:
    """What BigQuery bills for a statement."""

    processed: int = 0
    """Bytes, if no block of a clustered table is left out."""
    processed_least: int = 0
    """Bytes, if every block is left out that can be."""
    billed: int = 0
    """Bytes, for ``processed``."""
    tables: tuple[str, ...] = field(default=())
    """The tables that are referenced, project.dataset.table."""


def bill(
    reads: Reads, only_inserts: bool, size: Size, clustered_by: Callable[[str], str | None], metadata_views: int = 0
) -> Bill:
    """What a statement costs.

    Args:
        reads: what it reads of tables, views expanded.
        only_inserts: whether it adds rows, and changes none.
        size: asks for the bytes of a table's columns, as they are before the statement runs.
        clustered_by: the first column that a table is clustered by.
        metadata_views: views of INFORMATION_SCHEMA that it names.
    """
    processed: dict[str, int] = {}
    prunable: set[str] = set()
    for name, scans in _by_table(reads.scans).items():
        processed[name] = _bytes_read(name, scans, size)
        key = clustered_by(name)
        if key and all(key.lower() in _compared(scan) for scan in scans):
            prunable.add(name)
    if reads.target is not None and not only_inserts:
        name = reads.target.table
        processed[name] = processed.get(name, 0) + size(name, None, reads.target.bounds)
    total = sum(processed.values()) + metadata_views * LEAST_PER_TABLE
    least = sum(bytes_ for name, bytes_ in processed.items() if name not in prunable) + metadata_views * LEAST_PER_TABLE
    if not total:
        return Bill(tables=tuple(sorted(processed)))
    billed = sum(max(bytes_, LEAST_PER_TABLE) for bytes_ in processed.values()) + metadata_views * LEAST_PER_TABLE
    return Bill(total, least, -(-billed // MEGABYTE) * MEGABYTE, tuple(sorted(processed)))


def _by_table(scans: tuple[Read, ...]) -> dict[str, list[Read]]:
    found: dict[str, list[Read]] = defaultdict(list)
    for scan in scans:
        found[scan.table].append(scan)
    return found


def _bytes_read(table: str, scans: list[Read], size: Size) -> int:
    """Bytes of the columns that any of the scans reads; a table that is scanned twice is read once.

    Where scans leave out different partitions, each column is counted where the scan that reads most of it is.
    """
    columns = frozenset().union(*(scan.columns for scan in scans))
    return sum(
        max(size(table, frozenset((column,)), scan.bounds) for scan in scans if column in scan.columns)
        for column in columns
    )


def _compared(scan: Read) -> set[str]:
    return {name.lower() for name in (*scan.bounds, *scan.matched)}
