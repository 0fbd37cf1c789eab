"""NaN is no number.

In DuckDB, NaN equals itself and is greater than everything. In BigQuery every comparison with NaN is false (``!=``
true), it is the least in an order, and MIN, MAX, LEAST and GREATEST of values with a NaN among them are NaN. The same
now holds here for values that are known to be FLOAT64, but for what a join's USING or IN with a query compares.
"""

from typing import Any

from sqlglot import exp

from local.warehouse.patches import typed_expressions
from local.warehouse.patches.numerics import FLOAT64
from local.warehouse.patches.typed_expressions import call, is_type

_COMPARISONS = {
    exp.EQ: ("credix_equal", "="),
    exp.GT: ("credix_greater", ">"),
    exp.GTE: ("credix_not_less", ">="),
    exp.LT: ("credix_less", "<"),
    exp.LTE: ("credix_not_greater", "<="),
}

FUNCTIONS = "".join(
    f"CREATE OR REPLACE MACRO {name}(a, b) AS CASE WHEN a IS NOT NULL AND b IS NOT NULL "
    f"THEN a {operator} b AND NOT (isnan(CAST(a AS DOUBLE)) OR isnan(CAST(b AS DOUBLE))) END;\n"
    for name, operator in _COMPARISONS.values()
) + (
    "CREATE OR REPLACE MACRO credix_unequal(a, b) AS NOT credix_equal(a, b);\n"
    "CREATE OR REPLACE MACRO credix_between(x, low, high) AS credix_not_less(x, low) AND credix_not_greater(x, high);\n"
    "CREATE OR REPLACE MACRO credix_least(least, greatest) AS CASE WHEN isnan(greatest) THEN greatest ELSE least END;\n"
)


def apply() -> None:
    """Add the functions and the rewritings."""
    typed_expressions.add(REWRITINGS, FUNCTIONS)


def _compared(node: Any) -> Any:
    if isinstance(node.parent, exp.Update | exp.Kwarg):
        return None  # an assignment
    if not (is_type(node.this, FLOAT64) or is_type(node.expression, FLOAT64)):
        return None
    name = "credix_unequal" if isinstance(node, exp.NEQ) else _COMPARISONS[type(node)][0]
    return call(name, node.this, node.expression)


def _between(node: Any) -> Any:
    operands = (node.this, node.args["low"], node.args["high"])
    return call("credix_between", *operands) if any(is_type(operand, FLOAT64) for operand in operands) else None


def _any_of(node: Any) -> Any:
    if not (is_type(node.this, FLOAT64) and node.expressions):
        return None
    return exp.paren(exp.or_(*(call("credix_equal", node.this, option) for option in node.expressions)))


def _nullif(node: Any) -> Any:
    if not is_type(node.this, FLOAT64):
        return None
    equal = call("credix_equal", node.this, node.expression)
    return exp.Case(ifs=[exp.If(this=equal, true=exp.Null())], default=node.this.copy())


def _case(node: Any) -> Any:
    compared = node.args.get("this")
    if compared is None or not is_type(compared, FLOAT64):
        return None
    ifs = [
        exp.If(this=call("credix_equal", compared, each.this), true=each.args["true"].copy())
        for each in node.args["ifs"]
    ]
    return exp.Case(ifs=ifs, default=node.args.get("default"))


def _least(node: Any) -> Any:
    if not is_type(node, FLOAT64):
        return None
    greatest = exp.Greatest(this=node.this.copy(), expressions=[operand.copy() for operand in node.expressions])
    greatest.set("ignore_nulls", node.args.get("ignore_nulls"))
    return call("credix_least", node, greatest)


def _minimum(node: Any) -> Any:
    if isinstance(node.parent, exp.Window | exp.Filter) or node.find_ancestor(exp.Pivot):
        return None
    least = node.this if isinstance(node, exp.Window) else node
    if not (isinstance(least, exp.Min) and is_type(least, FLOAT64)):
        return None
    greatest: Any = exp.Max(this=least.this.copy())
    if isinstance(node, exp.Window):
        window = node.copy()
        window.set("this", greatest)
        greatest = window
    return call("credix_least", node, greatest)


def _ordered(node: Any) -> Any:
    """NaN before everything: a key of its own before each FLOAT64."""
    query = node.parent
    if isinstance(query, exp.SetOperation) or (isinstance(query, exp.Select) and query.args.get("distinct")):
        return None
    keys = []
    for ordered in node.expressions:
        if is_type(ordered.this, FLOAT64) and not isinstance(ordered.this, exp.Literal):
            descending = bool(ordered.args.get("desc"))
            keys.append(
                exp.Ordered(
                    this=exp.Anonymous(this="isnan", expressions=[ordered.this.copy()]),
                    desc=not descending,
                    nulls_first=ordered.args.get("nulls_first"),
                )
            )
        keys.append(ordered)
    if len(keys) == len(node.expressions):
        return None
    node.set("expressions", keys)
    return node


REWRITINGS: dict[Any, typed_expressions.Rewriting] = {
    **dict.fromkeys((*_COMPARISONS, exp.NEQ), _compared),
    exp.Between: _between,
    exp.In: _any_of,
    exp.Nullif: _nullif,
    exp.Case: _case,
    exp.Least: _least,
    exp.Min: _minimum,
    exp.Window: _minimum,
    exp.Order: _ordered,
}
