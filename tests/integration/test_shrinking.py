"""How many rows a snapshot would delete, asked of the local warehouse: as many as the merge then deletes."""

import datetime as dt
from typing import Any

import pytest
from google.cloud.bigquery import SchemaField

from services.core.batch import Batch
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.warehouse import temp_table
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.shrinking import Shrinkage, shrinkage
from tests.integration.warehouse_fixture import PROJECT, BronzeModel, Dbt, Warehouse, bronze_project

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
COLUMNS = [SchemaField("id", "INT64"), SchemaField("part", "STRING"), SchemaField("value", "INT64")]
KEYS = {"keyed": ["id", "part"], "whole": []}


@pytest.fixture(scope="module")
def project(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    models = {name: BronzeModel(COLUMNS, key) for name, key in KEYS.items()}
    return bronze_project(warehouse_endpoint, tmp_path_factory.mktemp("shrinking"), "shrinking", models)


def table(name: str) -> Table:
    columns = [Column(name=c.name, type=ColumnType(c.field_type), required=c.name in KEYS[name]) for c in COLUMNS]
    facts: dict[str, Any] = {"deletes": "soft"} if KEYS[name] else {}
    return Table(
        name=name, source="s.t", key=KEYS[name], mode=Mode.SNAPSHOT, bronze_model=name, columns=columns, **facts
    )


def snapshot(project: Dbt, name: str, minutes: int, ids: list[int]) -> Loaded:
    at = NOON + dt.timedelta(minutes=minutes)
    id_ = f"20261122T12{minutes:02}00000000Z-00000000"
    rows = [{"id": number, "part": "a", "value": minutes} for number in ids]
    hashed = project.load(f"{name}__{minutes:012x}", rows, COLUMNS)
    batch = Batch(id=id_, run_id="r", table=name, mode=Mode.SNAPSHOT, window=None, extracted_at=at, started_at=at)
    found = temp_table(project.client, hashed)
    assert found is not None
    assert (found.rows, found.columns["id"], "_extracted_at" in found.columns) == (len(ids), "INT64", True)
    return Loaded(batch, found)


def merge(project: Dbt, name: str, loaded: Loaded) -> None:
    told: dict[str, Any] = {
        "table": loaded.temp.id,
        "batch_id": loaded.batch.id,
        "extracted_at": loaded.batch.extracted_at.isoformat(),
        "latest": None,
        "source": "s.t",
        "snapshot": True,
        "columns": [],
        "deletes": "soft" if KEYS[name] else "keep",
        "deleted_at": None,
        "merged_snapshot": None,
    }
    project.run("run", "--select", name, batches={name: [told]})


def asked(project: Dbt, name: str, loaded: Loaded) -> Shrinkage:
    return shrinkage(project.client, table(name), f"{PROJECT}.{project.datasets.bronze}.{name}", loaded)


@pytest.mark.parametrize("name", KEYS)
def test_it_is_the_number_of_rows_that_the_merge_deletes(project: Dbt, name: str) -> None:
    first, later = snapshot(project, name, 1, [1, 2, 3, 4]), snapshot(project, name, 2, [1, 5, 6])
    assert asked(project, name, first) == Shrinkage(0, 0), "bronze is not there yet"
    merge(project, name, first)
    assert asked(project, name, first) == Shrinkage(4, 0), "the same again"
    # With a key, three are gone, whatever came instead; without one, only the number of rows can tell.
    assert asked(project, name, later) == Shrinkage(4, 3 if KEYS[name] else 1)
    merge(project, name, later)
    rows = project.rows(project.datasets.bronze, name)
    assert sum(row["_deleted_at"] is None for row in rows) == 3
    assert asked(project, name, snapshot(project, name, 3, [])) == Shrinkage(3, 3), "deleted rows are not there"
    assert asked(project, name, first).gone == 0, "an old snapshot deletes nothing"
