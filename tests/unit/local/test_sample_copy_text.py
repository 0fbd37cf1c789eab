"""COPY text against a reader of the format written from PostgreSQL's description of it."""

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.sample.arrow_types import UnsupportedType, fits, postgres_type
from local.sample.copy_text import as_text, copy_text, json_text

MEANING = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def read(data: memoryview) -> list[list[str | None]]:
    lines = bytes(data).decode().split("\n")
    assert lines.pop() == ""
    return [
        [None if field == "\\N" else re.sub(r"\\(.)", lambda m: MEANING[m[1]], field) for field in line.split("\t")]
        for line in lines
    ]


NASTY = st.text(alphabet=st.sampled_from('\\\t\n\r".N,{}aé😀'), max_size=6)


@given(st.lists(st.tuples(st.none() | NASTY, st.none() | st.text(), st.none() | st.integers(-(2**63), 2**63 - 1))))
def test_texts_and_numbers_come_back(rows: list[tuple[str | None, str | None, int | None]]) -> None:
    first, second, third = ([row[place] for row in rows] for place in range(3))
    batch = pa.record_batch(
        {"a": pa.array(first, pa.string()), "b": pa.array(second, pa.string()), "c": pa.array(third, pa.int64())}
    )
    expected = [[a, b, None if c is None else str(c)] for a, b, c in rows]
    assert read(copy_text(batch)) == expected


@given(st.lists(st.floats(), min_size=1))
def test_floats_keep_every_bit(values: list[float]) -> None:
    texts = as_text(pa.array(values, pa.float64())).to_pylist()
    assert [repr(float(text)) for text in texts] == [repr(value) for value in values]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=2)))
def test_decimals_keep_every_digit(values: list[Decimal]) -> None:
    assert [Decimal(text) for text in as_text(pa.array(values, pa.decimal128(38, 2))).to_pylist()] == values


@given(st.lists(st.none() | st.lists(st.none() | NASTY)))
def test_array_literals(values: list[list[str | None] | None]) -> None:
    def parse(literal: str | None) -> list[str | None] | None:
        if literal is None:
            return None
        items = re.findall(r'"((?:[^"\\]|\\.)*)"|(NULL)', literal[1:-1], re.DOTALL)
        return [None if null else re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) for text, null in items]

    assert [parse(text) for text in as_text(pa.array(values, pa.list_(pa.string()))).to_pylist()] == values


def test_batches_that_are_slices() -> None:
    batch = pa.record_batch({"a": ["x", "y", None, "z"], "l": [[1], None, [2, 3], []]}).slice(1, 3)
    assert bytes(copy_text(batch)) == b'y\t\\N\n\\N\t{"2","3"}\nz\t{}\n'
    assert bytes(copy_text(batch.slice(0, 0))) == b""


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([b"", b"\x00\\", None]), ["\\x", "\\x005c", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([date(1, 1, 1), date(9999, 12, 31)]), ["0001-01-01", "9999-12-31"]),
        (pa.array([1_500_000_000], pa.timestamp("ms")), ["1970-01-18 08:40:00.000000"]),
        (pa.array([1_000], pa.timestamp("ns", "America/Sao_Paulo")), ["1970-01-01 00:00:00.000001Z"]),
        (pa.array([time(23, 59, 59, 999999)]), ["23:59:59.999999"]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([{"a": 1, "b": None}, None]), ['{"a": 1, "b": null}', None]),
        (pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())), ['{"k": 1}', "{}", None]),
        (pa.array([[[1, None], []], None]), ["[[1, null], []]", None]),
        (pa.array([None, None]), [None, None]),
    ],
)
def test_values_as_postgresql_reads_them(values: pa.Array, texts: list[str | None]) -> None:
    assert as_text(values).to_pylist() == texts


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1], pa.timestamp("ns")),
        pa.array([1], pa.timestamp("ns", "UTC")),
        pa.array([1], pa.time64("ns")),
        pa.array([[1]], pa.list_(pa.timestamp("ns"))),
        pa.array([{"a": 1}], pa.struct([("a", pa.timestamp("ns"))])),
        pa.array([-800_000], pa.date32()),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([-(10**17)], pa.timestamp("us")),
        pa.array([10**15], pa.timestamp("s")),
        pa.array([1], pa.date64()),
        pa.array([{"a": float("nan")}]),
        pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int8())),
    ],
)
def test_what_would_change_is_refused(values: pa.Array) -> None:
    with pytest.raises((ValueError, KeyError)):
        as_text(values)


