"""What can be wrong with a batch or a file in landing/, and what the loader has to say about it.

A batch is drafted whole and then damaged in one thing; a file is bytes and a name.
"""

import base64
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from services.core.arrow import arrow_schema
from services.core.batch import Batch
from services.core.manifest import Manifest, ManifestColumn, Part
from services.core.naming import batch_objects_prefix, manifest_object, new_batch_id, part_object
from services.core.settings import CoreSettings
from services.core.tables import EXTRACTED_AT, ColumnType, Mode, Table, Tables
from services.core.window import Window

LANDING = str(CoreSettings.model_fields["landing_prefix"].default)
READ_AT = datetime(2026, 11, 22, 17, 0, 0, 123456, tzinfo=UTC)
"""When the drafted batches were extracted."""


def _table(name: str, columns: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    facts = {"name": name, "source": f"src.{name}", "bronze_model": name, "mode": "snapshot", "key": ["id"]}
    return facts | {"columns": list(columns)} | more


_ID = {"name": "id", "type": "INT64", "required": True}
_NOTE = {"name": "note", "type": "STRING"}

DECLARED = {
    "version": 1,
    "tables": [
        _table(
            "orders",
            [
                _ID,
                {"name": "name", "type": "STRING", "required": True},
                {"name": "amount", "type": "NUMERIC"},
                {"name": "weight", "type": "NUMERIC"},
                {"name": "ratio", "type": "FLOAT64"},
                {"name": "flag", "type": "BOOL"},
                {"name": "day", "type": "DATE"},
                {"name": "changed_at", "type": "TIMESTAMP", "required": True},
                {"name": "local_at", "type": "DATETIME"},
                {"name": "clock", "type": "TIME"},
                {"name": "raw", "type": "BYTES"},
                {"name": "precise", "type": "BIGNUMERIC"},
            ],
        ),
        _table("orders_archive", [_ID, _NOTE]),
        _table("keyless", [_ID, _NOTE], key=[]),
        _table("people", [_ID, {"name": "tax_id", "type": "STRING", "mask": "hash"}]),
        _table("growing", [_ID, _NOTE], schema_drift="evolve"),
        _table("steady", [_ID, _NOTE]),
    ],
}
"""The tables.yaml of these tests. ``orders`` has every type; ``steady`` is the one that always goes well."""

TABLES = Tables.model_validate(DECLARED)

INSTANT = datetime(2026, 11, 22, 10, 30, 0, 123000, tzinfo=UTC)

ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "name": f"order {number}",
        "amount": Decimal("12345678.25") + number,
        "weight": Decimal(3) * number,
        "ratio": 0.5 * number,
        "flag": number % 2 == 0,
        "day": date(2026, 11, number + 1),
        "changed_at": INSTANT + timedelta(seconds=number),
        "local_at": INSTANT.replace(tzinfo=None),
        "clock": time(10, 30, number),
        "raw": bytes([0, number, 255]),
        "precise": Decimal("1234567890.123456789012345") + number,
    }
    for number in range(6)
]
"""The rows of every good batch and file of ``orders``."""


def declared(table: str) -> Table:
    """A table of these tests."""
    found = TABLES.get(table)
    assert found is not None, table
    return found


def columns_of(table: str) -> list[ManifestColumn]:
    return [ManifestColumn(name=c.name, type=c.type, required=c.required) for c in declared(table).landed_columns]


def rows_of(table: str) -> pa.Table:
    """Six rows of a table in its exact types, without the time at which they were read."""
    schema = arrow_schema(columns_of(table)).remove(len(columns_of(table)))
    if table == "orders":
        return pa.Table.from_pylist(ROWS, schema)
    other = next(name for name in schema.names if name != "id")
    return pa.Table.from_pylist([{"id": number, other: f"n{number}"} for number in range(6)], schema)


def stamped(rows: pa.Table, at: datetime = READ_AT) -> pa.Table:
    """The rows as in a part, with the time at which they were read."""
    stamp = pa.array([at] * rows.num_rows, pa.timestamp("us", tz="UTC"))
    return rows.append_column(pa.field(EXTRACTED_AT.name, stamp.type, nullable=False), stamp)


def parquet(rows: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


def flipped(content: bytes, at: int, length: int = 1) -> bytes:
    """The same number of bytes, some of them inverted."""
    return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + length]) + content[at + length :]


def crc32c(content: bytes) -> str:
    """As Cloud Storage gives it."""
    return base64.b64encode(int(google_crc32c.value(content)).to_bytes(4, "big")).decode()


