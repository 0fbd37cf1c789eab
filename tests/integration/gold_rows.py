"""Rows for silver and gold, random ones and ones at every limit, and how answers are compared with the reference's."""

import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pandas as pd

from tests.integration import gold_reference as reference
from tests.integration.warehouse_fixture import Dbt, declared_schema

Row = dict[str, Any]

TODAY = dt.date(2026, 3, 1)
TODAY_BEGINS = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
READ_AGAIN = TODAY_BEGINS + dt.timedelta(hours=1)
CENTS = ["original_amount_in_cents", "expected_amount_in_cents", "paid_amount_in_cents"]
LARGE = 9_007_199_254_740_993
"""Cents that a FLOAT64 can't hold."""


def company(tax_id: str, **values: Any) -> Row:
    return {
        "buyer_tax_id": tax_id,
        "share_capital": Decimal("1000.00"),
        "company_size": "SMALL",
        "legal_nature": "Sociedade Empresária Limitada",
        "company_status": "Ativa",
        "main_cnae": "6201501",
        "state": "São Paulo",
        "uf": "SP",
        "city": "Campinas",
        "zipcode": "13010000",
        "simples_option": True,
        "is_mei": False,
        "is_main_company": True,
        "is_active": True,
        "created_at": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "updated_at": dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
    } | values


def installment(asset_id: str, tax_id: str | None, **values: Any) -> Row:
    return {
        "asset_id": asset_id,
        "invoice_id": f"invoice {asset_id}",
        "buyer_tax_id": tax_id,
        "buyer_main_tax_id": tax_id,
        "original_amount_in_cents": 10_000,
        "expected_amount_in_cents": 10_000,
        "paid_amount_in_cents": None,
        "due_date": TODAY,
        "paid_date": None,
        "invoice_issue_date": TODAY - dt.timedelta(days=60),
    } | values


def random_companies(chance: random.Random, count: int) -> Iterator[Row]:
    for number in range(count):
        yield company(
            f"random-{number:03}",
            share_capital=chance.choice([None, Decimal("-0.01"), Decimal(chance.randrange(10**15)).scaleb(-2)]),
            company_size=chance.choice(["MICRO", "SMALL", "MEDIUM", "LARGE", "HUGE", None]),
            company_status=chance.choice(["Ativa", "Baixada", "Suspensa", "Inapta", "unknown", None]),
            main_cnae=chance.choice(["6201501", "0111301", "", None]),
            state=chance.choice([" são paulo ", "Rio de Janeiro", "minas gerais", "Pará", "", "  ", None]),
            uf=chance.choice(["sp", " RJ", "MG ", None]),
            city=chance.choice(["  são josé dos campos", "Belém", None]),
            zipcode=chance.choice(["13010000", "13010-000", "1301000", "", None]),
            is_mei=chance.choice([True, False, None]),
        )


def random_installments(chance: random.Random, count: int, companies: int) -> Iterator[Row]:
    def cents() -> int | None:
        return chance.choice([None, -1, 0, 1, LARGE, *(chance.randrange(20_000_000) for _ in range(12))])

    def day() -> dt.date:
        return TODAY + dt.timedelta(days=chance.randrange(-120, 60))

    for number in range(count):
        expected = cents()
        tax_id = f"random-{chance.randrange(int(companies * 1.1)):03}"
        yield installment(
            f"random-{number:05}",
            chance.choice([tax_id] * 30 + [None]),
            buyer_main_tax_id=chance.choice([tax_id, "random-000", None]),
            original_amount_in_cents=cents(),
            expected_amount_in_cents=expected,
            paid_amount_in_cents=chance.choice([None, expected, expected, cents()]),
            due_date=chance.choice([None, *(day() for _ in range(20))]),
            paid_date=chance.choice([None, day()]),
            invoice_issue_date=chance.choice([None, day(), day()]),
        )


