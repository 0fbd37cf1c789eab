"""What the dbt project promises besides its rows: selections, layout, documentation, agreement with tables.yaml."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dbt.artifacts.schemas.freshness import FreshnessResult
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.graph.nodes import GenericTestNode, ModelNode

from services.core.settings import TransformerSettings
from services.core.tables import BRONZE_COLUMNS, load_tables
from services.transformer.dbt_project import DbtProject
from tests.integration.warehouse_fixture import PROJECT, REPOSITORY, Dbt, declared_schema

Node = Mapping[str, Any]
TABLES = load_tables(REPOSITORY / "config" / "tables.yaml").tables
LAYERS = {
    "bronze": {"cnpj_ws", "installments"},
    "silver": {"cnpj_ws_clean", "installments_clean", "installments_rejected"},
    "gold": {"company_payment_summary", "payment_analytics_detailed"},
}
KEYS = {
    "cnpj_ws": "buyer_tax_id",
    "installments": "asset_id",
    "cnpj_ws_clean": "buyer_tax_id",
    "installments_clean": "asset_id",
    "company_payment_summary": "buyer_tax_id",
    "payment_analytics_detailed": "asset_id",
}


@pytest.fixture(scope="module")
def manifest(dbt: Dbt) -> Manifest:
    """The project, parsed once more: what dbt warns of is an error."""
    parsed = dbt._invoke(dbtRunner(), ["parse", "--quiet", "--no-partial-parse", "--warn-error"]).result
    assert isinstance(parsed, Manifest)
    return parsed


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
    assert set(downstream) == {"model"}
    assert everything["model"] == bronze["model"] | downstream["model"]
    assert everything["test"] > bronze["test"]
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


def test_bronze_is_only_ever_merged_into_and_clustered_by_its_key(models: dict[str, Node]) -> None:
    for table in TABLES:
        config = models[table.bronze_model]["config"]
        assert (config["materialized"], config["cluster_by"]) == ("bronze", table.key)


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


def test_every_model_has_an_owner_and_only_gold_is_for_others(manifest: Manifest) -> None:
    owners = {group.name: group.owner.email for group in manifest.groups.values()}
    assert all(owners.values())
    for layer, names in LAYERS.items():
        for name in names:
            model = manifest.nodes[f"model.credix.{name}"]
            assert isinstance(model, ModelNode)
            assert model.group in owners, name
            assert model.access == ("public" if layer == "gold" else "protected"), name


def test_every_key_is_tested(manifest: Manifest) -> None:
    tested = {
        (str(node.attached_node), str(node.column_name), node.test_metadata.name)
        for node in manifest.nodes.values()
        if isinstance(node, GenericTestNode)
    }
    for name, key in KEYS.items():
        needed = {(f"model.credix.{name}", key, test) for test in ("not_null", "unique")}
        assert needed <= tested, needed - tested
    # The rejected are rows of bronze, whose key is tested; each has a reason.
    assert {*KEYS, "installments_rejected"} == set().union(*LAYERS.values())
    assert ("model.credix.installments_rejected", "rejection_reason", "not_null") in tested


def test_what_reads_gold_is_named_with_its_owner(manifest: Manifest) -> None:
    read = {node for exposure in manifest.exposures.values() for node in exposure.depends_on.nodes}
    assert read >= {f"model.credix.{name}" for name in LAYERS["gold"]}
    assert all(exposure.owner.email and exposure.maturity for exposure in manifest.exposures.values())


def test_the_age_of_bronze_can_be_asked(dbt: Dbt, manifest: Manifest) -> None:
    assert {source.name for source in manifest.sources.values()} == LAYERS["bronze"]
    assert {source.schema for source in manifest.sources.values()} == {dbt.datasets.bronze}
    row = dict.fromkeys(column.name for column in declared_schema("cnpj_ws")) | {"buyer_tax_id": "fresh"}
    table = dbt.load("cnpj_ws__fresh", [row], declared_schema("cnpj_ws"))
    facts: Node = {
        "deletes": "keep",
        "deleted_at": None,
        "merged_snapshot": None,
        "snapshot": False,
        "columns": [],
        "latest": None,
    }
    version = {"table": table, "batch_id": "fresh", "extracted_at": "2026-03-01T00:00:00Z", "source": "oltp.x"}
    batch = {**version, **facts}
    dbt.run("run", "--select", "cnpj_ws", batches={"cnpj_ws": [batch]})
    command = ["source", "freshness", "--quiet", "--select", "source:bronze.cnpj_ws"]
    freshness = dbt._invoke(dbtRunner(manifest=manifest), command).result
    assert isinstance(freshness, FreshnessResult)
    assert [(result.node.name, result.status) for result in freshness.results] == [("cnpj_ws", "pass")]
    dbt.client.delete_table(f"{dbt.datasets.bronze}.cnpj_ws")


def test_costs_can_be_told_apart_by_layer(manifest: Manifest) -> None:
    for layer, names in LAYERS.items():
        for name in names:
            assert manifest.nodes[f"model.credix.{name}"].config.extra["labels"] == {"credix_layer": layer}


@pytest.fixture(scope="module")
def built(dbt: Dbt) -> Dbt:
    dbt.run("run", "--selector", "all")
    return dbt


def test_every_column_there_is_declared(built: Dbt, models: dict[str, Node]) -> None:
    for layer, names in LAYERS.items():
        for name in names:
            table = built.client.get_table(f"{PROJECT}.{getattr(built.datasets, layer)}.{name}")
            assert [column.name for column in table.schema] == list(models[name]["columns"]), name


def test_gold_has_a_contract(manifest: Manifest) -> None:
    """Whether the views keep it, dbt checks when it makes them."""
    for name in LAYERS["gold"]:
        model = manifest.nodes[f"model.credix.{name}"]
        assert isinstance(model, ModelNode)
        assert model.config.contract.enforced, name
        assert all(column.data_type for column in model.columns.values()), name


def test_the_rules(built: Dbt, manifest: Manifest) -> None:
    statuses = built.run("test", "--selector", "rules")
    assert set(statuses.values()) == {"pass"}
    assert set(statuses) == {test.name for test in manifest.unit_tests.values()}
    cases: Counter[str] = Counter()
    for test in manifest.unit_tests.values():
        cases[test.model] += len(test.expect.rows or [])
    assert set(cases) == LAYERS["silver"] | LAYERS["gold"]
    assert cases.total() >= 150, cases


def test_the_environment_cannot_say_another_place_than_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dbt would make base and delta in one project, and the transformer would look for them in another."""
    monkeypatch.delenv("DBT_TARGET", raising=False)
    for name in ("GCP_PROJECT", "DATASET_BRONZE", "BIGQUERY_LOCATION"):
        monkeypatch.setenv(name, "elsewhere")
    paths = {"dbt_project_dir": REPOSITORY / "dbt", "dbt_target_path": tmp_path / "t", "dbt_log_path": tmp_path / "l"}
    settings = TransformerSettings(gcp_project="here", dataset_bronze="bronze", **paths)  # type: ignore[arg-type]
    nodes = DbtProject(settings, load_tables(REPOSITORY / "config" / "tables.yaml")).parsed().nodes
    assert nodes["model.credix.installments"].relation_name == "`here`.`bronze`.`installments`"


def test_every_variable_of_the_project_is_one_of_the_settings_with_the_same_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [path.read_text() for path in (REPOSITORY / "dbt").rglob("*") if path.suffix in (".yml", ".sql")]
    read = {found for text in texts for found in re.findall(r"env_var\('(\w+)'(?:, '(.*?)')?\)", text)}
    of_the_machine = {"BIGQUERY_EMULATOR_HOST", "BIGQUERY_MAX_BYTES_BILLED", "DBT_PACKAGES_FOLDER"}
    read = {(name, default) for name, default in read if name not in of_the_machine}
    others = {name: "elsewhere" for name, _ in read}
    for name in others:
        monkeypatch.delenv(name, raising=False)
    settings = TransformerSettings(gcp_project="here")
    assert settings.dbt_variables(others).keys() == others.keys()
    defaults = {(name, TransformerSettings.model_fields[name.lower()].default) for name in others}
    assert read - {("GCP_PROJECT", "")} == {(name, default) for name, default in defaults if name != "GCP_PROJECT"}
    assert settings.dbt_variables({}) == {"GCP_PROJECT": "here"}
    assert settings.dbt_variables({"GCP_PROJECT": "here", "DBT_TARGET": "gcp"}) == {}
