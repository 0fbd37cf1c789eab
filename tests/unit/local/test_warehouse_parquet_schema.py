"""Which Parquet schemas fit which declared columns."""

import pyarrow as pa
import pytest

from local.warehouse.parquet_schema import ParquetSchemaError, check_schema, required_columns

FITTING = [
    ("STRING", pa.string()),
    ("STRING", pa.large_string()),
    ("BYTES", pa.binary()),
    ("INT64", pa.int32()),
    ("INTEGER", pa.int64()),
    ("FLOAT64", pa.float32()),
    ("BOOL", pa.bool_()),
    ("NUMERIC", pa.decimal128(38, 9)),
    ("NUMERIC", pa.decimal128(29, 0)),
    ("BIGNUMERIC", pa.decimal256(76, 38)),
    ("DATE", pa.date32()),
    ("TIME", pa.time64("us")),
    ("TIMESTAMP", pa.timestamp("us", tz="UTC")),
    ("TIMESTAMP", pa.timestamp("ms", tz="UTC")),
    ("DATETIME", pa.timestamp("us")),
]
NOT_FITTING = [
    ("STRING", pa.binary()),
    ("STRING", pa.int64()),
    ("STRING", pa.list_(pa.string())),
    ("INT64", pa.float64()),
    ("INT64", pa.decimal128(10, 0)),
    ("FLOAT64", pa.int64()),
    ("NUMERIC", pa.decimal128(30, 0)),
    ("NUMERIC", pa.decimal128(38, 10)),
    ("NUMERIC", pa.float64()),
    ("BOOL", pa.int8()),
    ("DATE", pa.timestamp("us")),
    ("TIMESTAMP", pa.timestamp("us")),
    ("TIMESTAMP", pa.timestamp("ns", tz="UTC")),
    ("DATETIME", pa.timestamp("us", tz="UTC")),
    ("JSON", pa.string()),
]


@pytest.mark.parametrize(("declared", "arrow"), FITTING, ids=str)
def test_fits(declared: str, arrow: pa.DataType) -> None:
    assert check_schema(pa.schema([("c", arrow)]), [{"name": "c", "type": declared}]) == ["c"]


@pytest.mark.parametrize(("declared", "arrow"), NOT_FITTING, ids=str)
def test_does_not_fit(declared: str, arrow: pa.DataType) -> None:
    with pytest.raises(ParquetSchemaError, match="'c'"):
        check_schema(pa.schema([("c", arrow)]), [{"name": "c", "type": declared}])


def test_names_match_whatever_their_case_and_order() -> None:
    fields = [{"name": "a", "type": "STRING"}, {"name": "b", "type": "INT64"}, {"name": "c", "type": "DATE"}]
    assert check_schema(pa.schema([("B", pa.int64()), ("A", pa.string())]), fields) == ["a", "b"]


def test_an_undeclared_column_is_refused_or_left_out() -> None:
    file = pa.schema([("a", pa.string()), ("x", pa.string())])
    fields = [{"name": "a", "type": "STRING"}]
    with pytest.raises(ParquetSchemaError, match="field: x"):
        check_schema(file, fields)
    assert check_schema(file, fields, ignore_unknown=True) == ["a"]


def test_a_required_column_must_be_there() -> None:
    fields = [{"name": "a", "type": "STRING", "mode": "REQUIRED"}, {"name": "b", "type": "STRING"}]
    assert required_columns(fields) == ["a"]
    with pytest.raises(ParquetSchemaError, match="Required field a"):
        check_schema(pa.schema([("b", pa.string())]), fields)


def test_lists_and_structs_fit_by_their_elements() -> None:
    point = pa.struct([("x", pa.int64())])
    record = {"name": "c", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "x", "type": "INT64"}]}
    assert check_schema(pa.schema([("c", pa.list_(point))]), [record]) == ["c"]
    with pytest.raises(ParquetSchemaError):
        check_schema(pa.schema([("c", point)]), [record])
    with pytest.raises(ParquetSchemaError, match="'x'"):
        check_schema(pa.schema([("c", pa.list_(pa.struct([("x", pa.string())])))]), [record])
