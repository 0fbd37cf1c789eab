"""What guards gold does so: a broken contract is refused, and every test between the models fails on a broken model.

A mutant is a model's SQL with one thing changed. It is given to dbt in the parsed project: no mutant is parsed anew.
"""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from dbt.artifacts.schemas.catalog import CatalogArtifact
from dbt.artifacts.schemas.run import RunResult
from dbt.cli.main import dbtRunner

from tests.integration.warehouse_fixture import (
    DBT_PROJECT,
    Datasets,
    Dbt,
    Warehouse,
    declared_schema,
    shipped_models,
)

Row = dict[str, Any]

TODAY = dt.date(2026, 3, 1)
READ = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SUMMARY, ANALYTICS, CLEAN = "company_payment_summary", "payment_analytics_detailed", "installments_clean"
REJECTED = "installments_rejected"
# Company: installments paid, overdue and pending, days from due date of the paid ones. Each is at a tier's limits.
HISTORIES = {
    "excellent": (19, 1, 0, [5]),
    "good": (17, 3, 0, [15]),
    "fair": (14, 5, 1, [30]),
    "poor": (10, 8, 2, [99]),
    "in ten days": (1, 0, 0, [10]),
    "early and late": (2, 0, 1, [-4, 20]),
    "never pays": (0, 2, 0, []),
    "nothing bought": (0, 0, 0, []),
}


def installments() -> Iterator[Row]:
    """Rows of every company and of one that is not known; some to be rejected."""
    columns = dict.fromkeys(column.name for column in declared_schema("installments"))
    for company, (paid, overdue, pending, days) in [*HISTORIES.items(), ("unknown company", (1, 1, 1, [1]))]:
        statuses = ["PAID"] * paid + ["OVERDUE"] * overdue + ["PENDING"] * pending
        for number, status in enumerate(statuses):
            due = TODAY + dt.timedelta(days=30 if status == "PENDING" else -120)
            yield columns | {
                "asset_id": f"{company} {number:02}",
                "invoice_id": None if status == "PENDING" else f"invoice {number // 2}",
                "buyer_tax_id": company,
                "original_amount_in_cents": 12_000,
                "expected_amount_in_cents": 10_000 + number,
                "paid_amount_in_cents": {"PAID": 10_000, "OVERDUE": 2_500, "PENDING": None}[status],
                "due_date": due,
                "paid_date": due + dt.timedelta(days=days[number % len(days)]) if status == "PAID" else None,
                "invoice_issue_date": TODAY - dt.timedelta(days=200 + number),
            }
    for number in range(3):
        yield columns | {"asset_id": f"rejected {number}", "buyer_tax_id": "good", "expected_amount_in_cents": -1}


@dataclass
class Guards:
    """Silver and gold on rows of their own, whose models can be broken one at a time."""

    dbt: Dbt
    broken: str | None = None
    """The model whose view is still a mutant's."""

    def build(self, *names: str) -> dict[str, RunResult]:
        """Build or test what is named, and only that; a view that a mutant has left is made anew first."""
        select = sorted({*names, *([self.broken] if self.broken else [])})
        self.broken = None
        options = ["--indirect-selection", "empty", "--cache-selected-only"]
        return self.dbt.results("build", "--select", *select, *options, as_of=TODAY.isoformat())

    @contextmanager
    def mutant(self, model: str, old: str, new: str) -> Iterator[None]:
        """Within the block, a model's SQL has ``new`` where it had ``old``, which must be there once."""
        node = self.dbt.manifest.nodes[f"model.credix.{model}"]
        sound = node.raw_code
        assert sound.count(old) == 1, f"{model} has {sound.count(old)} times: {old}"
        node.raw_code = sound.replace(old, new)
        try:
            yield
        finally:
            node.raw_code = sound
            self.broken = model


def batch(dbt: Dbt, model: str, rows: list[Row], hours: int) -> Row:
    """A snapshot of a table, read some hours after the first."""
    name = f"{model}__{hours}"
    return {
        "table": dbt.load(name, rows, declared_schema(model)),
        "batch_id": name,
        "extracted_at": (READ + dt.timedelta(hours=hours)).isoformat(),
        "source": "oltp.x",
        "snapshot": True,
        "columns": [],
        "latest": None,
        "deletes": "soft",
        "deleted_at": None,
        "merged_snapshot": None,
    }


