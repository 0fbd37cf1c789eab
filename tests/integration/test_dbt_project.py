"""What the dbt project promises besides its rows: selections, layout, documentation, agreement with tables.yaml."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from services.core.tables import BRONZE_COLUMNS, load_tables
from tests.integration.warehouse_fixture import REPOSITORY, Dbt

Node = Mapping[str, Any]
TABLES = load_tables(REPOSITORY / "config" / "tables.yaml").tables
LAYERS = {
    "bronze": {"cnpj_ws", "installments"},
    "silver": {"cnpj_ws_clean", "installments_clean", "installments_rejected"},
    "gold": {"company_payment_summary", "payment_analytics_detailed"},
}


@pytest.fixture(scope="module")
def models(dbt: Dbt) -> dict[str, Node]:
    return {node["name"]: node for node in listed(dbt, "--resource-type", "model")}


def listed(dbt: Dbt, *arguments: str) -> list[Node]:
    keys = "name resource_type schema config columns tags description fqn"
    return [json.loads(line) for line in dbt.listed("--output", "json", "--output-keys", *keys.split(), *arguments)]


def kinds(dbt: Dbt, *arguments: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in listed(dbt, *arguments):
        found.setdefault(node["resource_type"], set()).add(node["name"])
    return found


def test_the_datasets_are_named_exactly(dbt: Dbt, models: dict[str, Node]) -> None:
    for layer, names in LAYERS.items():
        assert {models[name]["schema"] for name in names} == {getattr(dbt.datasets, layer)}
    assert set(models) == set().union(*LAYERS.values())


def test_selectors_choose_the_layers_and_never_unit_tests(dbt: Dbt) -> None:
    bronze, downstream, everything = (kinds(dbt, "--selector", name) for name in ("bronze", "downstream", "all"))
    assert bronze["model"] == LAYERS["bronze"]
    assert {name.split("_")[0] for name in bronze["test"]} == {"not", "unique", "accepted"}
    assert downstream["model"] == LAYERS["silver"] | LAYERS["gold"]
    assert everything["model"] == bronze["model"] | downstream["model"]
    assert everything["test"] == bronze["test"] | downstream["test"]
    assert not any("unit_test" in chosen for chosen in (bronze, downstream, everything))
    assert kinds(dbt) == everything
    assert set(kinds(dbt, "--selector", "rules")) == {"unit_test"}


def test_one_table_can_be_merged_alone(dbt: Dbt) -> None:
    options = ["--indirect-selection", "cautious", "--exclude-resource-type", "unit_test"]
    chosen = kinds(dbt, "--select", "installments", *options)
    assert chosen["model"] == {"installments"}
    assert len(chosen["test"]) == 3
    assert all("installments" in name for name in chosen["test"])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_bronze_declares_what_tables_yaml_declares(models: dict[str, Node], table: Any) -> None:
    model = models[table.bronze_model]
    declared = {name: column["data_type"].upper() for name, column in model["columns"].items()}
    expected = {column.name: column.type.value for column in table.landed_columns}
    added = dict(zip(BRONZE_COLUMNS, ("TIMESTAMP", "STRING", "STRING", "TIMESTAMP", "TIMESTAMP"), strict=True))
    assert declared == expected | added
    assert list(declared) == [*expected, *added]
    assert (model["config"]["unique_key"] or []) == table.key


def test_bronze_merges_in_one_statement_and_is_never_rebuilt(models: dict[str, Node]) -> None:
    for name in LAYERS["bronze"]:
        config = models[name]["config"]
        assert (config["materialized"], config["incremental_strategy"]) == ("incremental", "merge")
        assert (config["on_schema_change"], config["full_refresh"]) == ("ignore", False)
        assert config["cluster_by"] == config["unique_key"]


def test_personal_data_is_tagged_and_stops_at_silver(models: dict[str, Node]) -> None:
    tagged = {
        (name, column)
        for name, model in models.items()
        for column, declared in model["columns"].items()
        if "pii" in declared["config"]["tags"]
    }
    assert tagged == {("cnpj_ws", "zipcode"), ("cnpj_ws_clean", "zipcode")}


def test_everything_declared_is_described(models: dict[str, Node]) -> None:
    for name, model in models.items():
        assert model["description"], name
        assert all(column["description"] for column in model["columns"].values()), name


def test_the_rules(dbt: Dbt) -> None:
    dbt.run("run", "--selector", "all")
    statuses = dbt.run("test", "--selector", "rules")
    assert len(statuses) >= 20
    assert set(statuses.values()) == {"pass"}
