"""Declared tables of every shape that a bronze model can have, and the batches that are merged into them.

Few tables with much in each: a statement costs as long as it is. Each is declared as in tables.yaml and handed to dbt
as the transformer does.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from services.core.batch import Batch
from services.core.naming import hashed_table
from services.core.tables import EXTRACTED_AT, Column, ColumnType, Cursor, Mode, Table
from services.core.warehouse import TempTable
from services.transformer.bronze.batch_rows import Loaded

_NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
_EVERY = {f"v_{type_.lower()}": type_.value for type_ in ColumnType}
_KEYS = {f"k_{type_.lower()}": type_.value for type_ in ColumnType if type_ is not ColumnType.FLOAT64}
_NAMES = (
    *("held", "newest", "versions", "snapshot", "nothing", "DBT_INTERNAL_DEST", "DBT_INTERNAL_SOURCE", "least"),
    *("greatest", "batch_id", "extracted_at", "order", "Group", "select", "from", "where", "qualify", "partition"),
    *("current_timestamp", "timestamp", "struct", "model", "max", "if", "interval", "row_number", "to_json_string"),
    *("coalesce", "window", "rows", "value", "key", "date", "_found_gone", "bronze_row", "batch_row", "graph_table"),
)
"""Reserved words, names of functions, names that the macros use or used."""
_ID = {"id": "INT64"}
_ODD_NAMES = dict.fromkeys(_NAMES, "INT64")
_NOBODY_DECLARED = {"ação": "STRING", "Having": "INT64", "a b": "NUMERIC", "😀": "DATE", "1st": "BOOL"}
_SOURCES = (
    *("oltp.t", 'oltp."a b"', "gs://b/ação.parquet#1", "gs://b/😀.parquet#1", "gs://b/a\\b'c\"d.parquet"),
    *("gs://b/\u2028\x7f\t.parquet", "gs://b/{{ x }}.parquet", "gs://b/$@?%`.parquet", "gs://b/*/ -- #.parquet"),
)
_WIDER = {
    "NUMERIC": ["INT64"],
    "BIGNUMERIC": ["INT64", "NUMERIC"],
    "STRING": ["INT64", "NUMERIC", "BIGNUMERIC", "BOOL", "DATE", "TIME", "DATETIME", "TIMESTAMP"],
}
"""Types in bronze, and those of batches that they hold exactly."""
_PARTITIONS: dict[str, tuple[str, dict[str, Any], tuple[str, str]]] = {
    "day": ("DATE", {"data_type": "date"}, ("2026-03-01", "2026-05-02")),
    "month": ("DATE", {"data_type": "date", "granularity": "month"}, ("0001-01-01", "9999-12-31")),
    "hour": (
        "TIMESTAMP",
        {"data_type": "timestamp", "granularity": "hour"},
        ("2026-03-01 01:02:03.456789+00:00", "2026-03-02 00:00:00+00:00"),
    ),
    "moment": ("TIMESTAMP", {"data_type": "timestamp"}, ("1970-01-01 00:00:00+00:00", "2026-03-02 00:00:00+00:00")),
    "clock": (
        "DATETIME",
        {"data_type": "datetime", "granularity": "day"},
        ("2026-03-01 01:02:03.456789", "2026-03-02 00:00:00"),
    ),
    "number": ("INT64", {"data_type": "int64", "range": {"start": 0, "end": 100, "interval": 10}}, ("-5", "77")),
}
"""Type of the column, what `partition_by` says of it, the least and the greatest value of a batch."""


@dataclass(frozen=True)
class Brought:
    """A batch, as the state and its hashed table tell of it."""

    batch: Batch
    columns: Mapping[str, str]
    """Types by name."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Where a macro asks for values."""

    def loaded(self, dataset: str) -> Loaded:
        """With its hashed table in a dataset, project.dataset."""
        id_ = f"{dataset}.{hashed_table(self.batch.table, self.batch.id)}"
        types = {**self.columns, EXTRACTED_AT.name: EXTRACTED_AT.type.value}
        return Loaded(self.batch, TempTable(id_, types, len(self.rows)))


_Kind = Callable[[Table, Mapping[str, str], int], Brought]


@dataclass(frozen=True)
class Shape:
    """A declared table, and what is merged into it."""

    table: Table
    merges: list[list[Brought]]
    """One after the other, each in one MERGE."""
    partition_by: dict[str, Any] | None = None
    """As in a model's config."""
    pruned: bool = False
    """Whether its MERGEs have to name the partitions that they touch."""


