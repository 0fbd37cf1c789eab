"""Nothing replaces, empties or nulls bronze (invariant 11), and one bad batch or table stops no other.

No service runs: a test extracts, loads and transforms by hand. The transformer is in this process, behind a proxy that
refuses; where a process has to stand still for longer than its lease, it is a job.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api_core.exceptions import GoogleAPICallError

from local.cycle import Client, extract, run_cycle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import kill_component
from services.core.batch import BatchState
from services.core.errors import TransientError
from services.core.settings import LoaderSettings, TransformerSettings, read_settings
from services.core.state.lease import look
from services.core.tables import load_tables
from services.loader.sweep import Sweep
from services.loader.wiring import open_loader
from services.transformer.bronze.tables import BASE, DELTA
from services.transformer.reconcile import LEASE, RunReport, Transformer
from services.transformer.wiring import open_transformer
from tests.chaos.by_hand import change, extracted, known, start
from tests.chaos.proxy import NEVER_ENDING, Action, Fault, FaultProxy
from tests.chaos.undisturbed import SHORT_LEASES
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
        {"home": tmp_path_factory.mktemp("kept"), "dbt_project": dbt, "ephemeral": True, "variables": SHORT_LEASES}
    )
    with filled(options, SPEC) as opened:
        run_cycle(opened, timedelta(seconds=60))
        for name in ("loader", "transformer"):
            kill_component(opened.stack, name)
        while (lease := look(opened.state.store, LEASE)) is not None and lease.held(datetime.now(UTC)):
            time.sleep(0.2)  # the transformer was killed in its work
        yield opened


@pytest.fixture(scope="module")
def proxy(client: Client) -> Iterator[FaultProxy]:
    with FaultProxy(client.variables["BIGQUERY_EMULATOR_HOST"]) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", proxy.url)  # dbt's profile reads it in every run
        yield proxy


@pytest.fixture
def warehouse(proxy: FaultProxy) -> Iterator[FaultProxy]:
    yield proxy
    proxy.clear()


@pytest.fixture(scope="module")
def transformer(client: Client, proxy: FaultProxy) -> Transformer:
    return opened(client)


def opened(client: Client, **variables: str) -> Transformer:
    """A transformer in this process, with some settings of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        settings = read_settings(TransformerSettings)
    return open_transformer(settings, load_tables(settings.tables_file))


@pytest.fixture(autouse=True)
def equal(client: Client, transformer: Transformer, warehouse: FaultProxy) -> Iterator[None]:
    """Whatever a test did: once nothing stands in the way, bronze is the source."""
    yield
    warehouse.clear()
    load(client)
    transformer.reconcile("afterwards")
    assert [str(c) for c in client.compare() if not c.equal] == []


def load(client: Client) -> None:
    """Load what has landed."""
    swept = Sweep(open_loader(read_settings(LoaderSettings), client.tables)).run()
    assert swept.problems == []


def loaded(client: Client) -> str:
    """Change the source, extract and load it; the batch's id."""
    batch = extracted(client)
    load(client)
    assert known(client, batch.id).state is BatchState.LOADED
    return batch.id


def tried(transformer: Transformer) -> list[RunReport]:
    """Reconcile, whether all can be done or not."""
    with suppress(TransientError, GoogleAPICallError):
        return transformer.reconcile("test")
    return []


def counts(client: Client) -> dict[str, int]:
    return {table.name: client.count("business_case_bronze", table.bronze_model) for table in client.tables.tables}


