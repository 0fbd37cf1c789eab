"""Parts are of bounded size, hold every row once, and have the declared types."""

import io
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ConfigurationError, DataError
from services.core.tables import Column, ColumnType, Mode, Table
from services.extractor.parts import parquet_parts
from services.extractor.reader import arrow_schema, conform


def table(*columns: Column) -> Table:
    key = Column(name="id", type=ColumnType.INT64, required=True)
    return Table(name="t", source="s.t", key=["id"], mode=Mode.SNAPSHOT, bronze_model="t", columns=[key, *columns])


def batch_of(values: list[int]) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(values, pa.int64())})


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=6), st.integers(1, 12))
def test_parts_hold_every_row_once_in_order(chunks: list[list[int]], most_rows: int) -> None:
    parts = list(parquet_parts((batch_of(chunk) for chunk in chunks), most_rows))
    read = [pq.read_table(io.BytesIO(content)).column("id").to_pylist() for content, _ in parts]
    assert [value for part in read for value in part] == [value for chunk in chunks for value in chunk]
    assert [len(part) for part in read] == [rows for _, rows in parts]
    assert all(len(part) == most_rows for part in read[:-1])
    assert all(0 < len(part) <= most_rows for part in read)


def test_no_rows_no_part() -> None:
    assert list(parquet_parts([], 10)) == []


def test_a_part_has_the_declared_schema() -> None:
    declared = table(Column(name="amount", type=ColumnType.NUMERIC))
    arrived = pa.record_batch({"id": [1], "amount": pa.array([Decimal("12.34")], pa.decimal128(18, 2))})
    [(content, _)] = parquet_parts([conform(arrived, declared, arrow_schema(declared))], 10)
    found = pq.read_table(io.BytesIO(content))
    assert found.schema.field("amount").type == pa.decimal128(38, 9)
    assert not found.schema.field("id").nullable
    assert found.column("amount").to_pylist() == [Decimal("12.340000000")]


@pytest.mark.parametrize("value", ["1.1234567891", "123456789012345678901234567890", "NaN"])
def test_a_value_that_does_not_fit_is_refused_not_rounded(value: str) -> None:
    declared = table(Column(name="amount", type=ColumnType.NUMERIC))
    arrived = pa.record_batch({"id": [1], "amount": pa.array([value])})
    with pytest.raises(DataError, match="column amount") as caught:
        conform(arrived, declared, arrow_schema(declared))
    assert (caught.value.code, caught.value.table, caught.value.column) == ("value_does_not_fit", "t", "amount")


@pytest.mark.parametrize("arrived", [pa.float64(), pa.float32(), pa.bool_()])
def test_what_cannot_be_converted_exactly_is_refused(arrived: pa.DataType) -> None:
    declared = table(Column(name="amount", type=ColumnType.NUMERIC))
    batch = pa.record_batch({"id": [1], "amount": pa.array([1], pa.int64()).cast(arrived)})
    with pytest.raises(ConfigurationError, match="column amount: arrived as"):
        conform(batch, declared, arrow_schema(declared))


def test_a_null_in_a_required_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 null\(s\) in column id"):
        conform(pa.record_batch({"id": pa.array([1, None], pa.int64())}), table(), arrow_schema(table()))
