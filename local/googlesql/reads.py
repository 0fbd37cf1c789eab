"""Which columns of which tables a statement reads, and by which constants: a walk over its resolved tree.

BigQuery reads a column when the result, or which rows it has, depends on it; a computed column that nobody asks for is
not computed. So every column has an entry of what it is made from, and what is read is what the result's columns reach.

*Bounds* are conditions that compare a column of a table with constants. Only they let BigQuery leave out partitions
(https://cloud.google.com/bigquery/docs/querying-partitioned-tables#best_practices_for_partition_pruning). They are
followed through what cannot change their meaning: projections, joins, GROUP BY, UNION ALL. Where this walk loses one
(a WITH query, an analytic function), it finds more read than BigQuery would, never less.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from local.googlesql.analysis import Statement
from local.googlesql.values import decoded

Node = int | tuple[str, Any]
"""A column of the tree by its id; or a scan, a WITH query, a group of analytic functions."""


@dataclass(frozen=True)
class Bound:
    """A condition of a column: it is =, <, <=, > or >= a constant, or ``in`` some."""

    operator: str
    constants: tuple[Any, ...]


Bounds = Mapping[int, tuple[Bound, ...]]
"""What is known of columns, by their ids: all of it holds."""


@dataclass(frozen=True)
class Read:
    """A scan of a table or view."""

    table: str
    """project.dataset.table."""
    columns: frozenset[str]
    bounds: Mapping[str, tuple[Bound, ...]] = field(default_factory=dict)
    """Of its columns: a row for which one does not hold is of no use to the statement."""
    matched: frozenset[str] = frozenset()
    """Columns that are compared with other tables' columns; BigQuery may leave out blocks by them, or not."""


@dataclass(frozen=True)
class Reads:
    """What a statement reads and writes."""

    scans: tuple[Read, ...]
    target: Read | None = None
    """The table that an UPDATE, DELETE or MERGE works on, without what it reads of it; its bounds hold for every row
    that is changed. None of an INSERT, which reads nothing of its target."""


def only_inserts(statement: Statement) -> bool:
    """Whether a statement adds rows, and changes none."""
    insert: Any = enums.ResolvedMergeWhenEnums.INSERT
    return statement.kind == "insert" or (
        statement.kind == "merge" and all(clause.action_type == insert for clause in statement.tree.when_clause_list)
    )


def reads_of(
    tree: Any, columns: Iterable[str] | None = None, bounds: Mapping[str, tuple[Bound, ...]] | None = None
) -> Reads:
    """What a resolved statement reads.

    Args:
        tree: the statement, as the analyzer resolves it.
        columns: of a view's query: the columns that are asked for; all by default.
        bounds: of a view's query: what is asked of them.
    """
    return _Walk().statement(tree, columns, bounds or {})


@dataclass
class _Scan:
    table: str
    columns: Mapping[int, str]
    bounds: Bounds


