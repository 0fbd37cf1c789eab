"""Nothing replaces, empties or nulls bronze (invariant 11), and one bad batch or table stops no other.

The transformer is a job that a test starts, behind a proxy that refuses, and with processes that stand still for longer
than their lease. No service runs beside it.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.cycle import Client, extract, run_cycle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import kill_component
from services.core.batch import BatchState
from tests.chaos.by_hand import change, extracted, job, known, start, sweep, transform
from tests.chaos.proxy import NEVER_ENDING, Action, Fault, FaultProxy
from tests.pipeline import filled, little_dbt

SPEC = SampleSpec(rows=300, seed=11)
BRONZE = r"/datasets/business_case_bronze"
TABLES = REPOSITORY / "config" / "tables.yaml"


@pytest.fixture(scope="module")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return little_dbt(tmp_path_factory.mktemp("kept-dbt") / "dbt")


@pytest.fixture(scope="module")
def client(dbt: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    options = StackOptions.model_validate(
        {"home": tmp_path_factory.mktemp("kept"), "dbt_project": dbt, "ephemeral": True}
    )
    with filled(options, SPEC) as opened:
        run_cycle(opened, timedelta(seconds=60))
        for name in ("loader", "transformer"):
            kill_component(opened.stack, name)
        yield opened


@pytest.fixture
def warehouse(client: Client) -> Iterator[FaultProxy]:
    with FaultProxy(client.variables["BIGQUERY_EMULATOR_HOST"]) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def equal(client: Client) -> Iterator[None]:
    """Whatever a test did: once nothing stands in the way, bronze is the source."""
    yield
    sweep(client)
    transform(client)
    assert [str(c) for c in client.compare() if not c.equal] == []


def loaded(client: Client) -> str:
    """Change the source, extract and load it; the batch's id."""
    batch = extracted(client)
    sweep(client)
    assert known(client, batch.id).state is BatchState.LOADED
    return batch.id


def counts(client: Client) -> dict[str, int]:
    return {table.name: client.count("business_case_bronze", table.bronze_model) for table in client.tables.tables}


