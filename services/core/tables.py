"""The declared tables: the contract between PostgreSQL, the Parquet in landing/ and BigQuery (config/tables.yaml)."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.core.doubled_keys import DoubledKey, doubled_keys
from services.core.errors import ConfigurationError
from services.core.reserved_names import LONGEST_NAME, RESERVED_PREFIXES, is_reserved

Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]


class ColumnType(StrEnum):
    """BigQuery type of a column, by the name that BigQuery's schemas use."""

    STRING = "STRING"
    INT64 = "INT64"
    NUMERIC = "NUMERIC"
    BIGNUMERIC = "BIGNUMERIC"
    FLOAT64 = "FLOAT64"
    BOOL = "BOOL"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"
    DATETIME = "DATETIME"
    TIME = "TIME"
    BYTES = "BYTES"


NOT_CLUSTERED = frozenset({ColumnType.FLOAT64, ColumnType.TIME, ColumnType.BYTES})
"""Types by which BigQuery clusters no table (https://cloud.google.com/bigquery/docs/clustered-tables#cluster_column_types)."""

MOST_CLUSTERED = 4
"""Most columns by which BigQuery clusters a table."""


class Mode(StrEnum):
    """How a table is extracted."""

    INCREMENTAL = "incremental"
    SNAPSHOT = "snapshot"


class Declaration(BaseModel):
    """Strict base of everything in tables.yaml: an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Unrepresentable(StrEnum):
    """What happens to a value that the declared BigQuery type cannot hold."""

    EXACT = "exact"
    """There must be none: refused before reading unless the type holds every value that the source's type has."""
    STRING = "string"
    """Null in the column, PostgreSQL's text of the value in ``<column>_text``; counted."""
    NULL_AND_COUNT = "null_and_count"
    """Null in the column; counted."""
    FAIL = "fail"
    """The batch fails and names the column."""


class Mask(StrEnum):
    """How personal data is made unreadable inside PostgreSQL; the masked column is a STRING, a null stays null."""

    HASH = "hash"
    """HMAC-SHA-256 with the secret EXTRACT_MASK_SECRET, in hexadecimal digits: equal values stay equal."""
    REDACT = "redact"
    """Three asterisks."""
    PARTIAL = "partial"
    """Asterisks but for the last ``mask_keep`` characters; a text that is not longer than those is all asterisks."""


class SchemaDrift(StrEnum):
    """What happens when the source's columns are no longer the declared ones."""

    IGNORE = "ignore"
    """Columns that are not declared are not read; a declared one that is gone fails before reading."""
    EVOLVE = "evolve"
    """Columns that are not declared are brought, nullable; a declared one that is gone and not required is null."""
    FREEZE = "freeze"
    """Any difference fails before reading."""


class OnChange(StrEnum):
    """What happens when the source or the declaration changed, so that older rows can be others than bronze has."""

    SNAPSHOT = "snapshot"
    """The next run reads a snapshot."""
    WAIT = "wait"
    """The next run fails until a person has read a snapshot."""


class OnFailedTests(StrEnum):
    """What happens with a batch whose rows do not pass a test of single rows."""

    REPORT = "report"
    """It goes on; log, status and report name the test until an audit finds the table whole."""
    HOLD = "hold"
    """It waits for a person."""


