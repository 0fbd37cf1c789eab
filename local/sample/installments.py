"""The sample's receivables: rows of oltp.business_case_installments."""

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from local.sample import columns, population
from local.sample.columns import Bools, Ints
from local.sample.spec import CHUNK_ROWS, ODD_SHARE, SampleSpec, chunks, sliced

SCHEMA = pa.schema(
    [
        pa.field("asset_id", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("invoice_id", "buyer_tax_id", "buyer_main_tax_id")),
        *(pa.field(f"{kind}_amount_in_cents", pa.int64()) for kind in ("original", "expected", "paid")),
        *(pa.field(name, pa.date32()) for name in ("due_date", "paid_date", "invoice_issue_date")),
    ]
)


class InstallmentOddity(IntEnum):
    """What can be odd, or on the edge, about an installment. Every sample has each kind at least once."""

    MISSING_BUYER = 1
    """No buyer_tax_id; buyer_main_tax_id is set."""
    MISSING_BOTH_BUYERS = 2
    MISSING_EXPECTED_AMOUNT = 3
    MISSING_DUE_DATE = 4
    NEGATIVE_ORIGINAL_AMOUNT = 5
    NEGATIVE_EXPECTED_AMOUNT = 6
    NEGATIVE_PAID_AMOUNT = 7
    NULL_CURSOR = 8
    """Neither issued nor paid."""
    MISSING_ISSUE_DATE = 9
    """Paid, so the cursor is the payment alone."""
    FUTURE_PAID_DATE = 10
    FAR_DUE_DATE = 11
    """Due on 2099-12-31."""
    UNKNOWN_COMPANY = 12
    """Both tax ids are valid, but no company row has them."""
    PAID_ON_DUE_DATE = 13
    OVERPAID = 14
    UNDERPAID = 15


ODD_EVERY = 2
"""In the first chunk, row 2 * kind - 1 is of that kind."""

_PAID_KINDS = (
    InstallmentOddity.NEGATIVE_PAID_AMOUNT,
    InstallmentOddity.MISSING_ISSUE_DATE,
    InstallmentOddity.PAID_ON_DUE_DATE,
    InstallmentOddity.OVERPAID,
    InstallmentOddity.UNDERPAID,
)

_STREAM = 2
_FAR_DUE_DAY = 47_481  # 2099-12-31
_HISTORY_DAYS = 730
_TERMS = np.array([15, 28, 30, 45, 60, 90])
_INSTALLMENT_DAYS = 30
_MEDIAN_CENTS = 150_000
_AMOUNT_SIGMA = 1.8  # of the logarithm; together with a company's scale all of MICRO to XLARGE come up
_INEXACT_SHARE = 0.03  # of the payments, each for too much and too little

# Invoices of one, two and three installments take turns, so that six rows are always three whole invoices.
_INVOICE_IN_SIX = np.array([0, 1, 1, 2, 2, 2])
_PART_IN_SIX = np.array([0, 0, 1, 0, 1, 2])


def installments(spec: SampleSpec, *, batch_rows: int = CHUNK_ROWS) -> Iterator[pa.RecordBatch]:
    """All installments of a sample, by ascending asset_id.

    Args:
        spec: the sample.
        batch_rows: most rows in a batch; the values do not depend on it.
    """
    for chunk, first, rows in chunks(spec.rows):
        yield from sliced(_chunk(spec, spec.random(_STREAM, chunk), first, rows), batch_rows)


def asset_ids(numbers: Ints) -> pa.Array:
    """asset_id of the n-th installments, counted from 0: AST and twelve digits, so that text order is their order."""
    return _labels("AST", numbers)


def invoice_ids(numbers: Ints) -> pa.Array:
    """invoice_id of the n-th invoices, counted from 0."""
    return _labels("INV", numbers)


