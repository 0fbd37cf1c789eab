"""Whatever a contender does to a value, the comparison says so; and it says nothing of a value that is the same."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from benchmarks.equality import Difference, Source, SourceColumn, compare

ZONED = "timestamp with time zone"
PLAIN = "timestamp without time zone"
TIME = "time without time zone"
US = pa.timestamp("us", tz="UTC")
INSTANT = ("2026-11-22 12:34:56.789012+00", "1795350896789012")
MANY = "123456789012345678901234567890.12345"


def found(type_: str, values: Sequence[tuple[str | None, str | None]], landed: pa.Array, **more: pa.Array) -> str:
    """What is said of a column with these texts, of which this landed."""
    keys = [str(number) for number in range(len(values))]
    source = Source(
        "id",
        {
            "id": SourceColumn("id", "bigint", texts(keys), texts([None] * len(keys))),
            "value": SourceColumn("value", type_, texts([v[0] for v in values]), texts([v[1] for v in values])),
        },
    )
    table = pa.table({"id": pa.array(range(len(values)), pa.int64()), "value": landed, **more})
    findings = compare(source, table, "_text")
    assert isinstance(findings, list)
    assert str(findings[0]) == "equal"
    return str(findings[1])


def texts(values: Sequence[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


SAME: list[tuple[str, str, str | None, Any, pa.DataType, str]] = [
    ("bigint", "9223372036854775807", None, 2**63 - 1, pa.int64(), ""),
    ("bigint", "1", None, "1", pa.string(), ", as string"),
    ("numeric", "1.50", None, Decimal("1.5"), pa.decimal128(18, 2), ""),
    ("numeric", "0.000000001", None, Decimal("0.000000001"), pa.decimal128(38, 9), ""),
    ("numeric", MANY, None, Decimal(MANY), pa.decimal256(60, 10), ""),
    ("numeric", "NaN", None, "NaN", pa.string(), ", as string"),
    ("numeric", "0.5", None, 0.5, pa.float64(), ", as double"),
    ("double precision", "0.1", None, 0.1, pa.float64(), ""),
    ("double precision", "NaN", None, float("nan"), pa.float64(), ""),
    ("double precision", "-0", None, -0.0, pa.float64(), ""),
    ("real", "0.1", None, 0.10000000149011612, pa.float64(), ""),
    ("boolean", "true", None, True, pa.bool_(), ""),
    ("text", "", None, "", pa.string(), ""),
    ("text", 'a\n"b" 😀', None, 'a\n"b" 😀', pa.large_string(), ""),
    ("bytea", "\\x00ff", None, b"\x00\xff", pa.binary(), ""),
    ("bytea", "\\x", None, b"", pa.binary(), ""),
    ("uuid", str(UUID(int=7)), None, UUID(int=7).bytes, pa.binary(16), ""),
    ("date", "1582-10-10", "-141432", -141432, pa.date32(), ""),
    ("date", "infinity", None, "infinity", pa.string(), ", as string"),
    (ZONED, *INSTANT, int(INSTANT[1]), US, ""),
    (ZONED, *INSTANT, int(INSTANT[1]) * 1000, pa.timestamp("ns", tz="UTC"), ""),
    (ZONED, *INSTANT, int(INSTANT[1]), pa.timestamp("us"), ", as timestamp[us]"),
    (ZONED, *INSTANT, "2026-11-22T12:34:56.789012Z", pa.string(), ", as string"),
    (ZONED, "10000-01-01 00:00:00+00", "253402300800000000", 253402300800000000, US, ""),
    (PLAIN, "9999-12-31 00:00:00", "253402214400000000", 253402214400, pa.timestamp("s"), ""),
    (TIME, "12:00:00", "43200000000", 43200000, pa.time32("ms"), ""),
    ("interval", "1 mon 00:00:06.5", "P1MT6.5S", "P1MT6.500000S", pa.string(), ""),
    ("interval", "1 mon", "P1M", "P1M", pa.string(), ""),
    ("jsonb", '{"a": 1.10, "b": [null]}', None, '{"b":[null],"a":1.1}', pa.string(), ""),
    ("integer[]", "{1,NULL}", "[1,null]", [1, None], pa.list_(pa.int64()), ""),
    ("integer[]", "{1,NULL}", "[1,null]", "{1,NULL}", pa.string(), ", as string"),
    ("numeric[]", "{1.10}", "[1.10]", '["1.10"]', pa.string(), ", as string"),
    ("numeric[]", "{1.10}", "[1.10]", [Decimal("1.1")], pa.list_(pa.decimal128(10, 2)), ""),
]

OTHER: list[tuple[str, str, str | None, Any, pa.DataType]] = [
    ("bigint", "9007199254740993", None, 9007199254740992.0, pa.float64()),
    ("numeric", "0.1", None, 0.1, pa.float64()),
    ("numeric", "0.1", None, Decimal("0.10001"), pa.decimal128(38, 9)),
    ("numeric", "NaN", None, Decimal(0), pa.decimal128(38, 9)),
    ("numeric", "NaN", None, "a text", pa.string()),
    ("double precision", "-0", None, 0.0, pa.float64()),
    ("double precision", "0.1", None, 0.10000000149011612, pa.float64()),
    ("boolean", "true", None, False, pa.bool_()),
    ("boolean", "true", None, 1, pa.int64()),
    ("text", "", None, " ", pa.string()),
    ("text", "a\r\n", None, "a\n", pa.string()),
    ("text", "NULL", None, "null", pa.string()),
    ("bytea", "\\x00ff", None, "AP8=", pa.string()),
    ("uuid", str(UUID(int=7)), None, UUID(int=8).bytes, pa.binary(16)),
    ("date", "infinity", None, 2932896, pa.date32()),
    ("date", "1582-10-10", "-141432", -141422, pa.date32()),
    (ZONED, *INSTANT, int(INSTANT[1]) // 1000, pa.timestamp("ms", tz="UTC")),
    (ZONED, *INSTANT, int(INSTANT[1]) + 1, US),
    (ZONED, *INSTANT, "2026-11-22T12:34:56.789012+01:00", pa.string()),
    (ZONED, "infinity", None, 2**63 - 1, US),
    (TIME, "24:00:00", "86400000000", 0, pa.time64("us")),
    ("interval", "1 mon", "P1M", "P30D", pa.string()),
    ("interval", "30 days", "P30D", timedelta(days=30), pa.duration("us")),
    ("jsonb", '"é"', None, "é", pa.string()),
    ("jsonb", "null", None, "0", pa.string()),
    ("jsonb", "true", None, "1", pa.string()),
    ("jsonb", '{"x": 12345678901234567890}', None, '{"x": 12345678901234567000}', pa.string()),
    ("jsonb", '{"x": 1}', None, '{"x": "1"}', pa.string()),
    ("integer[]", "{1,NULL}", "[1,null]", [1, 0], pa.list_(pa.int64())),
    ("integer[]", "{{1,2},{3,4}}", "[[1,2],[3,4]]", [1, 2, 3, 4], pa.list_(pa.int64())),
    ("text[]", '{"NULL"}', '["NULL"]', [None], pa.list_(pa.string())),
]


@pytest.mark.parametrize(("type_", "printed", "other", "value", "arrow", "said"), SAME, ids=str)
def test_the_same_is_equal(
    type_: str, printed: str, other: str | None, value: Any, arrow: pa.DataType, said: str
) -> None:
    values = [(None, None), (printed, other)]
    assert found(type_, values, pa.array([None, value], arrow)) == f"equal{said}"


@pytest.mark.parametrize(("type_", "printed", "other", "value", "arrow"), OTHER, ids=str)
def test_another_value_is_found(type_: str, printed: str, other: str | None, value: Any, arrow: pa.DataType) -> None:
    assert found(type_, [(None, None), (printed, other)], pa.array([None, value], arrow)).startswith("1 of 2 changed")


def test_nulls_are_values_too() -> None:
    assert found("text", [("a", None), (None, None)], pa.array([None, ""])) == "1 of 2 null, 1 of 2 made up (a → null)"
    whole = found("bytea", [("\\x", None), (None, None)], pa.array([None, b""]))
    assert whole == "1 of 2 null, 1 of 2 made up (\\x → null)"


def test_an_example_can_be_read() -> None:
    landed = pa.array(["a\n" + "b" * 100])
    assert found("text", [("\uf02b\n", None)], landed) == f"1 of 1 changed (\\uf02b\\n → a\\n{'b' * 58}…)"


def test_what_a_column_cannot_hold_may_be_in_its_companion() -> None:
    values = [("2026-11-22", "20779"), ("infinity", None)]
    dates = pa.array([20779, None], pa.date32())
    beside = pa.array([None, "infinity"])
    assert found("date", values, dates, value_text=beside) == "equal, 1 of 2 in a column for texts"
    wrong = found("date", values, dates, value_text=pa.array([None, "-infinity"]))
    assert wrong.startswith("1 of 2 changed (infinity → -infinity")


def test_a_column_that_is_not_there_is_lost_or_elsewhere() -> None:
    source = Source("id", {name: SourceColumn(name, "text", texts(["a"]), texts([None])) for name in ("id", "value")})
    lost = compare(source, pa.table({"id": ["a"]}))
    assert isinstance(lost, list)
    assert str(lost[1]) == "1 of 1 null, as nothing"
    spread = compare(source, pa.table({"id": ["a"], "value__lower": [1]}))
    assert isinstance(spread, list)
    assert str(spread[1]) == "in other columns: value__lower"
    assert not spread[1].exact


def test_rows_that_are_missing_doubled_or_unknown_are_counted() -> None:
    source = Source("id", {"id": SourceColumn("id", "bigint", texts(["1", "2", "3"]), texts([None, None, None]))})
    assert compare(source, pa.table({"id": [3, 1]})) == Difference(missing=1, unknown=0)
    assert compare(source, pa.table({"id": [3, 1, 2, 2]})) == Difference(missing=0, unknown=1)
    assert compare(source, pa.table({"id": [3, 1, 4]})) == Difference(missing=1, unknown=1)
    assert compare(source, pa.table({"another": [3]})) == Difference(missing=3, unknown=1)


def test_the_order_of_rows_and_files_does_not_matter() -> None:
    source = Source(
        "id",
        {
            "id": SourceColumn("id", "bigint", texts(["1", "10", "2"]), texts([None] * 3)),
            "value": SourceColumn("value", "text", texts(["a", "b", "c"]), texts([None] * 3)),
        },
    )
    parts = [pa.table({"id": [10], "value": ["b"]}), pa.table({"id": [2, 1], "value": ["c", "a"]})]
    findings = compare(source, pa.concat_tables(parts))
    assert isinstance(findings, list)
    assert [str(finding) for finding in findings] == ["equal", "equal"]


def test_types_that_only_arrow_names_otherwise_are_the_same() -> None:
    words = pa.array(["a", "b"]).dictionary_encode()
    assert found("text", [("a", None), ("b", None)], words) == "equal"
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID(int=1).bytes], pa.binary(16)))
    assert found("uuid", [(str(UUID(int=1)), None)], ids) == "equal"
