"""The generated companies and installments: the same every time, odd where promised, plausible elsewhere."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.sample import cnpj, companies, installments, population, spec
from local.sample.companies import CompanyOddity
from local.sample.copy_text import copy_text
from local.sample.installments import InstallmentOddity
from local.sample.population import UNKNOWN_COMPANIES
from local.sample.reference import STATES
from local.sample.spec import SampleSpec

AS_OF = date(2025, 6, 1)
MIDNIGHT = datetime.combine(AS_OF, time(), UTC)
DEFAULT_ROWS = SampleSpec().rows
Row = dict[str, Any]


def rows_of(batches: Iterable[pa.RecordBatch]) -> list[Row]:
    return [row for batch in batches for row in batch.to_pylist()]


def digest(batches: Iterable[pa.RecordBatch]) -> str:
    seen = hashlib.sha256()
    for batch in batches:
        seen.update(copy_text(batch))
    return seen.hexdigest()


@pytest.fixture(scope="module", params=[spec.MIN_ROWS, 400, DEFAULT_ROWS])
def sample(request: pytest.FixtureRequest) -> tuple[list[Row], list[Row]]:
    of = SampleSpec(request.param, 42, AS_OF)
    return rows_of(companies.companies(of)), rows_of(installments.installments(of))


@pytest.fixture(scope="module")
def large() -> tuple[list[Row], list[Row]]:
    of = SampleSpec(120_000, 7, AS_OF)
    return rows_of(companies.companies(of)), rows_of(installments.installments(of))


def buyer(row: Row) -> str | None:
    tax_id: str | None = row["buyer_tax_id"] or row["buyer_main_tax_id"]
    return tax_id


def paid(row: Row) -> bool:
    return row["paid_date"] is not None


COMPANY_SIGNS: dict[CompanyOddity, Callable[[Row], bool]] = {
    CompanyOddity.NULL_CAPITAL: lambda r: r["share_capital"] is None,
    CompanyOddity.NEGATIVE_CAPITAL: lambda r: r["share_capital"] is not None and r["share_capital"] < 0,
    CompanyOddity.NULL_ZIPCODE: lambda r: r["zipcode"] is None,
    CompanyOddity.SHORT_ZIPCODE: lambda r: r["zipcode"] is not None and len(r["zipcode"]) < 8,
    CompanyOddity.LONG_ZIPCODE: lambda r: r["zipcode"] is not None and len(r["zipcode"]) > 8,
    CompanyOddity.NULL_CNAE: lambda r: r["main_cnae"] is None,
    CompanyOddity.NULL_STATE: lambda r: r["state"] is None and r["uf"] is None,
    CompanyOddity.PADDED_STATE: lambda r: r["state"] is not None and r["state"] != r["state"].strip(),
    CompanyOddity.LOWER_CASE_UF: lambda r: r["uf"] is not None and r["uf"].islower(),
    CompanyOddity.NULL_CREATED_AT: lambda r: r["created_at"] is None and r["updated_at"] is not None,
    CompanyOddity.NULL_UPDATED_AT: lambda r: r["created_at"] is not None and r["updated_at"] is None,
    CompanyOddity.NULL_CURSOR: lambda r: r["created_at"] is None and r["updated_at"] is None,
    CompanyOddity.FUTURE_UPDATED_AT: lambda r: r["updated_at"] is not None and r["updated_at"] > MIDNIGHT,
}

INSTALLMENT_SIGNS: dict[InstallmentOddity, Callable[[Row], bool]] = {
    InstallmentOddity.MISSING_BUYER: lambda r: r["buyer_tax_id"] is None and r["buyer_main_tax_id"] is not None,
    InstallmentOddity.MISSING_BOTH_BUYERS: lambda r: buyer(r) is None,
    InstallmentOddity.MISSING_EXPECTED_AMOUNT: lambda r: r["expected_amount_in_cents"] is None,
    InstallmentOddity.MISSING_DUE_DATE: lambda r: r["due_date"] is None,
    InstallmentOddity.NEGATIVE_ORIGINAL_AMOUNT: lambda r: r["original_amount_in_cents"] < 0,
    InstallmentOddity.NEGATIVE_EXPECTED_AMOUNT: lambda r: (r["expected_amount_in_cents"] or 0) < 0,
    InstallmentOddity.NEGATIVE_PAID_AMOUNT: lambda r: (r["paid_amount_in_cents"] or 0) < 0,
    InstallmentOddity.NULL_CURSOR: lambda r: r["invoice_issue_date"] is None and not paid(r),
    InstallmentOddity.MISSING_ISSUE_DATE: lambda r: r["invoice_issue_date"] is None and paid(r),
    InstallmentOddity.FUTURE_PAID_DATE: lambda r: paid(r) and r["paid_date"] > AS_OF,
    InstallmentOddity.FAR_DUE_DATE: lambda r: r["due_date"] == date(2099, 12, 31),
    InstallmentOddity.PAID_ON_DUE_DATE: lambda r: paid(r) and r["paid_date"] == r["due_date"],
    InstallmentOddity.OVERPAID: lambda r: (
        paid(r) and None is not r["expected_amount_in_cents"] < r["paid_amount_in_cents"] and not negative(r)
    ),
    InstallmentOddity.UNDERPAID: lambda r: (
        paid(r) and (r["expected_amount_in_cents"] or 0) > r["paid_amount_in_cents"] and not negative(r)
    ),
}


def negative(row: Row) -> bool:
    return any((row[f"{kind}_amount_in_cents"] or 0) < 0 for kind in ("original", "expected", "paid"))


# ---- the same every time


def test_the_same_spec_gives_the_same_bytes() -> None:
    of = SampleSpec(130_000, 3, AS_OF)
    assert digest(installments.installments(of)) == digest(installments.installments(of))
    assert digest(companies.companies(of)) == digest(companies.companies(of))


def test_another_seed_or_day_gives_other_bytes() -> None:
    digests = {
        (digest(companies.companies(of)), digest(installments.installments(of)))
        for of in (SampleSpec(500, 3, AS_OF), SampleSpec(500, 4, AS_OF), SampleSpec(500, 3, AS_OF + timedelta(1)))
    }
    assert len(digests) == 3
    assert all(len({pair[i] for pair in digests}) == 3 for i in (0, 1))


@settings(max_examples=10, deadline=None)
@given(st.integers(2_000, 70_000))
def test_the_size_of_the_batches_does_not_matter(batch_rows: int) -> None:
    of = SampleSpec(61_000, 5, AS_OF)
    batches = list(installments.installments(of, batch_rows=batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert digest(batches) == digest(installments.installments(of))


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_rows"):
        list(companies.companies(SampleSpec(100, 1, AS_OF), batch_rows=0))


def test_chunks_do_not_depend_on_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    of = SampleSpec(150_000, 5, AS_OF)
    whole = list(installments.installments(of))
    assert [batch.num_rows for batch in whole] == [60_000, 60_000, 30_000]
    monkeypatch.setattr(installments, "chunks", lambda _: [(2, 120_000, 30_000)])
    assert list(installments.installments(of)) == [whole[2]]


def test_no_chunk_repeats_another() -> None:
    first, second = installments.installments(SampleSpec(120_000, 5, AS_OF))
    for column in ("buyer_main_tax_id", "expected_amount_in_cents"):
        pairs = zip(first[column].to_pylist(), second[column].to_pylist(), strict=True)
        assert sum(one == other for one, other in pairs) < 0.01 * 60_000


def test_memory_holds_a_chunk_whatever_the_rows() -> None:
    batches = installments.installments(SampleSpec(spec.MAX_ROWS, 1, AS_OF))
    assert next(batches).num_rows == next(batches).num_rows == spec.CHUNK_ROWS


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"rows": spec.MIN_ROWS - 1}, "rows"),
        ({"rows": spec.MAX_ROWS + 1}, "rows"),
        ({"seed": -1}, "seed"),
        ({"as_of": date(1999, 12, 31)}, "as_of"),
        ({"as_of": datetime(2025, 6, 1, tzinfo=UTC)}, "as_of"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        SampleSpec(**values)


# ---- odd where promised


@pytest.mark.parametrize("kind", CompanyOddity)
def test_every_kind_of_odd_company_is_there(sample: tuple[list[Row], list[Row]], kind: CompanyOddity) -> None:
    assert any(COMPANY_SIGNS[kind](row) for row in sample[0])


@pytest.mark.parametrize("kind", InstallmentOddity)
def test_every_kind_of_odd_installment_is_there(sample: tuple[list[Row], list[Row]], kind: InstallmentOddity) -> None:
    known = {row["buyer_tax_id"] for row in sample[0]}
    unknown_company: Callable[[Row], bool] = lambda r: buyer(r) is not None and buyer(r) not in known  # noqa: E731
    sign = INSTALLMENT_SIGNS.get(kind, unknown_company)
    assert any(sign(row) for row in sample[1])


def test_every_status_size_and_a_company_without_installments_are_there(sample: tuple[list[Row], list[Row]]) -> None:
    firms, receivables = sample
    assert {row["company_status"] for row in firms} == {"Ativa", "Baixada", "Suspensa", "Inapta"}
    assert {row["company_size"] for row in firms} == {"MICRO", "SMALL", "MEDIUM", "LARGE", None}
    assert {row["buyer_tax_id"] for row in firms} - {buyer(row) for row in receivables}


def test_odd_rows_are_few(large: tuple[list[Row], list[Row]]) -> None:
    usual = (CompanyOddity.PADDED_STATE, CompanyOddity.LOWER_CASE_UF)
    signs = [sign for kind, sign in COMPANY_SIGNS.items() if kind not in usual]
    assert 0.003 < sum(any(sign(row) for sign in signs) for row in large[0]) / len(large[0]) < 0.02
    on_the_edge = (InstallmentOddity.PAID_ON_DUE_DATE, InstallmentOddity.OVERPAID, InstallmentOddity.UNDERPAID)
    rare = [sign for kind, sign in INSTALLMENT_SIGNS.items() if kind not in on_the_edge]
    share = sum(any(sign(row) for sign in rare) for row in large[1]) / len(large[1])
    assert 0.5 * spec.ODD_SHARE < share < spec.ODD_SHARE


# ---- plausible elsewhere


def test_companies_are_consistent(large: tuple[list[Row], list[Row]]) -> None:
    firms = large[0]
    assert len(firms) == 6_000
    assert len({row["buyer_tax_id"] for row in firms}) == len(firms)
    names = {state.uf: state for state in STATES}
    for row in firms:
        assert cnpj.is_valid(row["buyer_tax_id"])
        assert row["is_main_company"] == (row["buyer_tax_id"][8:12] == "0001")
        assert row["is_active"] == (row["company_status"] == "Ativa")
        assert not row["is_mei"] or (row["company_size"] == "MICRO" and row["simples_option"])
        if row["state"] is not None:
            state = names[row["uf"].strip().upper()]
            assert row["state"].strip().upper() == state.name.upper()
            assert row["city"].strip().upper() in {city.upper() for city in state.cities}
            if row["zipcode"] is not None and len(row["zipcode"]) == 8:
                assert state.zipcodes[0] <= int(row["zipcode"][:5]) <= state.zipcodes[1]
        if row["created_at"] is not None and row["updated_at"] is not None:
            assert row["created_at"] <= row["updated_at"]
        assert row["created_at"] is None or row["created_at"] < MIDNIGHT


def test_texts_need_standardizing(large: tuple[list[Row], list[Row]]) -> None:
    for column in ("state", "city", "uf"):
        values = [row[column] for row in large[0] if row[column] is not None]
        odd = sum(value != value.strip().upper() for value in values) / len(values)
        assert (0.05 if column == "uf" else 0.5) < odd < 0.95
        assert any(value != value.strip() for value in values)


def test_installments_are_consistent(large: tuple[list[Row], list[Row]]) -> None:
    firms, receivables = large
    assert [row["asset_id"] for row in receivables] == [f"AST{n:012}" for n in range(120_000)]
    heads = {row["buyer_tax_id"] for row in firms if row["is_main_company"]}
    strangers = set()
    for row in receivables:
        assert (row["paid_date"] is None) == (row["paid_amount_in_cents"] is None)
        if row["buyer_main_tax_id"] is not None:
            if row["buyer_main_tax_id"] not in heads:
                strangers.add(row["buyer_main_tax_id"])
            assert cnpj.is_valid(row["buyer_main_tax_id"])
            assert row["buyer_tax_id"] is None or row["buyer_tax_id"][:8] == row["buyer_main_tax_id"][:8]
        assert not paid(row) or row["paid_date"] <= AS_OF or 2 <= (row["paid_date"] - AS_OF).days < 30
        issued = row["invoice_issue_date"]
        if issued is not None:
            assert AS_OF - timedelta(730) < issued <= AS_OF
            assert row["paid_date"] is None or row["paid_date"] >= issued
            assert row["due_date"] is None or row["due_date"] >= issued
    assert 0 < len(strangers) <= UNKNOWN_COMPANIES


def test_an_invoice_has_one_buyer_one_day_and_up_to_three_installments(large: tuple[list[Row], list[Row]]) -> None:
    days: dict[str, set[date]] = {}
    for row in large[1]:
        if row["invoice_issue_date"] is not None:
            days.setdefault(row["invoice_id"], set()).add(row["invoice_issue_date"])
    assert max(map(len, days.values())) == 1
    assert set(Counter(row["invoice_id"] for row in large[1]).values()) == {1, 2, 3}


def behaviour(row: Row) -> str:
    if row["due_date"] is None:
        return "UNKNOWN"
    days = ((row["paid_date"] or AS_OF) - row["due_date"]).days
    if paid(row):
        return "EARLY" if days <= 0 else "ON_TIME" if days <= 5 else "LATE" if days <= 30 else "VERY_LATE"
    return "PENDING" if days <= 0 else "RECENTLY_OVERDUE" if days <= 30 else "SEVERELY_OVERDUE"


def test_every_payment_behaviour_has_its_share(large: tuple[list[Row], list[Row]]) -> None:
    share = {kind: count / 120_000 for kind, count in Counter(map(behaviour, large[1])).items()}
    assert 0.25 < share["EARLY"] < 0.45
    assert 0.10 < share["ON_TIME"] < 0.25
    assert 0.20 < share["LATE"] < 0.35
    assert 0.02 < share["VERY_LATE"] < 0.10
    assert 0.005 < share["RECENTLY_OVERDUE"] < 0.05
    assert 0.03 < share["SEVERELY_OVERDUE"] < 0.15
    assert 0.05 < share["PENDING"] < 0.15


def test_every_size_of_amount_has_its_share(large: tuple[list[Row], list[Row]]) -> None:
    reais = [row["expected_amount_in_cents"] / 100 for row in large[1] if row["expected_amount_in_cents"] is not None]
    edges = [0, 100, 1_000, 10_000, 100_000, 10**12]
    for low, high, least in zip(edges, edges[1:], (0.05, 0.2, 0.3, 0.1, 0.01), strict=False):
        assert sum(low <= amount < high for amount in reais) / len(reais) > least


@pytest.mark.parametrize("count", [20, 25, 32, 33, 57, 58, 1_000])
def test_all_companies_but_the_silent_ones_are_drawn(count: int) -> None:
    drawn = population.with_installments(count, np.linspace(0, 1, 100 * count, endpoint=False))
    times = Counter(drawn.tolist())
    assert times.keys() == {number for number in range(count) if number % 25 != 7}
    assert times[count - 1] < 100  # later companies have fewer than the average


def test_companies_pay_differently(large: tuple[list[Row], list[Row]]) -> None:
    late: dict[str, list[int]] = {}
    for row in large[1]:
        if paid(row) and row["due_date"] is not None and buyer(row) is not None:
            late.setdefault(str(buyer(row)), []).append((row["paid_date"] - row["due_date"]).days)
    averages = sorted(sum(days) / len(days) for days in late.values() if len(days) >= 10)
    tenth = len(averages) // 10
    assert averages[tenth] < 0 < 15 < averages[-tenth]
