"""The batch: its life as data and pure transitions. The extractor, the loader, the transformer and the sweep use these.

docs/batches.md has the picture, drawn from LIFE by ``diagram``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core.manifest import Manifest, ManifestColumn, Part, schema_fingerprint
from services.core.tables import Mode, Table
from services.core.window import Window


class BatchState(StrEnum):
    """Where a batch is in its life."""

    EXTRACTING = "extracting"
    LANDED = "landed"
    LOADED = "loaded"
    HELD = "held"
    MERGED = "merged"
    FAILED = "failed"


class Step(StrEnum):
    """What happens to a batch."""

    LAND = "land"
    """Its manifest is in landing/."""
    ABANDON = "abandon"
    """Its extraction ended before the manifest was written."""
    LOAD = "load"
    """Its rows are in its hashed table."""
    REJECT = "reject"
    """It cannot be loaded as it is."""
    MERGE = "merge"
    """Its rows are in bronze."""
    HOLD = "hold"
    """It must not be merged, or cannot be, until a person has looked at it."""
    RELEASE = "release"
    """A person lets it be merged as it is."""
    DISCARD = "discard"
    """A person decides that it is never merged."""
    EXPIRE = "expire"
    """Its hashed table was gone before it was merged."""


IN_TEMP = (BatchState.LOADED, BatchState.HELD, BatchState.MERGED)
"""States in which the batch's rows were loaded: its objects belong in the archive."""

LIFE: dict[tuple[BatchState, Step], BatchState] = {
    (BatchState.EXTRACTING, Step.LAND): BatchState.LANDED,
    (BatchState.EXTRACTING, Step.ABANDON): BatchState.FAILED,
    (BatchState.EXTRACTING, Step.LOAD): BatchState.LOADED,
    (BatchState.EXTRACTING, Step.REJECT): BatchState.FAILED,
    (BatchState.LANDED, Step.LOAD): BatchState.LOADED,
    (BatchState.LANDED, Step.REJECT): BatchState.FAILED,
    (BatchState.LOADED, Step.MERGE): BatchState.MERGED,
    (BatchState.LOADED, Step.EXPIRE): BatchState.FAILED,
    (BatchState.LOADED, Step.HOLD): BatchState.HELD,
    (BatchState.HELD, Step.RELEASE): BatchState.LOADED,
    (BatchState.HELD, Step.DISCARD): BatchState.FAILED,
    (BatchState.HELD, Step.EXPIRE): BatchState.FAILED,
}
"""A batch's life. A step that is not here has no effect: it comes late, or again, or another was faster. From
extracting it may be loaded or rejected at once: the loader can see the manifest before the extractor has noted it."""


def diagram() -> str:
    """LIFE as a Mermaid state diagram."""
    arrows = [f"    {state} --> {to}: {step}" for (state, step), to in LIFE.items()]
    ends = [f"    {state} --> [*]" for state in (BatchState.MERGED, BatchState.FAILED)]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {BatchState.EXTRACTING}", *arrows, *ends])


