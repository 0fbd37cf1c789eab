"""Silver and gold agree, to the cent, with an independent computation of the same rules on random and edge rows."""

import datetime as dt
from collections import Counter

import pytest

from tests.integration import gold_reference as reference
from tests.integration.gold_rows import TODAY, Sources, assert_same
from tests.integration.warehouse_fixture import PROJECT, Dbt


@pytest.fixture(scope="module")
def sources(dbt: Dbt) -> Sources:
    """The generated companies and installments; bronze has them."""
    sources = Sources.random(20261122, 150, 1500)
    sources.merge(dbt)
    return sources


def assert_silver_and_gold(dbt: Dbt, sources: Sources, today: dt.date) -> None:
    for model, (expected, key) in sources.computed(today).items():
        dataset = dbt.datasets.silver if model.endswith("_clean") else dbt.datasets.gold
        assert_same(dbt.rows(dataset, model), expected, key)


def test_silver_and_gold_as_of_a_day(dbt: Dbt, sources: Sources) -> None:
    dbt.run("run", "--selector", "downstream", as_of=TODAY.isoformat())
    statuses = dbt.run("test", "--selector", "all", as_of=TODAY.isoformat())
    warned = {name for name, status in statuses.items() if status == "warn"}
    assert {name.split("_")[0] for name in warned} == {"relationships", "no", "accepted"}
    assert "error" not in statuses.values()
    assert_silver_and_gold(dbt, sources, TODAY)
    summary = dbt.rows(dbt.datasets.gold, "company_payment_summary")
    tiers = Counter(row["payment_tier"] for row in summary)
    assert set(tiers) == {"EXCELLENT", "GOOD", "FAIR", "POOR", "HIGH_RISK", "NO_HISTORY"}, tiers


def test_every_rejected_row_is_there_with_its_reason(dbt: Dbt, sources: Sources) -> None:
    dbt.run("run", "--select", "installments_rejected")
    there = reference.alive(reference.frame(sources.installments))
    reasons = {row["asset_id"]: reference.rejection_reason(row) for row in reference.rows(there)}
    rejected = {
        row["asset_id"]: row["rejection_reason"] for row in dbt.rows(dbt.datasets.silver, "installments_rejected")
    }
    assert rejected == {asset_id: reason for asset_id, reason in reasons.items() if reason}
    assert len(set(rejected.values())) == 4


def test_a_status_is_as_of_the_day_it_is_read(dbt: Dbt, sources: Sources) -> None:
    dbt.run("run", "--selector", "downstream")
    (row,) = dbt.client.query_and_wait("SELECT current_date('UTC') AS today")
    assert_silver_and_gold(dbt, sources, row["today"])


def test_silver_and_gold_are_views(dbt: Dbt, sources: Sources) -> None:
    dbt.run("run", "--selector", "downstream")
    for dataset in (dbt.datasets.silver, dbt.datasets.gold):
        kinds = {table.table_id: table.table_type for table in dbt.client.list_tables(f"{PROJECT}.{dataset}")}
        assert set(kinds.values()) == {"VIEW"}, kinds
