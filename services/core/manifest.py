"""The manifest: a batch's commit marker, written after its last part; from it alone the loader can load the batch."""

import hashlib
import json
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core.tables import ColumnType, Mode, Table
from services.core.window import Window


class Part(BaseModel):
    """One Parquet object of a batch."""

    model_config = ConfigDict(frozen=True)

    object_name: str
    generation: int
    rows: int = Field(ge=0)
    size: int = Field(ge=0, description="Bytes.")
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
    source: str = Field(description="Relation, or gs:// address of a file that was dropped into landing/ by hand.")
    mode: Mode
    window: Window | None = Field(description="None for a file: it says nothing about how far the source is covered.")
    extracted_at: AwareDatetime
    rows: int
    columns: list[ManifestColumn]
    schema_fingerprint: str
    drift: list[str] = Field(default_factory=list, description="How the source differed from the declared columns.")
    parts: list[Part]

    def added_columns(self, table: Table) -> list[ManifestColumn]:
        """The columns beyond the declared ones."""
        declared = {column.name for column in table.landed_columns}
        return [column for column in self.columns if column.name not in declared]

    @property
    def unrepresentable(self) -> dict[str, int]:
        """Per column, the values that its type could not hold; only columns that have such."""
        return {column.name: column.unrepresentable for column in self.columns if column.unrepresentable}


def schema_fingerprint(columns: list[ManifestColumn]) -> str:
    """Sixteen hexadecimal digits that change when the columns or their types do, here or in the source."""
    text = json.dumps([[column.name, column.type, column.required, column.source_type] for column in columns])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