def every_shape() -> list[Shape]:
    """All shapes of bronze."""
    return [
        _shape("kept", _ID, _EVERY, [[_batch], [_batch, _file, _snapshot]]),
        _shape("soft", _ID, _EVERY, [[_snapshot], [_batch, _snapshot, _file, _snapshot]], "soft", "v_date"),
        _shape("keys", _KEYS, {"v": "STRING"}, [[_batch, _snapshot]], "soft", "k_datetime"),
        _shape("whole", {}, _EVERY, [[_snapshot, _snapshot]], deleted_at="v_timestamp"),
        _shape("names", _ID, _ODD_NAMES, [[_with(_NOBODY_DECLARED, _snapshot), _batch]], "soft"),
        _shape("named", _ODD_NAMES, {"v": "INT64"}, [[_snapshot]], "soft"),
        _shape("names_whole", {}, _ODD_NAMES, [[_with(_NOBODY_DECLARED, _snapshot)]]),
        _wider(),
        _sources(),
        *(_partitioned(name) for name in _PARTITIONS),
        _partitioned_by_a_value(),
    ]


def brought_to(table: Table) -> list[Brought]:
    """Batches of each kind for a table that is declared already."""
    columns = {column.name: column.type.value for column in table.landed_columns}
    kinds: list[_Kind] = [_batch, _file, _snapshot] if table.key else [_snapshot]
    return [kind(table, columns, number) for number, kind in enumerate(kinds)]


def _shape(
    name: str,
    key: Mapping[str, str],
    values: Mapping[str, str],
    merges: Sequence[Sequence[_Kind]],
    deletes: Literal["keep", "soft"] = "keep",
    deleted_at: str | None = None,
    **facts: Any,
) -> Shape:
    types = {**key, **values}
    table = Table(
        name=name,
        source=f"oltp.{name}",
        key=list(key),
        mode=Mode.INCREMENTAL if key else Mode.SNAPSHOT,
        cursor=Cursor(expression="changed_at", type="timestamp") if key else None,
        deletes=deletes,
        deleted_at=deleted_at,
        bronze_model=name,
        columns=[Column(name=each, type=ColumnType(type_), required=each in key) for each, type_ in types.items()],
    )
    numbers = itertools.count()
    return Shape(table, [[kind(table, types, next(numbers)) for kind in kinds] for kinds in merges], **facts)


def _brought(
    table: Table,
    columns: Mapping[str, str],
    number: int,
    *,
    mode: Mode = Mode.INCREMENTAL,
    source: str | None = None,
    rows: Iterable[dict[str, Any]] = (),
) -> Brought:
    at = _NOON + timedelta(minutes=number)
    batch = Batch(
        id=f"{at:%Y%m%dT%H%M%S%f}Z-{number:08x}",
        run_id="check",
        table=table.name,
        source=source,
        mode=mode,
        window=None,
        extracted_at=at,
        arrived_at=at if source else None,
        started_at=at,
    )
    return Brought(batch, columns, list(rows))


_batch = _brought
_snapshot = partial(_brought, mode=Mode.SNAPSHOT)
_file = partial(_brought, source="gs://b/dropped.parquet#1")


def _with(more: Mapping[str, str], kind: _Kind) -> _Kind:
    """A kind of batch that brings columns which nobody declared."""
    return lambda table, columns, number: kind(table, {**columns, **more}, number)


def _wider() -> Shape:
    """Batches whose columns have other types than bronze's, which hold them, and one that lacks columns."""
    pairs = [(wide, narrow) for wide, narrows in _WIDER.items() for narrow in narrows]
    held = {f"{wide}_of_{narrow}".lower(): wide for wide, narrow in pairs}
    brought = {f"{wide}_of_{narrow}".lower(): narrow for wide, narrow in pairs}

    def narrow(table: Table, columns: Mapping[str, str], number: int) -> Brought:
        return _brought(table, {**_ID, **brought}, number)

    def lacking(table: Table, columns: Mapping[str, str], number: int) -> Brought:
        return _brought(table, {"ID": "INT64"}, number)

    return _shape("wider", _ID, held, [[_batch, narrow, lacking]])


def _sources() -> Shape:
    kinds = [partial(_brought, source=source) for source in _SOURCES]
    return _shape("sources", _ID, {"v": "STRING"}, [kinds])


def _partitioned(name: str) -> Shape:
    type_, config, values = _PARTITIONS[name]
    kind = partial(_brought, rows=[{"k": value} for value in values])
    merges = [[kind, kind]]
    by = {"field": "k", **config}
    return _shape(f"by_{name}", {"k": type_}, {"v": "STRING"}, merges, partition_by=by, pruned=True)


def _partitioned_by_a_value() -> Shape:
    """A column that may change: the row with a batch's key can be in any partition."""
    by = {"field": "day", "data_type": "date"}
    return _shape("by_value", _ID, {"day": "DATE"}, [[_batch]], partition_by=by)