REFUSED = {
    "the list of tables": f"{BRONZE}/tables\\?",
    "the list of tables, always": f"{BRONZE}/tables(\\?|$)",
    "the list of routines": f"{BRONZE}/routines",
    "the dataset": f"{BRONZE}(\\?|$)",
    "the table": f"{BRONZE}/tables/cnpj_ws(\\?|$)",
    "all of the dataset, always": BRONZE,
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_taken_for_an_empty_dataset(
    client: Client, transformer: Transformer, warehouse: FaultProxy, what: str, status: int
) -> None:
    before, batch_id = counts(client), loaded(client)
    fault = warehouse.answer("GET", REFUSED[what], status, times=NEVER_ENDING if "always" in what else 1)
    tried(transformer)
    # What nobody asks for any more cannot mislead anybody.
    assert fault.done or what in ("the list of routines", "the dataset")
    warehouse.clear()
    assert counts(client) == before
    transformer.reconcile("test")
    assert known(client, batch_id).state is BatchState.MERGED
    assert counts(client) == before


def test_an_empty_answer_is_not_taken_for_an_empty_dataset(
    client: Client, transformer: Transformer, warehouse: FaultProxy
) -> None:
    before = counts(client)
    loaded(client)
    warehouse.edit("GET", f"{BRONZE}/(tables|routines)(\\?|$)", lambda answer: {"kind": answer["kind"]}, NEVER_ENDING)
    tried(transformer)
    assert counts(client) == before


STATEMENTS = {"the merge": b"merge into", "the creation of the table": b"create table if not exists"}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_transformer_that_stands_still_before_a_statement_for_longer_than_its_lease(
    client: Client, transformer: Transformer, warehouse: FaultProxy, statement: str
) -> None:
    before = counts(client)
    if statement != "the merge":
        # A table that was never made; what was in it comes again, from the source.
        for part in ("", BASE, DELTA):
            client.warehouse.delete_table(f"{client.bronze('cnpj_ws')}{part}", not_found_ok=True)
        extract(client, ["--table", "cnpj_ws", "--mode", "snapshot"])
        load(client)
    first = loaded(client)
    fault = warehouse.add(
        Fault("POST", r"/(jobs|queries)(\?|$)", Action.HANG, seconds=90, contains=STATEMENTS[statement])
    )
    frozen = start(client, "-m", "services.transformer", BIGQUERY_EMULATOR_HOST=warehouse.url)
    assert fault.reached.wait(90)
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    second = loaded(client)
    transformer.reconcile("the next")
    assert {known(client, id_).state for id_ in (first, second)} == {BatchState.MERGED}
    assert counts(client) == before
    fault.released.set()  # what was on its way arrives now
    frozen.send_signal(signal.SIGCONT)
    frozen.communicate(timeout=120)
    assert counts(client) == before
    assert [str(c) for c in client.compare() if not c.equal] == []


# --- one bad thing stops no other ------------------------------------------------------------------------------------


def declared(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> dict[str, str]:
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
    load(client)
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
    [report] = opened(client, **variables).reconcile("test")
    assert report.outcome() == "failed"
    waiting = known(client, ids["cnpj_ws"])
    assert waiting.state is BatchState.LOADED
    assert reason in (waiting.trouble or "")
    assert known(client, ids["installments"]).state is BatchState.MERGED
    assert counts(client) == rows


def test_a_batch_from_before_a_column_was_declared_is_merged_with_null_in_it(
    client: Client, dbt: Path, tmp_path: Path
) -> None:
    """A deploy in flight: the batch is loaded, then the column is declared, then the new transformer merges it."""
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
    opened(client, **variables).reconcile("test")
    assert known(client, batch_id).state is BatchState.MERGED
    columns = [column.name for column in client.warehouse.get_table(client.bronze("cnpj_ws")).schema]
    assert "founded_on" in columns


def test_names_with_any_character_are_merged_and_stop_nobody(client: Client, transformer: Transformer) -> None:
    """A file whose name has characters beyond U+FFFF, quotes, braces and what else ends a literal somewhere."""
    ids = both_loaded(client)
    batch = known(client, ids["cnpj_ws"])
    [part] = [
        o for o in client.objects.list(client.settings.archive_bucket, "") if batch.id in o.name and ".part-" in o.name
    ]
    content = client.objects.read(part.bucket, part.name)
    assert content is not None
    name = "cnpj_ws-😀 ação \"q\" 'a' {{ x }} {% y %} `b` \\n ; -- * %s.parquet"
    landing = client.settings.landing_prefix
    client.objects.replace(client.settings.landing_bucket, f"{landing}/{name}", content, "application/octet-stream")
    load(client)
    transformer.reconcile("test")
    assert {known(client, id_).state for id_ in ids.values()} == {BatchState.MERGED}
    files = [
        b for b in client.state.batches_of_table("cnpj_ws", datetime.now(UTC) - timedelta(minutes=5)) if b.from_file
    ]
    assert [(b.state, b.hold, b.error) for b in files] == [(BatchState.MERGED, None, None)]
    assert name in (files[0].source or "")
