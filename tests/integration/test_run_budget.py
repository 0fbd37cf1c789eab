"""A run costs what changed (invariant 9): bytes by the local warehouse's meter, on a table with a delta.

The table is small here, and so are the budgets: shares of it. BigQuery's minimum of 10 MB per table and statement is
left out of account by looking at what is processed.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import yaml

from local.cycle import Client, run_cycle
from local.googlesql import compiled
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from services.core.batch import BatchState
from tests.billed import Billed, billed_since, now, size_of_bronze
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
    billed = run(client)
    size = size_of_bronze(client, "installments")
    assert 0 < billed.processed <= size / 100, billed
    assert [stage for stage, size in billed.statements if size] == ["bronze"], "one tests and appends"
    merged = [b for b in client.state.batches_of_table("installments") if b.state is BatchState.MERGED]
    assert merged[-1].rows == CHANGED
    assert all(comparison.equal for comparison in client.compare())
