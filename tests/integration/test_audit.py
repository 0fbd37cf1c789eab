"""The audit says what dbt says of everything, also of broken models, and bills at most twice what bronze holds."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import bigquery

from services.core.batch import BatchState
from services.core.health.standing import standings
from services.core.labels import run_label
from services.core.state.quality import Group, audits, row_tests
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.transformer.quality import audit as audit_module
from services.transformer.quality.asking import ask
from services.transformer.quality.audit import Auditor, AuditReport
from services.transformer.quality.noting import note_rows
from services.transformer.quality.row_tests import RowTests
from tests.integration.quality_place import Place, company, installment, quality_place
from tests.integration.warehouse_fixture import DBT_PROJECT, Warehouse

SUMMARY, ANALYTICS = "company_payment_summary", "payment_analytics_detailed"
CLEAN, REJECTED = "installments_clean", "installments_rejected"


@pytest.fixture(scope="module")
def place(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with quality_place(warehouse_endpoint, tmp_path_factory.mktemp("audit"), "audit") as place:
        companies = [company(number) for number in range(40)] + [company(1), company(41, company_status="Unknown")]
        paid = [installment(number) for number in range(600)]
        others = [
            installment(601, paid_date=None, paid_amount_in_cents=250),
            installment(602, paid_amount_in_cents=-1),
            installment(603, due_date=None),
            installment(604, due_date=None),
            installment(605, buyer_tax_id="nobody"),
            installment(3),
            installment(606, asset_id=None),
            installment(607, expected_amount_in_cents=20_000_000),
        ]
        place.make_bronze(
            cnpj_ws=place.rows("cnpj_ws", place.loaded("cnpj_ws", 1, companies)),
            installments=place.rows("installments", place.loaded("installments", 1, paid + others)),
        )
        place.build()
        yield place


@pytest.fixture
def auditor(place: Place, tmp_path: Path) -> Auditor:
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    batch = place.loaded("cnpj_ws", 2, [company(0)]).batch
    state.create_batch(batch.model_copy(update={"state": BatchState.MERGED}))
    state.advance("cnpj_ws", 1)
    return Auditor(place.settings, place.tables, state, place.client, place.dbt)


def audited(auditor: Auditor) -> AuditReport:
    report = auditor.audit("test")
    assert report is not None
    return report


def jobs_of(client: bigquery.Client, report: AuditReport) -> list[bigquery.QueryJob]:
    label = run_label(report.id)
    return [job for job in client.list_jobs(all_users=True) if job.labels.get("credix_run") == label]


def outcomes(results: Any) -> dict[str, Any]:
    return {result.name: (result.status, result.failures, result.message) for result in results}


def test_an_audit_says_what_dbt_says(place: Place, auditor: Auditor) -> None:
    report = audited(auditor)
    by_dbt = place.by_dbt()
    assert outcomes(report.nodes) == outcomes(by_dbt.values())
    assert {path.stem for path in (DBT_PROJECT / "tests").glob("*.sql")} <= by_dbt.keys()
    statuses = {result.status for result in report.nodes}
    assert statuses == {"pass", "warn", "fail"}, "rows of every kind"
    assert report.outcome() == "tests_failed"


def test_it_counts_the_reports_figures(place: Place, auditor: Auditor) -> None:
    figures = audited(auditor).figures
    assert figures["rejected"] == [
        Group(name="MISSING_DUE_DATE", count=2),
        Group(name="MISSING_ASSET_ID", count=1),
        Group(name="NEGATIVE_AMOUNT", count=1),
    ]
    tiers = f"select payment_tier, count(*) from {place.datasets.gold}.{SUMMARY} group by 1"
    assert {(group.name, group.count) for group in figures["tiers"]} == {
        tuple(row) for row in place.client.query(tiers).result()
    }


def test_it_is_one_job_that_bills_at_most_twice_bronze(place: Place, auditor: Auditor) -> None:
    report = audited(auditor)
    [job] = jobs_of(place.client, report)
    assert job.labels["credix_stage"] == "audit"
    dry = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    whole = {
        name: place.client.query(f"select * from {place.datasets.bronze}.{name}", dry).total_bytes_processed
        for name in ("cnpj_ws", "installments")
    }
    assert 0 < job.total_bytes_processed < sum(whole.values())
    assert job.total_bytes_processed <= 2 * whole["installments"]
    run = auditor.state.run(report.id)
    assert run is not None
    assert run.cost is not None and run.cost.total.billed == job.total_bytes_billed == 2 * 10 * 2**20
    assert {node["name"] for node in run.details["nodes"]} == {node.name for node in report.nodes}


def test_an_unfused_test_would_be_seen(place: Place, auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a statement for each test."""

    def one_by_one(client: Any, parts: Any, statement: Any, labels: Any) -> Any:
        return [answer for part in parts for answer in ask(client, [part], statement, labels)]

    monkeypatch.setattr(audit_module, "ask", one_by_one)
    report = audited(auditor)
    whole = f"select * from {place.datasets.bronze}.installments"
    read = sum(job.total_bytes_processed for job in jobs_of(place.client, report))
    assert read > 2 * place.client.query(whole).total_bytes_processed


