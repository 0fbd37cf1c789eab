"""The sieve: which rows are news, and what a fingerprint is made of."""

import hashlib
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.arrow import ARROW_TYPES, arrow_schema
from services.core.manifest import ManifestColumn
from services.core.tables import ColumnType
from services.extractor.planning.again import FORM, Again
from services.extractor.reading.sieve import Sieve

READ_AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
COLUMNS = [ManifestColumn(name=type_.value.lower(), type=type_) for type_ in ColumnType]
EXACT = Context(prec=80)
NEXT, LAST, BOTH = Again.NEXT, Again.LAST, Again.NEXT | Again.LAST

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4) | st.sampled_from(
    ["null", "", "\\", '"', ",", "1", "true"]
)
VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.STRING: texts,
    ColumnType.INT64: st.integers(-(2**63), 2**63 - 1),
    ColumnType.NUMERIC: st.integers(-(10**37), 10**37).map(lambda n: Decimal(n).scaleb(-9, EXACT)),
    ColumnType.BIGNUMERIC: st.integers(-(10**75), 10**75).map(lambda n: Decimal(n).scaleb(-38, EXACT)),
    ColumnType.FLOAT64: st.floats(),
    ColumnType.BOOL: st.booleans(),
    ColumnType.DATE: st.dates(),
    ColumnType.TIMESTAMP: st.datetimes(timezones=st.just(UTC)),
    ColumnType.DATETIME: st.datetimes(),
    ColumnType.TIME: st.times(),
    ColumnType.BYTES: st.binary(max_size=4),
}
rows_of_all_types = st.fixed_dictionaries({c.name: st.none() | VALUES[c.type] for c in COLUMNS})


def batch(columns: list[ManifestColumn], *rows: dict[str, Any]) -> pa.RecordBatch:
    """Rows as they land."""
    schema = arrow_schema(columns)
    arrays = [pa.array([row[c.name] for row in rows], ARROW_TYPES[c.type]) for c in columns]
    return pa.RecordBatch.from_arrays([*arrays, pa.array([READ_AT] * len(rows), schema.field(-1).type)], schema=schema)


def passed(sieve: Sieve, rows: pa.RecordBatch, *flags: Again) -> list[bool]:
    """Which rows a sieve lets pass."""
    news = sieve.news(rows, pa.array([flag.value for flag in flags], pa.int32()))
    return [True] * rows.num_rows if news is None else list(news.to_pylist())


def knowing(rows: pa.RecordBatch) -> Sieve:
    """A sieve that knows rows."""
    before, sieve = Sieve(100), Sieve(100)
    passed(before, rows, *[NEXT] * rows.num_rows)
    sieve.know(before.kept()[0])
    return sieve


ONE = [ManifestColumn(name="id", type=ColumnType.INT64), ManifestColumn(name="v", type=ColumnType.STRING)]


def test_a_row_that_is_known_is_no_news_and_any_other_is() -> None:
    rows = batch(ONE, *({"id": n, "v": "a"} for n in range(5)))
    sieve = knowing(rows)
    now = batch(ONE, *({"id": n, "v": "b" if n == 2 else "a"} for n in range(7)))
    assert passed(sieve, now, *[BOTH] * 7) == [False, False, True, False, False, True, True]
    assert sieve.dropped == 4
    assert sieve.kept()[1] == 7, "known ones are kept on, and the news too"


def test_what_is_kept_is_what_the_next_window_reads_again() -> None:
    sieve = Sieve(100)
    rows = batch(ONE, *({"id": n, "v": None} for n in range(4)))
    assert passed(sieve, rows, NEXT, Again(0), LAST, NEXT | Again.AHEAD) == [True] * 4
    content, count, ahead = sieve.kept()
    assert (count, ahead) == (2, 1)
    following = Sieve(100)
    following.know(content)
    assert passed(following, rows, LAST, LAST, LAST, LAST) == [False, True, True, False]
    assert passed(following, rows, *[Again(0)] * 4) == [True] * 4, "what no window can have read is not looked for"


def test_of_more_than_are_kept_none_are_and_known_rows_are_told_all_the_same() -> None:
    rows = batch(ONE, *({"id": n, "v": "a"} for n in range(5)))
    content = knowing(rows)
    assert content.kept()[1] == 0
    sieve = Sieve(4)
    before = Sieve(100)
    passed(before, rows, *[NEXT] * 5)
    sieve.know(before.kept()[0])
    assert passed(sieve, rows.slice(0, 3), *[BOTH] * 3) == [False] * 3
    assert not sieve.overflowed
    assert passed(sieve, rows.slice(3), *[BOTH] * 2) == [False] * 2
    assert sieve.overflowed
    assert passed(sieve, rows, *[BOTH] * 5) == [False] * 5
    assert sieve.kept()[1] == 0
    sieve.begin()
    assert not sieve.overflowed
    assert sieve.dropped == 0


