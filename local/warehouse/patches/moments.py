"""Parts of dates and moments, and differences between them, count as BigQuery counts.

DuckDB's weeks start on Monday where BigQuery's start on Sunday, its difference of two TIMESTAMP counts the boundaries
between them where BigQuery's counts whole units, and its microseconds have the seconds in them. Now they are BigQuery's.
"""

from typing import Any

from sqlglot import exp

from local.warehouse.patches import typed_expressions
from local.warehouse.patches.texts import TIMESTAMP
from local.warehouse.patches.typed_expressions import call, set_type, type_of

_MICROSECONDS = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
}

FUNCTIONS = """
CREATE OR REPLACE MACRO credix_whole_units(a, b, unit) AS
    CAST(trunc((epoch_us(CAST(a AS TIMESTAMPTZ)) - epoch_us(CAST(b AS TIMESTAMPTZ)))::DECIMAL(38, 0) // unit) AS BIGINT);
CREATE OR REPLACE MACRO credix_week_number(x) AS
    (CAST(extract(doy FROM x) AS BIGINT) + 6 - CAST(extract(dow FROM x) AS BIGINT)) // 7;
CREATE OR REPLACE MACRO credix_week_of_moment(x) AS
    date_trunc('day', x) - to_days(CAST(extract(dow FROM x) AS INTEGER));
CREATE OR REPLACE MACRO credix_isoweek_of_moment(x) AS date_trunc('week', x);
CREATE OR REPLACE MACRO credix_isoweek_of_date(x) AS CAST(date_trunc('week', x) AS DATE);
CREATE OR REPLACE MACRO credix_isoweeks(a, b) AS date_diff('day', date_trunc('week', b), date_trunc('week', a)) // 7;
"""


def apply() -> None:
    """Add the functions and the rewritings."""
    typed_expressions.add(REWRITINGS, FUNCTIONS)


def _unit(node: Any) -> str:
    unit = node.args.get("unit")
    return "" if unit is None else str(unit.name or unit.sql("bigquery")).upper()


def _difference(node: Any) -> Any:
    unit = _MICROSECONDS.get(_unit(node))
    return unit and call("credix_whole_units", node.this, node.expression, exp.Literal.number(unit))


def _truncated_moment(node: Any) -> Any:
    if node.args.get("zone") is not None:
        return None
    function = {"WEEK": "credix_week_of_moment", "ISOWEEK": "credix_isoweek_of_moment"}.get(_unit(node))
    return function and call(function, _moment(node.this))


def _moment(node: Any) -> Any:
    if type_of(node) is not None and type_of(node).this == TIMESTAMP:
        return node
    return set_type(exp.cast(node.copy(), "TIMESTAMP", dialect="bigquery"), "TIMESTAMP")


def _truncated_date(node: Any) -> Any:
    return call("credix_isoweek_of_date", node.this) if _unit(node) == "ISOWEEK" else None


def _difference_of_dates(node: Any) -> Any:
    return call("credix_isoweeks", node.this, node.expression) if _unit(node) == "ISOWEEK" else None


def _part(node: Any) -> Any:
    part = node.name.upper()
    if part == "WEEK":
        return call("credix_week_number", node.expression)
    divisor = {"MICROSECOND": 1_000_000, "MILLISECOND": 1_000}.get(part)
    return divisor and exp.Mod(this=node.copy(), expression=exp.Literal.number(divisor))


REWRITINGS = {
    exp.TimestampDiff: _difference,
    exp.TimestampTrunc: _truncated_moment,
    exp.DateTrunc: _truncated_date,
    exp.DateDiff: _difference_of_dates,
    exp.Extract: _part,
}
