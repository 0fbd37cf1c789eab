"""By which way loaded batches come into bronze. Pure functions.

*Appended* to the delta: costs what the batches hold. *Merged* into the base, together with what waits in the delta (the
compaction): costs what the base holds. *Made*: base, delta or view are first made as they are to be; then the batches
follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.core.batch import Batch
from services.core.tables import Table
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, Loaded, bronze_columns
from services.transformer.bronze.shrinking import deletes
from services.transformer.bronze.tables import BronzeTables, Part


class Way(StrEnum):
    """What is done next for a table."""

    APPEND = "append"
    MERGE = "merge"
    MAKE = "make"


@dataclass(frozen=True)
class Choice:
    """A way, and why it is that one."""

    way: Way
    reason: str


def choose(
    table: Table,
    found: BronzeTables,
    definition: str,
    batches: Sequence[Loaded],
    snapshot: Batch | None,
    since: datetime | None,
    now: datetime,
) -> Choice:
    """The way that batches of a table go.

    Args:
        table: the declared table.
        found: what BigQuery has of its bronze model.
        definition: fingerprint that its view is to have.
        batches: loaded ones; none asks only whether what waits in the delta is to be merged.
        snapshot: the newest snapshot in bronze.
        since: when the first row that waits in the delta was appended.
        now: the time.
    """
    if reason := _why_merged(table, found, batches, snapshot, since, now):
        return Choice(Way.MERGE, reason)
    if reason := _why_made(table, found, definition, batches):
        return Choice(Way.MAKE, reason)
    return Choice(Way.APPEND, "the delta takes them")


def _why_merged(
    table: Table,
    found: BronzeTables,
    batches: Sequence[Loaded],
    snapshot: Batch | None,
    since: datetime | None,
    now: datetime,
) -> str | None:
    policy, base = table.compaction, found.held
    if not table.key:
        return "a table without a key holds one snapshot"
    if any(deletes(table, each.batch) for each in batches):
        return "a snapshot finds rows gone in the whole table"
    if snapshot is not None and table.deletes == "soft" and any(_is_older(each.batch, snapshot) for each in batches):
        return "a batch is older than a snapshot, which knows better what is deleted"
    if base is None or base.size < policy.min_base:
        return f"the base is smaller than {policy.min_base:,} bytes"
    waiting = (found.delta.size if found.delta else 0) + sum(each.temp.size for each in batches)
    if waiting > policy.max_share * base.size:
        return f"the delta would exceed {policy.max_share:.0%} of the base"
    if found.delta_rows and since is not None and now - since > policy.max_age:
        return f"rows have waited in the delta since {since:%Y-%m-%d %H:%M}"
    return None


def _why_made(table: Table, found: BronzeTables, definition: str, batches: Sequence[Loaded]) -> str | None:
    if found.base is None or found.delta is None:
        return "base or delta is not there yet"
    wanted = bronze_columns(table, found.base.columns, batches)
    for part in (found.base, found.delta):
        if lacking := _lacking(part, wanted):
            return f"{part.id} lacks {', '.join(lacking)}"
    return "the view is not as it is to be" if found.definition != definition else None


def _lacking(part: Part, wanted: dict[str, str]) -> list[str]:
    held = {name.lower() for name in part.columns}
    return [name for name in [*wanted, *ADDED_COLUMNS] if name.lower() not in held]


def _is_older(batch: Batch, snapshot: Batch) -> bool:
    return (batch.extracted_at, batch.id) < (snapshot.extracted_at, snapshot.id)
