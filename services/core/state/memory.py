"""What is remembered of a table's source and declaration: what its watermark rests on.

One document per table. For every batch that still counts it has what the extractor saw when it planned it: how long a
batch counts, ``services.core.chain`` says. Only the extractor writes it, under the table's lease.
"""

import hashlib
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.core.errors import TransientError
from services.core.state.store import DocumentChanged, DocumentExists, DocumentStore

_COLLECTION = "sources"
_TRIES = 5


class _Remembered(BaseModel):
    model_config = ConfigDict(frozen=True)


class ServerSeen(_Remembered):
    """The server, as far as it says who it is; None where it does not."""

    system: str | None = Field(default=None, description="The cluster's system identifier.")
    database: int = Field(default=0, description="Oid of the database.")
    timeline: int | None = Field(default=None, description="Of its WAL: another one after a failover or a recovery.")
    position: int | None = Field(default=None, description="Bytes of WAL written so far; on a primary only.")


class CursorSeen(_Remembered):
    """The cursor, as declared and as found."""

    expression: str
    type: str = Field(description="As format_type() writes it.")
    time_zone: str | None
    lag: float = Field(description="Seconds, what its values are rounded to included.")
    lookback: float = Field(description="Seconds.")


class ColumnSeen(_Remembered):
    """A column that lands."""

    number: int = Field(description="pg_attribute.attnum; 0 when the source has it no more.")
    source: str = Field(description="Its name in the source.")
    source_type: str | None = Field(description="As format_type() writes it.")
    type: str = Field(description="BigQuery type.")
    policy: str = Field(description="on_unrepresentable.")
    mask: str | None = Field(description="The mask, with the characters that it leaves.")


class Seen(_Remembered):
    """What the extractor saw of a table's source and declaration when it planned a batch."""

    server: ServerSeen
    relation: int = Field(description="Oid.")
    members: dict[str, str] = Field(
        description="By oid, the relations that rows come from: the number of their file, or the digest of a view."
    )
    subscriptions: list[str] = Field(description="What feeds them from another server, with where its copy ended.")
    last_column: int = Field(description="The highest pg_attribute.attnum of the relation.")
    key: list[str]
    mode: str
    cursor: CursorSeen | None
    safety_lag: float = Field(description="Seconds that were kept from what cannot be seen; 0 where all can be.")
    columns: dict[str, ColumnSeen] = Field(description="By their name in BigQuery.")
    mask_digits: str | None = Field(description="Eight digits that change with EXTRACT_MASK_SECRET; None if not used.")


class _Entry(_Remembered):
    seen: str = Field(description="Digest of what was seen, which most batches share.")
    position: int | None


class _Memory(_Remembered):
    """The document."""

    seen: dict[str, Seen] = Field(default_factory=dict, description="By digest; without the WAL's position.")
    batches: dict[str, _Entry] = Field(default_factory=dict)


def recalled(store: DocumentStore, table: str, batch_id: str | None) -> Seen | None:
    """What was seen when a batch was planned; None when nothing is remembered of it."""
    document = store.get(_COLLECTION, table)
    if document is None or batch_id is None:
        return None
    memory = _Memory.model_validate(document.data)
    entry = memory.batches.get(batch_id)
    if entry is None:
        return None
    seen = memory.seen[entry.seen]
    return seen.model_copy(update={"server": seen.server.model_copy(update={"position": entry.position})})


def remember(store: DocumentStore, table: str, batch_id: str, seen: Seen, counting: Collection[str]) -> None:
    """Note what was seen when a batch was planned, before the batch itself is noted.

    Args:
        store: the state's store.
        table: the table.
        batch_id: the batch.
        seen: what was seen.
        counting: batches that still count; the others are forgotten.
    """
    position = seen.server.position
    common = seen.model_copy(update={"server": seen.server.model_copy(update={"position": None})})
    digest = hashlib.sha256(common.model_dump_json().encode()).hexdigest()[:16]
    for _ in range(_TRIES):
        document = store.get(_COLLECTION, table)
        memory = _Memory.model_validate(document.data) if document else _Memory()
        batches = {id_: entry for id_, entry in memory.batches.items() if id_ in counting}
        batches[batch_id] = _Entry(seen=digest, position=position)
        known = {**memory.seen, digest: common}
        used = {entry.seen for entry in batches.values()}
        new = _Memory(seen={id_: what for id_, what in known.items() if id_ in used}, batches=batches)
        data: dict[str, Any] = new.model_dump(mode="json")
        try:
            if document is None:
                store.create(_COLLECTION, table, data)
            elif data != document.data:
                store.update(document, data)
        except (DocumentExists, DocumentChanged):
            continue
        return
    raise TransientError(f"table {table}: what is remembered of it changed {_TRIES} times while it was updated")
