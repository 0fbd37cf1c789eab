"""The sieve: which rows are news, and what a fingerprint is made of."""

import hashlib
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.arrow import ARROW_TYPES, arrow_schema
from services.core.manifest import ManifestColumn
from services.core.tables import ColumnType
from services.extractor.planning.again import FORM, Again
from services.extractor.reading.sieve import Sieve, Sifting, recalled, written

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


def passed(sifting: Sifting, rows: pa.RecordBatch, *flags: Again) -> list[bool]:
    """Which rows pass."""
    news = sifting.news(rows, pa.array([flag.value for flag in flags], pa.int32()))
    return [True] * rows.num_rows if news is None else list(news.to_pylist())


def kept_of(rows: pa.RecordBatch) -> pa.Table:
    """What is kept of rows that are all read again."""
    sifting = Sieve(100).sift(READ_AT)
    passed(sifting, rows, *[NEXT] * rows.num_rows)
    return sifting.found()


def knowing(rows: pa.RecordBatch, most: int = 100) -> Sifting:
    """A sifting that knows rows; they were an object in between."""
    content = written(kept_of(rows))
    return Sieve(most, lambda: recalled(content)).sift(READ_AT)


ONE = [ManifestColumn(name="id", type=ColumnType.INT64), ManifestColumn(name="v", type=ColumnType.STRING)]


def test_a_row_that_is_known_is_no_news_and_any_other_is() -> None:
    rows = batch(ONE, *({"id": n, "v": "a"} for n in range(5)))
    sifting = knowing(rows)
    now = batch(ONE, *({"id": n, "v": "b" if n == 2 else "a"} for n in range(7)))
    assert passed(sifting, now, *[BOTH] * 7) == [False, False, True, False, False, True, True]
    assert sifting.dropped == 4
    assert len(sifting.found() or ()) == 7, "known ones are kept on, and the news too"


def test_a_known_row_is_news_where_the_last_window_cannot_have_read_it() -> None:
    """A version that not all snapshots of a window see: another one can have landed before it."""
    rows = batch(ONE, {"id": 1, "v": "a"}, {"id": 2, "v": "a"})
    sifting = knowing(rows)
    assert passed(sifting, rows, NEXT, BOTH) == [True, False]
    assert len(sifting.found() or ()) == 2


def test_what_is_kept_is_what_the_next_window_reads_again() -> None:
    sieve = Sieve(100)
    sifting = sieve.sift(READ_AT)
    rows = batch(ONE, *({"id": n, "v": None} for n in range(4)))
    assert passed(sifting, rows, NEXT, Again(0), LAST, NEXT | Again.AHEAD) == [True] * 4
    sieve.take(0, READ_AT, sifting)
    kept = sieve.kept({0: READ_AT})
    assert kept is not None
    assert kept.column("ahead").to_pylist() == [False, True]
    following = Sieve(100, lambda: recalled(written(kept))).sift(READ_AT)
    assert passed(following, rows, LAST, LAST, LAST, LAST) == [False, True, True, False]
    assert passed(following, rows, *[Again(0)] * 4) == [True] * 4, "what no window can have read is not looked for"


def test_of_more_than_are_kept_none_are_and_known_rows_are_told_all_the_same() -> None:
    rows = batch(ONE, *({"id": n, "v": "a"} for n in range(5)))
    sifting = knowing(rows, most=4)
    assert passed(sifting, rows.slice(0, 3), *[BOTH] * 3) == [False] * 3
    assert not sifting.overflowed
    assert passed(sifting, rows.slice(3), *[BOTH] * 2) == [False] * 2
    assert sifting.overflowed
    assert passed(sifting, rows, *[BOTH] * 5) == [False] * 5
    assert sifting.found() is None


def sifted(sieve: Sieve, statement: int, rows: pa.RecordBatch, read_at: datetime = READ_AT) -> None:
    """A statement's rows have passed a sieve, and have landed."""
    sifting = sieve.sift(read_at)
    passed(sifting, rows, *[NEXT] * rows.num_rows)
    sieve.take(statement, read_at, sifting)


SOME, MORE = batch(ONE, {"id": 1, "v": "a"}, {"id": 2, "v": "b"}), batch(ONE, {"id": 3, "v": "c"})
LATER = datetime(2026, 11, 26, 13, tzinfo=UTC)