class Column(Declaration):
    """One column of a table."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=LONGEST_NAME)] = Field(
        description="Name in BigQuery."
    )
    type: ColumnType = Field(description="BigQuery type.")
    source_column: str | None = Field(default=None, min_length=1, description="Name in the source, where it differs.")
    source_type: str | None = Field(
        default=None,
        description="PostgreSQL's type as format_type() writes it (numeric(18,2)); another one is schema drift.",
    )
    required: bool = Field(default=False, description="A null fails the batch.")
    on_unrepresentable: Unrepresentable = Field(
        default=Unrepresentable.FAIL, description="What happens to a value that the BigQuery type cannot hold."
    )
    mask: Mask | None = Field(default=None, description="How PostgreSQL makes the value unreadable before it leaves.")
    mask_keep: Annotated[int, Field(ge=0, le=100)] = Field(default=4, description="Characters that partial leaves.")
    description: str = Field(default="", description="What it means, for people.")

    @property
    def name_in_source(self) -> str:
        """The column's name in PostgreSQL."""
        return self.source_column or self.name

    @property
    def text_name(self) -> str | None:
        """The column that holds the text of what this one cannot hold, under the policy ``string``."""
        typed = self.type is not ColumnType.STRING
        return f"{self.name}_text" if typed and self.on_unrepresentable is Unrepresentable.STRING else None

    @model_validator(mode="after")
    def _consistent(self) -> "Column":
        if self.mask is not None and self.type is not ColumnType.STRING:
            raise ValueError(f"a masked column is a STRING, declared {self.type}")
        nulls = (Unrepresentable.NULL_AND_COUNT, Unrepresentable.STRING)
        if self.required and self.type is not ColumnType.STRING and self.on_unrepresentable in nulls:
            raise ValueError(
                f"'required: true' and on_unrepresentable: {self.on_unrepresentable} contradict each other"
            )
        return self


class Cursor(Declaration):
    """The expression that grows when a row changes, and what happens at its edges."""

    expression: str = Field(min_length=1, description="SQL expression over the source's columns.")
    type: Literal["timestamp", "date"] = Field(description="Its PostgreSQL type: timestamp, with time zone or without.")
    time_zone: str | None = Field(
        default=None,
        description="Whose clock writes a timestamp without time zone, or whose days a date's are (America/Sao_Paulo).",
    )
    lookback: timedelta = Field(
        default=timedelta(0), description="How far below the watermark reading starts (ISO 8601, e.g. P1D, PT5M)."
    )
    lag: timedelta = Field(default=timedelta(0), description="How far a window's end stays behind now (ISO 8601).")
    nulls: Literal["every_run", "snapshot_only", "fail"] = Field(
        default="every_run", description="Rows whose cursor is null: read in every run, only by snapshots, or an error."
    )
    future: Literal["every_run", "defer", "fail"] = Field(
        default="every_run", description="Rows beyond the window's end: read in every run, when due, or an error."
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError(f"{value} is no time zone; write UTC, or one like America/Sao_Paulo") from error
        return value

    @field_validator("lookback", "lag")
    @classmethod
    def _not_negative(cls, value: timedelta) -> timedelta:
        if value < timedelta(0):
            raise ValueError("must not be negative")
        return value

    @model_validator(mode="after")
    def _whole_days(self) -> "Cursor":
        if self.type == "date" and self.lookback % timedelta(days=1):
            raise ValueError("lookback of a date cursor is a whole number of days, for example P1D")
        if self.type == "date" and self.lookback < timedelta(days=1):
            raise ValueError("lookback of a date cursor is at least P1D: rows of the boundary day still change")
        return self


class Compaction(Declaration):
    """When the rows that wait in a table's delta are merged into its base, which reads the whole base."""

    max_share: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="Largest size of the delta, as a share of the base's."
    )
    max_age: timedelta = Field(
        default=timedelta(days=7), description="How long a row may wait in the delta (ISO 8601)."
    )
    min_base: Annotated[int, Field(ge=0)] = Field(
        default=10 * 1024 * 1024,
        description="A base of fewer bytes has no delta: batches are merged into it at once. The default is what "
        "BigQuery bills at least for a table.",
    )

    @field_validator("max_age")
    @classmethod
    def _not_negative(cls, value: timedelta) -> timedelta:
        if value < timedelta(0):
            raise ValueError("must not be negative")
        return value


