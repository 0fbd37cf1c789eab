"""A run costs what changed (invariant 9): bytes by the local warehouse's meter, on a table with a delta.

The table is small here, and so are the budgets: shares of it. BigQuery's minimum of 10 MB per table and statement is
left out of account by looking at what is processed.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import yaml

from local.cycle import Client, run_cycle
from local.googlesql import compiled
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from services.core.batch import BatchState
from tests.billed import Billed, billed_since, now, size_of_bronze, warehouse
from tests.pipeline import filled

SPEC = SampleSpec(rows=20_000, seed=29)
CHANGED = 40
WAIT = timedelta(seconds=120)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    try:
        compiled.compile_once()
    except compiled.EngineMissing as missing:
        pytest.skip(str(missing))
    home = tmp_path_factory.mktemp("budget")
    declared = yaml.safe_load((REPOSITORY / "config" / "tables.yaml").read_text())
    for table in declared["tables"]:
        if table["name"] == "installments":
            table["compaction"] = {"min_base": 0}
    path = home.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(declared))
    options = StackOptions(home=home, ephemeral=True, analyzer="on", variables={"TABLES_FILE": str(path)})
    with filled(options, SPEC) as opened:
        run_cycle(opened, WAIT)
        change(opened, 1, seed=0)
        run_cycle(opened, WAIT)  # makes the delta
        yield opened


def change(client: Client, rows: int, seed: int) -> None:
    with connect(client.stack.postgres) as source:
        source.execute(
            "UPDATE oltp.business_case_installments SET paid_amount_in_cents = paid_amount_in_cents + 1, "
            "invoice_issue_date = current_date WHERE asset_id IN (SELECT asset_id FROM "
            "oltp.business_case_installments ORDER BY md5(asset_id::text || %s) LIMIT %s)",
            [str(seed), rows],
        )


def run(client: Client) -> Billed:
    began = now()
    run_cycle(client, WAIT)
    return billed_since(client, began)


def test_a_run_that_finds_nothing_new_bills_nothing(client: Client) -> None:
    before = {batch.id for table in client.tables.names() for batch in client.state.batches_of_table(table)}
    run(client)  # rows of the lookback may land once more after a snapshot
    billed = run(client)
    assert (billed.billed, billed.processed) == (0, 0), billed
    after = {batch.id for table in client.tables.names() for batch in client.state.batches_of_table(table)}
    assert len(after - before) <= len(client.tables.names())


def test_a_run_with_few_changes_reads_at_most_a_hundredth_of_the_table(client: Client) -> None:
    run(client)
    change(client, CHANGED, seed=1)
    keeps_the_budget(client, run(client))
    merged = [b for b in client.state.batches_of_table("installments") if b.state is BatchState.MERGED]
    assert merged[-1].rows == CHANGED
    assert all(comparison.equal for comparison in client.compare())


def keeps_the_budget(client: Client, billed: Billed) -> None:
    """A run with few changes sends one statement, which reads what changed.

    The sample has rows that a row test warns of. So the statement that tests and appends may first say so by an error,
    which bills nothing.
    """
    assert [each.stage for each in billed.reading] == ["bronze"], billed
    assert set(billed.stages()) == {"bronze"}, billed
    assert len(billed.statements) <= 2, billed
    assert 0 < billed.processed <= size_of_bronze(client, "installments") / 100, billed


def test_a_small_tables_run_bills_one_merge(client: Client) -> None:
    """The base and the batch, 10 MB each; the MERGE tests the batch, too."""
    run(client)
    with connect(client.stack.postgres) as source:
        source.execute(
            "UPDATE oltp.business_case_cnpj_ws SET updated_at = clock_timestamp() WHERE buyer_tax_id = "
            "(SELECT min(buyer_tax_id) FROM oltp.business_case_cnpj_ws)"
        )
    billed = run(client)
    assert [(each.stage, each.billed) for each in billed.reading] == [("bronze", 20 * 1024 * 1024)], billed
    assert [node["status"] for node in client.state.runs("transformer")[-1].details["nodes"] if node["failures"]] == []
    assert all(comparison.equal for comparison in client.compare())


def rebuild_views(client: Client) -> None:
    """What makes a run build silver and gold."""
    client.state.note_downstream_due()


def query(client: Client, what: str) -> None:
    """A query of gold, as a report would send it."""
    gold = f"{client.variables['GCP_PROJECT']}.{client.variables['DATASET_GOLD']}.company_payment_summary"
    warehouse(client).query_and_wait(f"select {what} from `{gold}`")


MUTANTS: dict[str, Callable[[Client], None]] = {
    "views that are built anew": rebuild_views,
    "a report's query": lambda client: query(client, "count(distinct payment_tier)"),
    "a full scan": lambda client: query(client, "*"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_statement_more_breaks_the_budget(client: Client, mutant: str) -> None:
    change(client, CHANGED, seed=2)
    began = now()
    MUTANTS[mutant](client)
    run_cycle(client, WAIT)
    with pytest.raises(AssertionError):
        keeps_the_budget(client, billed_since(client, began))