def test_what_several_statements_have_read_at_one_moment_is_kept() -> None:
    sieve = Sieve(3)
    sifted(sieve, 0, SOME)
    sifted(sieve, 1, MORE)
    kept = sieve.kept({0: READ_AT, 1: READ_AT})
    assert kept is not None
    assert kept.num_rows == 3
    assert not sieve.overflowed


def test_of_many_rows_that_come_a_few_at_a_time_each_is_kept() -> None:
    rows = [
        batch(ONE, *({"id": n, "v": "a"} for n in range(start, start + 1_000))) for start in range(0, 20_000, 1_000)
    ]
    sieve = Sieve(20_000)
    sifting = sieve.sift(READ_AT)
    for some in rows:
        passed(sifting, some, *([NEXT, Again(0)] * 500))
    sieve.take(0, READ_AT, sifting)
    kept = sieve.kept({0: READ_AT})
    assert kept is not None
    following = Sieve(1, lambda: recalled(written(kept))).sift(READ_AT)
    assert [passed(following, some, *[LAST] * 1_000) for some in rows] == [[False, True] * 500] * 20


def test_what_was_read_at_several_moments_or_elsewhere_is_not_kept() -> None:
    """Two versions of a row can have landed, and which of them bronze takes, fingerprints do not tell."""
    sieve = Sieve(10)
    sifted(sieve, 0, SOME)
    sifted(sieve, 1, MORE, LATER)
    assert sieve.kept({0: READ_AT, 1: LATER}) is None
    assert sieve.kept({0: READ_AT, 1: READ_AT}) is None, "another try's of the same chunk is in the batch"
    assert sieve.kept({0: READ_AT, 2: READ_AT}) is None, "another process has read it"
    assert sieve.kept({}) is None
    assert sieve.kept({0: READ_AT}) is not None


def test_of_a_statement_that_is_read_again_the_last_attempt_counts() -> None:
    sieve = Sieve(3)
    broken = sieve.sift(READ_AT)
    passed(broken, MORE, NEXT)
    sifted(sieve, 0, SOME)
    sifted(sieve, 0, MORE)
    kept = sieve.kept({0: READ_AT})
    assert kept is not None
    assert kept.num_rows == 1


def test_of_more_than_are_kept_by_all_statements_together_none_are() -> None:
    sieve = Sieve(2)
    sifted(sieve, 0, SOME)
    sifted(sieve, 1, MORE)
    assert sieve.overflowed
    assert sieve.kept({0: READ_AT, 1: READ_AT}) is None
    sifted(sieve, 2, SOME)
    assert sieve.overflowed, "and no more are made"


def test_whether_what_was_kept_counts_is_asked_for_each_time_of_reading() -> None:
    answers = [kept_of(SOME), None, kept_of(SOME)]
    sieve = Sieve(10, lambda: answers.pop(0))
    for read_at, news in ((READ_AT, False), (LATER, True), (READ_AT, False), (LATER.replace(hour=14), False)):
        assert passed(sieve.sift(read_at), SOME, LAST, LAST) == [news] * 2
    assert answers == []


def test_wide_rows_are_looked_at_piece_by_piece() -> None:
    rows = batch(ONE, *({"id": n, "v": str(n) * 1_000_000} for n in range(30)))
    now = batch(ONE, *({"id": n, "v": str(n) * 1_000_000 + "x" * (n == 17)} for n in range(30)))
    assert [n for n, new in enumerate(passed(knowing(rows), now, *[LAST] * 30)) if new] == [17]


def test_what_is_no_file_of_fingerprints_is_refused() -> None:
    with pytest.raises(pa.ArrowException):
        recalled(b"PAR1 nothing PAR1")


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
    content = written(kept_of(batch(COLUMNS, row, dict.fromkeys(row))))
    kept = {(each["high"] << 64) + each["low"] for each in recalled(content).to_pylist()}
    texts = [text, f"[{','.join(['null'] * len(COLUMNS))}]"]
    assert kept == {int.from_bytes(hashlib.md5(each.encode()).digest(), "little") for each in texts}  # noqa: S324
    assert FORM == 1