class _Walk:
    def __init__(self) -> None:
        self._made_from: dict[Node, set[Node]] = defaultdict(set)
        self._scans: list[_Scan] = []
        self._with: dict[str, list[int]] = {}
        self._matched: set[int] = set()

    def statement(self, tree: Any, columns: Iterable[str] | None, asked: Mapping[str, tuple[Bound, ...]]) -> Reads:
        asked_for: set[Node] = set()
        kind = tree.DESCRIPTOR.name.removeprefix("Resolved").removesuffix("StmtProto")
        if kind in ("Merge", "Update", "Delete"):
            return self._change(tree, kind, asked_for)
        if kind == "Insert":
            asked_for.update(column.column_id for column in tree.query_output_column_list)
            self._children(tree, asked_for, {}, but={"table_scan", "insert_column_list"})
        elif kind == "Query" and _asks_for_no_rows(tree.query):
            return Reads(())
        elif hasattr(tree, "query"):
            wanted = None if columns is None else {name.lower() for name in columns}
            bounds: dict[int, tuple[Bound, ...]] = {}
            for output in tree.output_column_list:
                if wanted is None or output.name.lower() in wanted:
                    asked_for.add(output.column.column_id)
                if output.name in asked:
                    bounds[output.column.column_id] = asked[output.name]
            self._node(tree.query, asked_for, bounds)
        return Reads(self._read(asked_for))

    def _change(self, tree: Any, kind: str, asked_for: set[Node]) -> Reads:
        condition = tree.merge_expr if kind == "Merge" else tree.where_expr
        bounds = _conditions(condition)
        if kind == "Merge" and any(_match_type(clause) == "NOT_MATCHED_BY_SOURCE" for clause in tree.when_clause_list):
            bounds = {}
        self._node(tree.table_scan, asked_for, bounds)
        target = self._scans[0]
        self._children(tree, asked_for, {}, but={"table_scan"})
        named = {name: bounds[column] for column, name in target.columns.items() if column in bounds}
        return Reads(self._read(asked_for), Read(target.table, frozenset(), named))

    # --- the walk -----------------------------------------------------------------------------------------------------

    def _node(self, node: Any, asked: set[Node], bounds: Bounds) -> None:
        """Take note of what a node of the tree asks for, if it is asked for itself."""
        kind = node.DESCRIPTOR.name.removeprefix("Resolved").removesuffix("Proto")
        walk = getattr(self, f"_walk_{kind}", None)
        if walk is not None:
            walk(node, asked, bounds)
        elif kind.startswith("Any"):
            self._children(node, asked, bounds)
        elif kind.endswith("Scan"):
            # A scan of which nothing more is known asks for all columns of what is below it.
            for scan in _scans_below(node):
                asked.update(_columns_of(scan))
            self._children(node, asked, {})
        else:
            self._children(node, asked, {})

    def _children(self, node: Any, asked: set[Node], bounds: Bounds, but: Iterable[str] = ()) -> None:
        for each in _children(node, but):
            self._node(each, asked, bounds)

    def _walk_TableScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        ids = {column.column_id: column.name for column in scan.parent.column_list}
        here = {column: bounds[column] for column in ids if column in bounds}
        asked.add(("scan", len(self._scans)))
        self._scans.append(_Scan(scan.table.full_name, ids, here))
        self._children(scan, asked, {}, but={"parent"})

    def _walk_ColumnRef(self, reference: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        asked.add(reference.column.column_id)

    def _walk_FunctionCall(self, call: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        base = call.parent
        if base.function.name == "ZetaSQL:$equal":
            sides = [_inside(each) for each in base.argument_list]
            if all(side.DESCRIPTOR.name == "ResolvedColumnRefProto" for side in sides):
                self._matched.update(side.column.column_id for side in sides)
        self._children(call, asked, {})

    def _walk_OutputColumn(self, output: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        asked.add(output.column.column_id)

    def _walk_ComputedColumn(self, computed: Any, _asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        self._node(computed.expr, self._made_from[computed.column.column_id], {})

    def _walk_DeferredComputedColumn(self, computed: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        self._walk_ComputedColumn(computed, asked, bounds)

    def _walk_ProjectScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        self._children(scan, asked, {}, but={"input_scan"})
        self._node(scan.input_scan, asked, _through(bounds, scan.expr_list))

    def _walk_FilterScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        self._node(scan.filter_expr, asked, {})
        self._node(scan.input_scan, asked, _both(bounds, _conditions(scan.filter_expr)))

    def _walk_JoinScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        inner = scan.join_type == enums.ResolvedJoinScanEnums.INNER
        below = _both(bounds, _conditions(scan.join_expr)) if inner else bounds
        self._children(scan, asked, {}, but={"left_scan", "right_scan"})
        self._node(scan.left_scan, asked, below)
        self._node(scan.right_scan, asked, below)

    def _walk_AggregateScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        base = scan.parent
        # How the rows are grouped decides which rows there are.
        asked.update(computed.column.column_id for computed in base.group_by_list)
        self._children(base, asked, {}, but={"input_scan", "parent"})
        grouped = {computed.column.column_id for computed in base.group_by_list}
        kept = {column: known for column, known in bounds.items() if column in grouped}
        self._node(base.input_scan, asked, _through(kept, base.group_by_list))

    def _walk_OrderByScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        self._children(scan, asked, {}, but={"input_scan"})
        self._node(scan.input_scan, asked, bounds)

    def _walk_LimitOffsetScan(self, scan: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        self._children(scan, asked, {})

    def _walk_SampleScan(self, scan: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        self._children(scan, asked, {})

    def _walk_SingleRowScan(self, _scan: Any, _asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        pass

    def _walk_ArrayScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        self._children(scan, asked, {}, but={"input_scan"})
        if scan.HasField("input_scan"):
            self._node(scan.input_scan, asked, bounds)

    def _walk_AnalyticScan(self, scan: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        self._children(scan, asked, {})

    def _walk_AnalyticFunctionGroup(self, group: Any, _asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        window: Node = ("window", len(self._made_from))
        self._children(group, self._made_from[window], {}, but={"analytic_function_list"})
        for any_computed in group.analytic_function_list:
            computed = _inside(any_computed)
            made_from = self._made_from[computed.column.column_id]
            made_from.add(window)
            self._node(computed.expr, made_from, {})

    def _walk_SetOperationScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        outputs = [column.column_id for column in scan.parent.column_list]
        keeps_all_rows = scan.op_type == enums.ResolvedSetOperationScanEnums.UNION_ALL
        for item in scan.input_item_list:
            below: dict[int, tuple[Bound, ...]] = {}
            for output, column in zip(outputs, item.output_column_list, strict=True):
                self._made_from[output].add(column.column_id)
                if not keeps_all_rows:
                    asked.add(column.column_id)
                elif output in bounds:
                    below[column.column_id] = bounds[output]
            self._node(item.scan, asked, below)

    def _walk_WithScan(self, scan: Any, asked: set[Node], bounds: Bounds) -> None:  # noqa: N802
        for entry in scan.with_entry_list:
            self._with[entry.with_query_name] = _columns_of(_inside(entry.with_subquery))
            self._node(entry.with_subquery, self._made_from["with", entry.with_query_name], {})
        self._node(scan.query, asked, bounds)

    def _walk_WithRefScan(self, scan: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        asked.add(("with", scan.with_query_name))
        for column, of_query in zip(scan.parent.column_list, self._with[scan.with_query_name], strict=True):
            self._made_from[column.column_id].add(of_query)

    def _walk_SubqueryExpr(self, subquery: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        if subquery.subquery_type != enums.ResolvedSubqueryExprEnums.EXISTS:
            asked.update(_columns_of(_inside(subquery.subquery)))
        self._children(subquery, asked, {})

    def _walk_UpdateItem(self, item: Any, asked: set[Node], _bounds: Bounds) -> None:  # noqa: N802
        self._children(item, asked, {}, but={"target"})

    # --- the result ---------------------------------------------------------------------------------------------------

    def _read(self, asked_for: set[Node]) -> tuple[Read, ...]:
        reached: set[Node] = set()
        waiting = list(asked_for)
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting += self._made_from.get(node, ())
        return tuple(
            Read(
                scan.table,
                frozenset(name for column, name in scan.columns.items() if column in reached),
                {scan.columns[column]: known for column, known in scan.bounds.items()},
                frozenset(name for column, name in scan.columns.items() if column in self._matched),
            )
            for place, scan in enumerate(self._scans)
            if ("scan", place) in reached
        )


# --- trees ------------------------------------------------------------------------------------------------------------


def _children(node: Any, but: Iterable[str] = ()) -> Iterator[Any]:
    for descriptor, value in node.ListFields():
        if descriptor.message_type is None or descriptor.name in but:
            continue
        for each in value if descriptor.is_repeated else (value,):
            if each.DESCRIPTOR.name.startswith(("Resolved", "AnyResolved")):
                yield each


def _inside(node: Any) -> Any:
    """What an ``Any…`` node holds."""
    while node.DESCRIPTOR.name.startswith("Any"):
        node = getattr(node, node.WhichOneof("node"))
    return node


def _scans_below(node: Any) -> Iterator[Any]:
    for each in _children(node):
        if each.DESCRIPTOR.name.startswith("AnyResolvedScan"):
            yield _inside(each)
        else:
            yield from _scans_below(each)


def _asks_for_no_rows(any_scan: Any) -> bool:
    """Whether a query ends with LIMIT 0: only its columns are wanted, and BigQuery reads and bills nothing.

    Of an INSERT from such a query it bills all the same (https://github.com/dbt-labs/dbt-bigquery/issues/487).
    """
    scan = _inside(any_scan)
    while scan.DESCRIPTOR.name == "ResolvedProjectScanProto":
        scan = _inside(scan.input_scan)
    return scan.DESCRIPTOR.name == "ResolvedLimitOffsetScanProto" and bool(_constant(_inside(scan.limit)) == 0)


def _columns_of(scan: Any) -> list[int]:
    """The ids of a scan's columns; they are listed in the ancestor that all scans have."""
    while scan.DESCRIPTOR.name != "ResolvedScanProto":
        scan = scan.parent
    return [column.column_id for column in scan.column_list]


def _match_type(clause: Any) -> str:
    return str(enums.ResolvedMergeWhenEnums.MatchType.Name(clause.match_type))


# --- bounds -----------------------------------------------------------------------------------------------------------

_OPERATORS = {
    "$equal": "=", "$less": "<", "$less_or_equal": "<=", "$greater": ">", "$greater_or_equal": ">=", "$in": "in",
    "$between": "between",
}  # fmt: skip
_TURNED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _both(one: Bounds, other: Bounds) -> Bounds:
    return {column: (*one.get(column, ()), *other.get(column, ())) for column in {*one, *other}}


def _through(bounds: Bounds, computed: Iterable[Any]) -> Bounds:
    """The bounds of computed columns, as bounds of the columns that they only name anew."""
    below = dict(bounds)
    for each in computed:
        expression = _inside(each.expr)
        if each.column.column_id in bounds and expression.DESCRIPTOR.name == "ResolvedColumnRefProto":
            column = expression.column.column_id
            below[column] = (*below.get(column, ()), *bounds[each.column.column_id])
    return below


def _conditions(any_expression: Any) -> Bounds:
    """The bounds that a condition sets, of all that must hold together."""
    if any_expression.WhichOneof("node") is None:
        return {}
    call = _call(_inside(any_expression))
    if call is None:
        return {}
    name = call.function.name.removeprefix("ZetaSQL:")
    arguments = [_inside(each) for each in call.argument_list]
    if name == "$and":
        together: Bounds = {}
        for each in call.argument_list:
            together = _both(together, _conditions(each))
        return together
    operator = _OPERATORS.get(name)
    if operator is None:
        return {}
    if operator in _TURNED and arguments[1].DESCRIPTOR.name == "ResolvedColumnRefProto":
        arguments, operator = arguments[::-1], _TURNED[operator]
    constants = [_constant(each) for each in arguments[1:]]
    if arguments[0].DESCRIPTOR.name != "ResolvedColumnRefProto" or any(each is None for each in constants):
        return {}
    column = arguments[0].column.column_id
    if operator == "between":
        return {column: (Bound(">=", (constants[0],)), Bound("<=", (constants[1],)))}
    return {column: (Bound(operator, tuple(constants)),)}


def _call(expression: Any) -> Any:
    """A function's call, or None for any other expression."""
    while expression.DESCRIPTOR.name not in ("ResolvedFunctionCallBaseProto", "ResolvedExprProto"):
        if not hasattr(expression, "parent"):
            return None
        expression = expression.parent
    return expression if expression.DESCRIPTOR.name == "ResolvedFunctionCallBaseProto" else None


def _constant(expression: Any) -> Any:
    """Python's value of a literal; None for anything else, and for NULL."""
    if expression.DESCRIPTOR.name != "ResolvedLiteralProto":
        return None
    return decoded(expression.value.value, expression.value.type)
