"""Every job that dbt sends says what it is for: its stage, run, layer, model or test, and the table it is about."""

import datetime as dt
import json
import random
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbt.cli.main import dbtRunner
from google.cloud.bigquery import QueryJob, SchemaField

from services.core.labels import job_labels, jobs_of, label, run_label
from services.core.tables import load_tables
from services.transformer.dbt_jobs import labelled, tell_jobs
from services.transformer.labels import dbt_labels
from tests.integration.warehouse_fixture import (
    REPOSITORY,
    BronzeModel,
    Datasets,
    Dbt,
    Warehouse,
    bronze_project,
    shipped_models,
)

RUN = "20261126T143000000000Z-0123abcd"
TABLES = load_tables(REPOSITORY / "config" / "tables.yaml")
LONG = f"company_{'x' * 54}"


def sent(dbt: Dbt, since: dt.datetime) -> list[QueryJob]:
    """The jobs that dbt has sent since then."""
    jobs = [job for job in dbt.client.list_jobs(min_creation_time=since) if "dbt_invocation_id" in job.labels]
    assert all(isinstance(job, QueryJob) for job in jobs)
    return jobs


@pytest.fixture(scope="module")
def dbt(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """On datasets of its own: where other tests have made the tables, bronze sends no job."""
    return Dbt(warehouse_endpoint, Datasets.named("labels"), tmp_path_factory.mktemp("labels"), shipped_models())


@pytest.fixture(scope="module")
def jobs(dbt: Dbt) -> Iterator[list[QueryJob]]:
    """Of a run of bronze and of one of what follows."""
    tell_jobs()
    since = dt.datetime.now(dt.UTC)
    for stage, command in (
        ("bronze", ["run", "--select", "cnpj_ws", "installments"]),
        ("downstream", ["run", "--selector", "downstream"]),
        ("downstream", ["test", "--selector", "all"]),
    ):
        with jobs_of(RUN), labelled(job_labels(stage)):
            dbt.run(*command, credix=dbt_labels(stage, TABLES.tables))
    yield sent(dbt, since)


def test_every_job_has_its_stage_and_run_and_labels_that_bigquery_takes(jobs: list[QueryJob]) -> None:
    assert {job.labels["credix_stage"] for job in jobs} == {"bronze", "downstream"}
    for job in jobs:
        assert job.labels["credix_run"] == run_label(RUN)
        for key, value in job.labels.items():
            assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key)
            assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)
        comment = re.match(r"/\* (\{.*\}) \*/", job.query)
        assert comment, "and people see it in the statement"
        assert json.loads(comment[1]).items() <= job.labels.items()
        # A text that changes with every run is never answered from BigQuery's cache.
        assert run_label(RUN) not in job.query


def test_a_job_names_its_model_or_test_and_what_it_is_about(jobs: list[QueryJob]) -> None:
    said = {
        job.labels["credix_node"]: {key: job.labels.get(f"credix_{key}") for key in ("layer", "kind", "model", "table")}
        for job in jobs
        if "credix_node" in job.labels
    }
    of_table = {"layer": "bronze", "model": "installments", "table": "installments"}
    assert said["installments"] == of_table | {"kind": "model"}
    assert said["not_null_installments_asset_id"] == of_table | {"kind": "test"}
    silver = {"layer": "silver", "model": "installments_clean", "table": None}
    assert said["installments_clean"] == silver | {"kind": "model"}
    assert said["not_null_installments_clean_asset_id"] == silver | {"kind": "test"}
    several = said["amounts_add_up_from_silver_to_gold"]
    assert several == {"layer": "several", "kind": "test", "model": None, "table": None}
    of_one = said["figures_of_a_company_agree"]
    assert of_one["model"] == "company_payment_summary", "a test of the project's own that reads one model"


def test_a_name_becomes_the_same_label_in_dbt_and_in_the_services(dbt: Dbt) -> None:
    chosen = random.Random(7)  # noqa: S311
    letters = string.ascii_letters + string.digits + "_-. çãü{}*/ß𝒳"
    names = [
        "", "a", "A", "_a", "a" * 63, "a" * 64, LONG, "ça", "a b", "a" * 62 + "ß",
        *("".join(chosen.choices(letters, k=chosen.randrange(1, 90))) for _ in range(50)),
    ]  # fmt: skip
    inline = (
        f"{{% for name in {json.dumps(names, ensure_ascii=False)} %}}{{{{ credix.job_label(name) }}}}|{{% endfor %}}"
    )
    compiled: Any = dbt._invoke(dbtRunner(manifest=dbt.manifest), ["compile", "--quiet", "--inline", inline]).result
    assert compiled.results[0].node.compiled_code.split("|")[:-1] == [label(name) for name in names]


def test_a_model_of_a_long_name_keeps_labels_that_tell_it_apart(warehouse_endpoint: Warehouse, tmp_path: Path) -> None:
    columns = [SchemaField("id", "INT64")]
    models = {name: BronzeModel(columns, ["id"]) for name in (f"{LONG}1", f"{LONG}2")}
    project = bronze_project(warehouse_endpoint, tmp_path, "long_names", models)
    since = dt.datetime.now(dt.UTC)
    project.run("run", credix={"labels": {"credix_stage": "bronze"}, "tables": {f"{LONG}1": "one", f"{LONG}2": "two"}})
    said = {
        (job.labels["credix_node"], job.labels["credix_table"]) for job in sent(project, since) if len(job.labels) > 2
    }
    assert said == {(label(f"{LONG}1"), "one"), (label(f"{LONG}2"), "two")}


def test_by_hand_a_job_says_that_it_is_dbts(dbt: Dbt) -> None:
    since = dt.datetime.now(dt.UTC)
    dbt.run("test", "--select", "not_null_installments_asset_id")
    assert {job.labels["credix_stage"] for job in sent(dbt, since)} == {"dbt"}
