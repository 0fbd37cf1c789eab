"""The manifest: a batch's commit marker, written after its last part; from it alone the loader can load the batch."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from services.core.tables import ColumnType, Mode, Table
from services.core.window import Instant, Window

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""What BigQuery and the state hold as an integer."""


class Part(BaseModel):
    """One Parquet object of a batch, told by its content: written again with the same content, it is the same part."""

    model_config = ConfigDict(frozen=True)

    object_name: str = Field(max_length=1024)
    rows: Count
    size: Count = Field(description="Bytes.")
    crc32c: str = Field(description="Base64, as Cloud Storage gives it.")


class ManifestColumn(BaseModel):
    """One column as it was written."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: ColumnType
    required: bool = False
    source_type: str | None = Field(default=None, description="PostgreSQL's type; None when the source has it no more.")
    unrepresentable: Count = Field(
        default=0, description="Values that the type could not hold, by the column's policy."
    )


class Manifest(BaseModel):
    """A batch's commit marker: everything the loader needs, written after the last part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    batch_id: str
    run_id: str
    table: str
    source: str = Field(description="Relation, or gs:// address of a file that was dropped into landing/ by hand.")
    mode: Mode
    window: Window | None = Field(description="None for a file: it says nothing about how far the source is covered.")
    extracted_at: Instant
    rows: Count
    columns: Annotated[list[ManifestColumn], FailFast()]
    schema_fingerprint: str
    drift: Annotated[list[str], FailFast()] = Field(
        default_factory=list, description="How the source differed from the declared columns."
    )
    parts: Annotated[list[Part], FailFast()]

    def encoded(self) -> bytes:
        """As it is written."""
        return self.model_dump_json(indent=2).encode()

    def added_columns(self, table: Table) -> list[ManifestColumn]:
        """The columns beyond the declared ones."""
        declared = {column.name for column in table.landed_columns}
        return [column for column in self.columns if column.name not in declared]

    @property
    def counts(self) -> dict[str, int]:
        """Rows, parts and bytes."""
        return {"rows": self.rows, "parts": len(self.parts), "size": sum(part.size for part in self.parts)}

    @property
    def unrepresentable(self) -> dict[str, int]:
        """Per column, the values that its type could not hold; only columns that have such."""
        return {column.name: column.unrepresentable for column in self.columns if column.unrepresentable}


def manifest_fingerprint(content: bytes) -> str:
    """SHA-256 of a manifest as it is written, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def schema_fingerprint(columns: list[ManifestColumn]) -> str:
    """Sixteen hexadecimal digits that change when the columns or their types do, here or in the source."""
    text = json.dumps([[column.name, column.type, column.required, column.source_type] for column in columns])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
