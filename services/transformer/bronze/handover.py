"""What the transformer hands to dbt: per bronze model what is to be made of it, and the batches that a run merges.

Pure functions. dbt/dbt_project.yml says what is in the variable ``bronze``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.core.batch import Batch
from services.core.tables import Mode, Table
from services.transformer.bronze.batch_rows import Loaded, batch_rows, bronze_columns
from services.transformer.bronze.tables import BronzeTables
from services.transformer.bronze.view import bronze_view, definition
from services.transformer.quality.guard import Guard

MOST_CHARACTERS = 900_000
"""Of a statement, by the estimate below. BigQuery takes one of 1 MB (https://cloud.google.com/bigquery/quotas)."""

MOST_BATCHES = 100
"""Of a table in one statement: each is a table that it references, and BigQuery takes 1,000."""


def handed_over(
    table: Table,
    found: BronzeTables,
    described: str,
    snapshot: Batch | None,
    job_id: str,
    batches: Sequence[Loaded],
    *,
    delta: bool,
    guard: Guard | None = None,
) -> dict[str, Any]:
    """The entry of a table's bronze model in the variable ``bronze``.

    Args:
        table: the declared table.
        found: what BigQuery has of its bronze model.
        described: how the project describes the model, as text.
        snapshot: the newest snapshot in bronze. Without it, a batch that comes after a later snapshot could bring back
            rows which that snapshot found gone.
        job_id: id of the MERGE's job.
        batches: the batches to merge.
        delta: whether what waits in the delta is merged, too. With neither, the tables are only made.
        guard: what lets the MERGE run only if the batches' row tests pass; None when these are known.

    Raises:
        DataError: a batch has a column that bronze's cannot hold.
    """
    columns = bronze_columns(table, found.held.columns if found.held else {}, batches)
    keeps_delta = found.keeps_delta(table)
    view = bronze_view(table, columns, found.name, delta=keeps_delta)
    wanted = definition(view, described)
    return {
        "key": list(table.key),
        "columns": [{"name": name, "data_type": type_} for name, type_ in columns.items()],
        "deletes": table.deletes,
        "merged_snapshot": _version(snapshot) if snapshot else None,
        "job_id": job_id,
        "adopt": found.base is None and found.adopted is not None,
        "view": view if found.definition != wanted else None,
        "definition": wanted,
        "keeps_delta": keeps_delta,
        "delta": delta,
        "guard": {"before": guard.before, "after": guard.after} if guard else None,
        "batches": [_batch(table, columns, loaded) for loaded in batches],
    }


def view_definition(table: Table, found: BronzeTables, described: str, batches: Sequence[Loaded]) -> str:
    """The fingerprint that a table's view is to have when batches are in bronze."""
    columns = bronze_columns(table, found.held.columns if found.held else {}, batches)
    return definition(bronze_view(table, columns, found.name, delta=found.keeps_delta(table)), described)


def _batch(table: Table, columns: Mapping[str, str], loaded: Loaded) -> dict[str, Any]:
    snapshot = loaded.batch.mode is Mode.SNAPSHOT
    rows = batch_rows(table, columns, loaded)
    return {**_version(loaded.batch), "table": loaded.temp.id, "snapshot": snapshot, "rows": rows}


def _version(batch: Batch) -> dict[str, Any]:
    return {"batch_id": batch.id, "extracted_at": batch.extracted_at.isoformat()}


def characters(table: Table, batches: Sequence[Loaded]) -> int:
    """The most characters that a MERGE of these batches has: never fewer than dbt/macros/bronze.sql makes of them."""
    names = {column.name.lower(): column.name for column in table.landed_columns}
    for loaded in batches:
        names |= {name.lower(): name for name in loaded.temp.columns}
    widths = sum(len(name) for name in names.values())
    whole = 5_000 + sum(map(len, table.key)) * 8 + 9 * widths + 220 * len(names)
    return whole + sum(_characters_of_batch(widths, len(names), loaded) for loaded in batches)


def _characters_of_batch(widths: int, columns: int, loaded: Loaded) -> int:
    # A column is at its longest as ``cast(`name` as bignumeric) as `name`, ``; a character of the source's name as six.
    # A snapshot adds a comparison.
    return 2 * widths + 48 * columns + 6 * len(loaded.batch.source or "") + len(loaded.temp.id) + 1_700


def that_fit(table: Table, batches: Sequence[Loaded]) -> list[Loaded]:
    """The oldest of the batches that fit into one statement; at least one."""
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