def edge_installments() -> Iterator[Row]:
    """Rows on both sides of every threshold, each in a company of its own."""
    for days in (-400, -1, 0, 1, 5, 6, 10, 11, 15, 16, 30, 31, 400):
        paid = TODAY + dt.timedelta(days=days)
        yield installment(f"paid {days}", f"paid {days}", paid_date=paid, paid_amount_in_cents=10_000)
        due = TODAY - dt.timedelta(days=days)
        yield installment(f"unpaid {days}", f"unpaid {days}", due_date=due)
    for cents in (0, 1, 9_999, 10_000, 99_999, 100_000, 999_999, 1_000_000, 9_999_999, 10_000_000, LARGE):
        yield installment(f"expected {cents}", f"expected {cents}", expected_amount_in_cents=cents)
    for paid_cents in (None, 0, 9_998, 9_999, 10_000, 10_001, 10_002, LARGE):
        values = {"paid_amount_in_cents": paid_cents}
        yield installment(f"variance {paid_cents}", f"variance {paid_cents}", paid_date=TODAY, **values)
        yield installment(f"partial {paid_cents}", f"variance {paid_cents}", **values)
    for name in ("original", "expected", "paid"):
        yield installment(f"negative {name}", "negative", **{f"{name}_amount_in_cents": -1})
        yield installment(f"unknown {name}", "unknown", **{f"{name}_amount_in_cents": None})
    yield installment("no buyer", None, buyer_main_tax_id="head office")
    yield installment("no due date", "unknown", due_date=None)
    yield installment("leap", "leap", due_date=dt.date(2024, 2, 29), paid_date=dt.date(2024, 3, 1))


def edge_histories() -> Iterator[Row]:
    """Companies whose rates and average days are on both sides of every tier's limits: paid, overdue, pending, days."""
    histories = [(19, 1, 0, 5), (19, 1, 0, 6), (19, 0, 1, 5), (18, 2, 0, 5), (189, 1, 9, 5), (189, 11, 0, 5)]
    histories += [(17, 3, 0, 15), (17, 3, 0, 16), (16, 4, 0, 15), (14, 5, 1, 30), (14, 5, 1, 31), (14, 6, 0, 30)]
    histories += [(10, 8, 2, 99), (10, 9, 1, 99), (9, 0, 11, 0), (1, 2, 0, 0), (0, 1, 2, 0), (2, 1, 0, 0), (6, 0, 1, 0)]
    for number, (paid, overdue, pending, days) in enumerate(histories):
        for position in range(paid + overdue + pending):
            row = installment(f"history {number} {position:03}", f"history {number}")
            if position < paid:
                row |= {"paid_date": TODAY + dt.timedelta(days=days), "paid_amount_in_cents": 10_000 - number}
            elif position < paid + overdue:
                row["due_date"] = TODAY - dt.timedelta(days=1)
            yield row


def edge_companies(installments: list[Row]) -> Iterator[Row]:
    for tax_id in sorted({row["buyer_tax_id"] for row in installments} - {None}):
        if not tax_id.startswith("odd "):
            yield company(tax_id)
    yield company("no installments")
    yield company("head office")
    yield company("capital zero", share_capital=Decimal(0))
    yield company("capital below zero", share_capital=Decimal("-0.01"), zipcode=None)
    yield company("zipcode of eight characters", zipcode="ção12345")
    yield company("zipcode of seven", zipcode="1301000", main_cnae=None)
    yield company("no cnae", main_cnae=None)
    yield company("blank around", state="\t são paulo\n", city=" águas de são pedro ", uf="sp ")


ODD_TEXTS = (
    *(
        "straße",
        "ﬁ ﬂ",
        "\u2003são paulo\u3000",
        "\x1fsão paulo\x1c",
        "ıi İ",
        "ὀδυσσεύς",
        "ŉ ǰ ΐ",
        "\u0085MINAS\u00a0GERAIS\u00a0",
    ),
    *("sa\u0303o paulo", "😀 \U00010428", "\u200brio de janeiro\ufeff", "ǅ ᾳ", "\t\n\v\f\r ", "\0a", "'\"\\\n`"),
)


def odd_companies() -> Iterator[Row]:
    """Texts that are no one's name: white space of all kinds, letters whose case is another number of letters."""
    for text in ODD_TEXTS:
        yield company(f"odd {text}", state=text, uf=text, city=text, main_cnae=text, zipcode=f"{text:8.8}")
    yield company("odd capital", share_capital=Decimal("9999999999999999.99"), zipcode="1234567\u0301")
    yield company("odd figures")


