"""The extractor's own statements on the simulated table: their conditions as functions, with SQL's three truths.

Statements of a few shapes come with other times and numbers again and again, so a shape is read once. Whether
PostgreSQL would read them so, the histories of the extractor (tests/unit/extractor/history) and the integration tests
show; here it is only a matter of speed.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp

from tests.simulation.statements import Unforeseen

Row = Mapping[str, Any]
Given = list[Any]
Value = Callable[[Row, Given], Any]

_LITERAL = re.compile(r"TIMESTAMPTZ '([^']*)'|'\((\d+),(\d+)\)'|(?<![\w$.])(\d+)\b")

_COMPARED: dict[type[exp.Expression], Callable[[Any, Any], Any]] = {
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.EQ: operator.eq,
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mod: operator.mod,
}


@dataclass(frozen=True)
class _Select:
    """A SELECT."""

    values: list[Value]
    """Its list; none of a count."""
    condition: Value | None
    most: Value | None
    """Rows at most."""


@lru_cache(1_000)
def _read(shape: str) -> _Select:
    tree = sqlglot.parse_one(shape, read="postgres")
    first = tree.expressions[0]
    if counts := isinstance(first, exp.Count):
        inner = tree.args["from_"].this
        tree = inner.this if isinstance(inner, exp.Subquery) else tree
    where, limit = tree.args.get("where"), tree.args.get("limit")
    return _Select(
        values=[] if counts else [_value(each) for each in tree.expressions],
        condition=_value(where.this) if where else None,
        most=_value(limit.expression) if limit else None,
    )


def selected(statement: str, rows: list[Row]) -> list[list[Any]]:
    """What a statement gives of rows; of a count, one row."""
    given: Given = []

    def parameter(found: re.Match[str]) -> str:
        moment, page, line, number = found.groups()
        given.append(
            datetime.fromisoformat(moment) if moment else (int(page), int(line)) if page is not None else int(number)
        )
        return f"${len(given)}"

    select = _read(_LITERAL.sub(parameter, statement))
    chosen = [row for row in rows if select.condition is None or select.condition(row, given) is True]
    if select.most is not None:
        chosen = chosen[: select.most({}, given)]
    return [[value(row, given) for value in select.values] for row in chosen] if select.values else [[len(chosen)]]


def _value(node: Any) -> Value:
    """An expression as a function of a row and the literals."""
    if isinstance(node, exp.Alias | exp.Paren | exp.Cast):
        return _value(node.this)
    if isinstance(node, exp.Column):
        name = node.name
        return lambda row, given: row[name]
    if isinstance(node, exp.Parameter):
        place = int(node.name) - 1
        return lambda row, given: given[place]
    if isinstance(node, exp.Boolean):
        truth = bool(node.this)
        return lambda row, given: truth
    if (compare := _COMPARED.get(type(node))) is not None:
        return _compared(compare, _value(node.left), _value(node.right))
    if isinstance(node, exp.And | exp.Or):
        return _joined(_value(node.left), _value(node.right), decides=isinstance(node, exp.Or))
    if isinstance(node, exp.Not):
        return _negated(_value(node.this))
    if isinstance(node, exp.Is):
        return _is(_value(node.this), node.expression)
    if isinstance(node, exp.Greatest):
        return _greatest([_value(node.this), *map(_value, node.expressions)])
    if isinstance(node, exp.Case):
        [branch] = node.args["ifs"]
        return _case(_value(branch.this), _value(branch.args["true"]), _value(node.args["default"]))
    raise Unforeseen(f"the simulated source does not know {node!r}")


def _compared(compare: Callable[[Any, Any], Any], left: Value, right: Value) -> Value:
    def value(row: Row, given: Given) -> Any:
        one, other = left(row, given), right(row, given)
        return None if one is None or other is None else compare(one, other)

    return value


def _joined(left: Value, right: Value, *, decides: bool) -> Value:
    def value(row: Row, given: Given) -> bool | None:
        found = (left(row, given), right(row, given))
        return decides if decides in found else None if None in found else not decides

    return value


def _negated(inner: Value) -> Value:
    def value(row: Row, given: Given) -> bool | None:
        found = inner(row, given)
        return None if found is None else not found

    return value


def _is(inner: Value, what: Any) -> Value:
    wanted = None if isinstance(what, exp.Null) else bool(what.this)
    return lambda row, given: inner(row, given) is wanted


def _greatest(inner: list[Value]) -> Value:
    def value(row: Row, given: Given) -> Any:
        return max((found for each in inner if (found := each(row, given)) is not None), default=None)

    return value


def _case(condition: Value, then: Value, else_: Value) -> Value:
    return lambda row, given: then(row, given) if condition(row, given) is True else else_(row, given)
