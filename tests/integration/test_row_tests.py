"""A batch's row tests, fused into one statement, say what dbt says of the same rows, and read the batch once."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from services.core.batch import BatchError
from services.core.labels import jobs_of
from services.core.tables import OnFailedTests
from services.transformer.dbt_project import NodeResult
from services.transformer.quality import row_tests as row_tests_module
from services.transformer.quality.row_tests import RowTests, why_held
from tests.integration.quality_place import Place, company, installment, quality_place
from tests.integration.warehouse_fixture import Warehouse

BAD_COMPANIES = [
    company(0),
    company(1, company_status="Unknown"),
    company(2, company_status="ativa"),
    company(3, buyer_tax_id=None),
    company(4, share_capital=-1, zipcode=None),
    company(5, company_status=None, main_cnae=" "),
]
BAD_INSTALLMENTS = [
    installment(0),
    installment(1, paid_date=None),
    installment(2, asset_id=None),
    installment(3, asset_id=None, buyer_tax_id=None),
    installment(4, buyer_tax_id=None),
    installment(5, expected_amount_in_cents=None),
    installment(6, due_date=None),
    installment(7, paid_amount_in_cents=-1),
    installment(8, original_amount_in_cents=None, paid_amount_in_cents=None, paid_date=None),
]
ROWS = {"cnpj_ws": BAD_COMPANIES, "installments": BAD_INSTALLMENTS}


@pytest.fixture(scope="module")
def place(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with quality_place(warehouse_endpoint, tmp_path_factory.mktemp("rows"), "rowtests") as place:
        yield place


@pytest.fixture(scope="module")
def batches(place: Place) -> dict[str, str]:
    """Each table's rows, in two batches; bronze has just these."""
    rows = {
        name: place.rows(name, place.loaded(name, 1, bad[:3]), place.loaded(name, 2, bad[3:]))
        for name, bad in ROWS.items()
    }
    place.make_bronze(**rows)
    place.build()
    return rows


def outcomes(results: list[NodeResult]) -> dict[str, Any]:
    return {result.name: (result.status, result.failures, result.message) for result in results}


