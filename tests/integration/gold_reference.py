"""Silver and gold computed a second time, in pandas, from docs/data-model's rules and not from the SQL.

Frames have dtype ``object`` and ``None`` for null. Money is Decimal, a ratio is an exact Fraction until it is rounded:
nothing here depends on a database's or a processor's arithmetic.
"""

from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pandas as pd

Row = dict[str, Any]

CENT = Decimal("0.01")
PROFILE = [
    "share_capital",
    "company_size",
    "legal_nature",
    "company_status",
    "main_cnae",
    "simples_option",
    "is_mei",
    "is_main_company",
    "is_active",
    "standardized_state",
    "standardized_uf",
    "standardized_city",
]
TIERS = [("EXCELLENT", 95, 5, 5), ("GOOD", 85, 15, 15), ("FAIR", 70, 30, 25)]
"""Tier, least completion rate, most average days, most overdue rate."""

WHITE_SPACE = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and not "\x1c" <= c <= "\x1f")
"""Unicode's; Python takes four separators of ASCII for white space, which it is not."""


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Make a frame that keeps Python's own values."""
    return pd.DataFrame(list(rows), dtype=object)


def rows(data: pd.DataFrame) -> list[Row]:
    """Return a frame's rows, with null as None."""
    return [{str(k): None if v is pd.NaT else v for k, v in row.items()} for row in data.to_dict("records")]


def derive(data: pd.DataFrame, **columns: Callable[[Row], Any]) -> pd.DataFrame:
    """Append columns, each computed from the row and the columns before it."""
    derived = rows(data)
    for row in derived:
        for name, compute in columns.items():
            row[name] = compute(row)
    return frame(derived)


def rounded(value: Fraction) -> Decimal:
    """Round to two decimals, half away from zero."""
    cents = abs(value) * 100
    whole = Decimal(int(cents)) + (1 if cents - int(cents) >= Fraction(1, 2) else 0)
    return (whole * CENT).copy_sign(Decimal(-1 if value < 0 else 1))


def percentage(part: Decimal | int, whole: Decimal | int) -> Decimal:
    """Return what percentage ``part`` is of ``whole``, 0 when there is no whole."""
    return rounded(100 * Fraction(part) / Fraction(whole)) if whole else Decimal(0)


