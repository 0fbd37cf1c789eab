"""What happens in the business after the sample was made: the second cycle of a demo."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import scalar_row

from local.sample.cnpj import head_office
from local.sample.companies import company
from local.sample.installments import asset_ids, invoice_ids
from local.sample.seeding import COMPANIES, INSTALLMENTS, SCHEMA
from local.sample.spec import SampleSpec, utc_today

NEW_INSTALLMENTS = 25
PAYMENTS = 15

_STREAM = 3
_BUYERS = 200

_NEXT_ASSET = "SELECT coalesce(max(asset_id), '') FROM {installments} WHERE asset_id LIKE 'AST%'"
_SOME_BUYERS = "SELECT buyer_tax_id FROM {companies} WHERE company_status = 'Ativa' ORDER BY buyer_tax_id LIMIT %s"
_INSERT = """
    INSERT INTO {installments} (asset_id, invoice_id, buyer_tax_id, buyer_main_tax_id, original_amount_in_cents,
                                expected_amount_in_cents, due_date, invoice_issue_date)
    VALUES (%s, %s, %s, %s, %s, %s, %s::date + %s::integer, %s)
"""
_PAY = """
    WITH old AS (
        SELECT asset_id FROM {installments}
        WHERE paid_date IS NULL AND due_date < %(today)s AND invoice_issue_date IS NOT NULL
          AND expected_amount_in_cents > 0 AND coalesce(buyer_tax_id, buyer_main_tax_id) IS NOT NULL
        ORDER BY asset_id LIMIT %(payments)s
    )
    UPDATE {installments} AS t SET paid_date = %(today)s, paid_amount_in_cents = t.expected_amount_in_cents
    FROM old WHERE t.asset_id = old.asset_id
    RETURNING t.asset_id
"""
_SUSPEND = """
    UPDATE {companies} SET company_status = 'Suspensa', is_active = false, updated_at = now()
    WHERE buyer_tax_id = (SELECT buyer_tax_id FROM {companies} WHERE company_status = 'Ativa' ORDER BY 1 LIMIT 1)
    RETURNING buyer_tax_id
"""
_FOUND = "INSERT INTO {companies} ({columns}, created_at, updated_at) VALUES ({values}, now(), now())"


class NotSeededError(RuntimeError):
    """The source holds no sample to change; seed it first."""


@dataclass(frozen=True)
class TableChanges:
    """Keys of the rows of one table that were inserted and updated, ascending."""

    table: str
    inserted: tuple[str, ...]
    updated: tuple[str, ...]


@dataclass(frozen=True)
class SourceChanges:
    """What one cycle changed in the source."""

    companies: TableChanges
    installments: TableChanges


def changes(connection: psycopg.Connection, spec: SampleSpec, *, today: date | None = None) -> SourceChanges:
    """Let one day happen to a seeded source, in one transaction.

    25 installments are issued today to existing companies, up to 15 overdue ones (the oldest that can be paid) are paid
    today in full, the first active company is suspended now and one company is founded now. The same sample and day
    give the same changes, timestamps apart; every further call is a further cycle with keys of its own.

    Args:
        connection: to the seeded source database.
        spec: the sample it was seeded with.
        today: the day of the changes; today in UTC by default.

    Raises:
        NotSeededError: there are no active companies or no installments of a sample.
    """
    day = today or utc_today()
    with connection.transaction(), connection.cursor(row_factory=scalar_row) as cursor:
        last = str(cursor.execute(_sql(_NEXT_ASSET)).fetchone() or "")
        buyers = [str(buyer) for buyer in cursor.execute(_sql(_SOME_BUYERS), [_BUYERS])]
        if not last or not buyers:
            raise NotSeededError(f"no sample in {SCHEMA}.{INSTALLMENTS} and {SCHEMA}.{COMPANIES}; seed it first")
        issued = _issue(cursor, spec, int(last.removeprefix("AST")) + 1, buyers, day)
        paid = cursor.execute(_sql(_PAY), {"today": day, "payments": PAYMENTS}).fetchall()
        suspended = cursor.execute(_sql(_SUSPEND)).fetchall()
        founded = _found(cursor, spec)
    return SourceChanges(
        companies=TableChanges(COMPANIES, (founded,), tuple(suspended)),
        installments=TableChanges(INSTALLMENTS, issued, tuple(sorted(paid))),
    )


def _issue(
    cursor: psycopg.Cursor[object], spec: SampleSpec, first: int, buyers: list[str], day: date
) -> tuple[str, ...]:
    """Insert the new installments, numbered from `first`, each with an invoice of its own; their keys."""
    generator = spec.random(_STREAM, first)
    numbers = np.arange(first, first + NEW_INSTALLMENTS)
    keys = [str(key) for key in asset_ids(numbers).to_pylist()]
    invoices = invoice_ids(numbers).to_pylist()  # a sample has fewer invoices than installments
    chosen = [buyers[pick] for pick in generator.integers(0, len(buyers), NEW_INSTALLMENTS)]
    cents = [int(amount) for amount in generator.lognormal(np.log(150_000), 1.0, NEW_INSTALLMENTS)]
    cursor.executemany(
        _sql(_INSERT),
        [
            (key, invoice, buyer, head_office(buyer), amount, amount, day, 30, day)
            for key, invoice, buyer, amount in zip(keys, invoices, chosen, cents, strict=True)
        ],
    )
    return tuple(keys)


def _found(cursor: psycopg.Cursor[object], spec: SampleSpec) -> str:
    """Insert the company whose number comes next; its key."""
    number = cursor.execute(_sql("SELECT count(*) FROM {companies}")).fetchone()
    row = company(spec, int(str(number)))
    profile = {name: value for name, value in row.items() if name not in ("created_at", "updated_at")}
    cursor.execute(
        _sql(
            _FOUND,
            columns=sql.SQL(", ").join(map(sql.Identifier, profile)),
            values=sql.SQL(", ").join(sql.Placeholder() * len(profile)),
        ),
        list(profile.values()),
    )
    return str(profile["buyer_tax_id"])


def _sql(statement: str, **parts: sql.Composable) -> sql.Composed:
    return sql.SQL(statement).format(
        companies=sql.Identifier(SCHEMA, COMPANIES), installments=sql.Identifier(SCHEMA, INSTALLMENTS), **parts
    )