class BatchError(BaseModel):
    """Why a batch failed."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str
    column: str | None = None


class Fingerprints(BaseModel):
    """What is noted of the fingerprints that a batch keeps: of the rows in it, or in bronze, that are read again."""

    model_config = ConfigDict(frozen=True)

    form: int = Field(description="Version of how a row becomes a fingerprint.")
    columns: str = Field(description="Fingerprint of the columns that went into each.")
    rows: int
    ahead: int = Field(description="How many of the rows are beyond the window's end.")
    sha256: str = Field(description="Of the object that has them.")
    unannounced: str | None = Field(
        description="The table's last batch that no extraction announced, when this one was planned."
    )
    read_at: AwareDatetime | None = Field(
        default=None,
        description="When the table was last read for them: for this batch, or by a later run that found no news. "
        "None: when the batch was extracted.",
    )


class Batch(BaseModel):
    """One extraction of one table, or one file that was dropped into landing/, as kept in the state."""

    model_config = ConfigDict(frozen=True)

    id: str
    run_id: str
    table: str
    source: str | None = Field(default=None, description="Where the rows are from, if not from the declared source.")
    mode: Mode
    window: Window | None = Field(description="None for a file: it does not move the watermark.")
    extracted_at: AwareDatetime = Field(description="Source's clock before the read: orders versions of a row.")
    state: BatchState = BatchState.EXTRACTING
    arrived_at: AwareDatetime | None = Field(
        default=None,
        description="Only of a batch that no extraction announced (a file, a manifest of nobody): when it arrived. "
        "No row of it counts as read later.",
    )
    manifest_sha256: str | None = Field(
        default=None, description="Fingerprint of its manifest, noted before that is written; no other is its manifest."
    )
    open: bool = Field(default=True, description="Whether the pipeline has still to look at it.")
    rows: int = 0
    rows_known: int = Field(
        default=0, description="Rows that were read again and did not land, because bronze has them as they are."
    )
    fingerprints: Fingerprints | None = Field(
        default=None, description="Of the rows that the next window reads again; noted before the manifest is written."
    )
    size: int = Field(default=0, description="Bytes of Parquet.")
    parts: int = 0
    started_at: AwareDatetime
    landed_at: AwareDatetime | None = None
    loaded_at: AwareDatetime | None = None
    merged_at: AwareDatetime | None = None
    failed_at: AwareDatetime | None = None
    unrepresentable: dict[str, int] = Field(
        default_factory=dict, description="Per column, the values that its type could not hold, by the column's policy."
    )
    drift: list[str] = Field(default_factory=list, description="How the source differed from the declared columns.")
    anew: bool = Field(
        default=False,
        description="Of a snapshot with which the watermark begins anew: what was covered before it does not count.",
    )
    changes: list[str] = Field(
        default_factory=list, description="What had changed at the source, or in tables.yaml, since the batch before."
    )
    unseen: list[str] = Field(
        default_factory=list,
        description="What could not be seen when it was planned: of rows that were still to come, or of the key.",
    )
    load_attempts: int = Field(default=0, description="How often the loader began to load it.")
    load_seconds: float | None = Field(default=None, description="From the load's start to its end.")
    trouble: str | None = Field(
        default=None, description="Why the last attempt at the next step ended; it comes again."
    )
    hold: BatchError | None = Field(default=None, description="Why it waits, or waited, for a person.")
    held_at: AwareDatetime | None = None
    released_at: AwareDatetime | None = Field(
        default=None, description="When a person let it go on; it is not held again."
    )
    released_by: str | None = None
    error: BatchError | None = None

    @property
    def from_file(self) -> bool:
        """Whether it is a file that somebody dropped into landing/."""
        return (self.source or "").startswith("gs://")

    def after(self, step: Step, at: datetime, **facts: Any) -> "Batch":
        """The batch after a step; the same batch when the step has no effect.

        Args:
            step: what happened.
            at: when it was noted.
            facts: fields that are known from now on.
        """
        to = LIFE.get((self.state, step))
        if to is None:
            return self
        closed = {"open": False} if to is BatchState.FAILED else {}
        noted = "released_at" if step is Step.RELEASE else f"{to}_at"
        return self.model_copy(update={"state": to, noted: at, "trouble": None, **closed, **facts})

    def in_trouble(self, state: BatchState, why: str) -> "Batch":
        """The batch with the reason why its next step is not done; the same batch when it is no longer in the state."""
        return self.model_copy(update={"trouble": why}) if self.state is state else self

    def manifest(self, table: Table, columns: list[ManifestColumn], parts: list[Part]) -> Manifest:
        """The manifest of this batch, whose parts have all landed."""
        return Manifest(
            batch_id=self.id,
            run_id=self.run_id,
            table=self.table,
            source=self.source or table.source,
            mode=self.mode,
            window=self.window,
            extracted_at=self.extracted_at,
            rows=sum(part.rows for part in parts),
            columns=columns,
            schema_fingerprint=schema_fingerprint(columns),
            drift=self.drift,
            parts=parts,
        )

    @classmethod
    def unannounced(cls, manifest: Manifest, arrived_at: datetime, address: str) -> "Batch":
        """A batch that no extraction announced: taken like a file, whatever its manifest says.

        It moves no watermark, deletes nothing, and counts as read when it arrived at the latest.

        Args:
            manifest: what somebody put into landing/.
            arrived_at: when the bucket got the manifest.
            address: the manifest's gs:// address.
        """
        return cls(
            id=manifest.batch_id,
            run_id=manifest.batch_id,
            table=manifest.table,
            source=f"unannounced {address}",
            mode=Mode.INCREMENTAL,
            window=None,
            extracted_at=min(manifest.extracted_at, arrived_at),
            arrived_at=arrived_at,
            started_at=arrived_at,
        )