EXPECTED = {
    "cnpj_ws": {
        "accepted_values_cnpj_ws_clean_data_quality_flag__VALID__INVALID_CAPITAL__INVALID_ZIPCODE__MISSING_CNAE": 0,
        "accepted_values_cnpj_ws_company_status__Ativa__Baixada__Suspensa__Inapta": 2,
        "not_null_cnpj_ws__loaded_at": 0,
        "not_null_cnpj_ws_buyer_tax_id": 1,
        "not_null_cnpj_ws_clean_buyer_tax_id": 1,
    },
    "installments": {
        "accepted_values_installments_clean_payment_status__PAID__OVERDUE__PENDING": 0,
        "no_rows_installments_rejected_": 6,
        "not_null_installments__loaded_at": 0,
        "not_null_installments_asset_id": 2,
        "not_null_installments_clean_asset_id": 0,
        "not_null_installments_clean_payment_status": 0,
        "not_null_installments_rejected_rejection_reason": 0,
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_fused_row_tests_say_what_dbt_says(place: Place, batches: dict[str, str], name: str) -> None:
    results = RowTests(place.dbt).results(place.client, place.table(name), batches[name])
    mine = outcomes(results)
    by_dbt = place.by_dbt(*mine)
    assert {test: number for test, (_, number, _) in mine.items()} == EXPECTED[name]
    assert mine == outcomes([by_dbt[test] for test in mine])


def told(place: Place, name: str, rows: str) -> list[NodeResult]:
    """What the row tests find, as a statement tells it that gives the rows only if all pass."""
    tests = RowTests(place.dbt)
    guard = tests.guard(place.table(name))
    assert guard is not None
    job = place.client.query(guard.around(rows))
    try:
        given, error = without_time(job), None
    except BadRequest as refused:
        given, error = [], str(refused)
        assert not job.total_bytes_billed, "a statement that fails bills nothing"
    results = tests.told(place.table(name), error, 0.0)
    assert results is not None, error
    assert (error is None) == all(result.status == "pass" for result in results)
    assert given == (without_time(place.client.query(rows)) if error is None else [])
    return results


def without_time(job: bigquery.QueryJob) -> list[str]:
    return sorted(str({key: value for key, value in row.items() if key != "_loaded_at"}) for row in job.result())


@pytest.mark.parametrize("name", ROWS)
def test_one_statement_gives_the_rows_or_says_what_the_tests_find(place: Place, name: str) -> None:
    passed = set()
    for number, row in enumerate(ROWS[name], start=10):
        rows = place.rows(name, place.loaded(name, number, [ROWS[name][0], row]))
        results = RowTests(place.dbt).results(place.client, place.table(name), rows)
        assert outcomes(told(place, name, rows)) == outcomes(results)
        passed.add(all(result.status == "pass" for result in results))
    assert passed == {True, False}, "both were seen"


def test_the_configs_of_a_test_mean_what_they_mean_to_dbt(place: Place, batches: dict[str, str]) -> None:
    rejected = place.loaded("installments", 3, [row for row in BAD_INSTALLMENTS if row["asset_id"] is not None])
    by_one_test = place.rows("installments", rejected)
    nodes = place.dbt.parsed().nodes.values()
    test = next(node for node in nodes if node.name == "no_rows_installments_rejected_")
    before = replace(test.config)
    seen = set()
    try:
        for config in (
            {"severity": "error"},
            {"severity": "error", "error_if": "> 6", "warn_if": "> 3"},
            {"severity": "error", "error_if": ">= 6", "warn_if": "> 3"},
            {"severity": "warn", "warn_if": "> 6"},
            {"limit": 4},
            {"fail_calc": "count(distinct rejection_reason)"},
            {"where": "rejection_reason = 'NEGATIVE_AMOUNT'"},
            {"fail_calc": "sum(if(rejection_reason = '', 1, null))"},
        ):
            for key, value in config.items():
                setattr(test.config, key, value)
            mine = RowTests(place.dbt).results(place.client, place.table("installments"), batches["installments"])
            [result] = [each for each in mine if each.name == test.name]
            by_dbt = place.by_dbt(test.name)[test.name]
            assert result.status == by_dbt.status, (config, result, by_dbt)
            if result.status != "error":
                assert (result.failures, result.message) == (by_dbt.failures, by_dbt.message), config
            on_these = RowTests(place.dbt).results(place.client, place.table("installments"), by_one_test)
            assert outcomes(told(place, "installments", by_one_test)) == outcomes(on_these), config
            seen.add(all(each.status == "pass" for each in on_these))
            for key in config:
                setattr(test.config, key, getattr(before, key))
    finally:
        test.config = before
    assert seen == {True, False}


def jobs_of_run(client: bigquery.Client, run: str) -> list[bigquery.QueryJob]:
    return [job for job in client.list_jobs(all_users=True) if job.labels.get("credix_run") == run]


def test_they_are_one_job_that_reads_the_batch_once(place: Place, batches: dict[str, str]) -> None:
    tests = RowTests(place.dbt)
    tests.planned(place.table("installments"))
    with jobs_of("once"):
        tests.results(place.client, place.table("installments"), batches["installments"])
    [job] = jobs_of_run(place.client, "once")
    assert (job.labels["credix_stage"], job.labels["credix_table"]) == ("tests", "installments")
    whole = sum(
        place.client.query(f"select * from {place.datasets.temp}.installments__{number}").total_bytes_processed
        for number in (1, 2)
    )
    assert 0 < job.total_bytes_processed <= whole
    assert job.total_bytes_billed == 2 * 10 * 2**20, "two batches, each a table"


def test_a_test_that_cannot_run_is_found_and_stops_no_other(place: Place, batches: dict[str, str]) -> None:
    """One does not compile in BigQuery, one fails on a row: the latter's value is told nobody."""
    manifest = place.dbt.parsed()
    nodes = {node.name: node for node in manifest.nodes.values()}
    broken, on_rows = nodes["not_null_installments_asset_id"], nodes["not_null_installments_clean_payment_status"]
    sound = broken.raw_code, on_rows.raw_code
    broken.raw_code = "select nothing from {{ ref('installments') }}"
    on_rows.raw_code = "select 1 as x from {{ ref('installments_clean') }} where cast(asset_id as int64) > 0"
    try:
        with jobs_of("halves"):
            results = RowTests(place.dbt).results(place.client, place.table("installments"), batches["installments"])
    finally:
        broken.raw_code, on_rows.raw_code = sound
    by_name = {result.name: result for result in results}
    assert "Unrecognized name: nothing" in by_name[broken.name].message
    assert "could not compute it from these rows" in by_name[on_rows.name].message
    assert "asset 0" not in by_name[on_rows.name].message
    others = {
        name: number for name, number in EXPECTED["installments"].items() if name not in (broken.name, on_rows.name)
    }
    assert {name: by_name[name].failures for name in others} == others
    assert {by_name[name].status for name in (broken.name, on_rows.name)} == {"error"}
    assert len(jobs_of_run(place.client, "halves")) < 2 * len(results)


def test_a_model_that_is_not_of_rows_alone_is_refused(place: Place, batches: dict[str, str]) -> None:
    node = place.dbt.parsed().nodes["model.credix.company_payment_summary"]
    node.config.meta = {"rows_of": "installments"}
    try:
        results = RowTests(place.dbt).results(place.client, place.table("installments"), batches["installments"])
    finally:
        node.config.meta = {}
    refused = [result for result in results if result.status == "error"]
    assert {result.message for result in refused} == {
        "model company_payment_summary says rows_of: installments, but is not made from its rows alone, or does not "
        "compile; take the meta off"
    }
    assert "not_null_company_payment_summary_buyer_tax_id" in {result.name for result in refused}


def test_a_second_scan_would_be_seen(place: Place, batches: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: each test a statement of its own bills the batch as often as there are tests."""
    monkeypatch.setattr(row_tests_module, "ask", _one_by_one)
    with jobs_of("mutant"):
        RowTests(place.dbt).results(place.client, place.table("cnpj_ws"), batches["cnpj_ws"])
    jobs = jobs_of_run(place.client, "mutant")
    assert len(jobs) == len(EXPECTED["cnpj_ws"])
    assert sum(job.total_bytes_billed for job in jobs) > 2 * 10 * 2**20


def _one_by_one(client: Any, parts: Any, statement: Any, labels: Any) -> Any:
    from services.transformer.quality.asking import ask

    return [answer for part in parts for answer in ask(client, [part], statement, labels)]


def test_hold_names_the_tests(place: Place, batches: dict[str, str]) -> None:
    table = place.table("installments")
    results = RowTests(place.dbt).results(place.client, table, batches["installments"])
    assert why_held(table, results) is None
    held = why_held(table.model_copy(update={"on_failed_tests": OnFailedTests.HOLD}), results)
    message = "1 test does not pass on its rows: not_null_installments_asset_id (2 rows)"
    assert held == BatchError(code="tests_failed", message=message)


def test_only_what_row_tests_need_is_compiled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = place.dbt.compiled
    names: set[str] = set()

    def noting(*select: str) -> list[Any]:
        found = compiled(*select)
        names.update(result.node.name for result in found)
        return found

    monkeypatch.setattr(place.dbt, "compiled", noting)
    planned = RowTests(place.dbt).planned(place.table("installments"))
    assert {test.name for test in planned.tests} <= names
    assert not {name for name in names if name.startswith("unique_")}
    assert not {"installments", "company_payment_summary"} & names, "no row test reads their SQL"
