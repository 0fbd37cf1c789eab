"""Which answers BigQuery would take from its cache, and bill nothing for.

The same text of a query, by the same user, of tables that have not changed, within a day; no query whose answer depends
on the moment, on chance or on who asks (https://cloud.google.com/bigquery/docs/cached-results#cache-exceptions).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from local.googlesql.analysis import Statement

KEPT = timedelta(days=1)

_NOT_CACHED = frozenset(
    f"ZetaSQL:{name}"
    for name in (
        *("current_timestamp", "current_date", "current_datetime", "current_time", "rand", "generate_uuid"),
        *("session_user", "error"),
    )
)


def is_lasting(statement: Statement, tables: Sequence[Any]) -> bool:
    """Whether a statement is a query whose answer changes with its tables only, so that BigQuery keeps it.

    Args:
        statement: as the analyzer resolved it.
        tables: what it names, with views resolved.
    """
    if statement.kind != "query" or any("path" in table for table in tables):
        return False
    trees = [statement.tree, *(table["statement"].tree for table in tables if table.get("statement"))]
    return not any(_depends_on_more(tree) for tree in trees)


def _depends_on_more(node: Any) -> bool:
    if node.DESCRIPTOR.name == "FunctionRefProto":
        return node.name in _NOT_CACHED
    return any(
        _depends_on_more(each)
        for descriptor, value in node.ListFields()
        if descriptor.message_type is not None
        for each in (value if descriptor.is_repeated else (value,))
    )


class Results:
    """The answers that are kept, by what they depend on."""

    def __init__(self) -> None:
        self._kept: dict[Any, datetime] = {}

    def hit(self, sql: str, project: str, parameters: Sequence[Any], tables: Iterable[Any], now: datetime) -> bool:
        """Whether an answer is there; keeps this one, if not.

        Args:
            sql: the query, whose answer can be cached.
            project: the one that asks.
            parameters: the query's.
            tables: what it names, with bqemulator's record of each.
            now: the time, UTC.
        """
        states = tuple(
            (table["id"], table["meta"].last_modified_time, table["meta"].num_rows, table["meta"].etag)
            for table in tables
            if "meta" in table
        )
        key = (sql, project, repr(parameters), states)
        kept = self._kept.get(key)
        if kept is not None and now - kept < KEPT:
            return True
        self._kept[key] = now
        return False