def _chunk(spec: SampleSpec, generator: np.random.Generator, first: int, rows: int) -> pa.RecordBatch:
    numbers = np.arange(first, first + rows)
    odd = columns.odd_rows(generator, ODD_SHARE, len(InstallmentOddity), rows)
    if first == 0:
        odd[: ODD_EVERY * len(InstallmentOddity)] = 0
        odd[ODD_EVERY - 1 : ODD_EVERY * len(InstallmentOddity) : ODD_EVERY] = list(InstallmentOddity)

    invoice = numbers // 6 * 3 + _INVOICE_IN_SIX[numbers % 6]
    company, issued, due, nominal = _invoices(spec, generator, invoice - invoice[0])
    company = np.where(
        odd == InstallmentOddity.UNKNOWN_COMPANY, population.unknown(generator.integers(0, 1_000, rows)), company
    )
    due = due + _PART_IN_SIX[numbers % 6] * _INSTALLMENT_DAYS
    paid, is_paid = _payments(spec, generator, odd, company, issued, due)
    due = np.where(odd == InstallmentOddity.PAID_ON_DUE_DATE, paid, due)
    due = np.where(odd == InstallmentOddity.FAR_DUE_DATE, _FAR_DUE_DAY, due)

    original = np.maximum(nominal, 100)
    expected = (original * (1 + np.where(generator.random(rows) < 0.3, generator.random(rows) * 0.05, 0.0))).astype(
        np.int64
    )
    received = _received(generator, odd, expected)
    return pa.record_batch(
        [
            asset_ids(numbers),
            invoice_ids(invoice),
            _unless(
                population.tax_ids(spec, company),
                odd,
                InstallmentOddity.MISSING_BUYER,
                InstallmentOddity.MISSING_BOTH_BUYERS,
            ),
            _unless(population.main_tax_ids(spec, company), odd, InstallmentOddity.MISSING_BOTH_BUYERS),
            pa.array(np.where(odd == InstallmentOddity.NEGATIVE_ORIGINAL_AMOUNT, -original, original)),
            columns.integers(
                np.where(odd == InstallmentOddity.NEGATIVE_EXPECTED_AMOUNT, -expected, expected),
                odd == InstallmentOddity.MISSING_EXPECTED_AMOUNT,
            ),
            columns.integers(np.where(odd == InstallmentOddity.NEGATIVE_PAID_AMOUNT, -received, received), ~is_paid),
            columns.dates(due, odd == InstallmentOddity.MISSING_DUE_DATE),
            columns.dates(paid, ~is_paid),
            columns.dates(
                issued, columns.is_any(odd, InstallmentOddity.NULL_CURSOR, InstallmentOddity.MISSING_ISSUE_DATE)
            ),
        ],
        schema=SCHEMA,
    )


def _invoices(spec: SampleSpec, generator: np.random.Generator, local: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Company, day of issue, first due day and amount in cents, per installment; `local` is its invoice here."""
    invoices = int(local[-1]) + 1
    company = population.with_installments(spec.companies, generator.random(invoices))
    issued = spec.as_of_day - (generator.random(invoices) * _HISTORY_DAYS).astype(np.int64)
    due = issued + _TERMS[generator.integers(0, len(_TERMS), invoices)]
    cents = _MEDIAN_CENTS * population.scale(spec, company) * generator.lognormal(0.0, _AMOUNT_SIGMA, invoices)
    return company[local], issued[local], due[local], cents.astype(np.int64)[local]


def _payments(
    spec: SampleSpec, generator: np.random.Generator, odd: Ints, company: Ints, issued: Ints, due: Ints
) -> tuple[Ints, Bools]:
    """Day of payment, and whether it has happened by `as_of`."""
    today = spec.as_of_day
    laxity = 1.0 - population.punctuality(spec, company)
    delay = -3.0 + 45.0 * laxity**1.5 + (2.0 + 20.0 * laxity) * generator.standard_normal(len(due))
    paid = np.maximum(due + np.rint(delay).astype(np.int64), issued)
    defaults = generator.random(len(due)) < 0.02 + 0.4 * laxity**2

    must_pay = columns.is_any(odd, *_PAID_KINDS)
    paid = np.where(must_pay, np.minimum(paid, today), paid)
    is_paid = must_pay | ((paid <= today) & ~defaults)
    is_paid &= ~columns.is_any(odd, InstallmentOddity.NULL_CURSOR, InstallmentOddity.FAR_DUE_DATE)
    future = odd == InstallmentOddity.FUTURE_PAID_DATE
    paid = np.where(future, today + generator.integers(2, 30, len(due)), paid)
    return paid, is_paid | future


def _received(generator: np.random.Generator, odd: Ints, expected: Ints) -> Ints:
    """Cents received when paid: mostly what was expected, sometimes more or less, at least one cent off then."""
    draw = generator.random(len(expected))
    over = (draw < _INEXACT_SHARE) | (odd == InstallmentOddity.OVERPAID)
    under = ((draw > 1 - _INEXACT_SHARE) & ~over) | (odd == InstallmentOddity.UNDERPAID)
    off = np.maximum((expected * generator.random(len(expected)) * 0.3).astype(np.int64), 2)
    return np.where(under, expected - off, np.where(over, expected + off, expected))


def _labels(prefix: str, numbers: Ints) -> pa.Array:
    padded = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 12, "0")
    return pc.binary_join_element_wise(prefix, padded, "")


def _unless(values: pa.Array, odd: Ints, *kinds: InstallmentOddity) -> pa.Array:
    return columns.replaced(values, columns.is_any(odd, *kinds), pa.scalar(None, pa.string()))
