"""What Google's analyzer makes of a statement: its kind, its columns with types, its resolved tree; or a refusal."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.empty_pb2 import Empty
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2

from local.googlesql.catalog import Table, catalog_of, path_of, words_of
from local.googlesql.engine import Instance
from local.googlesql.language import analyzer_options, bigquery_language
from local.googlesql.names import with_paths_apart
from local.googlesql.types import field_of, type_of

CATALOGS_REMEMBERED = 16
"""Most catalogs that the engine keeps for statements on the same tables; each takes some megabytes."""

TEXTS_REMEMBERED = 512
"""Most statements whose tables are remembered; views are asked for again and again."""

VIEWS_REMEMBERED = 128
"""Most views whose analysis is kept; a resolved tree is up to a megabyte."""


@dataclass(frozen=True)
class Statement:
    """What the analyzer makes of one statement."""

    kind: str
    """GoogleSQL's name of it: query, merge, create_table_as_select, …"""
    fields: list[dict[str, Any]] = field(default_factory=list)
    """The columns of a query, or of the query from which a table or view is made, as a REST schema."""
    makes: tuple[str, ...] = ()
    """The path of what a CREATE statement makes, as it is written."""
    tree: Any = None
    """The resolved statement, a protocol buffer."""


class GoogleSql:
    """The analyzer, speaking BigQuery's language."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            EngineMissing: it is not here.
        """
        self.engine = Instance()
        self.language = bigquery_language(self.engine)
        self._catalogs: OrderedDict[str, int] = OrderedDict()
        self._paths: OrderedDict[str, list[list[str]]] = OrderedDict()
        self._views: OrderedDict[str, Statement] = OrderedDict()

    def analyze(
        self,
        sql: str,
        tables: Iterable[Table] = (),
        parameters: Sequence[tuple[str, dict[str, Any]]] = (),
        default: tuple[str, str] | None = None,
    ) -> list[Statement]:
        """Analyze all statements of a text.

        Args:
            sql: the text.
            tables: what it may name; views with their columns, as :meth:`with_views` gives them.
            parameters: names (empty for those by position) and REST columns of its parameters.
            default: project and dataset of names of one part.

        Raises:
            Refused: BigQuery would refuse it; the analyzer's words.
            NoAnswer: the analyzer broke off.
        """
        text = with_paths_apart(sql)
        types = tuple((name, type_of(column)) for name, column in parameters)
        request = local_service_pb2.AnalyzeRequest(options=analyzer_options(self.language, types))
        request.registered_catalog_id = self._catalog(list(tables), default)
        request.parse_resume_location.input = text
        request.parse_resume_location.byte_position = 0
        request.parse_resume_location.allow_resume = True
        end = len(text.rstrip().rstrip(";").encode())
        statements = []
        while True:
            response = self.engine.call("Analyze", request, local_service_pb2.AnalyzeResponse)
            statements.append(_statement(response.resolved_statement))
            if response.resume_byte_position >= end:
                return statements
            request.parse_resume_location.byte_position = response.resume_byte_position

    def _catalog(self, tables: Sequence[Table], default: tuple[str, str] | None) -> int:
        """The engine's id of a catalog: to make one takes longer than to analyze a short statement."""
        key = json.dumps([default, [_known_of(table) for table in tables]])
        if key not in self._catalogs:
            request = local_service_pb2.RegisterCatalogRequest()
            request.simple_catalog.CopyFrom(catalog_of(self.language, tables, default))
            registered = self.engine.call("RegisterCatalog", request, local_service_pb2.RegisterResponse)
            self._catalogs[key] = registered.registered_id
            if len(self._catalogs) > CATALOGS_REMEMBERED:
                _, oldest = self._catalogs.popitem(last=False)
                self.engine.call("UnregisterCatalog", local_service_pb2.UnregisterRequest(registered_id=oldest), Empty)
        self._catalogs.move_to_end(key)
        return self._catalogs[key]

    def tables_of(self, sql: str) -> list[list[str]]:
        """The paths of the tables that one statement reads or changes, as it writes them.

        Raises:
            Refused: it is none that can be parsed.
        """
        if sql not in self._paths:
            request = local_service_pb2.ExtractTableNamesFromStatementRequest(sql_statement=with_paths_apart(sql))
            request.options.CopyFrom(self.language)
            response = local_service_pb2.ExtractTableNamesFromStatementResponse
            found = self.engine.call("ExtractTableNamesFromStatement", request, response)
            self._paths[sql] = [list(name.table_name_segment) for name in found.table_name]
            if len(self._paths) > TEXTS_REMEMBERED:
                self._paths.popitem(last=False)
        self._paths.move_to_end(sql)
        return self._paths[sql]

    def with_views(self, tables: Sequence[Table]) -> list[Table]:
        """The tables, every view with the columns that the analyzer finds in its query, and that ``"statement"``.

        Raises:
            Refused: a view's query is refused.
        """
        done: dict[str, Table] = {}

        def typed(table: Table) -> Table:
            name = ".".join(path_of(table))
            if name not in done:
                if table.get("view"):
                    words = words_of(table["view"])
                    below = [typed(each) for each in tables if each is not table and path_of(each)[-1] in words]
                    statement = self._view(table["view"], below)
                    done[name] = {**table, "fields": statement.fields, "statement": statement}
                else:
                    done[name] = table
            return done[name]

        return [typed(table) for table in tables]

    def _view(self, query: str, below: list[Table]) -> Statement:
        key = json.dumps([query, [[path_of(table), table["fields"]] for table in below]], sort_keys=True)
        if key not in self._views:
            self._views[key] = self.analyze(query, below)[-1]
            if len(self._views) > VIEWS_REMEMBERED:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]


def _known_of(table: Table) -> list[Any]:
    return [path_of(table), table["fields"], table.get("pseudo"), table.get("written")]


def _of(node: Any, field: str) -> Any:
    """A repeated field of a node or of what it is a kind of; nothing if there is none."""
    while not hasattr(node, field):
        if not hasattr(node, "parent"):
            return ()
        node = node.parent
    return getattr(node, field)


def _statement(any_statement: Any) -> Statement:
    name, node = any_statement.WhichOneof("node"), any_statement
    while name is not None:
        node = getattr(node, name)
        if not node.DESCRIPTOR.name.startswith("Any"):
            kind = name.removeprefix("resolved_").removesuffix("_stmt_node")
            fields = [field_of(column.name, column.column.type) for column in _of(node, "output_column_list")]
            return Statement(kind, fields, tuple(_of(node, "name_path")), node)
        name = node.WhichOneof("node")
    return Statement("unknown")
