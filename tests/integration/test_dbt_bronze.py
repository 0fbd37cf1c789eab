"""Bronze: the newest version of every row, whatever the order and number of times in which batches come."""

import datetime as dt
import itertools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.cloud.bigquery import SchemaField

from tests.integration.warehouse_fixture import DBT_PROJECT, PROJECT, Datasets, Dbt, Warehouse, declared_schema

Row = dict[str, Any]
Batch = dict[str, str]

NOON = dt.datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=dt.UTC)
MODELS = ("cnpj_ws", "installments")
# minutes after noon, and what each batch holds: key → paid amount in cents
HISTORY: dict[str, tuple[int, dict[str, int | None]]] = {
    "b1": (0, {"old": 1, "all": 1, "gone": 1}),
    "b2": (5, {"all": 2, "both": 2, "tie": 20}),
    "b3": (5, {"all": 3, "tie": 30, "null": None}),
    "b4": (9, {"both": 4, "null": 4}),
}
NEWEST = {
    "old": (1, "b1"),
    "gone": (1, "b1"),
    "all": (3, "b3"),
    "tie": (30, "b3"),
    "both": (4, "b4"),
    "null": (4, "b4"),
}


@pytest.fixture(scope="module")
def batches(dbt: Dbt) -> dict[str, Batch]:
    return {name: load_batch(dbt, name, minutes, rows) for name, (minutes, rows) in HISTORY.items()}


@pytest.fixture(autouse=True)
def empty_bronze(dbt: Dbt) -> Iterator[None]:
    yield
    for model in MODELS:
        dbt.client.delete_table(f"{dbt.datasets.bronze}.{model}", not_found_ok=True)


def batch(table: str, batch_id: str, minutes: int) -> Batch:
    extracted_at = NOON + dt.timedelta(minutes=minutes)
    return {"table": table, "batch_id": batch_id, "extracted_at": extracted_at.isoformat(), "source": "oltp.a_table"}


def load_batch(dbt: Dbt, batch_id: str, minutes: int, amounts: dict[str, int | None]) -> Batch:
    rows = [{"asset_id": key, "paid_amount_in_cents": amount} for key, amount in amounts.items()]
    table = dbt.load(f"installments__{batch_id}", rows, declared_schema("installments"))
    return batch(table, batch_id, minutes)


def merge(dbt: Dbt, *run: Batch) -> None:
    dbt.run("run", "--select", "installments", batches={"installments": list(run)})


def held(dbt: Dbt) -> dict[str, tuple[int | None, str]]:
    rows = dbt.rows(dbt.datasets.bronze, "installments")
    found = {row["asset_id"]: (row["paid_amount_in_cents"], row["_batch_id"]) for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


ORDERS = list(itertools.permutations(HISTORY))


@pytest.mark.parametrize("order", ORDERS[::5], ids="-".join)
def test_any_order_one_at_a_time(dbt: Dbt, batches: dict[str, Batch], order: tuple[str, ...]) -> None:
    for name in order:
        merge(dbt, batches[name])
    assert held(dbt) == NEWEST


@pytest.mark.parametrize(
    "runs",
    [
        [["b1", "b2", "b3", "b4"]],
        [["b4", "b3"], ["b2", "b1"]],
        [["b3"], ["b3", "b1"], ["b4", "b2", "b1"], ["b1", "b2", "b3", "b4"]],
        [["b2", "b2"], ["b4"], ["b1", "b3", "b1"]],
    ],
    ids=["together", "newest-first", "replayed", "named-twice"],
)
def test_any_grouping_and_any_number_of_times(dbt: Dbt, batches: dict[str, Batch], runs: list[list[str]]) -> None:
    for run in runs:
        merge(dbt, *(batches[name] for name in run))
    assert held(dbt) == NEWEST


def test_a_replay_rewrites_nothing(dbt: Dbt, batches: dict[str, Batch]) -> None:
    merge(dbt, *batches.values())
    before = dbt.rows(dbt.datasets.bronze, "installments")
    merge(dbt, *batches.values())
    by_key = {row["asset_id"]: row for row in before}
    assert {row["asset_id"]: row for row in dbt.rows(dbt.datasets.bronze, "installments")} == by_key


def test_what_bronze_adds(dbt: Dbt, batches: dict[str, Batch]) -> None:
    started = dt.datetime.now(dt.UTC)
    merge(dbt, batches["b1"])
    (row,) = (row for row in dbt.rows(dbt.datasets.bronze, "installments") if row["asset_id"] == "old")
    assert (row["_source_table"], row["_batch_id"], row["_extracted_at"]) == ("oltp.a_table", "b1", NOON)
    assert started - dt.timedelta(seconds=1) <= row["_loaded_at"] <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)


def test_a_key_twice_in_a_batch_is_one_row_and_always_the_same(dbt: Dbt) -> None:
    found = set()
    for name, amounts in (("twice", (1, 2, 1)), ("reversed", (1, 1, 2))):
        rows = [{"asset_id": "a", "paid_amount_in_cents": amount} for amount in amounts]
        table = dbt.load(f"installments__{name}", rows, declared_schema("installments"))
        merge(dbt, batch(table, "same", 0))
        found.add(held(dbt)["a"])
        dbt.client.delete_table(f"{dbt.datasets.bronze}.installments")
    assert len(found) == 1


