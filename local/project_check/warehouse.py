"""A warehouse made of Google's engine: statements are analyzed, queries evaluated, and what is made is remembered.

It holds what a check needs: columns, views, a few rows. A MERGE is analyzed and changes no row.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.googlesql.analysis import GoogleSql, Statement
from local.googlesql.catalog import words_of
from local.googlesql.engine import Refused
from local.googlesql.evaluation import evaluate
from local.googlesql.metadata import metadata_views
from local.googlesql.names import pieces, without_comments
from local.googlesql.tree import column_references
from local.googlesql.types import field_of

Field = Mapping[str, Any]

_STATEMENT_TYPES = {
    "query": "SELECT",
    "create_view": "CREATE_VIEW",
    "create_table": "CREATE_TABLE",
    "create_table_as_select": "CREATE_TABLE_AS_SELECT",
    "alter_table": "ALTER_TABLE",
    "drop": "DROP_TABLE",
    "merge": "MERGE",
    "insert": "INSERT",
    "delete": "DELETE",
    "create_schema": "CREATE_SCHEMA",
}
"""What a check may send, and what BigQuery calls it."""

_NOTHING_FOUND = {"failures": 0, "should_warn": False, "should_error": False}
"""What dbt is told by a test that found nothing."""

_QUERY = re.compile(r"[\s(]*(?:select|with)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Held:
    """A table, or a view."""

    id: str
    fields: list[dict[str, Any]]
    view: str | None = None
    """A view's query."""
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    partitioned_by: str | None = None
    """The column whose values are its partitions."""

    def as_table(self) -> dict[str, Any]:
        """As the analyzer and the evaluator take it."""
        return {"id": self.id, "fields": self.fields, "rows": self.rows} | ({"view": self.view} if self.view else {})


@dataclass(frozen=True)
class Ran:
    """A statement that was accepted."""

    statement_type: str
    """BigQuery's name of its kind."""
    fields: list[dict[str, Any]]
    """A query's columns."""
    rows: list[list[Any]]
    """A query's rows, Python's values."""


@dataclass(frozen=True)
class Merge:
    """A MERGE that was accepted, and its target as it was then."""

    target: Held
    statement: Statement


class Warehouse:
    """The tables, and what was run on them. Several threads may use it."""

    def __init__(self, google: GoogleSql, *, evaluates: bool = False) -> None:
        """Begin without tables.

        Args:
            google: the engine.
            evaluates: whether every query is evaluated. Else only a query of tables that all have rows is; a test of
                dbt finds nothing, and what else is asked has no rows.
        """
        self._google = google
        self._evaluates = evaluates
        self._lock = threading.RLock()
        self.held: dict[str, Held] = {}
        """Tables and views by id, project.dataset.table."""
        self.merges: list[Merge] = []
        self.analyzed = 0
        """Statements that were analyzed."""

    def put(self, id_: str, fields: Iterable[Field], rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """Set a table with its rows, as a load would."""
        with self._lock:
            self.held[id_] = Held(id_, [dict(each) for each in fields], rows=list(rows))

    def drop(self, id_: str) -> None:
        """Drop a table, if it is there."""
        with self._lock:
            self.held.pop(id_, None)

    def run(self, sql: str) -> Ran:
        """Run one statement.

        Raises:
            Refused: BigQuery would refuse it, or it is none that a check may send.
            NoAnswer: the engine broke off.
        """
        with self._lock:
            tables = self._named_in(sql)
            if self._evaluates and _QUERY.match(without_comments(sql)):
                return self._evaluated(sql, tables)
            catalog = [held.as_table() for held in tables] + metadata_views(sql)
            statements = self._google.analyze(sql, catalog)
            self.analyzed += 1
            if len(statements) != 1 or statements[0].kind not in _STATEMENT_TYPES:
                kinds = ", ".join(statement.kind for statement in statements)
                raise Refused(f"One statement of dbt's is expected, not: {kinds}")
            (statement,) = statements
            if statement.kind != "query":
                self._remember(statement)
                return Ran(_STATEMENT_TYPES[statement.kind], statement.fields, [])
            if tables and all(held.rows for held in tables):
                return self._evaluated(sql, tables)
            names = [each["name"] for each in statement.fields]
            rows = [list(_NOTHING_FOUND.values())] if names == list(_NOTHING_FOUND) else []
            return Ran("SELECT", statement.fields, rows)

    def _evaluated(self, sql: str, tables: list[Held]) -> Ran:
        query = without_comments(sql).strip().rstrip(";")
        answer = evaluate(self._google, query, [held.as_table() for held in tables])
        return Ran("SELECT", answer.fields, answer.rows)

    def _named_in(self, sql: str) -> list[Held]:
        """The tables and views that a statement names, and those that the views name."""
        found: dict[str, Held] = {}
        waiting = [sql]
        while waiting:
            words = words_of("".join(part for opaque, part in pieces(waiting.pop()) if not opaque))
            for id_, held in self.held.items():
                if id_ not in found and id_.split(".")[-1] in words:
                    found[id_] = held
                    waiting += [held.view] if held.view else []
        return list(found.values())

    def _remember(self, statement: Statement) -> None:
        tree = statement.tree
        if statement.kind == "create_view":
            made = tree.parent
            fields = [field_of(each.name, each.column.type) for each in made.output_column_list]
            self._create(made.parent, Held("", fields, made.sql))
        elif statement.kind.startswith("create_table"):
            made = tree.parent
            fields = [field_of(each.name, each.type) for each in made.column_definition_list]
            self._create(made.parent, Held("", fields, partitioned_by=_partition_column(tree)))
        elif statement.kind == "alter_table":
            self._alter(tree.parent)
        elif statement.kind == "drop":
            self.held.pop(".".join(tree.name_path), None)
        elif statement.kind == "merge":
            self.merges.append(Merge(self.held[tree.table_scan.table.full_name], statement))

    def _create(self, created: Any, made: Held) -> None:
        id_ = ".".join(created.name_path)
        if id_ not in self.held or _mode(created) == "CREATE_OR_REPLACE":
            self.held[id_] = Held(id_, made.fields, made.view, made.rows, made.partitioned_by)

    def _alter(self, altered: Any) -> None:
        held = self.held[".".join(altered.name_path)]
        known = {each["name"].lower() for each in held.fields}
        fields = list(held.fields)
        for action in altered.alter_action_list:
            if action.WhichOneof("node") != "resolved_add_column_action_node":
                raise Refused(f"Only columns are added, not: {action.WhichOneof('node')}")
            added = action.resolved_add_column_action_node.column_definition
            if added.name.lower() not in known:
                fields.append(field_of(added.name, added.type))
        self.held[held.id] = Held(held.id, fields, held.view, held.rows, held.partitioned_by)


def _mode(created: Any) -> str:
    enum = created.DESCRIPTOR.fields_by_name["create_mode"].enum_type
    return str(enum.values_by_number[created.create_mode].name)


def _partition_column(tree: Any) -> str | None:
    """The first column in PARTITION BY, whatever is done to it there."""
    for expression in tree.partition_by_list:
        for reference in column_references(expression):
            return str(reference.column.name)
    return None
