"""What the transformer hands to dbt: per bronze model the declared table, and the batches that a run merges.

Pure functions. dbt/dbt_project.yml says what is in the variable ``bronze``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from services.core.batch import Batch
from services.core.tables import EXTRACTED_AT, Mode, Table
from services.transformer.batch_rows import Loaded

MOST_CHARACTERS = 900_000
"""Of a MERGE, by the estimate below. BigQuery takes a statement of 1 MB (https://cloud.google.com/bigquery/quotas)."""

MOST_BATCHES = 100
"""Of a table in one MERGE: each is a table that the statement references, and BigQuery takes 1,000."""


def handed_over(table: Table, snapshot: Batch | None, job_id: str, batches: Iterable[Loaded]) -> dict[str, Any]:
    """The entry of a table's bronze model in the variable ``bronze``.

    Args:
        table: the declared table.
        snapshot: the newest snapshot in bronze. Without it, a batch that comes after a later snapshot could bring back
            rows which that snapshot found gone.
        job_id: id of the MERGE's job.
        batches: the batches to merge; none to have the table made only.
    """
    merged = {"batch_id": snapshot.id, "extracted_at": snapshot.extracted_at.isoformat()} if snapshot else None
    return {
        "key": list(table.key),
        "columns": [{"name": column.name, "data_type": column.type.value} for column in table.landed_columns],
        "deletes": table.deletes,
        "merged_snapshot": merged,
        "job_id": job_id,
        "batches": [_batch(table, loaded) for loaded in batches],
    }


def _batch(table: Table, loaded: Loaded) -> dict[str, Any]:
    batch, columns = loaded.batch, loaded.temp.columns
    known = {name.lower() for name in columns}
    # A file that a person dropped may bring deleted rows back as they were; a manifest of nobody deletes nothing.
    says_deleted = table.deleted_at is not None and table.deleted_at.lower() in known
    trusted = batch.arrived_at is None or batch.from_file
    return {
        "table": loaded.temp.id,
        "batch_id": batch.id,
        "extracted_at": batch.extracted_at.isoformat(),
        "latest": batch.arrived_at.isoformat() if batch.arrived_at else None,
        "source": batch.source or table.source,
        "snapshot": batch.mode is Mode.SNAPSHOT,
        "columns": [{"name": name, "data_type": type_} for name, type_ in columns.items() if name != EXTRACTED_AT.name],
        "deleted_at": table.deleted_at if says_deleted and trusted else None,
    }


def characters(table: Table, batches: Sequence[Loaded]) -> int:
    """The most characters that a MERGE of these batches has: never fewer than dbt/macros/bronze.sql makes of them."""
    names = {column.name.lower(): column.name for column in table.landed_columns}
    for loaded in batches:
        names |= {name.lower(): name for name in loaded.temp.columns}
    widths = sum(len(name) for name in names.values())
    whole = 5_000 + sum(map(len, table.key)) * 8 + 8 * widths + 200 * len(names)
    return whole + sum(_characters_of_batch(widths, len(names), loaded) for loaded in batches)


def _characters_of_batch(widths: int, columns: int, loaded: Loaded) -> int:
    # A column is at its longest as `cast(null as bignumeric), ` or `cast(`name` as bignumeric), `; a character of the
    # source's name as six. A snapshot adds a comparison.
    return widths + 40 * columns + 6 * len(loaded.batch.source or "") + len(loaded.temp.id) + 1_500


def that_fit(table: Table, batches: Sequence[Loaded]) -> list[Loaded]:
    """The oldest of the batches that fit into one MERGE; at least one."""
    chosen: list[Loaded] = []
    for loaded in batches[:MOST_BATCHES]:
        if chosen and characters(table, [*chosen, loaded]) > MOST_CHARACTERS:
            break
        chosen.append(loaded)
    return chosen


def halves(batches: Sequence[Loaded]) -> list[list[Loaded]]:
    """The batches in two halves, the older first; none of a single batch."""
    middle = len(batches) // 2
    return [list(half) for half in (batches[:middle], batches[middle:]) if half] if middle else []
