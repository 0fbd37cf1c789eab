"""The dbt variable ``batches``: what dbt/dbt_project.yml says is in it, from the batches and their declared tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.core.batch import Batch, BatchState
from services.core.manifest import ManifestColumn
from services.core.settings import TransformerSettings
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.warehouse import hashed_table_id
from services.core.window import Window
from services.transformer.dbt_project import batches_variable

START = datetime(2026, 11, 22, tzinfo=UTC)
COLUMNS = [Column(name="id", type=ColumnType.INT64, required=True), Column(name="gone", type=ColumnType.DATE)]


def table(name: str, **declared: Any) -> Table:
    fixed = {"source": f"s.{name}", "key": ["id"], "mode": Mode.SNAPSHOT, "bronze_model": f"{name}_model"}
    return Table(name=name, columns=COLUMNS, **fixed | declared)


TABLES = {"a": table("a", deletes="soft"), "b": table("b", deleted_at="gone")}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> TransformerSettings:
    monkeypatch.setenv("GCP_PROJECT", "p")
    return TransformerSettings()  # type: ignore[call-arg]


def batch(table: str, batch_id: str, minutes: int, mode: Mode = Mode.SNAPSHOT, *added: ManifestColumn) -> Batch:
    return Batch(
        id=batch_id,
        run_id="r",
        table=table,
        mode=mode,
        window=Window(low=None, high=START),
        extracted_at=START + timedelta(minutes=minutes),
        started_at=START,
        state=BatchState.LOADED,
        added_columns=list(added),
    )


def test_a_batch_is_told_with_what_its_table_declares(settings: TransformerSettings) -> None:
    first = batch("a", "a1", 1, Mode.SNAPSHOT, ManifestColumn(name="Note", type=ColumnType.STRING))
    second = batch("b", "b1", 2, Mode.INCREMENTAL)
    assert batches_variable(settings, TABLES, [first, second]) == {
        "a_model": [
            {
                "table": hashed_table_id("p", settings.dataset_temp, first),
                "batch_id": "a1",
                "extracted_at": "2026-11-22T00:01:00+00:00",
                "source": "s.a",
                "snapshot": True,
                "columns": [{"name": "Note", "data_type": "STRING"}],
                "deletes": "soft",
                "deleted_at": None,
                "merged_snapshot": None,
            }
        ],
        "b_model": [
            {
                "table": hashed_table_id("p", settings.dataset_temp, second),
                "batch_id": "b1",
                "extracted_at": "2026-11-22T00:02:00+00:00",
                "source": "s.b",
                "snapshot": False,
                "columns": [],
                "deletes": "keep",
                "deleted_at": "gone",
                "merged_snapshot": None,
            }
        ],
    }


def test_of_the_merged_batches_the_newest_snapshot_of_the_table_counts(settings: TransformerSettings) -> None:
    merged = [
        batch("a", "x2", 5),
        batch("a", "x1", 5),
        batch("a", "x9", 3),
        batch("a", "x3", 8, Mode.INCREMENTAL),
        batch("b", "x4", 9),
    ]
    variable = batches_variable(settings, TABLES, [batch("a", "a1", 1), batch("a", "a2", 2)], merged)
    newest = {"batch_id": "x2", "extracted_at": "2026-11-22T00:05:00+00:00"}
    assert [entry["merged_snapshot"] for entry in variable["a_model"]] == [newest, newest]


def test_the_rows_of_a_file_tell_of_the_file(settings: TransformerSettings) -> None:
    file = batch("b", "b1", 1, Mode.INCREMENTAL).model_copy(update={"source": "gs://bucket/b.parquet#7"})
    [told] = batches_variable(settings, TABLES, [file])["b_model"]
    assert told["source"] == "gs://bucket/b.parquet#7"