def odd_installments() -> Iterator[Row]:
    """The least and the greatest of what the types hold; sums of them."""
    most, first, last = 2**63 - 1, dt.date(1, 1, 1), dt.date(9999, 12, 31)
    for number, (due, paid) in enumerate([(first, last), (last, first), (first, None), (last, None), (last, last)]):
        dates = {"due_date": due, "paid_date": paid, "invoice_issue_date": due}
        yield installment(f"odd dates {number}", f"odd {ODD_TEXTS[number]}", **dates)
    for number in range(7):
        cents = {f"{name}_amount_in_cents": most - number for name in ("original", "expected", "paid")}
        paid = TODAY + dt.timedelta(days=number // 3)
        yield installment(f"odd amounts {number}", "odd figures", paid_date=paid, **cents)
    yield installment("odd amount", "odd capital", expected_amount_in_cents=1, paid_amount_in_cents=most)
    for text in ODD_TEXTS:
        yield installment(f"odd {text}", f"odd {text}", invoice_id=text, buyer_main_tax_id=text)


@dataclass(frozen=True)
class Sources:
    """What bronze is made of; ``_deleted_at`` of a row says whether it was gone when all were read again."""

    companies: list[Row]
    installments: list[Row]

    @classmethod
    def random(cls, seed: int, companies: int, installments: int) -> "Sources":
        """So many random rows, and all edge rows; some are gone."""
        chance = random.Random(seed)  # noqa: S311  reproducible, not secret
        edges = [*edge_installments(), *edge_histories(), *odd_installments()]
        made = cls(
            [*edge_companies(edges), *odd_companies(), *random_companies(chance, companies)],
            [*edges, *random_installments(chance, installments, companies)],
        )
        for rows in (made.companies, made.installments):
            for row in rows:
                row["_deleted_at"] = READ_AGAIN if chance.random() < 0.05 else None
            assert any(row["_deleted_at"] for row in rows)
        return made

    def merge(self, dbt: Dbt) -> None:
        """Make bronze of them: all rows, then a snapshot without those that are gone."""
        batches = {}
        for model, rows in (("cnpj_ws", self.companies), ("installments", self.installments)):
            there = [row for row in rows if row["_deleted_at"] is None]
            batches[model] = [
                _batch(dbt, model, rows, TODAY_BEGINS),
                _batch(dbt, model, there, READ_AGAIN, snapshot=True),
            ]
            dbt.client.delete_table(f"{dbt.datasets.bronze}.{model}", not_found_ok=True)
        dbt.run("run", "--selector", "bronze", batches=batches)

    def computed(self, today: dt.date) -> dict[str, tuple[pd.DataFrame, str]]:
        """Silver and gold by the reference: per model its columns but for those that bronze adds, and its key."""
        companies = reference.clean_companies(reference.frame(self.companies))
        installments = reference.clean_installments(reference.frame(self.installments), today)
        analytics = reference.payment_analytics(companies, installments)
        return {
            "cnpj_ws_clean": (companies, "buyer_tax_id"),
            "installments_clean": (installments.drop(columns=CENTS), "asset_id"),
            "company_payment_summary": (reference.payment_summary(companies, installments), "buyer_tax_id"),
            "payment_analytics_detailed": (analytics.drop(columns=[*CENTS, "data_quality_flag"]), "asset_id"),
        }


def _batch(dbt: Dbt, model: str, rows: list[Row], extracted_at: dt.datetime, *, snapshot: bool = False) -> Row:
    name = f"{model}__{'snapshot' if snapshot else 'first'}"
    columns = declared_schema(model)
    names = {column.name for column in columns}
    return {
        "table": dbt.load(name, [{key: row[key] for key in names} for row in rows], columns),
        "batch_id": name,
        "extracted_at": extracted_at.isoformat(),
        "source": "oltp.x",
        "snapshot": snapshot,
        "columns": [],
        "latest": None,
        "deletes": "soft",
        "deleted_at": None,
        "merged_snapshot": None,
    }


def assert_same(actual: list[Row], expected: pd.DataFrame, key: str) -> None:
    """Compare the columns of ``expected`` (other columns are ignored): money exactly, averages to 9 digits."""
    wanted = {row[key]: row for row in reference.rows(expected)}
    found = {row[key]: row for row in actual}
    assert found.keys() == wanted.keys()
    assert len(actual) == len(found)
    differences = [
        f"{name} {column}: {found[name][column]!r}, expected {value!r}"
        for name, row in wanted.items()
        for column, value in row.items()
        if not same(found[name][column], value)
    ]
    assert not differences, "\n".join([f"{len(differences)} differences", *differences[:20]])


def same(actual: Any, expected: Any) -> bool:
    if isinstance(expected, Fraction):
        return isinstance(actual, float) and abs(actual - float(expected)) <= 1e-9
    if isinstance(expected, Decimal):
        return isinstance(actual, Decimal) and actual == expected
    return type(actual) is type(expected) and bool(actual == expected)
