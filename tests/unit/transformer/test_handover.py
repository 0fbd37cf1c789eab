"""What is handed to dbt: what dbt_project.yml says is in the variable, and no more than fits into a statement."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.core.batch import Batch, BatchState
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.warehouse import TempTable
from services.core.window import Window
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, Loaded, batch_rows
from services.transformer.bronze.handover import (
    MOST_BATCHES,
    MOST_CHARACTERS,
    characters,
    halves,
    handed_over,
    that_fit,
)
from services.transformer.bronze.tables import BronzeTables, Part
from services.transformer.bronze.view import bronze_view, definition
from services.transformer.quality.guard import Guard

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


NOTHING = BronzeTables("p.bronze.a_model", None, None, None)
ALL = {"id": "INT64", "gone": "DATE"} | ADDED_COLUMNS
MADE = BronzeTables(
    "p.bronze.a_model", Part("p.bronze.a_model_base", ALL, 5, 500), Part("p.bronze.a_model_delta", ALL, 1, 100), "old"
)


def test_a_table_and_its_batches_are_told_whole() -> None:
    snapshot = loaded("x", extracted_at=START).batch
    declared = table(deletes="soft", deleted_at="gone")
    guard = Guard("if good (", ")")
    told = handed_over(declared, NOTHING, "as described", snapshot, "job", [loaded("b1")], delta=False, guard=guard)
    view = bronze_view(declared, {"id": "INT64", "gone": "DATE"}, "p.bronze.a_model", delta=False)
    assert told == {
        "key": ["id"],
        "columns": [{"name": "id", "data_type": "INT64"}, {"name": "gone", "data_type": "DATE"}],
        "deletes": "soft",
        "merged_snapshot": {"batch_id": "x", "extracted_at": "2026-11-22T00:00:00+00:00"},
        "job_id": "job",
        "adopt": False,
        "view": view,
        "definition": definition(view, "as described"),
        "keeps_delta": False,
        "delta": False,
        "guard": {"before": "if good (", "after": ")"},
        "batches": [
            {
                "table": "p.temp.a__b1",
                "batch_id": "b1",
                "extracted_at": "2026-11-22T00:01:00+00:00",
                "snapshot": True,
                "rows": batch_rows(declared, {"id": "INT64", "gone": "DATE"}, loaded("b1")),
            }
        ],
    }


def test_a_view_is_made_anew_only_when_its_definition_is_another() -> None:
    told = handed_over(table(), MADE, "as described", None, "job", [], delta=True)
    assert told["view"] is not None
    same = dataclasses.replace(MADE, definition=told["definition"])
    assert handed_over(table(), same, "as described", None, "job", [], delta=True)["view"] is None
    assert handed_over(table(), same, "otherwise", None, "job", [], delta=True)["view"] is not None
    batch = loaded("b", HASHED | {"more": "STRING"})
    assert handed_over(table(), same, "as described", None, "job", [batch], delta=True)["view"] is not None


def test_a_table_from_before_is_adopted_once() -> None:
    before = BronzeTables("p.bronze.a_model", None, None, None, Part("p.bronze.a_model", {"old": "INT64"}, 5, 500))
    told = handed_over(table(), before, "", None, "job", [], delta=False)
    assert (told["adopt"], [column["name"] for column in told["columns"]]) == (True, ["old", "id", "gone"])
    assert not handed_over(table(), dataclasses.replace(before, base=MADE.base), "", None, "job", [], delta=False)[
        "adopt"
    ]


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
