"""A query's rows by GoogleSQL's reference implementation.

It evaluates queries, no DML, and holds tables only at the top of its catalog: the paths in the query are replaced.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2

from local.googlesql.analysis import GoogleSql
from local.googlesql.catalog import Table, catalog_of, path_of
from local.googlesql.language import analyzer_options
from local.googlesql.names import pieces, with_paths_apart
from local.googlesql.types import field_of
from local.googlesql.values import content_of, decoded

_NO_ALIAS = (
    r"(?!\s+as\b)(?!\s+(?!(?:where|on|using|join|left|right|inner|cross|full|group|order|qualify|union|having|limit|when)\b)"
    r"[a-z_`])"
)


@dataclass(frozen=True)
class Answer:
    """A query's answer."""

    fields: list[dict[str, Any]]
    """Its columns, as a REST schema."""
    rows: list[list[Any]]
    """Python's values."""


def evaluate(google: GoogleSql, sql: str, tables: Sequence[Table] = ()) -> Answer:
    """Run a query on the reference implementation.

    Args:
        google: the engine.
        sql: one query.
        tables: what it names: tables with their ``rows`` ({column: value}), views with their query.

    Raises:
        Refused: BigQuery would refuse the query, or it fails at a row; GoogleSQL's words.
        NoAnswer: the engine broke off.
    """
    names = {table["id"]: "__".join(path_of(table)) for table in tables}
    held = [table for table in tables if not table.get("view")]
    text = _at_the_top(sql, tables, names)
    request = local_service_pb2.EvaluateQueryRequest(
        sql=text, options=analyzer_options(google.language, evaluated=True)
    )
    flat = [{"path": [names[table["id"]]], "fields": table["fields"]} for table in held]
    request.simple_catalog.CopyFrom(catalog_of(google.language, flat))
    for table in held:
        request.table_content[names[table["id"]]].CopyFrom(content_of(table["rows"], table["fields"]))
    response = google.engine.call("EvaluateQuery", request, local_service_pb2.EvaluateQueryResponse)
    types = [column.type for column in response.prepared.columns]
    return Answer(
        [field_of(column.name, column.type) for column in response.prepared.columns],
        [
            [decoded(value, type_) for value, type_ in zip(row.cell, types, strict=True)]
            for row in response.content.table_data.row
        ],
    )


def _at_the_top(sql: str, tables: Sequence[Table], names: Mapping[str, str]) -> str:
    """The query with tables by their names of one part, and views as subqueries."""

    def replaced(text: str) -> str:
        return "".join(part if opaque else _replaced(part) for opaque, part in pieces(with_paths_apart(text)))

    def _replaced(part: str) -> str:
        for table in sorted(tables, key=lambda table: -len(table["id"])):
            project, dataset, name = (f"`{re.escape(each)}`" for each in path_of(table))
            path = rf"(?:{project}\.|(?<![.`])(?=`)){dataset}\.{name}"
            if re.search(path, part, re.IGNORECASE):
                view = table.get("view")
                inner = f"({replaced(view).strip().rstrip(';')}\n)" if view else f"`{names[table['id']]}`"
                named = f"{inner} as `{path_of(table)[-1]}`"
                part = named.join(re.split(path + _NO_ALIAS, part, flags=re.IGNORECASE))
                part = inner.join(re.split(path, part, flags=re.IGNORECASE))
        return part

    return replaced(sql)
