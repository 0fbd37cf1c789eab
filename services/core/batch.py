"""The batch: its life as data and pure transitions, and its manifest.

extracting ──► landed ──► loaded ──► merged        a batch is open until the watermark has reached its high
     │            │          │
     └────────────┴──────────┴──► failed
"""

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core.tables import ColumnType, Mode, Table
from services.core.window import Window


class BatchState(StrEnum):
    """Where a batch is in its life."""

    EXTRACTING = "extracting"
    LANDED = "landed"
    LOADED = "loaded"
    MERGED = "merged"
    FAILED = "failed"


NEXT: dict[BatchState, frozenset[BatchState]] = {
    BatchState.EXTRACTING: frozenset({BatchState.LANDED, BatchState.LOADED, BatchState.FAILED}),
    BatchState.LANDED: frozenset({BatchState.LOADED, BatchState.FAILED}),
    BatchState.LOADED: frozenset({BatchState.MERGED, BatchState.FAILED}),
    BatchState.MERGED: frozenset(),
    BatchState.FAILED: frozenset(),
}
"""Allowed transitions. extracting → loaded: the manifest was seen before the extractor could note it as landed."""


class Part(BaseModel):
    """One Parquet object of a batch."""

    model_config = ConfigDict(frozen=True)

    object_name: str
    generation: int
    rows: int
    size: int = Field(description="Bytes.")
    crc32c: str = Field(description="Base64, as Cloud Storage gives it.")


class ManifestColumn(BaseModel):
    """One column as it was written."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: ColumnType
    required: bool = False
    source_type: str | None = Field(default=None, description="PostgreSQL's type; None when the source has it no more.")
    unrepresentable: int = Field(default=0, description="Values that the type could not hold, by the column's policy.")


class Manifest(BaseModel):
    """A batch's commit marker: everything the loader needs, written after the last part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    batch_id: str
    run_id: str
    table: str
    source: str
    mode: Mode
    window: Window
    extracted_at: AwareDatetime
    rows: int
    columns: list[ManifestColumn]
    schema_fingerprint: str
    drift: list[str] = Field(default_factory=list, description="How the source differed from the declared columns.")
    parts: list[Part]

    @classmethod
    def of(cls, table: Table, batch: "Batch", columns: list[ManifestColumn], parts: list[Part]) -> "Manifest":
        """The manifest of a batch whose parts have all landed."""
        return cls(
            batch_id=batch.id,
            run_id=batch.run_id,
            table=batch.table,
            source=table.source,
            mode=batch.mode,
            window=batch.window,
            extracted_at=batch.extracted_at,
            rows=sum(part.rows for part in parts),
            columns=columns,
            schema_fingerprint=schema_fingerprint(columns),
            drift=batch.drift,
            parts=parts,
        )

    def added_columns(self, table: Table) -> list[ManifestColumn]:
        """The columns beyond the declared ones."""
        declared = {column.name for column in table.landed_columns}
        return [column for column in self.columns if column.name not in declared]

    @property
    def unrepresentable(self) -> dict[str, int]:
        """Per column, the values that its type could not hold; only columns that have such."""
        return {column.name: column.unrepresentable for column in self.columns if column.unrepresentable}


class BatchError(BaseModel):
    """Why a batch failed."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    column: str | None = None


class Batch(BaseModel):
    """One extraction of one table, as kept in the state."""

    model_config = ConfigDict(frozen=True)

    id: str
    run_id: str
    table: str
    mode: Mode
    window: Window
    extracted_at: AwareDatetime = Field(description="Source's clock before the read: orders versions of a row.")
    state: BatchState = BatchState.EXTRACTING
    open: bool = Field(default=True, description="Whether the pipeline has still to look at it.")
    rows: int = 0
    size: int = Field(default=0, description="Bytes of Parquet.")
    parts: int = 0
    started_at: AwareDatetime
    landed_at: AwareDatetime | None = None
    loaded_at: AwareDatetime | None = None
    merged_at: AwareDatetime | None = None
    failed_at: AwareDatetime | None = None
    added_columns: list[ManifestColumn] = Field(
        default_factory=list, description="Columns beyond the declared ones, brought by schema_drift: evolve."
    )
    unrepresentable: dict[str, int] = Field(
        default_factory=dict, description="Per column, the values that its type could not hold, by the column's policy."
    )
    drift: list[str] = Field(default_factory=list, description="How the source differed from the declared columns.")
    load_seconds: float | None = Field(default=None, description="From the load's start to its end.")
    error: BatchError | None = None

    def moved(self, to: BatchState, at: datetime, **changes: Any) -> "Batch":
        """The batch after a transition.

        Raises:
            ValueError: the batch's life has no such step.
        """
        if to not in NEXT[self.state]:
            raise ValueError(f"batch {self.id}: {self.state} to {to} is no step of a batch's life")
        stamp = {f"{to}_at": at}
        closed = {"open": False} if to is BatchState.FAILED else {}
        return self.model_copy(update={"state": to, **stamp, **closed, **changes})

    @classmethod
    def from_manifest(cls, manifest: Manifest, table: Table) -> "Batch":
        """A batch that the state does not know, as its manifest tells it."""
        return cls(
            id=manifest.batch_id,
            run_id=manifest.run_id,
            table=manifest.table,
            mode=manifest.mode,
            window=manifest.window,
            extracted_at=manifest.extracted_at,
            started_at=manifest.extracted_at,
            added_columns=manifest.added_columns(table),
            unrepresentable=manifest.unrepresentable,
            drift=manifest.drift,
        )


def schema_fingerprint(columns: list[ManifestColumn]) -> str:
    """Sixteen hexadecimal digits that change when the columns or their types do, here or in the source."""
    text = json.dumps([[column.name, column.type, column.required, column.source_type] for column in columns])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
