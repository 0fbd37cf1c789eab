"""``CREATE TABLE t (columns) AS (query)``.

dbt writes this for a model with ``contract: enforced``. bqemulator turns the declared columns into casts, which DuckDB
needs, but not when the query is in parentheses. BigQuery accepts both. Parentheses are now looked through.
"""

from typing import Any

from bqemulator.sql.rewriter import create_table_schema_ctas
from sqlglot import exp

from local.warehouse.patches.replace import replace

_original = create_table_schema_ctas._first_select


def _first_select(body: Any) -> Any:
    while isinstance(body, exp.Subquery):
        body = body.this
    return _original(body)


def apply() -> None:
    """Replace the search for the query's first SELECT."""
    replace(create_table_schema_ctas, "_first_select", _first_select)