REFUSED = {
    "the list of tables": f"{BRONZE}/tables\\?",
    "the list of tables, always": f"{BRONZE}/tables(\\?|$)",
    "the list of routines": f"{BRONZE}/routines",
    "the dataset": f"{BRONZE}(\\?|$)",
    "the table": f"{BRONZE}/tables/cnpj_ws(\\?|$)",
    "all of the dataset": BRONZE,
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_taken_for_an_empty_dataset(
    client: Client, warehouse: FaultProxy, what: str, status: int
) -> None:
    before, batch_id = counts(client), loaded(client)
    often = NEVER_ENDING if what.endswith("always") or what.startswith("all") else 1
    warehouse.answer("GET", REFUSED[what], status=status, times=often)
    job(client, "-m", "services.transformer", BIGQUERY_EMULATOR_HOST=warehouse.url)
    assert counts(client) == before
    warehouse.clear()
    transform(client)
    assert known(client, batch_id).state is BatchState.MERGED
    assert counts(client) == before


def test_an_empty_answer_is_not_taken_for_an_empty_dataset(client: Client, warehouse: FaultProxy) -> None:
    before = counts(client)
    loaded(client)
    for _ in range(10):
        warehouse.edit("GET", f"{BRONZE}/(tables|routines)(\\?|$)", lambda answer: {"kind": answer.get("kind", "")})
    job(client, "-m", "services.transformer", BIGQUERY_EMULATOR_HOST=warehouse.url)
    assert counts(client) == before


STATEMENTS = {"the merge": b"merge into", "the creation of the table": b"create table if not exists"}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_transformer_that_stands_still_before_a_statement_for_longer_than_its_lease(
    client: Client, warehouse: FaultProxy, statement: str
) -> None:
    before = counts(client)
    if statement != "the merge":
        # A table that was never made: what is in bronze comes again, from the source.
        client.warehouse.delete_table(client.bronze("cnpj_ws"))
        extract(client, ["--table", "cnpj_ws", "--mode", "snapshot"])
        sweep(client)
    first = loaded(client)
    fault = warehouse.add(
        Fault("POST", r"/(jobs|queries)(\?|$)", Action.HANG, seconds=90, contains=STATEMENTS[statement])
    )
    variables = {"TRANSFORM_LEASE": "2", "BIGQUERY_EMULATOR_HOST": warehouse.url}
    frozen = start(client, "-m", "services.transformer", **variables)
    assert fault.reached.wait(60)
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    second = loaded(client)
    code, _ = job(client, "-m", "services.transformer", TRANSFORM_LEASE="2")
    assert code == 0
    assert {known(client, id_).state for id_ in (first, second)} == {BatchState.MERGED}
    rows = counts(client)
    fault.released.set()  # what was on its way arrives now
    frozen.send_signal(signal.SIGCONT)
    frozen.communicate(timeout=120)
    assert counts(client) == rows == before
    assert [str(c) for c in client.compare() if not c.equal] == []


# --- one bad thing stops no other -----------------------------------------------------------------------------------------


def declared(change: Any, tmp_path: Path) -> dict[str, str]:
    """The variable of a changed tables.yaml."""
    document = yaml.safe_load(TABLES.read_text())
    change({table["name"]: table for table in document["tables"]})
    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    return {"TABLES_FILE": str(path)}


def both_loaded(client: Client) -> dict[str, str]:
    """A loaded batch of each table; their ids by table."""
    change(client)
    with connect(client.stack.postgres) as source:
        source.execute(
            "UPDATE oltp.business_case_installments SET paid_amount_in_cents = paid_amount_in_cents + 1 "
            "WHERE paid_date = (SELECT max(paid_date) FROM oltp.business_case_installments)"
        )
    report = extract(client, [])
    sweep(client)
    return {entry["table"]: entry["batch_id"] for entry in report["tables"]}


@pytest.mark.parametrize("how", ["the yml lacks a column", "the yml names no model", "the model is missing"])
def test_a_table_whose_model_is_not_as_declared_waits_and_the_others_go_on(
    client: Client, dbt: Path, tmp_path: Path, how: str
) -> None:
    rows = counts(client)
    ids = both_loaded(client)
    project = tmp_path / "dbt"
    shutil.copytree(dbt, project)
    variables = {"DBT_PROJECT_DIR": str(project), "DBT_TARGET_PATH": str(tmp_path / "target")}
    yml = project / "models" / "bronze" / "bronze.yml"
    if how == "the yml lacks a column":

        def add(tables: dict[str, Any]) -> None:
            tables["cnpj_ws"]["columns"].append({"name": "founded_on", "type": "DATE"})

        variables |= declared(add, tmp_path)
        reason = "the yml of model cnpj_ws lacks founded_on"
    elif how == "the yml names no model":
        yml.write_text(yml.read_text().replace("- name: cnpj_ws\n", "- name: cnpj_sw\n"))
        reason = "model cnpj_ws has no columns in any yml"
    else:

        def rename(tables: dict[str, Any]) -> None:
            tables["cnpj_ws"]["bronze_model"] = "cnpj"

        variables |= declared(rename, tmp_path)
        reason = "bronze_model cnpj is not in the dbt project"
    code, report = job(client, "-m", "services.transformer", **variables)
    assert code == 1
    assert [entry["outcome"] for entry in report["passes"]] == ["failed"]
    waiting = known(client, ids["cnpj_ws"])
    assert waiting.state is BatchState.LOADED
    assert reason in (waiting.trouble or "")
    assert known(client, ids["installments"]).state is BatchState.MERGED
    assert counts(client) == rows


def test_a_batch_from_before_a_column_was_declared_is_merged_with_null_in_it(
    client: Client, dbt: Path, tmp_path: Path
) -> None:
    """A deploy in flight: the batch is loaded, then the column is declared, and the new transformer merges the batch."""
    batch_id = loaded(client)
    project = tmp_path / "dbt"
    shutil.copytree(dbt, project)
    yml = project / "models" / "bronze" / "bronze.yml"
    added = "      - { name: founded_on, data_type: date, description: When the company was founded. }\n"
    before = "      - &loaded_at\n"
    assert yml.read_text().count(before) == 1
    yml.write_text(yml.read_text().replace(before, added + before))

    def add(tables: dict[str, Any]) -> None:
        tables["cnpj_ws"]["columns"].append({"name": "founded_on", "type": "DATE"})

    variables = declared(add, tmp_path) | {"DBT_PROJECT_DIR": str(project), "DBT_TARGET_PATH": str(tmp_path / "target")}
    code, report = job(client, "-m", "services.transformer", **variables)
    assert code == 0, report
    assert known(client, batch_id).state is BatchState.MERGED
    columns = [column.name for column in client.warehouse.get_table(client.bronze("cnpj_ws")).schema]
    assert "founded_on" in columns


def test_names_with_any_character_are_merged_and_stop_nobody(client: Client) -> None:
    """A file whose name has characters beyond U+FFFF, quotes, braces and what else ends a literal somewhere."""
    ids = both_loaded(client)
    batch = known(client, ids["cnpj_ws"])
    [part] = [
        o for o in client.objects.list(client.settings.archive_bucket, "") if batch.id in o.name and ".part-" in o.name
    ]
    content = client.objects.read(part.bucket, part.name)
    assert content is not None
    name = "cnpj_ws-😀 ação \"q\" 'a' {{ x }} {% y %} `b` \\n ; -- /* */ %s.parquet"
    landing = client.settings.landing_prefix
    client.objects.replace(client.settings.landing_bucket, f"{landing}/{name}", content, "application/octet-stream")
    sweep(client)
    transform(client)
    assert {known(client, id_).state for id_ in ids.values()} == {BatchState.MERGED}
    files = [
        b for b in client.state.batches_of_table("cnpj_ws", datetime.now(UTC) - timedelta(minutes=5)) if b.from_file
    ]
    assert [(b.state, b.hold, b.error) for b in files] == [(BatchState.MERGED, None, None)]
    assert name in (files[0].source or "")
