"""Expressions are rewritten by their types, in one walk, before bqemulator translates the statement.

DuckDB's operators and functions differ from BigQuery's by type: what ``*`` is of two NUMERIC, what a TIMESTAMP is as
text. Here every expression gets the type that sqlglot finds for it by BigQuery's rules, with the columns of the
catalog's tables, and the modules that know a subject (:mod:`.numerics`, :mod:`.texts`, :mod:`.moments`,
:mod:`.floats`) replace it. Where no type is found (a column of a MERGE's or UPDATE's target outside of a subquery),
the expression stays DuckDB's.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import duckdb
import sqlglot
from bqemulator.domain.errors import NotFoundError
from bqemulator.jobs import executor
from bqemulator.sql import inner_query
from bqemulator.sql.translator import SQLTranslator
from bqemulator.storage.engine import DuckDBEngine
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from local.warehouse.patches.replace import replace
from local.warehouse.patches.translation import REMEMBERED

Rewriting = Callable[[Any], Any]
"""Returns what an expression becomes (itself, when only its operands are others), or None when it stays as it is."""

_REWRITINGS: dict[Any, list[Rewriting]] = {}
_SETUPS: list[Callable[[duckdb.DuckDBPyConnection], None]] = []
_LEGACY_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_SYNONYMS = {
    **dict.fromkeys((exp.DType.INT, exp.DType.SMALLINT, exp.DType.TINYINT), exp.DType.BIGINT),
    **dict.fromkeys((exp.DType.VARCHAR, exp.DType.CHAR), exp.DType.TEXT),
    exp.DType.FLOAT: exp.DType.DOUBLE,
    exp.DType.VARBINARY: exp.DType.BINARY,
    exp.DType.TIMESTAMP: exp.DType.DATETIME,
}
_NUMBER = "credix number"
_types: dict[int, tuple[Any, Any]] = {}
"""By identity, the expressions of the statement at hand with their types; sqlglot's own notes are copied deeply."""

_register_builtins = DuckDBEngine._register_builtin_udfs
_translate = SQLTranslator.translate