def test_a_read_that_begins_anew_has_kept_nothing_and_knows_what_it_knew() -> None:
    rows = batch(ONE, {"id": 1, "v": "a"}, {"id": 2, "v": "b"})
    sieve = knowing(rows)
    passed(sieve, batch(ONE, {"id": 3, "v": "c"}), NEXT)
    sieve.begin()
    assert sieve.kept()[1] == 0
    assert passed(sieve, rows, LAST, LAST) == [False, False]


def test_wide_rows_are_looked_at_piece_by_piece() -> None:
    rows = batch(ONE, *({"id": n, "v": str(n) * 1_000_000} for n in range(30)))
    now = batch(ONE, *({"id": n, "v": str(n) * 1_000_000 + "x" * (n == 17)} for n in range(30)))
    assert [n for n, new in enumerate(passed(knowing(rows), now, *[LAST] * 30)) if new] == [17]


def test_what_is_no_file_of_fingerprints_is_refused() -> None:
    with pytest.raises(pa.ArrowException):
        Sieve(1).know(b"PAR1 nothing PAR1")


@settings(max_examples=60, deadline=None)
@given(st.lists(rows_of_all_types, min_size=1, max_size=6), st.data())
def test_rows_have_the_same_fingerprint_only_if_they_are_the_same(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    """By the values' own text in Python: no value of any type is taken for another, nor for that of a neighbour."""
    known = batch(COLUMNS, *rows)
    name = data.draw(st.sampled_from([column.name for column in COLUMNS]))
    changed = [{**row, name: data.draw(rows_of_all_types)[name]} for row in rows]
    now = batch(COLUMNS, *changed)

    def shown(each: pa.RecordBatch) -> list[str]:
        bits = [c.view(pa.int64()) if pa.types.is_float64(c.type) else c for c in each.columns]
        return [repr(row) for row in zip(*(column.to_pylist() for column in bits), strict=True)]

    there = set(shown(known))
    assert passed(knowing(known), now, *[LAST] * len(rows)) == [row not in there for row in shown(now)]


def test_neighbours_do_not_run_into_one_another() -> None:
    both = [ManifestColumn(name=name, type=ColumnType.STRING) for name in ("a", "b")]
    pairs = [
        ("x", "y"),
        ("xy", ""),
        ("", "xy"),
        (None, "xy"),
        ("xy", None),
        ('x","y', ""),
        ("null", None),
        (None, "null"),
    ]
    rows = [batch(both, {"a": a, "b": b}) for a, b in pairs]
    for place, row in enumerate(rows):
        assert [passed(knowing(row), other, LAST) for other in rows] == [[n != place] for n in range(len(rows))]


def test_a_fingerprint_is_the_same_with_every_release_of_the_engine() -> None:
    """If it is not, raise ``FORM``: what was kept is void then, and is not compared with what can never be equal."""
    row = {
        "string": 'é"\\\n😀',
        "int64": -1,
        "numeric": Decimal("1.5"),
        "bignumeric": Decimal("-0.1"),
        "float64": -0.0,
        "bool": True,
        "date": date(1970, 1, 3),
        "timestamp": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        "datetime": datetime(1969, 12, 31, 23, 59, 59),
        "time": time(0, 0, 0, 7),
        "bytes": b"\0\\",
    }
    numbers = (
        '-1,"1.500000000","-0.10000000000000000000000000000000000000",-9223372036854775808,true,2,1000000,-1000000,7'
    )
    text = r'["é\"\\\n😀",' + numbers + ',"AFw="]'
    sieve = Sieve(10)
    passed(sieve, batch(COLUMNS, row, dict.fromkeys(row)), NEXT, NEXT)
    kept = {(each["high"] << 64) + each["low"] for each in pq.read_table(pa.BufferReader(sieve.kept()[0])).to_pylist()}
    texts = [text, f"[{','.join(['null'] * len(COLUMNS))}]"]
    assert kept == {int.from_bytes(hashlib.md5(each.encode()).digest(), "little") for each in texts}  # noqa: S324
    assert FORM == 1