def test_json() -> None:
    value = {
        "text": 'é"\n',
        "number": Decimal("0.10"),
        "large": 2**70,
        "instant": datetime(2025, 1, 2, 3, 4, 5, 6, UTC),
        "bytes": b"\x00\xff",
        "uuid": UUID(int=1),
        "list": [True, None, 0.1],
        date(2025, 1, 2): 1,
        7: 2,
    }
    assert json_text(value) == (
        '{"text": "é\\"\\n", "number": 0.10, "large": 1180591620717411303424, '
        '"instant": "2025-01-02T03:04:05.000006+00:00", "bytes": "\\\\x00ff", '
        '"uuid": "00000000-0000-0000-0000-000000000001", "list": [true, null, 0.1], "2025-01-02": 1, "7": 2}'
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.int8(), "smallint"),
        (pa.uint16(), "integer"),
        (pa.uint32(), "bigint"),
        (pa.uint64(), "numeric(20,0)"),
        (pa.decimal128(18, 2), "numeric(18,2)"),
        (pa.decimal128(5, -2), "numeric(7,0)"),
        (pa.decimal256(60, 30), "numeric(60,30)"),
        (pa.timestamp("ns"), "timestamp without time zone"),
        (pa.timestamp("s", "Asia/Tokyo"), "timestamp with time zone"),
        (pa.dictionary(pa.int32(), pa.large_string()), "text"),
        (pa.uuid(), "uuid"),
        (pa.list_(pa.decimal128(9, 3)), "numeric(9,3)[]"),
        (pa.large_list(pa.struct([("a", pa.int8())])), "jsonb[]"),
        (pa.list_(pa.list_(pa.int8())), "jsonb"),
        (pa.map_(pa.string(), pa.int8()), "jsonb"),
    ],
)
def test_postgres_types(kind: pa.DataType, name: str) -> None:
    assert postgres_type(kind) == name


@pytest.mark.parametrize(
    "kind",
    [
        pa.duration("s"),
        pa.month_day_nano_interval(),
        pa.list_(pa.duration("s")),
        pa.struct([("a", pa.list_(pa.duration("s")))]),
        pa.struct([("a", pa.int8()), ("a", pa.int8())]),
    ],
)
def test_types_postgresql_does_not_have(kind: pa.DataType) -> None:
    with pytest.raises(UnsupportedType):
        postgres_type(kind)


@pytest.mark.parametrize(
    ("source", "column", "expected"),
    [
        ("text", "text", True),
        ("text", "character varying", True),
        ("text", "character varying(10)", False),  # trailing blanks are cut off
        ("bigint", "smallint", True),  # or an error
        ("bigint", "numeric(18,2)", True),
        ("numeric(18,2)", "numeric(20,4)", True),
        ("numeric(18,2)", "numeric", True),
        ("numeric(18,2)", "numeric(18,1)", False),
        ("numeric(18,2)", "bigint", False),
        ("numeric(20,0)", "bigint", True),
        ("double precision", "numeric(18,2)", False),
        ("real", "double precision", False),  # 0.1 as real is not 0.1
        ("timestamp without time zone", "timestamp with time zone", False),
        ("integer[]", "bigint[]", True),
        ("integer", "bigint[]", False),
        ("text", "date", False),
    ],
)
def test_what_an_existing_column_takes_exactly(source: str, column: str, expected: bool) -> None:
    assert fits(source, column) is expected