@pytest.fixture(scope="module")
def guards(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Guards:
    dbt = Dbt(warehouse_endpoint, Datasets.named("guards"), tmp_path_factory.mktemp("guards"), shipped_models())
    columns = dict.fromkeys(column.name for column in declared_schema("cnpj_ws"))
    companies = [columns | {"buyer_tax_id": company} for company in HISTORIES]
    there = list(installments())
    gone = [row | {"asset_id": f"gone {number}"} for number, row in enumerate(there[:4])]
    batches = {
        "cnpj_ws": [batch(dbt, "cnpj_ws", companies, 0)],
        "installments": [batch(dbt, "installments", there + gone, 0), batch(dbt, "installments", there, 1)],
    }
    dbt.run("run", "--selector", "all", batches=batches, as_of=TODAY.isoformat())
    return Guards(dbt)


def test_the_catalog_of_the_docs_is_made_from_the_warehouse(guards: Guards) -> None:
    catalog = guards.dbt._invoke(dbtRunner(manifest=guards.dbt.manifest), ["docs", "generate", "--quiet"]).result
    assert isinstance(catalog, CatalogArtifact)
    assert not catalog.errors
    bronze, view = (catalog.nodes[f"model.credix.{name}"] for name in ("installments", SUMMARY))
    assert (bronze.metadata.type, view.metadata.type) == ("view", "view")
    assert bronze.columns["asset_id"].type == "STRING"
    assert view.columns["risk_score"].type == "NUMERIC"


# The column, and the change of the model.
CONTRACT = {
    "a float": ("risk_score", "numeric '0.4' *", "cast(0.4 as float64) *"),
    "another name": ("payment_tier", "as payment_tier", "as tier"),
    "a column less": ("best_days_from_due_date", "    totals.best_days_from_due_date,\n", ""),
}


@pytest.mark.parametrize("change", CONTRACT)
def test_gold_that_breaks_its_contract_is_refused(guards: Guards, change: str) -> None:
    def answer() -> list[str]:
        return sorted(map(str, guards.dbt.rows(guards.dbt.datasets.gold, SUMMARY)))

    column, old, new = CONTRACT[change]
    if guards.broken:
        guards.build()
    before = answer()
    assert len(before) == len(HISTORIES)
    with guards.mutant(SUMMARY, old, new):
        result = guards.build(SUMMARY)[SUMMARY]
    guards.broken = None  # nothing was made
    assert result.status == "error"
    assert "has an enforced contract that failed" in str(result.message), result.message
    assert re.search(rf"\| {column} +\|", str(result.message)), result.message
    assert answer() == before


ADD_UP, ONCE = "amounts_add_up_from_silver_to_gold", "every_company_is_in_the_summary_once"
CLEAN_OR_REJECTED, AGREE = "every_installment_is_clean_or_rejected", "figures_of_a_company_agree"
TIERS = "tiers_and_scores_follow_from_the_published_rates"
# What fails on it, the mutant's model, and its change; those of a model together, so that it is mended once.
MUTANTS = {
    "what was paid in part is left out": (
        ADD_UP, SUMMARY, "sum(paid_amount)", "sum(if(payment_status = 'PAID', paid_amount, 0))"),
    "a company without installments is left out": (ONCE, SUMMARY, "left join totals", "inner join totals"),
    "a company is there twice": (
        ONCE, SUMMARY, "on totals.company_tax_id = company.buyer_tax_id",
        "on totals.company_tax_id = company.buyer_tax_id cross join unnest([1, 2])"),
    "an overdue installment is pending, too": (
        AGREE, SUMMARY, "countif(payment_status = 'PENDING')", "countif(payment_status != 'PAID')"),
    "overdue amounts are the original ones": (
        AGREE, SUMMARY, "if(payment_status = 'OVERDUE', expected_amount, 0)",
        "if(payment_status = 'OVERDUE', original_amount, 0)"),
    "unpaid installments count as late ones": (
        AGREE, SUMMARY, "avg(if(payment_status = 'PAID', days_from_due_date, null))", "avg(days_from_due_date)"),
    "a rate is of another whole": (
        AGREE, SUMMARY, "percentage('overdue_installments', 'total_installments')",
        "percentage('overdue_installments', 'paid_installments')"),
    "who never paid has no history": (AGREE, SUMMARY, "when total_installments = 0", "when paid_installments = 0"),
    "good allows fewer days": (TIERS, SUMMARY, "average_days_from_due_date <= 15", "average_days_from_due_date < 15"),
    "the tenth day costs points": (
        TIERS, SUMMARY, "when average_days_from_due_date <= 10", "when average_days_from_due_date < 10"),
    "overdue weighs less": (TIERS, SUMMARY, "numeric '0.3' *", "numeric '0.2' *"),
    "an unknown company's installments are left out": (
        ADD_UP, ANALYTICS, "left join {{ ref('cnpj_ws_clean') }}", "inner join {{ ref('cnpj_ws_clean') }}"),
    "an installment without an invoice gets lost": (
        CLEAN_OR_REJECTED, CLEAN, "where _deleted_at is null", "where _deleted_at is null and invoice_id is not null"),
    "a deleted installment counts as rejected": (
        CLEAN_OR_REJECTED, REJECTED, "_deleted_at is null and {{ rejection_reason() }} is not null",
        "_deleted_at is not null or {{ rejection_reason() }} is not null"),
}  # fmt: skip


def test_sound_models_pass_and_every_test_has_its_mutants(guards: Guards) -> None:
    there = {path.stem for path in (DBT_PROJECT / "tests").glob("*.sql")}
    results = guards.build(*there)
    assert {name: str(results[name].status) for name in there} == dict.fromkeys(there, "pass")
    assert {test for test, *_ in MUTANTS.values()} == there


@pytest.mark.parametrize("change", MUTANTS)
def test_a_test_fails_on_a_mutant(guards: Guards, change: str) -> None:
    test, model, old, new = MUTANTS[change]
    with guards.mutant(model, old, new):
        results = guards.build(model, test)
    assert results[model].status == "success", results[model].message
    assert results[test].status == "fail", results[test].message
    assert (results[test].failures or 0) > 0