def alive(bronze: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a bronze table that are not deleted, without the column that says so."""
    there = bronze[[row["_deleted_at"] is None for row in rows(bronze)]]
    return there.drop(columns="_deleted_at")


def _standardized(value: str | None) -> str | None:
    return None if value is None else value.strip(WHITE_SPACE).upper()


def _quality(row: Row) -> str:
    if row["share_capital"] is None or row["share_capital"] < 0:
        return "INVALID_CAPITAL"
    if row["zipcode"] is None or len(row["zipcode"]) != 8:
        return "INVALID_ZIPCODE"
    return "VALID" if (row["main_cnae"] or "").strip(WHITE_SPACE) else "MISSING_CNAE"


def clean_companies(companies: pd.DataFrame) -> pd.DataFrame:
    """Return ``cnpj_ws_clean``."""
    return derive(
        alive(companies),
        standardized_state=lambda row: _standardized(row["state"]),
        standardized_uf=lambda row: _standardized(row["uf"]),
        standardized_city=lambda row: _standardized(row["city"]),
        data_quality_flag=_quality,
    )


def rejection_reason(row: Row) -> str | None:
    """Return why an installment is left out of silver, None when it is not."""
    needed = {
        "asset_id": "MISSING_ASSET_ID",
        "buyer_tax_id": "MISSING_BUYER_TAX_ID",
        "expected_amount_in_cents": "MISSING_EXPECTED_AMOUNT",
        "due_date": "MISSING_DUE_DATE",
    }
    for column, reason in needed.items():
        if row[column] is None:
            return reason
    amounts = [row[f"{kind}_amount_in_cents"] for kind in ("original", "expected", "paid")]
    return "NEGATIVE_AMOUNT" if any(amount is not None and amount < 0 for amount in amounts) else None


def _amount(kind: str) -> Callable[[Row], Decimal | None]:
    def compute(row: Row) -> Decimal | None:
        cents = row[f"{kind}_amount_in_cents"]
        return None if cents is None else Decimal(cents).scaleb(-2)

    return compute


def clean_installments(installments: pd.DataFrame, today: date) -> pd.DataFrame:
    """Return ``installments_clean`` as of ``today``."""

    def status(row: Row) -> str:
        if row["paid_date"] is not None:
            return "PAID"
        return "OVERDUE" if row["due_date"] < today else "PENDING"

    kept = frame(row for row in rows(alive(installments)) if rejection_reason(row) is None)
    return derive(
        kept,
        original_amount=_amount("original"),
        expected_amount=_amount("expected"),
        paid_amount=_amount("paid"),
        payment_status=status,
        days_from_due_date=lambda row: ((row["paid_date"] or today) - row["due_date"]).days,
    )


def _total(values: Iterable[Decimal | None]) -> Decimal:
    return sum((value for value in values if value is not None), Decimal(0))


def _edge(choose: Callable[[list[Any]], Any], values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return choose(known) if known else None


def _tier(row: Row) -> str:
    if row["total_installments"] == 0:
        return "NO_HISTORY"
    completion, days, overdue = (
        row["payment_completion_rate"],
        row["average_days_from_due_date"],
        row["overdue_rate"],
    )
    for tier, least_completion, most_days, most_overdue in TIERS:
        known = days is not None and days <= most_days
        if completion >= least_completion and known and overdue <= most_overdue:
            return tier
    return "POOR" if completion >= 50 and overdue <= 40 else "HIGH_RISK"


def _score(row: Row) -> Decimal:
    days = row["average_days_from_due_date"]
    timing = next((points for most, points in ((0, 30), (10, 20), (30, 10)) if days is not None and days <= most), 0)
    completion, overdue = Fraction(row["payment_completion_rate"]), Fraction(row["overdue_rate"])
    return rounded(Fraction(4, 10) * completion + timing + Fraction(3, 10) * (100 - overdue))


def _totals(installments: list[Row]) -> Row:
    by_status = {
        status: [row for row in installments if row["payment_status"] == status]
        for status in ("PAID", "OVERDUE", "PENDING")
    }
    days = [row["days_from_due_date"] for row in by_status["PAID"]]
    expected = _total(row["expected_amount"] for row in installments)
    paid = _total(row["paid_amount"] for row in installments)
    overdue = _total(row["expected_amount"] for row in by_status["OVERDUE"])
    count = len(installments)
    return {
        "total_installments": count,
        "paid_installments": len(by_status["PAID"]),
        "overdue_installments": len(by_status["OVERDUE"]),
        "pending_installments": len(by_status["PENDING"]),
        "total_original_amount": _total(row["original_amount"] for row in installments),
        "total_expected_amount": expected,
        "total_paid_amount": paid,
        "total_overdue_amount": overdue,
        "average_days_from_due_date": Fraction(sum(days), len(days)) if days else None,
        "best_days_from_due_date": _edge(min, days),
        "worst_days_from_due_date": _edge(max, days),
        "first_invoice_date": _edge(min, (row["invoice_issue_date"] for row in installments)),
        "last_invoice_date": _edge(max, (row["invoice_issue_date"] for row in installments)),
        "earliest_due_date": _edge(min, (row["due_date"] for row in installments)),
        "latest_due_date": _edge(max, (row["due_date"] for row in installments)),
        "payment_completion_rate": percentage(len(by_status["PAID"]), count),
        "overdue_rate": percentage(len(by_status["OVERDUE"]), count),
        "amount_recovery_rate": percentage(paid, expected),
        "overdue_amount_rate": percentage(overdue, expected),
        "avg_installment_amount": rounded(Fraction(expected) / count) if count else Decimal(0),
    }


def _company_of(row: Row) -> str:
    return str(row["buyer_tax_id"] if row["buyer_tax_id"] is not None else row["buyer_main_tax_id"])


def payment_summary(companies: pd.DataFrame, installments: pd.DataFrame) -> pd.DataFrame:
    """Return ``company_payment_summary`` from clean companies and clean installments."""
    owned = derive(installments, company_tax_id=_company_of)
    groups = {str(company): rows(group) for company, group in owned.groupby("company_tax_id")}
    summary = frame(
        {name: company[name] for name in ["buyer_tax_id", *PROFILE]}
        | {"company_data_quality": company["data_quality_flag"]}
        | _totals(groups.get(company["buyer_tax_id"], []))
        for company in rows(companies)
    )
    return derive(summary, payment_tier=_tier, risk_score=_score)


def _behavior(row: Row) -> str:
    days = row["days_from_due_date"]
    if row["payment_status"] == "PAID":
        late = [(0, "EARLY_PAYMENT"), (5, "ON_TIME_PAYMENT"), (30, "LATE_PAYMENT")]
        return next((name for most, name in late if days <= most), "VERY_LATE_PAYMENT")
    if row["payment_status"] == "OVERDUE":
        return "RECENTLY_OVERDUE" if days <= 30 else "SEVERELY_OVERDUE"
    return "PENDING"


def _size(row: Row) -> str:
    sizes = [(100, "MICRO"), (1_000, "SMALL"), (10_000, "MEDIUM"), (100_000, "LARGE")]
    return next((name for below, name in sizes if row["expected_amount"] < below), "XLARGE")


def _variance_type(row: Row) -> str:
    if row["payment_status"] != "PAID" or row["payment_variance"] is None:
        return "UNPAID"
    if abs(row["payment_variance"]) <= CENT:
        return "EXACT_PAYMENT"
    return "OVERPAYMENT" if row["payment_variance"] > 0 else "UNDERPAYMENT"


def _geography(row: Row) -> str:
    if not row["standardized_state"]:
        return "UNKNOWN_STATE"
    major = {"SÃO PAULO", "RIO DE JANEIRO", "MINAS GERAIS"}
    return "MAJOR_STATE" if row["standardized_state"] in major else "OTHER_STATE"


def _risk_category(row: Row) -> str:
    if row["is_mei"]:
        return "MEI"
    categories = {
        "MICRO": "MICRO_COMPANY",
        "SMALL": "SMALL_COMPANY",
        "MEDIUM": "MEDIUM_LARGE_COMPANY",
        "LARGE": "MEDIUM_LARGE_COMPANY",
    }
    return categories.get(row["company_size"], "UNKNOWN_SIZE")


def payment_analytics(companies: pd.DataFrame, installments: pd.DataFrame) -> pd.DataFrame:
    """Return ``payment_analytics_detailed`` from clean companies and clean installments."""
    known = {row["buyer_tax_id"]: row for row in rows(companies)}
    nobody = dict.fromkeys([*PROFILE, "data_quality_flag"])
    owned = frame(
        row | {name: company[name] for name in nobody} | {"company_tax_id": _company_of(row)}
        for row in rows(installments)
        for company in [known.get(_company_of(row), nobody)]
    )
    return derive(
        owned,
        payment_variance=lambda row: (
            None if row["paid_amount"] is None else row["paid_amount"] - row["expected_amount"]
        ),
        payment_behavior=_behavior,
        payment_size_category=_size,
        payment_variance_type=_variance_type,
        geographic_tier=_geography,
        company_risk_category=_risk_category,
        due_year=lambda row: row["due_date"].year,
        due_month=lambda row: row["due_date"].month,
        due_quarter=lambda row: (row["due_date"].month + 2) // 3,
        company_data_quality=lambda row: row["data_quality_flag"],
        overall_data_quality=lambda row: (
            "POOR_QUALITY" if row["data_quality_flag"] not in (None, "VALID") else "GOOD_QUALITY"
        ),
    )
