"""What ``convertible`` lets pass arrives exactly, or not at all; never as another value (invariant 7)."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.arrow import ARROW_TYPES, conform, convertible
from services.core.errors import DataError
from services.core.manifest import ManifestColumn
from services.core.tables import ColumnType

AT = datetime(2026, 11, 22, tzinfo=UTC)

OFFERED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(st.characters(exclude_categories=["Cs"]))),
    (pa.large_string(), st.text(st.characters(exclude_categories=["Cs"]))),
    (pa.dictionary(pa.int32(), pa.string()), st.text(st.characters(exclude_categories=["Cs"]))),
    (pa.binary(), st.binary()),
    (pa.large_binary(), st.binary()),
    (pa.decimal128(10, 2), st.decimals(-(10**7), 10**7, places=2)),
    (pa.decimal128(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    (pa.decimal128(38, 0), st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal)),
    (pa.decimal256(76, 38), st.decimals(-(10**37), 10**37, places=3)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(UTC))),
    (pa.timestamp("ms", tz="UTC"), st.datetimes(timezones=st.just(UTC)).map(lambda d: d.replace(microsecond=0))),
    (pa.time64("us"), st.times()),
    (pa.time32("ms"), st.times().map(lambda t: t.replace(microsecond=0))),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
]


@pytest.mark.parametrize("offered", OFFERED, ids=lambda each: str(each[0]))
@pytest.mark.parametrize("to", list(ColumnType))
@given(data=st.data())
def test_a_value_arrives_exactly_or_is_refused(
    offered: tuple[pa.DataType, st.SearchStrategy[Any]], to: ColumnType, data: st.DataObject
) -> None:
    arrow, values = offered
    if not convertible(arrow, to):
        return
    value = data.draw(values)
    batch = pa.RecordBatch.from_arrays([pa.array([value], arrow)], names=["c"])
    try:
        conformed = conform(batch, [ManifestColumn(name="c", type=to)], "t", AT)
    except DataError as error:
        assert error.column == "c"
        return
    assert conformed.schema.field(0).type == ARROW_TYPES[to]
    arrived = conformed.column(0)[0].as_py()
    if isinstance(value, datetime):
        assert arrived == value
        assert (arrived.tzinfo is None) == (value.tzinfo is None)
    else:
        assert arrived == value, f"{arrow} → {to}"


@pytest.mark.parametrize(
    ("arrow", "to"),
    [
        (pa.float64(), ColumnType.INT64),
        (pa.float64(), ColumnType.NUMERIC),
        (pa.string(), ColumnType.NUMERIC),
        (pa.string(), ColumnType.TIMESTAMP),
        (pa.int64(), ColumnType.BOOL),
        (pa.int64(), ColumnType.FLOAT64),
        (pa.timestamp("us"), ColumnType.TIMESTAMP),
        (pa.timestamp("us", tz="UTC"), ColumnType.DATETIME),
        (pa.timestamp("us", tz="UTC"), ColumnType.DATE),
        (pa.decimal128(38, 0), ColumnType.NUMERIC),
        (pa.decimal256(76, 38), ColumnType.NUMERIC),
        (pa.binary(), ColumnType.STRING),
        (pa.list_(pa.string()), ColumnType.STRING),
        (pa.null(), ColumnType.STRING),
    ],
    ids=str,
)
def test_what_could_lose_something_is_not_taken(arrow: pa.DataType, to: ColumnType) -> None:
    assert not convertible(arrow, to)


def test_every_type_takes_its_own() -> None:
    assert all(convertible(arrow, to) for to, arrow in ARROW_TYPES.items())


@pytest.mark.parametrize(
    ("to", "array"),
    [
        (ColumnType.TIMESTAMP, pa.array([2**63 - 1], pa.int64()).view(pa.timestamp("us", tz="UTC"))),
        (ColumnType.TIMESTAMP, pa.array([1], pa.int64()).view(pa.timestamp("ns", tz="UTC"))),
        (ColumnType.DATE, pa.array([2**31 - 1], pa.int32()).view(pa.date32())),
        (ColumnType.INT64, pa.array([2**64 - 1], pa.uint64())),
    ],
    ids=["beyond year 9999", "a nanosecond", "date beyond year 9999", "uint64 beyond int64"],
)
def test_a_value_that_does_not_fit_names_its_column(to: ColumnType, array: pa.Array) -> None:
    batch = pa.RecordBatch.from_arrays([array], names=["c"])
    with pytest.raises(DataError, match="column c") as caught:
        conform(batch, [ManifestColumn(name="c", type=to)], "t", AT)
    assert caught.value.code == "value_does_not_fit"


def test_examples_of_dates_and_times_are_what_they_were() -> None:
    columns = [ManifestColumn(name="d", type=ColumnType.DATE), ManifestColumn(name="t", type=ColumnType.TIME)]
    batch = pa.RecordBatch.from_arrays(
        [pa.array([date(9999, 12, 31)]), pa.array([time(23, 59, 59, 999_999)])], names=["d", "t"]
    )
    assert conform(batch, columns, "t", AT).to_pylist() == [
        {"d": date(9999, 12, 31), "t": time(23, 59, 59, 999_999), "_extracted_at": AT}
    ]