class Table(Declaration):
    """One table of the source and how it reaches bronze."""

    name: Annotated[Identifier, Field(max_length=40)] = Field(description="Pipeline name: objects, temp tables, state.")
    description: str = Field(default="", description="What a row is, for people.")
    source: str = Field(pattern=r"^[^.]+\.[^.]+$", description="Source relation, schema.name, unquoted.")
    key: list[str] = Field(
        default_factory=list,
        description="Columns that identify a row; none for a table without a key, which a snapshot replaces whole.",
    )
    mode: Mode = Field(default=Mode.INCREMENTAL, description="incremental reads windows, snapshot the whole table.")
    cursor: Cursor | None = Field(default=None, description="Change cursor; needed by incremental.")
    deletes: Literal["keep", "soft"] = Field(
        default="keep",
        description="What a snapshot does with rows that are gone from the source: keep them, or set _deleted_at.",
    )
    max_deleted_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5,
        description="Largest share of the rows in bronze that a snapshot may delete; one that would delete more waits "
        "for a person. 1 never waits.",
    )
    compaction: Compaction = Field(default_factory=Compaction, description="When the delta is merged into the base.")
    deleted_at: str | None = Field(
        default=None, description="Column that the source sets when it deletes a row; becomes _deleted_at."
    )
    schema_drift: SchemaDrift = Field(
        default=SchemaDrift.IGNORE, description="What happens when the source's columns are not the declared ones."
    )
    on_change: OnChange = Field(
        default=OnChange.SNAPSHOT,
        description="What happens when source or declaration changed, so that older rows can differ from bronze.",
    )
    on_failed_tests: OnFailedTests = Field(
        default=OnFailedTests.REPORT,
        description="What happens when rows of a batch fail a test: that is reported, or the batch waits for a person.",
    )
    exclude: list[str] = Field(
        default_factory=list,
        description="Source columns that are never read and are no drift; * and ? stand for characters.",
    )
    bronze_model: Identifier = Field(description="dbt model that merges the table.")
    columns: list[Column] = Field(min_length=1, description="Columns, in order.")

    @model_validator(mode="after")
    def _consistent(self) -> "Table":
        names = [column.name for column in self.columns]
        lower = [name.lower() for name in names]
        if doubled := sorted({name for name in names if lower.count(name.lower()) > 1}):
            raise ValueError(f"columns named twice (BigQuery ignores case): {', '.join(doubled)}")
        if missing := [name for name in self.key if name not in names]:
            raise ValueError(f"key columns that are not among the columns: {', '.join(missing)}")
        if doubled := sorted({name for name in self.key if self.key.count(name) > 1}):
            raise ValueError(f"key columns named twice: {', '.join(doubled)}")
        if nullable := [c.name for c in self.columns if c.name in self.key and not c.required]:
            raise ValueError(f"key columns must be 'required: true': {', '.join(nullable)}")
        if floating := [c.name for c in self.columns if c.name in self.key and c.type is ColumnType.FLOAT64]:
            raise ValueError(
                "key columns cannot be FLOAT64, by which BigQuery does not group, and of which NaN equals nothing; "
                f"declare STRING: {', '.join(floating)}"
            )
        if reserved := [name for name in names if is_reserved(name)]:
            raise ValueError(f"BigQuery reserves the prefixes {', '.join(RESERVED_PREFIXES)}: {', '.join(reserved)}")
        if taken := [name for name in lower if name in BRONZE_COLUMNS]:
            raise ValueError(f"bronze adds these columns itself: {', '.join(taken)}")
        if clashing := [c.text_name for c in self.columns if c.text_name and c.text_name.lower() in lower]:
            raise ValueError(f"on_unrepresentable: string adds these columns itself: {', '.join(clashing)}")
        if long := [c.text_name for c in self.columns if c.text_name and len(c.text_name) > LONGEST_NAME]:
            raise ValueError(f"columns that on_unrepresentable: string adds have too long a name: {', '.join(long)}")
        if unreadable := [c.name for c in self.columns if c.name in self.key and c.mask not in (None, Mask.HASH)]:
            raise ValueError(f"a key can only be masked by hash: {', '.join(unreadable)}")
        if self.mode is Mode.INCREMENTAL and self.cursor is None:
            raise ValueError("mode incremental needs a cursor")
        if self.mode is Mode.INCREMENTAL and not self.key:
            raise ValueError("mode incremental needs a key; a table without one is read by snapshots")
        if self.deletes == "soft" and not self.key:
            raise ValueError("deletes: soft needs a key; without one a snapshot replaces the table anyway")
        if self.deleted_at is not None:
            column = next((c for c in self.columns if c.name == self.deleted_at), None)
            if column is None or column.type not in (ColumnType.TIMESTAMP, ColumnType.DATETIME, ColumnType.DATE):
                raise ValueError("deleted_at is one of the columns, a TIMESTAMP, DATETIME or DATE")
        return self

    @property
    def landed_columns(self) -> list[Column]:
        """The columns of the table's Parquet parts and temp tables, in order: declared, then added ones.

        ``EXTRACTED_AT`` is not among them.
        """
        texts = [Column(name=c.text_name, type=ColumnType.STRING) for c in self.columns if c.text_name]
        return [*self.columns, *texts]

    @property
    def schema_name(self) -> str:
        """Schema of the source relation."""
        return self.source.split(".")[0]

    @property
    def relation_name(self) -> str:
        """Name of the source relation within its schema."""
        return self.source.split(".")[1]


