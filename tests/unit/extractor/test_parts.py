"""Parts are of bounded size, hold every row once, and have the declared types."""

import os
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.arrow import arrow_schema, conform
from services.core.errors import ConfigurationError, DataError
from services.core.manifest import ManifestColumn
from services.core.parquet import GROUP_BYTES, PART_BYTES, empty_part, parquet_parts, whole_file
from services.core.tables import ColumnType
from services.extractor.reading.failure import EngineFailed

AT = datetime(2026, 11, 22, 17, 0, 0, 123456, tzinfo=UTC)
ID = ManifestColumn(name="id", type=ColumnType.INT64, required=True)


def conformed(batch: pa.RecordBatch, *columns: ManifestColumn) -> pa.RecordBatch:
    return conform(batch, [ID, *columns], "t", AT)


def batch_of(values: list[int]) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(values, pa.int64())})


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=6), st.integers(1, 12))
def test_parts_hold_every_row_once_in_order(chunks: list[list[int]], most_rows: int) -> None:
    parts = list(parquet_parts((batch_of(chunk) for chunk in chunks), most_rows))
    read = [whole_file(content.getvalue()).column("id").to_pylist() for content, _ in parts]
    assert [value for part in read for value in part] == [value for chunk in chunks for value in chunk]
    assert [len(part) for part in read] == [rows for _, rows in parts]
    assert all(len(part) == most_rows for part in read[:-1])
    assert all(0 < len(part) <= most_rows for part in read)


def test_no_rows_no_part() -> None:
    assert list(parquet_parts([], 10)) == []


def amount(type_: ColumnType = ColumnType.NUMERIC) -> ManifestColumn:
    return ManifestColumn(name="amount", type=type_)


def test_a_part_has_the_declared_schema_and_the_time_of_reading() -> None:
    arrived = pa.record_batch({"id": [1], "amount": pa.array([Decimal("12.34")], pa.decimal128(18, 2))})
    [(content, _)] = parquet_parts([conformed(arrived, amount())], 10)
    found = whole_file(content.getvalue())
    assert found.schema.names == ["id", "amount", "_extracted_at"]
    assert found.schema.field("amount").type == pa.decimal128(38, 9)
    assert not found.schema.field("id").nullable
    assert found.column("amount").to_pylist() == [Decimal("12.340000000")]
    assert found.column("_extracted_at").to_pylist() == [AT]


def test_an_empty_part_has_the_schema_and_no_rows() -> None:
    found = whole_file(empty_part(arrow_schema([ID, amount()])).getvalue())
    assert (found.num_rows, found.schema.names) == (0, ["id", "amount", "_extracted_at"])


def test_a_value_that_does_not_fit_is_refused_not_rounded() -> None:
    arrived = pa.record_batch({"id": [1], "amount": pa.array([Decimal("1.1234567891")], pa.decimal128(38, 10))})
    with pytest.raises(DataError, match="column amount") as caught:
        conformed(arrived, amount())
    assert "1.12" not in str(caught.value)
    assert (caught.value.code, caught.value.table, caught.value.column) == ("value_does_not_fit", "t", "amount")


@pytest.mark.parametrize("type_", [pa.decimal128(38, 8), pa.decimal128(38, 0), pa.string()])
def test_decimals_that_arrow_would_change_are_refused(type_: pa.DataType) -> None:
    """Arrow 26 casts 4488889964378591503109049318243 to NUMERIC's decimal as another number, and says nothing."""
    batch = pa.record_batch({"id": [1], "amount": pa.array(["1"]).cast(type_)})
    with pytest.raises(ConfigurationError, match="column amount: arrived as"):
        conformed(batch, amount())


@pytest.mark.parametrize(
    ("message", "column"),
    [
        (
            """COPY (SELECT 'column a: BigQuery''s NUMERIC has no '): ERROR:  invalid input syntax for type numeric: """
            """\"column price: BigQuery's NUMERIC has no NaN\"""",
            "price",
        ),
        ("COPY: ERREUR:  syntaxe en entrée invalide : « column b: BigQuery's BIGNUMERIC has no NaN »", "b"),
        ("COPY (SELECT 'column a: BigQuery''s NUMERIC has no '): server closed the connection", None),
        ("COPY: FEHLER:  Division durch Null", None),
    ],
)
def test_a_column_that_our_own_check_refuses_is_known_in_every_language(message: str, column: str | None) -> None:
    assert EngineFailed(message).column == column


VALUE = "a-value-that-nobody-tells"