def add(
    rewritings: Mapping[Any, Rewriting],
    functions: str,
    setup: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> None:
    """Add what a subject's module rewrites, with the DuckDB functions that it needs."""
    for kind, rewriting in rewritings.items():
        _REWRITINGS.setdefault(kind, []).append(rewriting)
    if setup is not None:
        _SETUPS.append(setup)

    def make_functions(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(functions)

    _SETUPS.append(make_functions)


def apply() -> None:
    """Give the translator the tables' BigQuery types, let it rewrite by them, and make the functions at start."""
    replace(inner_query, "build_catalog_schema", schemas_of_tables)
    replace(DuckDBEngine, "_register_builtin_udfs", _register_functions)
    replace(SQLTranslator, "translate", _translate_rewritten)
    replace(executor, "_translator", SQLTranslator())


def refuse(message: str) -> str:
    """Fail a statement, or what SAFE makes null of; DuckDB's ``error`` cannot be used inside of that.

    Raises:
        ArithmeticError: always, with the message.
    """
    raise ArithmeticError(message)


def _register_functions(self: Any) -> None:
    _register_builtins(self)
    text: Any = "VARCHAR"
    self.connection.create_function("credix_refuse", refuse, [text], text)
    for setup in _SETUPS:
        setup(self.connection)


def _translate_rewritten(self: Any, bq_sql: str, *, schema: Any = None, caller: Any = None, **_reserved: Any) -> Any:
    return _translate(self, rewrite(bq_sql, schema or {}), schema=None, caller=caller)


def schemas_of_tables(bq_sql: str, *, project_id: str, catalog: Any) -> dict[str, Any]:
    """Return ``{project: {dataset: {table: {column: type}}}}`` of the tables that a statement names."""
    found: dict[str, Any] = {}
    for named_project, dataset, name in _tables_in(bq_sql):
        project = named_project or project_id
        try:
            meta = catalog.get_table(project, dataset, name)
        except NotFoundError:
            continue
        if meta is not None:
            columns = {field.name: _type_of_field(field) for field in meta.schema_.fields}
            found.setdefault(project, {}).setdefault(dataset, {})[name] = columns
    return found


@lru_cache(REMEMBERED)
def _tables_in(bq_sql: str) -> tuple[tuple[str, str, str], ...]:
    """The tables that a statement names, each with its project (empty for none) and dataset."""
    try:
        tree = sqlglot.parse_one(bq_sql, read="bigquery")
    except sqlglot.errors.SqlglotError:
        return ()  # reported by the translation
    tables = ((table.catalog, table.db, table.name) for table in tree.find_all(exp.Table))
    return tuple(dict.fromkeys(table for table in tables if table[1] and table[2]))


def _type_of_field(field: Any) -> str:
    name = _LEGACY_NAMES.get(field.type.upper(), field.type.upper())
    if name == "STRUCT":
        name = f"STRUCT<{', '.join(f'`{inner.name}` {_type_of_field(inner)}' for inner in field.fields)}>"
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name


def rewrite(bq_sql: str, schemas: dict[str, Any]) -> str:
    """Return the statement with every expression that has a rewriting replaced, innermost first."""
    try:
        tree: Any = sqlglot.parse_one(bq_sql, read="bigquery")
    except sqlglot.errors.SqlglotError:
        return bq_sql  # bqemulator parses it again, and reports it
    if not isinstance(tree, exp.Query | exp.DML | exp.Merge | exp.Create):
        return bq_sql
    nodes = list(tree.walk())
    if not any(type(node) in _REWRITINGS for node in nodes):
        return bq_sql
    try:
        _find_types(tree, nodes, schemas)
        return str(tree.sql("bigquery", copy=False)) if _replaced(nodes) else bq_sql
    finally:
        _types.clear()


def _replaced(nodes: list[Any]) -> bool:
    """Replace what has a rewriting, and return whether there was any."""
    changed = False
    for node in reversed(nodes):
        for rewriting in _REWRITINGS.get(type(node), ()):
            replacement = rewriting(node)
            if replacement is not None:
                changed = True
            if replacement is not None and replacement is not node:
                set_type(replacement, type_of(node))
                node.replace(replacement)
                break
    return changed


def _find_types(tree: Any, nodes: list[Any], schemas: dict[str, Any]) -> None:
    """Note the type of every node; the types are found in a copy, in which names are qualified."""
    for number, node in enumerate(nodes):
        node.meta[_NUMBER] = number
    copy = tree.copy()
    for node in nodes:
        del node.meta[_NUMBER]
    projects = {
        (dataset, name): project for project, sets in schemas.items() for dataset in sets for name in sets[dataset]
    }
    for table in copy.find_all(exp.Table):
        project = projects.get((table.db, table.name))
        if project and not table.catalog:
            table.set("catalog", exp.to_identifier(project, quoted=True))
    try:
        qualified = qualify(
            copy,
            schema=schemas,
            dialect="bigquery",
            infer_schema=True,
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
        annotated = annotate_types(qualified, schema=schemas, dialect="bigquery")
    except (sqlglot.errors.SqlglotError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return  # a statement that sqlglot cannot follow: DuckDB will refuse it, or take it as it is
    for node in annotated.walk():
        number = node.meta.get(_NUMBER)
        if number is not None and node.type is not None:
            set_type(nodes[number], bigquery_type(node.type))


def bigquery_type(kind: Any) -> Any:
    """Return the type that BigQuery knows; sqlglot has INT for a literal, and more than one for text."""
    return exp.DataType(this=_SYNONYMS[kind.this]) if kind.this in _SYNONYMS else kind


def type_of(node: Any) -> Any:
    """Return the type found for an expression, as sqlglot's DataType, or None. A copy has none."""
    return _types.get(id(node), (None, None))[1]


def set_type(node: Any, kind: Any) -> Any:
    """Give a new expression a type, and return it."""
    if kind is not None:
        found = bigquery_type(exp.DataType.build(kind, dialect="bigquery")) if isinstance(kind, str) else kind
        _types[id(node)] = (node, found)
    return node


def is_type(node: Any, *kinds: Any) -> bool:
    """Whether the expression is known to be of one of sqlglot's types."""
    kind = type_of(node)
    return kind is not None and kind.this in kinds


def call(function: str, *operands: Any) -> Any:
    """Return the call of a DuckDB function."""
    return exp.Anonymous(this=function, expressions=[operand.copy() for operand in operands])
