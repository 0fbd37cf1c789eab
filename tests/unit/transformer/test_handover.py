"""What is handed to dbt: what dbt_project.yml says is in the variable, and no more than fits into a statement."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.core.batch import Batch, BatchState
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.warehouse import TempTable
from services.core.window import Window
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.handover import (
    MOST_BATCHES,
    MOST_CHARACTERS,
    characters,
    halves,
    handed_over,
    that_fit,
)

START = datetime(2026, 11, 22, tzinfo=UTC)
COLUMNS = [Column(name="id", type=ColumnType.INT64, required=True), Column(name="gone", type=ColumnType.DATE)]
HASHED = {"id": "INT64", "gone": "DATE", "_extracted_at": "TIMESTAMP"}


def table(columns: list[Column] = COLUMNS, **declared: Any) -> Table:
    fixed: dict[str, Any] = {
        "name": "a",
        "source": "s.a",
        "key": ["id"],
        "mode": Mode.SNAPSHOT,
        "bronze_model": "a_model",
    }
    return Table(columns=columns, **fixed | declared)


def loaded(batch_id: str, columns: dict[str, str] = HASHED, **facts: Any) -> Loaded:
    fixed: dict[str, Any] = {
        "id": batch_id,
        "run_id": "r",
        "table": "a",
        "mode": Mode.SNAPSHOT,
        "window": Window(low=None, high=START),
        "extracted_at": START + timedelta(minutes=1),
        "started_at": START,
        "state": BatchState.LOADED,
    }
    return Loaded(Batch(**fixed | facts), TempTable(f"p.temp.a__{batch_id}", columns, 3))


def test_a_table_and_its_batches_are_told_whole() -> None:
    snapshot = loaded("x", extracted_at=START).batch
    assert handed_over(table(deletes="soft", deleted_at="gone"), snapshot, "job", [loaded("b1")]) == {
        "key": ["id"],
        "columns": [{"name": "id", "data_type": "INT64"}, {"name": "gone", "data_type": "DATE"}],
        "deletes": "soft",
        "merged_snapshot": {"batch_id": "x", "extracted_at": "2026-11-22T00:00:00+00:00"},
        "job_id": "job",
        "batches": [
            {
                "table": "p.temp.a__b1",
                "batch_id": "b1",
                "extracted_at": "2026-11-22T00:01:00+00:00",
                "latest": None,
                "source": "s.a",
                "snapshot": True,
                "columns": [{"name": "id", "data_type": "INT64"}, {"name": "gone", "data_type": "DATE"}],
                "deleted_at": "gone",
            }
        ],
    }


def test_a_batch_from_before_a_column_was_declared_has_the_columns_that_it_has() -> None:
    old = {"id": "INT64", "Note": "STRING", "_extracted_at": "TIMESTAMP"}
    told = handed_over(table(deleted_at="gone"), None, "job", [loaded("b", old)])["batches"][0]
    assert told["columns"] == [{"name": "id", "data_type": "INT64"}, {"name": "Note", "data_type": "STRING"}]
    assert told["deleted_at"] is None, "its rows do not say what is deleted"


def test_what_no_extraction_announced_is_of_no_later_time_and_deletes_nothing() -> None:
    arrived = START + timedelta(hours=1)
    declared = table(deleted_at="gone")
    nobody = loaded("b", mode=Mode.INCREMENTAL, window=None, arrived_at=arrived)
    file = loaded("c", mode=Mode.INCREMENTAL, window=None, arrived_at=arrived, source="gs://bucket/a.parquet#7")
    told = handed_over(declared, None, "job", [nobody, file])["batches"]
    assert [each["latest"] for each in told] == ["2026-11-22T01:00:00+00:00"] * 2
    assert [each["deleted_at"] for each in told] == [None, "gone"], "a file brings deleted rows back as they were"
    assert [each["source"] for each in told] == ["s.a", "gs://bucket/a.parquet#7"]


@pytest.mark.parametrize(("width", "most"), [(2, MOST_BATCHES), (200, MOST_BATCHES), (1_500, 20)])
def test_no_more_batches_than_fit(width: int, most: int) -> None:
    columns = [Column(name=f"column_{number}", type=ColumnType.STRING) for number in range(width)]
    wide = table([*COLUMNS, *columns])
    hashed = {column.name: column.type.value for column in wide.landed_columns}
    batches = [loaded(f"b{number}", hashed) for number in range(1_000)]
    chosen = that_fit(wide, batches)
    assert 1 < len(chosen) <= most
    assert chosen == batches[: len(chosen)], "the oldest"
    assert characters(wide, chosen) <= MOST_CHARACTERS


def test_one_batch_is_always_tried() -> None:
    columns = [Column(name=f"{'c' * 290}_{number}", type=ColumnType.STRING) for number in range(1_000)]
    wide = table([*COLUMNS, *columns])
    batches = [loaded("b1"), loaded("b2")]
    assert characters(wide, batches[:1]) > MOST_CHARACTERS
    assert that_fit(wide, batches) == batches[:1]


@pytest.mark.parametrize("count", range(6))
def test_halves_lose_and_double_nothing(count: int) -> None:
    batches = [loaded(f"b{number}") for number in range(count)]
    parts = halves(batches)
    assert len(parts) == (2 if count > 1 else 0)
    assert [each for part in parts for each in part] == (batches if count > 1 else [])
    assert all(parts)