def test_without_batches_the_first_run_makes_the_declared_table_and_others_do_nothing(
    dbt: Dbt, batches: dict[str, Batch]
) -> None:
    dbt.run("run", "--selector", "bronze")
    for model in MODELS:
        made = dbt.client.get_table(f"{dbt.datasets.bronze}.{model}")
        standard = {"INTEGER": "INT64", "BOOLEAN": "BOOL", "FLOAT": "FLOAT64"}
        types = {field.name: standard.get(field.field_type, field.field_type) for field in made.schema}
        added = {"_loaded_at": "TIMESTAMP", "_source_table": "STRING", "_batch_id": "STRING"}
        declared = {field.name: field.field_type for field in declared_schema(model)}
        assert (made.num_rows, types) == (0, declared | added | {"_extracted_at": "TIMESTAMP"})
    merge(dbt, batches["b1"])
    merge(dbt)
    dbt.run("run", "--selector", "bronze", batches={"installments": []})
    assert set(held(dbt)) == {"old", "all", "gone"}


def test_every_type_arrives_exactly(dbt: Dbt) -> None:
    at = dt.datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
    company = dict.fromkeys(field.name for field in declared_schema("cnpj_ws")) | {
        "buyer_tax_id": "00123456000195",
        "share_capital": Decimal("9999999999999999.99"),
        "city": 'São "Luís" do\nParaitinga \\',
        "is_mei": False,
        "updated_at": at,
    }
    table = dbt.load("cnpj_ws__types", [company], declared_schema("cnpj_ws"))
    dbt.run("run", "--select", "cnpj_ws", batches={"cnpj_ws": [batch(table, "types", 0)]})
    (row,) = dbt.rows(dbt.datasets.bronze, "cnpj_ws")
    assert {name: row[name] for name in company} == company


def test_a_full_refresh_does_not_drop_bronze(dbt: Dbt, batches: dict[str, Batch]) -> None:
    merge(dbt, batches["b1"])
    dbt.run("run", "--select", "installments", "--full-refresh", batches={"installments": [batches["b4"]]})
    assert set(held(dbt)) == {"old", "all", "gone", "both", "null"}


@pytest.mark.parametrize("table", ["a`b.c.d", "only_a_table", f"{PROJECT}.x.y; drop table z"])
def test_a_name_that_is_not_a_table_is_refused(dbt: Dbt, table: str) -> None:
    with pytest.raises(AssertionError, match="Not a table"):
        merge(dbt, batch(table, "bad", 0))


PAIRS = [SchemaField("a", "STRING", mode="REQUIRED"), SchemaField("b", "INT64", mode="REQUIRED")]
VALUE, NOTE = SchemaField("value", "NUMERIC"), SchemaField("note", "STRING")


def pairs_project(warehouse: Warehouse, folder: Path, columns: list[SchemaField]) -> Dbt:
    """A project of one model with a key of two columns, made of this project's macros."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    declared = ", ".join(f"{{name: {column.name}, data_type: {column.field_type}}}" for column in columns)
    (folder / "dbt_project.yml").write_text(
        f"""
name: pairs
profile: credix
macro-paths: ["{DBT_PROJECT / "macros"}"]
flags: {{send_anonymous_usage_stats: false}}
models: {{+schema: pairs_bronze, +pre-hook: "{{{{ add_declared_columns() }}}}"}}
vars: {{batches: {{}}}}
"""
    )
    (models / "pairs.yml").write_text(f"models: [{{name: pairs, columns: [{declared}]}}]")
    (models / "pairs.sql").write_text(
        "{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['a', 'b']) }}\n{{ bronze() }}"
    )
    return Dbt(warehouse, Datasets.named("pairs"), folder, folder)


def test_a_key_of_two_columns_and_a_column_declared_later(warehouse_endpoint: Warehouse, tmp_path: Path) -> None:
    project = pairs_project(warehouse_endpoint, tmp_path, [*PAIRS, VALUE])
    first = [{"a": a, "b": b, "value": Decimal(b)} for a in "xy" for b in (1, 2)]
    run = [batch(project.load("pairs__1", first, [*PAIRS, VALUE]), "1", 0)]
    project.run("run", batches={"pairs": run})

    project = pairs_project(warehouse_endpoint, tmp_path, [*PAIRS, VALUE, NOTE])
    second = [{"a": "x", "b": 2, "value": Decimal(9), "note": "new"}, {"a": "x", "b": 3, "value": None, "note": None}]
    late = batch(project.load("pairs__0", [first[0] | {"value": Decimal(7)}], [*PAIRS, VALUE, NOTE]), "0", -1)
    run = [batch(project.load("pairs__2", second, [*PAIRS, VALUE, NOTE]), "2", 1), late]
    for _ in range(2):
        project.run("run", batches={"pairs": run})

    rows = project.rows("pairs_bronze", "pairs")
    assert sorted(((row["a"], row["b"]), row["value"], row["note"]) for row in rows) == [
        (("x", 1), Decimal(1), None),
        (("x", 2), Decimal(9), "new"),
        (("x", 3), None, None),
        (("y", 1), Decimal(1), None),
        (("y", 2), Decimal(2), None),
    ]
