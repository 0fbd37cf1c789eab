"""Parts of dates and moments, and differences between them, count as BigQuery counts.

DuckDB's weeks start on Monday where BigQuery's start on Sunday, its difference of two TIMESTAMP counts the boundaries
between them where BigQuery's counts whole units, and its microseconds have the seconds in them. Now they are
BigQuery's.
"""

import re
from typing import Any

from sqlglot import exp

from local.warehouse.patches import typed_expressions
from local.warehouse.patches.typed_expressions import call, set_type

_DAYS = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"]
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
    (epoch_us(CAST(a AS TIMESTAMPTZ)) - epoch_us(CAST(b AS TIMESTAMPTZ))) // unit;
CREATE OR REPLACE MACRO credix_floored(x, unit) AS (x - (x % unit + unit) % unit) // unit;
CREATE OR REPLACE MACRO credix_week_number(x) AS
    (CAST(extract(doy FROM x) AS BIGINT) + 6 - CAST(extract(dow FROM x) AS BIGINT)) // 7;
CREATE OR REPLACE MACRO credix_days_into_week(x, first) AS CAST((extract(dow FROM x) - first + 7) % 7 AS INTEGER);
CREATE OR REPLACE MACRO credix_week_of_moment(x, first) AS
    date_trunc('day', x) - to_days(credix_days_into_week(x, first));
CREATE OR REPLACE MACRO credix_week_of_date(x, first) AS
    CAST(x AS DATE) - credix_days_into_week(CAST(x AS DATE), first);
CREATE OR REPLACE MACRO credix_weeks(a, b, first) AS
    date_diff('day', credix_week_of_date(b, first), credix_week_of_date(a, first)) // 7;
"""


def apply() -> None:
    """Add the functions and the rewritings."""
    typed_expressions.add(REWRITINGS, FUNCTIONS)


def _unit(node: Any) -> str:
    unit = node.args.get("unit")
    return "" if unit is None else (unit.name if isinstance(unit, exp.Literal) else unit.sql("bigquery")).upper()


def _first_day(node: Any) -> Any:
    """Return the day that the unit's weeks begin with, 0 for Sunday, or None when the unit is no week."""
    if _unit(node) == "ISOWEEK":
        return exp.Literal.number(1)
    week = re.fullmatch(rf"WEEK(?:\(({'|'.join(_DAYS)})\))?", _unit(node))
    return exp.Literal.number(_DAYS.index(week[1] or "SUNDAY")) if week else None


def _difference(node: Any) -> Any:
    unit = _MICROSECONDS.get(_unit(node))
    return unit and call("credix_whole_units", node.this, node.expression, exp.Literal.number(unit))


def _truncated_moment(node: Any) -> Any:
    first = _first_day(node)
    if first is None or node.args.get("zone") is not None:
        return None
    kind = "TIMESTAMP" if isinstance(node, exp.TimestampTrunc) else "DATETIME"
    moment = set_type(exp.cast(node.this.copy(), kind, dialect="bigquery"), kind)
    return call("credix_week_of_moment", moment, first)


def _truncated_date(node: Any) -> Any:
    first = _first_day(node)
    return first and call("credix_week_of_date", node.this, first)


def _difference_of_dates(node: Any) -> Any:
    first = _first_day(node)
    return first and call("credix_weeks", node.this, node.expression, first)


def _since_1970(node: Any) -> Any:
    """Rounded down, also before 1970."""
    unit = _MICROSECONDS["SECOND" if isinstance(node, exp.UnixSeconds) else "MILLISECOND"]
    return call("credix_floored", exp.UnixMicros(this=node.this.copy()), exp.Literal.number(unit))


def _part(node: Any) -> Any:
    part = node.name.upper()
    if part == "TIME":
        local = exp.cast(node.expression.copy(), "DATETIME", dialect="bigquery")
        return exp.cast(local, "TIME", dialect="bigquery")
    if part == "WEEK":
        return call("credix_week_number", node.expression)
    divisor = {"MICROSECOND": 1_000_000, "MILLISECOND": 1_000}.get(part)
    return divisor and exp.Mod(this=node.copy(), expression=exp.Literal.number(divisor))


REWRITINGS: dict[Any, typed_expressions.Rewriting] = {
    exp.TimestampDiff: _difference,
    exp.TimestampTrunc: _truncated_moment,
    exp.DatetimeTrunc: _truncated_moment,
    exp.DateTrunc: _truncated_date,
    exp.DateDiff: _difference_of_dates,
    exp.Extract: _part,
    exp.UnixSeconds: _since_1970,
    exp.UnixMillis: _since_1970,
}