@dataclass
class Draft:
    """A batch of three parts as it will be put into landing/; whole until something is done to it."""

    table: str
    batch_id: str
    parts: dict[str, bytes]
    """Content by object name."""
    document: dict[str, Any]
    """What the manifest says."""
    raw: bytes | None = None
    """Written instead of the document."""
    others: dict[str, bytes] = field(default_factory=dict)
    """Objects of other batches, which have to stay where they are."""

    @property
    def manifest_name(self) -> str:
        return manifest_object(LANDING, self.table, self.batch_id)

    @property
    def manifest(self) -> bytes:
        return json.dumps(self.document).encode() if self.raw is None else self.raw

    @property
    def batch(self) -> Batch:
        """As the extractor has noted it in the state."""
        return Batch(
            id=self.batch_id,
            run_id=self.batch_id,
            table=self.table,
            mode=Mode.SNAPSHOT,
            window=Window(low=None, high=READ_AT),
            extracted_at=READ_AT,
            started_at=READ_AT,
        )

    def name(self, part: int) -> str:
        return list(self.parts)[part]

    def swap(self, part: int, change: Callable[[bytes], bytes]) -> None:
        """Change a part's content; the manifest goes on saying what it was."""
        self.parts[self.name(part)] = change(self.parts[self.name(part)])

    def write(self, part: int, content: bytes) -> None:
        """Change a part's content, as if it had been written like this."""
        self.parts[self.name(part)] = content
        self.document["parts"][part] |= {"size": len(content), "crc32c": crc32c(content)}

    def edit(self, **facts: Any) -> None:
        """Change fields of the manifest."""
        self.document |= facts

    def declare(self, name: str, type_: ColumnType) -> None:
        """Change a column of the manifest, or add it."""
        others = [column for column in self.document["columns"] if column["name"] != name]
        added = ManifestColumn(name=name, type=type_, source_type="text").model_dump(mode="json")
        self.edit(columns=[*others, added])


def draft(table: str = "orders", batch_id: str | None = None, parts: int = 3) -> Draft:
    """A whole batch of a table, of two rows in a part."""
    batch_id = batch_id or new_batch_id(datetime.now(UTC))
    known = table if TABLES.get(table) else "steady"
    content = stamped(rows_of(known))
    made = {
        part_object(LANDING, table, batch_id, number): parquet(content.slice(2 * number, 2)) for number in range(parts)
    }
    described = [Part(object_name=name, rows=2, size=len(data), crc32c=crc32c(data)) for name, data in made.items()]
    whole = Draft(table, batch_id, made, {})
    manifest: Manifest = whole.batch.manifest(declared(known), columns_of(known), described)
    whole.document = manifest.model_dump(mode="json")
    return whole


@dataclass(frozen=True)
class BatchCase:
    """A batch with one thing wrong."""

    name: str
    code: str
    says: str
    """What the message has to contain."""
    damage: Callable[[Draft], object]
    table: str = "orders"
    column: str | None = None
    known: bool = True
    """Whether the extractor has noted the batch in the state."""
    announced: bool = True
    """Whether the extractor has announced this manifest, and not the one that it would have been undamaged."""
    batch_id: str | None = None
    failed_before: bool = False
    loaded: bool = False
    """Whether BigQuery has loaded it before it was found out; the sweep drops that table."""


def _without(name: str) -> Callable[[Draft], object]:
    return lambda d: d.edit(columns=[c for c in d.document["columns"] if c["name"] != name])


def _foreign(d: Draft) -> None:
    """Name a part of another batch, which is whole."""
    other = draft("steady")
    d.others = dict(other.parts)
    d.document["parts"][1] |= {"object_name": other.name(0)}


def _odd_part(name: str, array: pa.Array) -> Callable[[Draft], object]:
    """The middle part has another type or value in a column; the manifest knows nothing of it."""

    def damage(d: Draft) -> None:
        d.write(1, parquet(stamped(replaced(name, array)(rows_of("orders")).slice(2, 2))))

    return damage


def _part_without_required(d: Draft) -> None:
    d.write(1, parquet(stamped(rows_of("orders").drop_columns(["name"]).slice(2, 2))))


def _twice(d: Draft) -> None:
    d.edit(columns=[*d.document["columns"], d.document["columns"][1]])


def _counts(rows: int, *parts: int) -> Callable[[Draft], object]:
    def damage(d: Draft) -> None:
        d.edit(rows=rows)
        for part, count in zip(d.document["parts"], parts, strict=True):
            part["rows"] = count

    return damage


def evolved(name: str) -> Callable[[Draft], object]:
    """Every part has a column that is not declared, and the manifest says so."""

    def damage(d: Draft) -> None:
        d.declare(name, ColumnType.STRING)
        for number in range(3):
            part = stamped(rows_of("growing").slice(2 * number, 2)).append_column(name, pa.array(["x", "y"]))
            d.write(number, parquet(part))

    return damage


def replaced(name: str, array: pa.Array) -> Callable[[pa.Table], pa.Table]:
    """Give a column other values, perhaps of another type."""

    def change(rows: pa.Table) -> pa.Table:
        nullable = pa.field(name, array.type)
        return rows.set_column(rows.schema.get_field_index(name), nullable, array)

    return change


def sixth(value: Any, type_: pa.DataType, others: Any = None) -> pa.Array:
    """Six values, all alike but for the last."""
    return pa.array([others] * 5 + [value], type_)


