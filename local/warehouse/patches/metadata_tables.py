"""The tables that dbt reads for the catalog of its docs: ``__TABLES__`` and INFORMATION_SCHEMA.COLUMN_FIELD_PATHS.

bqemulator refuses both (404). They are now made from its catalog, as its other views of INFORMATION_SCHEMA are. The
size of a table is null.
"""

from collections.abc import Iterator
from typing import Any

import sqlglot
from bqemulator.sql import inner_query
from bqemulator.sql.rewriter.information_schema import _render_data_type, expand_information_schema
from sqlglot import exp

from local.warehouse.patches.replace import replace

_KINDS = {"TABLE": 1, "VIEW": 2, "EXTERNAL": 3}
_TABLES = {
    "project_id": "STRING",
    "dataset_id": "STRING",
    "table_id": "STRING",
    "creation_time": "INT64",
    "last_modified_time": "INT64",
    "row_count": "INT64",
    "size_bytes": "INT64",
    "type": "INT64",
}
_PATHS = dict.fromkeys(
    ("table_catalog", "table_schema", "table_name", "column_name", "field_path", "data_type", "description"), "STRING"
)


def apply() -> None:
    """Expand these tables, too, where bqemulator expands those of INFORMATION_SCHEMA."""
    replace(inner_query, "expand_information_schema", _expand)


def _expand(bq_sql: str, project_id: str, catalog: Any) -> str:
    expanded: str = expand_information_schema(bq_sql, project_id, catalog)
    if expanded == bq_sql and "__TABLES__" not in bq_sql and "COLUMN_FIELD_PATHS" not in bq_sql.upper():
        return bq_sql
    tree: Any = sqlglot.parse_one(expanded, read="bigquery")
    for values in list(tree.find_all(exp.Values)):
        _name_columns(values)
    for table in list(tree.find_all(exp.Table)):
        project, dataset = table.catalog or project_id, table.db
        if table.name == "__TABLES__":
            rows = [_table(meta) for meta in catalog.list_tables(project, dataset)]
            columns = _TABLES
        elif table.name.upper() == "INFORMATION_SCHEMA.COLUMN_FIELD_PATHS":
            rows = [row for meta in catalog.list_tables(project, dataset) for row in _paths(meta)]
            columns = _PATHS
        else:
            continue
        query: Any = sqlglot.parse_one(_query(columns, rows), read="bigquery")
        table.replace(query.subquery(table.alias or None))
    return str(tree.sql("bigquery"))


def _name_columns(values: Any) -> None:
    """Give bqemulator's rows their columns' names in a way that sqlglot can write for BigQuery."""
    alias = values.args.get("alias")
    holder = values if alias is not None else values.parent
    alias = holder.args.get("alias")
    if alias is None or not alias.columns:
        return
    names = [column.name for column in alias.columns]
    selects = [
        exp.select(
            *(exp.alias_(cell.copy(), name, quoted=True) for cell, name in zip(row.expressions, names, strict=True))
        )
        for row in values.expressions
    ]
    query = selects[0] if len(selects) == 1 else exp.union(*selects, distinct=False)
    holder.replace(query.subquery(alias.name))


def _query(columns: dict[str, str], rows: list[tuple[Any, ...]]) -> str:
    def literal(value: Any, kind: str) -> str:
        text = (
            "NULL" if value is None else exp.Literal.string(value).sql("bigquery") if kind == "STRING" else str(value)
        )
        return f"CAST({text} AS {kind})"

    def row(values: tuple[Any, ...]) -> str:
        return "SELECT " + ", ".join(
            f"{literal(value, kind)} AS {name}" for value, (name, kind) in zip(values, columns.items(), strict=True)
        )

    return " UNION ALL ".join([row((None,) * len(columns)) + " FROM (SELECT 1) WHERE FALSE", *map(row, rows)])


def _table(meta: Any) -> tuple[Any, ...]:
    created, changed = (int(moment.timestamp() * 1000) for moment in (meta.creation_time, meta.last_modified_time))
    kind = _KINDS.get(meta.table_type, 3)
    return (meta.project_id, meta.dataset_id, meta.table_id, created, changed, meta.num_rows, None, kind)


def _paths(meta: Any) -> Iterator[tuple[Any, ...]]:
    def below(fields: Any, column: str | None, prefix: str) -> Iterator[tuple[Any, ...]]:
        for field in fields:
            path = f"{prefix}{field.name}"
            name = column or field.name
            table = (meta.project_id, meta.dataset_id, meta.table_id)
            yield (*table, name, path, _render_data_type(field), field.description)
            yield from below(field.fields or (), name, f"{path}.")

    yield from below(meta.schema_.fields, None, "")