EXTRACTED_AT = Column(
    name="_extracted_at",
    type=ColumnType.TIMESTAMP,
    required=True,
    description="Source's clock when the row was read: of two versions of a row, the later one is newer.",
)
"""Column that every Parquet part ends with."""

BRONZE_COLUMNS = ("_loaded_at", "_source_table", "_batch_id", "_extracted_at", "_deleted_at")
"""Columns that bronze adds to the declared ones."""


class Tables(Declaration):
    """All declared tables."""

    version: Literal[1] = Field(description="Version of this file's format.")
    tables: list[Table] = Field(min_length=1, description="The tables.")

    @model_validator(mode="after")
    def _unique(self) -> "Tables":
        for what in ("name", "bronze_model"):
            values = [getattr(table, what) for table in self.tables]
            if doubled := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{what} used by more than one table: {', '.join(doubled)}")
        return self

    def names(self) -> list[str]:
        """Names of the tables, in the file's order."""
        return [table.name for table in self.tables]

    def get(self, name: str) -> Table | None:
        """The table of that name, or None."""
        return next((table for table in self.tables if table.name == name), None)

    def select(self, names: list[str]) -> list[Table]:
        """The tables of these names, or all when the list is empty.

        Raises:
            ConfigurationError: a name is not declared.
        """
        if unknown := [name for name in names if name not in self.names()]:
            raise ConfigurationError(f"unknown table {', '.join(unknown)}; declared are {', '.join(self.names())}")
        return [table for table in self.tables if not names or table.name in names]


def _where(location: tuple[str | int, ...], document: Any) -> str:
    """Say where in the file a problem is, with the table's name instead of its index."""
    if len(location) < 2 or location[0] != "tables" or not isinstance(location[1], int):
        return ".".join(map(str, location)) or "the whole file"
    entry = document["tables"][location[1]]
    table = entry.get("name", f"#{location[1] + 1}") if isinstance(entry, dict) else f"#{location[1] + 1}"
    rest = list(location[2:])
    if len(rest) >= 2 and rest[0] == "columns" and isinstance(rest[1], int):
        column = entry["columns"][rest[1]]
        named = column.get("name") if isinstance(column, dict) else None
        rest[1] = named or f"#{rest[1] + 1}"
    field = ".".join(map(str, rest))
    return f"table {table}, field {field}" if field else f"table {table}"


def _doubled(found: DoubledKey) -> str:
    """Say which field is written twice, and where."""
    field = found.key
    where = "the whole file"
    match found.path:
        case ("tables", table, *inner):
            where, field = f"table {table}", ".".join([*inner, found.key])
        case (_, *_):
            field = ".".join([*found.path, found.key])
    lines = ", ".join(map(str, found.lines))
    return f"{where}, field {field}: written {len(found.lines)} times (lines {lines}); keep one"


def _mistakes(path: Path, problems: list[str]) -> ConfigurationError:
    return ConfigurationError("\n  ".join([f"{path}: {len(problems)} mistake(s)", *problems]))


def load_tables(path: Path) -> Tables:
    """Read and check the declared tables.

    Raises:
        ConfigurationError: names the file and, for every mistake, the table and field.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        doubled = doubled_keys(node) if node else []
        document = loader.construct_document(node) if node else None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}; set TABLES_FILE") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not YAML: {error}") from error
    if doubled:
        raise _mistakes(path, [_doubled(found) for found in doubled])
    try:
        return Tables.model_validate(document)
    except ValidationError as error:
        raise _mistakes(path, [f"{_where(p['loc'], document)}: {p['msg']}" for p in error.errors()]) from error
