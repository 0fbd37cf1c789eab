"""Whether a MERGE names the partitions of its target in constants, from the resolved tree.

BigQuery prunes a MERGE's target by a constant condition on the partition column and by nothing else: neither by a
function's result nor by a subquery's
(https://cloud.google.com/bigquery/docs/using-dml-with-partitioned-tables#using_merge_statement).
"""

from typing import Any

from local.googlesql.tree import arguments_of, below, column_references, function_of, is_a, unwrapped
from local.project_check.warehouse import Merge

_COMPARISONS = {"$equal", "$less", "$less_or_equal", "$greater", "$greater_or_equal", "$between", "$in"}


def not_pruned(merge: Merge) -> str | None:
    """Why a MERGE reads all partitions of its target; None when it does not."""
    name = merge.target.partitioned_by
    columns = merge.statement.tree.table_scan.parent.column_list
    ids = {column.column_id for column in columns if column.name == name}
    conditions = [each for each in _conjuncts(merge.statement.tree.merge_expr) if _mentions(each, ids)]
    if any(_constant(each, ids) for each in conditions):
        return None
    conditions = [each for each in conditions if not _joins(each, ids)]
    said = "; ".join(_what_is_wrong(each) for each in conditions) or "there is none"
    return f"of its target's partition column {name} it needs a condition in constants: {said}"


def _conjuncts(expression: Any) -> list[Any]:
    node = unwrapped(expression)
    if function_of(node) == "$and":
        return [inner for each in arguments_of(node) for inner in _conjuncts(each)]
    return [node]


def _mentions(node: Any, ids: set[int]) -> bool:
    return any(reference.column.column_id in ids for reference in column_references(node))


def _is_column(node: Any, ids: set[int]) -> bool:
    return is_a(node, "ColumnRef") and node.column.column_id in ids


def _joins(node: Any, ids: set[int]) -> bool:
    """Whether it compares the column with the source's."""
    return function_of(node) == "$equal" and all(is_a(each, "ColumnRef") for each in arguments_of(node))


def _constant(node: Any, ids: set[int]) -> bool:
    if function_of(node) not in _COMPARISONS:
        return False
    inner = arguments_of(node)
    others = [each for each in inner if not _is_column(each, ids)]
    # A cast of a literal is a literal in the tree.
    return len(others) < len(inner) and all(is_a(each, "Literal") or is_a(each, "Parameter") for each in others)


def _what_is_wrong(node: Any) -> str:
    if any(is_a(each, "SubqueryExpr") for each in below(node)):
        return "a subquery is none"
    called = {function_of(each) for each in below(node)} - {None} - _COMPARISONS
    return f"what {', '.join(sorted(map(str, called)))} returns is none" if called else "what the source has is none"