@pytest.mark.parametrize(
    ("message", "spoken", "words"),
    [
        (f'COPY: ERROR:  invalid input syntax for type integer: "{VALUE}"', True, None),
        (f"COPY: ERROR:  {VALUE}\nCONTEXT:  PL/pgSQL function f() line 1 at RAISE", True, None),
        (f'COPY: ERROR:  invalid value: "{VALUE} canceling statement"', True, None),
        (f"COPY: FEHLER:  ungültige Eingabesyntax für Typ integer: »{VALUE}«", True, None),
        ('COPY: ERROR:  relation "s.t" does not exist', True, None),
        ("COPY: ERROR:  canceling statement due to lock timeout", True, "canceling statement due to lock timeout"),
        ("COPY: FATAL:  the database system is starting up", True, "the database system is starting up"),
        ('connection to server at "h", port 1 failed: Connection refused', False, "connection to server at"),
        ("COPY: server closed the connection unexpectedly", False, "server closed the connection unexpectedly"),
    ],
)
def test_an_error_of_the_engine_is_told_without_a_value(message: str, spoken: bool, words: str | None) -> None:
    found = EngineFailed(message)
    assert (found.spoken, found.passing) == (spoken, words is not None)
    assert (words or "the engine could not read on") in found.words
    assert VALUE not in found.words + str(found)


@pytest.mark.parametrize("arrived", [pa.float64(), pa.float32(), pa.bool_()])
def test_what_cannot_be_converted_exactly_is_refused(arrived: pa.DataType) -> None:
    batch = pa.record_batch({"id": [1], "amount": pa.array([1], pa.int64()).cast(arrived)})
    with pytest.raises(ConfigurationError, match="column amount: arrived as"):
        conformed(batch, amount())


def test_a_null_in_a_required_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 null\(s\) in column id"):
        conformed(pa.record_batch({"id": pa.array([1, None], pa.int64())}))


DAY = 86_400_000_000
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, counted from 1970-01-01."""


@pytest.mark.parametrize(
    ("type_", "arrow", "fits", "beyond"),
    [
        (ColumnType.DATE, pa.date32(), [FIRST_DAY, LAST_DAY], [FIRST_DAY - 1, LAST_DAY + 1, 2**31 - 1, -(2**31)]),
        (
            ColumnType.TIMESTAMP,
            pa.timestamp("us", tz="UTC"),
            [FIRST_DAY * DAY, (LAST_DAY + 1) * DAY - 1],
            [FIRST_DAY * DAY - 1, (LAST_DAY + 1) * DAY, 2**63 - 1, -(2**63) + 1],
        ),
        (
            ColumnType.DATETIME,
            pa.timestamp("us"),
            [FIRST_DAY * DAY, (LAST_DAY + 1) * DAY - 1],
            [FIRST_DAY * DAY - 1, (LAST_DAY + 1) * DAY, 2**63 - 1, -(2**63) + 1],
        ),
        (ColumnType.TIME, pa.time64("us"), [0, DAY - 1], [DAY]),
    ],
)
def test_dates_and_times_outside_bigquerys_calendar_are_refused(
    type_: ColumnType, arrow: pa.DataType, fits: list[int], beyond: list[int]
) -> None:
    width = pa.int32() if type_ is ColumnType.DATE else pa.int64()

    def batch(values: list[int | None]) -> pa.RecordBatch:
        return pa.record_batch({"id": list(range(len(values))), "amount": pa.array(values, width).view(arrow)})

    assert conformed(batch([*fits, None]), amount(type_)).num_rows == len(fits) + 1
    assert conformed(batch([None]), amount(type_)).num_rows == 1
    for value in beyond:
        with pytest.raises(DataError, match=f"column amount has a value that {type_} cannot hold"):
            conformed(batch([fits[0], value, None]), amount(type_))


def test_row_groups_and_parts_are_bounded_by_bytes_however_wide_the_rows_are() -> None:
    """Random bytes, which no compression makes smaller: 2,000 rows of 40 kB in one batch."""
    columns = [ManifestColumn(name="b", type=ColumnType.BYTES)]
    values = [os.urandom(40_000) for _ in range(2_000)]
    batch = conform(pa.record_batch({"b": values}), columns, "t", AT)
    parts = list(parquet_parts([batch], 1_000_000))
    assert sum(rows for _, rows in parts) == batch.num_rows
    assert all(content.getbuffer().nbytes <= PART_BYTES + 2 * GROUP_BYTES for content, _ in parts)
    for content, _ in parts:
        file = pq.ParquetFile(content)
        groups = [file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups)]
        assert max(groups) <= 2 * GROUP_BYTES
    read = pa.concat_tables(whole_file(content.getvalue()) for content, _ in parts)
    assert read.to_batches()[0].schema == batch.schema


def test_small_batches_share_a_row_group() -> None:
    batches = [conformed(batch_of([n])) for n in range(100)]
    [(content, rows)] = parquet_parts(batches, 1_000)
    assert (rows, pq.ParquetFile(content).num_row_groups) == (100, 1)