BAD_BATCHES = [
    BatchCase("part_same_size", "part_changed", "crc32c", lambda d: d.swap(1, lambda c: flipped(c, len(c) // 2))),
    BatchCase("part_truncated", "part_changed", "bytes", lambda d: d.swap(2, lambda c: c[:-9])),
    BatchCase("part_longer", "part_changed", "bytes", lambda d: d.swap(0, lambda c: c + b"\0")),
    BatchCase("part_emptied", "part_changed", "0 bytes", lambda d: d.swap(0, lambda c: b"")),
    BatchCase("part_missing", "part_missing", "part-00001", lambda d: d.parts.pop(d.name(1))),
    BatchCase("all_parts_missing", "part_missing", "part-00000", lambda d: d.parts.clear()),
    BatchCase("part_is_another", "part_changed", "part-00001", lambda d: d.swap(1, lambda c: d.parts[d.name(0)])),
    BatchCase("part_of_unknown_batch", "part_changed", "crc32c", lambda d: d.swap(0, lambda c: c[::-1]), known=False),
    BatchCase("manifest_text", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", b"not JSON")),
    BatchCase("manifest_empty", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", b"")),
    BatchCase("manifest_cut", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", d.manifest[:-20])),
    BatchCase("manifest_list", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", b"[]")),
    BatchCase("manifest_null", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", b"null")),
    BatchCase("manifest_deep", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", b"[" * 100_000)),
    BatchCase("manifest_not_utf8", "manifest_invalid", "cannot be read", lambda d: setattr(d, "raw", b'{"\xff": 1}')),
    BatchCase("manifest_parquet", "manifest_invalid", "cannot be", lambda d: setattr(d, "raw", d.parts[d.name(0)])),
    BatchCase("manifest_unknown_field", "manifest_invalid", "surprise", lambda d: d.edit(surprise=1)),
    BatchCase("manifest_lacks_field", "manifest_invalid", "extracted_at", lambda d: d.document.pop("extracted_at")),
    BatchCase("manifest_version", "manifest_invalid", "version", lambda d: d.edit(version=2)),
    BatchCase(
        "manifest_naive_time", "manifest_invalid", "extracted_at", lambda d: d.edit(extracted_at="2026-11-22T17:00")
    ),
    BatchCase("manifest_mode", "manifest_invalid", "mode", lambda d: d.edit(mode="sometimes")),
    BatchCase(
        "manifest_type", "manifest_invalid", "columns.1.type", lambda d: d.document["columns"][1].update(type="X")
    ),
    BatchCase("manifest_of_other_table", "manifest_invalid", "of steady", lambda d: d.edit(table="steady")),
    BatchCase(
        "manifest_of_other_batch", "manifest_invalid", "its name says", lambda d: d.edit(batch_id=new_batch_id(READ_AT))
    ),
    BatchCase("manifest_names_others", "manifest_invalid", "no parts of it", _foreign),
    BatchCase(
        "manifest_names_outside",
        "manifest_invalid",
        "no parts of it",
        lambda d: d.document["parts"][0].update(object_name="x"),
    ),
    BatchCase(
        "manifest_names_twice",
        "manifest_invalid",
        "a part twice",
        lambda d: d.document["parts"][1].update(d.document["parts"][0]),
    ),
    BatchCase(
        "manifest_names_wildcard",
        "manifest_invalid",
        "part-*",
        lambda d: d.document["parts"][0].update(
            object_name=batch_objects_prefix(LANDING, d.table, d.batch_id) + "part-*"
        ),
    ),
    BatchCase(
        "manifest_names_itself",
        "manifest_invalid",
        "manifest.json",
        lambda d: d.document["parts"][0].update(object_name=d.manifest_name),
    ),
    BatchCase("counts", "manifest_invalid", "add up", _counts(7, 2, 2, 2)),
    BatchCase(
        "manifest_names_too_long",
        "manifest_invalid",
        "object_name",
        lambda d: d.document["parts"][0].update(object_name=d.name(0).replace("part-", f"part-{'0' * 2_000}")),
    ),
    BatchCase("counts_huge", "manifest_invalid", "less than", _counts(10**30, 2, 2, 2)),
    BatchCase("size_huge", "manifest_invalid", "parts.0.size", lambda d: d.document["parts"][0].update(size=2**63)),
    BatchCase("rows_huge", "manifest_invalid", "parts.0.rows", lambda d: d.document["parts"][0].update(rows=10**400)),
    BatchCase(
        "year_0_in_utc",
        "manifest_invalid",
        "years 1 to 9999",
        lambda d: d.edit(extracted_at="0001-01-01T00:00:00+14:00"),
    ),
    BatchCase(
        "year_10000_in_utc",
        "manifest_invalid",
        "years 1 to 9999",
        lambda d: d.document["window"].update(high="9999-12-31T23:59:59-14:00"),
    ),
    BatchCase("year_10000", "manifest_invalid", "extracted_at", lambda d: d.edit(extracted_at="10000-01-01T00:00:00Z")),
    BatchCase(
        "manifest_large",
        "manifest_invalid",
        "was not read",
        lambda d: setattr(d, "raw", d.manifest + b" " * 16 * 1024**2),
    ),
    BatchCase("manifest_many_values", "manifest_invalid", "values; one", lambda d: d.edit(drift=["x"] * 300_000)),
    BatchCase(
        "manifest_many_fields",
        "manifest_invalid",
        "unknown fields",
        lambda d: d.edit(**{f"x{n}": n for n in range(100_000)}),
    ),
    BatchCase("manifest_long_field", "manifest_invalid", "characters more", lambda d: d.edit(**{"x" * 3_000_000: 1})),
    BatchCase(
        "announced_another_window",
        "manifest_invalid",
        "has announced: window differ",
        lambda d: d.edit(window={"low": None, "high": "9999-12-31T23:59:59Z"}),
        announced=False,
    ),
    BatchCase(
        "announced_another_mode",
        "manifest_invalid",
        "has announced: mode, extracted_at differ",
        lambda d: d.edit(mode="incremental", extracted_at="9999-12-31T23:59:59Z"),
        announced=False,
    ),
    BatchCase(
        "announced_other_parts",
        "manifest_invalid",
        "the state knows another",
        lambda d: d.edit(parts=d.document["parts"][:2], rows=4),
        announced=False,
    ),
    BatchCase("nobodys_keyless", "table_without_key", "without a key", lambda d: None, table="keyless", known=False),
    BatchCase(
        "nobodys_masked", "masked_column", "in clear", lambda d: None, table="people", column="tax_id", known=False
    ),
    BatchCase(
        "nobodys_column",
        "unexpected_column",
        "surplus",
        evolved("surplus"),
        table="growing",
        column="surplus",
        known=False,
    ),
    BatchCase(
        "nobodys_id_of_2099",
        "manifest_invalid",
        "began after its manifest arrived",
        lambda d: None,
        known=False,
        batch_id="20990101T000000000000Z-ffffffff",
    ),
    BatchCase(
        "nobodys_id_of_no_time",
        "manifest_invalid",
        "began after its manifest arrived",
        lambda d: None,
        known=False,
        batch_id="99999999T999999999999Z-ffffffff",
    ),
    BatchCase("no_parts", "manifest_invalid", "no parts", lambda d: d.edit(parts=[], rows=0)),
    BatchCase(
        "counts_too_many", "wrong_row_count", "loaded 6 rows, the manifest says 9", _counts(9, 3, 3, 3), loaded=True
    ),
    BatchCase(
        "counts_too_few", "wrong_row_count", "loaded 6 rows, the manifest says 3", _counts(3, 1, 1, 1), loaded=True
    ),
    BatchCase("counts_none", "wrong_row_count", "the manifest says 0", _counts(0, 0, 0, 0), loaded=True),
    BatchCase("counts_negative", "manifest_invalid", "parts.0.rows", _counts(-3, -1, -1, -1)),
    BatchCase("table_unknown", "unknown_table", "nowhere", lambda d: None, table="nowhere", known=False),
    BatchCase("table_unknown_prefix", "unknown_table", "orders_arch", lambda d: None, table="orders_arch", known=False),
    BatchCase("column_missing", "schema_changed", "amount", _without("amount"), column="amount"),
    BatchCase("columns_none", "schema_changed", "amount", lambda d: d.edit(columns=[]), column="amount"),
    BatchCase(
        "column_extra", "schema_changed", "surplus", lambda d: d.declare("surplus", ColumnType.STRING), column="surplus"
    ),
    BatchCase(
        "column_changed", "schema_changed", "ratio", lambda d: d.declare("ratio", ColumnType.INT64), column="ratio"
    ),
    BatchCase(
        "column_case",
        "schema_changed",
        "NOTE",
        lambda d: d.edit(columns=[c | {"name": c["name"].upper()} for c in d.document["columns"]]),
        table="steady",
        column="ID",
    ),
    BatchCase("evolve_missing", "schema_changed", "note", _without("note"), table="growing", column="note"),
    BatchCase(
        "evolve_changed",
        "schema_changed",
        "note",
        lambda d: d.declare("note", ColumnType.INT64),
        table="growing",
        column="note",
    ),
    BatchCase(
        "evolve_bad_name",
        "manifest_invalid",
        "bad name!",
        evolved("bad name!"),
        table="growing",
        column="bad name!",
    ),
    BatchCase(
        "column_twice",
        "manifest_invalid",
        "name",
        _twice,
        column="name",
    ),
    BatchCase("part_not_parquet", "load_refused", "", lambda d: d.write(1, b"not Parquet at all")),
    BatchCase("part_no_bytes", "load_refused", "", lambda d: d.write(1, b"")),
    BatchCase("part_lacks_required", "load_refused", "name", _part_without_required),
    BatchCase("part_text_for_int64", "load_refused", "id", _odd_part("id", pa.array(list("abcdef")))),
    BatchCase("part_float_for_numeric", "load_refused", "amount", _odd_part("amount", pa.array([1.5] * 6))),
    BatchCase("part_text_for_timestamp", "load_refused", "changed_at", _odd_part("changed_at", pa.array(["now"] * 6))),
    BatchCase("part_null_in_required", "load_refused", "name", _odd_part("name", pa.array([None] * 6, pa.string()))),
    BatchCase("failed_before", "abandoned", "ended before", lambda d: None, failed_before=True),
]


@dataclass(frozen=True)
class FileCase:
    """A file that cannot be loaded."""

    name: str
    code: str
    says: str
    object_name: str = "orders.parquet"
    """Below landing/."""
    content: Callable[[], bytes] = lambda: parquet(rows_of("orders"))
    table: str | None = "orders"
    """The table that the file is for, as far as its name says."""
    column: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def _orders(change: Callable[[pa.Table], pa.Table], **options: Any) -> Callable[[], bytes]:
    return lambda: parquet(change(rows_of("orders")), **options)


def _typed(case: str, code: str, column: str, array: pa.Array, says: str | None = None) -> FileCase:
    """One column of another type, or with another value."""
    return FileCase(case, code, says or f"column {column}", content=_orders(replaced(column, array)), column=column)


def _stranger(case: str, name: str, content: bytes = b"hello", code: str = "unknown_object") -> FileCase:
    says = "begins with no table" if code == "unknown_table" else "neither a batch"
    return FileCase(case, code, says, name, lambda: content, table=None)


def _corrupt(case: str, content: Callable[[], bytes]) -> FileCase:
    return FileCase(case, "corrupt_parquet", "cannot be read as Parquet", content=content)


def _many() -> pa.Table:
    """Rows enough for pages that a flipped byte hits."""
    return pa.concat_tables([rows_of("orders")] * 2_000)


def _hit(at: float, **options: Any) -> Callable[[], bytes]:
    """A file with sixteen bytes flipped at a place between its start and its end."""

    def content() -> bytes:
        whole = parquet(_many(), **options)
        return flipped(whole, int(len(whole) * at), 16)

    return content


def _uncompressed_checksums() -> bytes:
    """A page whose checksum, which the file has, tells what nothing else does: a name is another."""
    whole = parquet(rows_of("orders"), compression="none", use_dictionary=False, write_page_checksum=True)
    return whole.replace(b"order 3", b"order 7", 1)


def _renamed_in_footer() -> bytes:
    """A column whose name is not UTF-8."""
    rows = rows_of("orders").append_column("surplus", pa.array([1] * 6))
    return parquet(rows, store_schema=False).replace(b"surplus", b"sur\xff\xfeus")


def _long_footer() -> bytes:
    whole = parquet(rows_of("orders"))
    return whole[:-8] + (2**31 - 1).to_bytes(4, "little") + whole[-4:]


def _arrow_file() -> bytes:
    sink = io.BytesIO()
    rows = rows_of("orders")
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue()


def _doubled(rows: pa.Table) -> pa.Table:
    return pa.Table.from_arrays([*rows.columns, rows["name"]], names=[*rows.schema.names, "name"])


def long_name(length: int, last: str) -> str:
    """An object name below landing/ that has so many bytes with the prefix."""
    room = length - len(f"{LANDING}/{last}")
    folders = "d/" * (room // 2)
    return f"{folders if room % 2 == 0 else 'd' + folders}{last}"


def _stamped_with(times: pa.Array) -> Callable[[], bytes]:
    """Six rows, of which the last has this time of reading."""
    return lambda: parquet(rows_of("orders").append_column(EXTRACTED_AT.name, times))


def _required_in_footer() -> bytes:
    """A column that may be null, which the file's metadata call required: Arrow's reader ends its process over it."""
    whole = parquet(rows_of("orders_archive"), store_schema=False)
    optional, required = b"\x25\x02\x18\x04note", b"\x25\x00\x18\x04note"
    assert optional in whole
    return whole.replace(optional, required)


def _repeated(times: int, length: int) -> bytes:
    """One long name, so many times: in the file it is there once."""
    packed = pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array(["x" * length]))
    return parquet(pa.table({"id": pa.array(range(times), pa.int64()), "note": packed}), compression="zstd")


def _large_footer() -> bytes:
    return parquet(rows_of("orders").replace_schema_metadata({"note": "x" * 8 * 1024**2}))


_TEXTS = pa.array([b"\xff\xfe"] * 6, pa.binary()).view(pa.string())
_NS = 1_763_800_000_000_000_001

BAD_FILES = [
    FileCase("no_bytes", "empty_file", "no bytes", content=lambda: b""),
    FileCase("no_rows", "empty_file", "no rows", content=_orders(lambda rows: rows.slice(0, 0))),
    _corrupt("text", lambda: b"id,name\n1,one\n" * 50),
    _corrupt("one_byte", lambda: b"P"),
    _corrupt("magic_only", lambda: b"PAR1PAR1"),
    _corrupt("json", lambda: json.dumps([{"id": 1}]).encode()),
    _corrupt("arrow_ipc", _arrow_file),
    _corrupt("gzipped", lambda: gzip.compress(parquet(rows_of("orders")))),
    _corrupt("truncated", lambda: parquet(rows_of("orders"))[:-100]),
    _corrupt("head_cut", lambda: parquet(_many(), compression="zstd")[500:]),
    _corrupt("page_snappy", _hit(0.4, compression="snappy")),
    _corrupt("page_zstd", _hit(0.4, compression="zstd")),
    _corrupt(
        "page_checksum",
        _uncompressed_checksums,
    ),
    _corrupt("footer", lambda: flipped(w := parquet(rows_of("orders")), len(w) - 200, 100)),
    _corrupt("footer_too_long", _long_footer),
    _corrupt("encrypted", lambda: parquet(rows_of("orders"))[:-4] + b"PARE"),
    _corrupt(
        "column_not_utf8",
        _renamed_in_footer,
    ),
    FileCase(
        "column_missing",
        "missing_column",
        "amount",
        content=_orders(lambda rows: rows.drop_columns(["amount"])),
        column="amount",
    ),
    FileCase(
        "column_case",
        "missing_column",
        "id",
        content=_orders(lambda rows: rows.rename_columns(["ID", *rows.schema.names[1:]])),
        column="id",
    ),
    FileCase("columns_none", "missing_column", "id", content=lambda: parquet(pa.table({})), column="id"),
    FileCase(
        "column_extra",
        "unexpected_column",
        "surplus",
        content=_orders(lambda rows: rows.append_column("surplus", pa.array([1] * 6))),
        column="surplus",
    ),
    FileCase(
        "column_of_bronze",
        "unexpected_column",
        "_loaded_at",
        content=_orders(lambda rows: rows.append_column("_loaded_at", rows["changed_at"])),
        column="_loaded_at",
    ),
    FileCase("column_twice", "duplicate_column", "name more than once", content=_orders(_doubled), column="name"),
    FileCase(
        "evolve_extra",
        "unexpected_column",
        "surplus",
        "growing.parquet",
        lambda: parquet(rows_of("growing").append_column("surplus", pa.array([1] * 6))),
        "growing",
        "surplus",
    ),
    _typed("float_for_int64", "wrong_type", "id", pa.array([float(n) for n in range(6)])),
    _typed("bool_for_int64", "wrong_type", "id", pa.array([True] * 6)),
    _typed("uint64_too_large", "value_does_not_fit", "id", sixth(2**63, pa.uint64(), 1)),
    _typed("int_for_float", "wrong_type", "ratio", pa.array(range(6))),
    _typed("int_for_bool", "wrong_type", "flag", pa.array(range(6))),
    _typed("binary_for_string", "wrong_type", "name", pa.array([b"x"] * 6)),
    _typed("string_for_bytes", "wrong_type", "raw", pa.array(["x"] * 6)),
    _typed("string_for_timestamp", "wrong_type", "changed_at", pa.array(["2026-11-22T00:00:00Z"] * 6)),
    _typed(
        "naive_for_timestamp",
        "wrong_type",
        "changed_at",
        pa.array([INSTANT.replace(tzinfo=None)] * 6, pa.timestamp("us")),
    ),
    _typed("zoned_for_datetime", "wrong_type", "local_at", pa.array([INSTANT] * 6, pa.timestamp("us", "UTC"))),
    _typed("timestamp_for_date", "wrong_type", "day", pa.array([INSTANT.replace(tzinfo=None)] * 6, pa.timestamp("us"))),
    _typed("string_for_numeric", "wrong_type", "amount", pa.array(["1.5"] * 6)),
    _typed("float_for_numeric", "wrong_type", "amount", pa.array([1.5] * 6)),
    _typed("decimal_too_wide", "wrong_type", "amount", pa.array([Decimal(1)] * 6, pa.decimal128(38, 0))),
    _typed("decimal_too_fine", "value_does_not_fit", "amount", sixth(Decimal("0.0000000001"), pa.decimal128(38, 10))),
    _typed("list", "wrong_type", "name", pa.array([["x"]] * 6)),
    _typed("struct", "wrong_type", "name", pa.array([{"x": 1}] * 6)),
    _typed("nothing_but_nulls", "wrong_type", "amount", pa.nulls(6)),
    _typed("nanoseconds", "value_does_not_fit", "changed_at", sixth(_NS, pa.timestamp("ns", "UTC"), _NS - 1)),
    _typed("time_nanoseconds", "value_does_not_fit", "clock", sixth(1, pa.time64("ns"))),
    _typed("time_24", "value_does_not_fit", "clock", pa.array([86_400_000_000] * 6, pa.int64()).view(pa.time64("us"))),
    _typed(
        "null_in_required", "null_in_required_column", "name", sixth(None, pa.string(), "x"), "1 null(s) in column name"
    ),
    _typed("null_in_key", "null_in_required_column", "id", sixth(None, pa.int64(), 1), "1 null(s) in column id"),
    _typed("date_year_0", "value_does_not_fit", "day", sixth(-719_163, pa.int32(), 0).view(pa.date32())),
    _typed("date_year_10000", "value_does_not_fit", "day", sixth(2_932_897, pa.int32(), 0).view(pa.date32())),
    _typed(
        "timestamp_year_0",
        "value_does_not_fit",
        "changed_at",
        sixth(-62_135_596_800_000_001, pa.int64(), 0).view(pa.timestamp("us", "UTC")),
    ),
    _typed(
        "timestamp_year_10000",
        "value_does_not_fit",
        "changed_at",
        sixth(253_402_300_800_000_000, pa.int64(), 0).view(pa.timestamp("us", "UTC")),
    ),
    _typed(
        "timestamp_ms_too_large",
        "value_does_not_fit",
        "changed_at",
        sixth(2**62, pa.int64(), 0).view(pa.timestamp("ms", "UTC")),
    ),
    FileCase("text_not_utf8", "value_does_not_fit", "name", content=_orders(replaced("name", _TEXTS)), column="name"),
    FileCase(
        "extracted_at_null",
        "null_in_required_column",
        "_extracted_at",
        content=_orders(lambda rows: rows.append_column("_extracted_at", pa.nulls(6, pa.timestamp("us", "UTC")))),
        column="_extracted_at",
    ),
    FileCase(
        "extracted_at_naive",
        "wrong_type",
        "_extracted_at",
        content=_orders(lambda rows: rows.append_column("_extracted_at", rows["local_at"])),
        column="_extracted_at",
    ),
    FileCase(
        "extracted_at_in_the_future",
        "extracted_in_the_future",
        "when the file arrived",
        content=_stamped_with(sixth(datetime(2099, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"), READ_AT)),
        column="_extracted_at",
    ),
    FileCase(
        "extracted_at_year_10000",
        "value_does_not_fit",
        "_extracted_at",
        content=_stamped_with(sixth(253_402_300_800_000_000, pa.int64(), 0).view(pa.timestamp("us", "UTC"))),
        column="_extracted_at",
    ),
    FileCase(
        "extracted_at_year_0",
        "value_does_not_fit",
        "_extracted_at",
        content=_stamped_with(sixth(-(2**63), pa.int64(), 0).view(pa.timestamp("us", "UTC"))),
        column="_extracted_at",
    ),
    FileCase(
        "extracted_at_ms_too_large",
        "value_does_not_fit",
        "_extracted_at",
        content=_stamped_with(sixth(2**62, pa.int64(), 0).view(pa.timestamp("ms", "UTC"))),
        column="_extracted_at",
    ),
    FileCase(
        "extracted_at_date",
        "wrong_type",
        "_extracted_at",
        content=_stamped_with(rows_of("orders")["day"]),
        column="_extracted_at",
    ),
    FileCase(
        "reader_ends",
        "corrupt_parquet",
        "its reader ended with SIGABRT",
        "orders_archive.parquet",
        _required_in_footer,
        "orders_archive",
    ),
    FileCase("metadata_large", "file_too_large", "metadata", content=_large_footer),
    FileCase(
        "unpacks_to_400_MB",
        "file_too_large",
        "LOAD_FILE_MEMORY",
        "orders_archive.parquet",
        lambda: parquet(pa.table({"id": [1], "note": ["x" * 400_000_000]}), compression="zstd", use_dictionary=False),
        "orders_archive",
    ),
    FileCase(
        "unpacks_to_2_GB",
        "file_too_large",
        "LOAD_FILE_UNPACKED_BYTES",
        "orders_archive.parquet",
        lambda: _repeated(20_000, 100_000),
        "orders_archive",
        settings={"load_file_unpacked_bytes": 100_000_000},
    ),
    FileCase(
        "says_2_GB",
        "file_too_large",
        "LOAD_FILE_UNPACKED_BYTES",
        content=_orders(lambda rows: rows),
        settings={"load_file_unpacked_bytes": 100},
    ),
    FileCase(
        "takes_too_long",
        "file_too_large",
        "takes longer than 4 s",
        "orders_archive.parquet",
        lambda: _repeated(200_000, 1_000_000),
        "orders_archive",
        settings={"load_timeout": 4},
    ),
    FileCase(
        "table_without_key",
        "table_without_key",
        "without a key",
        "keyless.parquet",
        lambda: parquet(rows_of("keyless")),
        "keyless",
    ),
    FileCase(
        "masked_column",
        "masked_column",
        "tax_id",
        "people.parquet",
        lambda: parquet(rows_of("people")),
        "people",
        "tax_id",
    ),
    FileCase("too_large", "file_too_large", "LOAD_FILE_BYTES allows 1000", settings={"load_file_bytes": 1_000}),
    FileCase(
        "of_longest_name", "missing_column", "note", "orders_archive.parquet", table="orders_archive", column="note"
    ),
    _stranger("name_unknown", "unknown.parquet", code="unknown_table"),
    _stranger("name_longer", "ordersx.parquet", code="unknown_table"),
    _stranger("name_upper_case", "ORDERS.parquet", code="unknown_table"),
    _stranger("name_only_extension", ".parquet", code="unknown_table"),
    _stranger("name_is_folder", "orders/x.parquet", code="unknown_table"),
    _stranger("extension_txt", "orders.txt"),
    _stranger("extension_csv", "orders.csv"),
    _stranger("extension_tmp", "orders.parquet.tmp"),
    _stranger("extension_upper_case", "orders.PARQUET"),
    _stranger("extension_none", "orders"),
    _stranger("extension_blank", "orders.parquet "),
    _stranger("json_name", "orders.json", b"{}"),
    _stranger("success_marker", "ingestion_dt=2026-11-22/_SUCCESS", b""),
    _stranger("reason_copied_back", "orders.parquet.error.json", b"{}"),
    _stranger("manifest_elsewhere", "orders_20261122T170000123456Z-1a2b3c4d.manifest.json", b"{}"),
    _stranger(
        "manifest_other_day", "ingestion_dt=2026-11-21/orders_20261122T170000123456Z-1a2b3c4d.manifest.json", b"{}"
    ),
    _stranger("path_dots", "a/../note.txt"),
    _stranger("path_dot", "./note.txt"),
    _stranger("path_double_slash", "a//note.txt"),
    _stranger("path_leading_slash", "/note.txt"),
    _stranger("path_percent", "%2e%2e/%2f/note.txt"),
    _stranger("path_query", "note?x=1#y&z.txt"),
    _stranger("path_backslash", "..\\note.txt"),
    _stranger("name_newline", "no\nte.txt"),
    _stranger("name_newline_parquet", "orders-\n.parquet", code="unknown_table"),
    _stranger("name_unicode", "póżne zamówienie 中文.txt"),
    _stranger("name_emoji", "📦.txt"),
    _stranger("name_1000_bytes", long_name(1_000, "note.txt")),
    FileCase(
        "name_not_ascii_digits",
        "unknown_object",
        "neither a batch",
        "ingestion_dt=٢٠٢٦-11-22/orders_٢٠٢٦1122T170000123456Z-1a2b3c4d.manifest.json",
        lambda: b"{}",
        table=None,
    ),
    FileCase(
        "name_1024_bytes",
        "unknown_object",
        "neither a batch",
        long_name(1_024, "note.txt"),
        lambda: b"hello",
        table=None,
    ),
]


@dataclass(frozen=True)
class GoodFile:
    """A file that loads, and gives ROWS."""

    name: str
    object_name: str = "orders.parquet"
    content: Callable[[], bytes] = lambda: parquet(rows_of("orders"))
    extracted_at: datetime | None = None
    """When its rows were read; None for when it arrived."""
    table: str = "orders"


def _cast(**types: pa.DataType) -> Callable[[], bytes]:
    def change(rows: pa.Table) -> pa.Table:
        for name, type_ in types.items():
            rows = replaced(name, rows[name].combine_chunks().cast(type_))(rows)
        return rows

    return _orders(change)


GOOD_FILES = [
    GoodFile("exact_types"),
    GoodFile("narrow_int", content=_cast(id=pa.int32())),
    GoodFile("unsigned_int", content=_cast(id=pa.uint64())),
    GoodFile("narrow_decimal", content=_cast(amount=pa.decimal128(10, 2))),
    GoodFile("int_for_numeric", content=_cast(weight=pa.int16())),
    GoodFile("large_string", content=_cast(name=pa.large_string(), raw=pa.large_binary())),
    GoodFile("dictionary", content=_cast(name=pa.dictionary(pa.int32(), pa.string()))),
    GoodFile("milliseconds", content=_cast(changed_at=pa.timestamp("ms", "UTC"), local_at=pa.timestamp("ms"))),
    GoodFile("whole_nanoseconds", content=_cast(changed_at=pa.timestamp("ns", "America/Sao_Paulo"))),
    GoodFile("float32", content=_cast(ratio=pa.float32())),
    GoodFile("time_seconds", content=_cast(clock=pa.time32("s"))),
    GoodFile("other_order", content=_orders(lambda rows: rows.select(rows.schema.names[::-1]))),
    GoodFile("own_extracted_at", content=_orders(stamped), extracted_at=READ_AT),
    GoodFile("subfolder", "by hand/2026/orders.parquet"),
    GoodFile("suffix_dash", "orders-again.parquet"),
    GoodFile("suffix_underscore", "orders_2026.parquet"),
    GoodFile("suffix_dot", "orders.1.parquet"),
    GoodFile(
        "longest_name", "orders_archive-1.parquet", lambda: parquet(rows_of("orders_archive")), None, "orders_archive"
    ),
    GoodFile(
        "part_in_other_folder",
        "ingestion_dt=2026-11-21/orders_20261122T170000123456Z-1a2b3c4d.part-00000.parquet",
        _orders(stamped),
        READ_AT,
    ),
    GoodFile("unicode_name", "orders-zamówienie 中文 📦.parquet"),
    GoodFile("percent_name", "%2e%2e/orders-%2e%2e.parquet"),
    GoodFile("query_name", "orders-?x=1#y&z+[*].parquet"),
    GoodFile("dots_in_path", "a/../orders.parquet"),
    GoodFile("double_slash", "a//orders.parquet"),
    GoodFile("leading_slash", "/orders.parquet"),
    GoodFile("long_name", long_name(1_024, "orders.parquet")),
    GoodFile("row_groups", content=_orders(lambda rows: rows, row_group_size=1, compression="none")),
]