MUTANTS = {
    "wrong figures": [
        (SUMMARY, "sum(paid_amount)", "sum(if(payment_status = 'PAID', paid_amount, 0))"),
        (ANALYTICS, "else 'XLARGE'", "else 'HUGE'"),
        (REJECTED, "and {{ rejection_reason() }} is not null", ""),
    ],
    "rows too few and too many": [
        (SUMMARY, "left join totals", "inner join totals"),
        (ANALYTICS, "= installment.company_tax_id", "= installment.company_tax_id cross join unnest([1, 2])"),
        (CLEAN, "where _deleted_at is null", "where _deleted_at is null and asset_id != 'asset 7'"),
    ],
}


@pytest.mark.parametrize("changes", MUTANTS)
def test_an_audit_finds_what_dbt_finds_on_mutants(place: Place, auditor: Auditor, changes: str) -> None:
    sound = outcomes(audited(auditor).nodes)
    with ExitStack() as mutants:
        for change in MUTANTS[changes]:
            mutants.enter_context(place.mutant(*change))
        mine = outcomes(audited(auditor).nodes)
        assert mine == outcomes(place.by_dbt().values())
    assert sum(mine[name] != outcome for name, outcome in sound.items()) >= 3


def test_a_broken_test_is_found_and_stops_no_other(place: Place, auditor: Auditor) -> None:
    node = next(n for n in place.dbt.parsed().nodes.values() if n.name == "figures_of_a_company_agree")
    sound = outcomes(audited(auditor).nodes)
    raw, node.raw_code = node.raw_code, "select nothing from {{ ref('company_payment_summary') }}"
    try:
        report = audited(auditor)
    finally:
        node.raw_code = raw
    found = outcomes(report.nodes)
    status, failures, message = found.pop(node.name)
    assert (status, failures) == ("error", None)
    assert "Unrecognized name: nothing" in message
    assert found == {name: outcome for name, outcome in sound.items() if name != node.name}
    assert report.outcome() == "failed"
    assert report.problems[0].startswith(f"test {node.name}: ")
    assert "rejected" in report.figures and "tiers" in report.figures


def test_a_failure_in_a_batch_stands_until_an_audit_has_seen_it(place: Place, auditor: Auditor) -> None:
    state, table = auditor.state, place.table("installments")
    name = "not_null_installments_asset_id"
    fixed = f"delete from {place.datasets.bronze}.installments where asset_id is null"

    def standing() -> tuple[str, str]:
        found = {each.name: each for each in standings(audits(state.store).newest, row_tests(state.store))}
        return found[name].status, found[name].found_by

    bad = place.loaded("installments", 3, [installment(700, asset_id=None)])
    state.create_batch(bad.batch.model_copy(update={"state": BatchState.LOADED}))
    place.client.query(fixed).result()
    audited(auditor)
    assert standing() == ("pass", "audit")
    results = RowTests(place.dbt).results(place.client, table, place.rows("installments", bad))
    note_rows(state.store, "installments", results, [bad.batch.id])
    assert standing() == ("fail", "batch")
    audited(auditor)
    assert standing() == ("fail", "batch"), "the batch is not in bronze: the audit has not seen it"
    place.client.query(f"insert into {place.datasets.bronze}.installments {place.rows('installments', bad)}").result()
    state.change_batch(bad.batch.id, lambda batch: batch.model_copy(update={"state": BatchState.MERGED}))
    audited(auditor)
    assert standing() == ("fail", "audit")
    place.client.query(fixed).result()
    audited(auditor)
    assert standing() == ("pass", "audit")
    assert not [test for rows in row_tests(state.store) for test in rows.tests.values() if test.status != "pass"]


def test_a_warehouse_that_is_away_leaves_the_last_audit_and_says_so(
    place: Place, auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = audited(auditor)

    def away(*_: Any) -> Any:
        raise ServiceUnavailable("away")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(audit_module, "ask", away)
    report = audited(auditor)
    assert report.outcome() == "failed"
    noted = audits(auditor.state.store)
    assert noted.newest is not None and noted.newest.id == first.id
    assert noted.trouble is not None and "away" in noted.trouble.why
    monkeypatch.undo()
    audited(auditor)
    assert audits(auditor.state.store).trouble is None


def test_without_a_merged_batch_there_is_nothing_to_audit(place: Place, tmp_path: Path) -> None:
    auditor = Auditor(
        place.settings, place.tables, PipelineState(SqliteStore(tmp_path / "state.sqlite")), place.client, place.dbt
    )
    report = audited(auditor)
    assert report.nothing and not report.problems
    assert audits(auditor.state.store).newest is None


def test_a_model_of_gold_that_is_a_table_is_built_anew(place: Place, auditor: Auditor) -> None:
    config = place.dbt.parsed().nodes[f"model.credix.{SUMMARY}"].config
    gold = f"{place.datasets.gold}.{SUMMARY}"
    config.materialized = "table"
    try:
        place.build(SUMMARY)
        assert place.client.get_table(gold).table_type == "TABLE"
        place.client.query(f"delete from {gold} where true").result()
        report = audited(auditor)
    finally:
        config.materialized = "view"
        place.client.delete_table(gold)
        place.build(SUMMARY)
    assert report.problems == []
    assert sum(group.count for group in report.figures["tiers"]) >= 40
