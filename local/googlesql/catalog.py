"""Tables and views for the analyzer.

A table is ``{"id": "project.dataset.table", "fields": [REST columns]}``, a view has its query in ``"view"`` as well; a
view of metadata has a ``"path"`` instead of an id. Where it is known how statements write a name, ``"written"`` has the
paths: a catalog of few names is made sooner.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from zetasql.wasi._pb2.zetasql.proto import simple_catalog_pb2

from local.googlesql.types import type_of

Table = Mapping[str, Any]

_ALIASES = ("INT", "SMALLINT", "INTEGER", "BIGINT", "TINYINT", "BYTEINT")
"""BigQuery's other names for INT64; the analyzer knows them only as names of a catalog."""

_WORDS = re.compile(r"[\w-]+")


def path_of(table: Table) -> list[str]:
    """The parts of a table's name."""
    return list(table["path"]) if "path" in table else table["id"].split(".")


def words_of(sql: str) -> set[str]:
    """All words of a statement: what names a table is among them."""
    return set(_WORDS.findall(sql))


def catalog_of(language: Any, tables: Iterable[Table], default: tuple[str, str] | None = None) -> Any:
    """A catalog with the tables, by their names with and without the project.

    Args:
        language: what the engine speaks.
        tables: the tables; views have their columns already.
        default: project and dataset of names of one part.
    """
    root = simple_catalog_pb2.SimpleCatalogProto(name="bigquery")
    root.builtin_function_options.language_options.CopyFrom(language)
    for alias in _ALIASES:
        root.named_type.add(name=alias, type=type_of({"type": "INT64"}))
    nodes: dict[tuple[str, ...], Any] = {(): root}

    def node(path: tuple[str, ...]) -> Any:
        if path not in nodes:
            nodes[path] = node(path[:-1]).catalog.add(name=path[-1])
        return nodes[path]

    serial = 0
    for table in tables:
        path = path_of(table)
        for home in _homes(table, default):
            serial += 1
            entry = node(home).table.add(name=path[-1], serialization_id=serial, full_name=".".join(path))
            for column in table["fields"]:
                entry.column.add(name=column["name"], type=type_of(column))
            for column in table.get("pseudo", ()):
                entry.column.add(name=column["name"], type=type_of(column), is_pseudo_column=True)
    return root


def _homes(table: Table, default: tuple[str, str] | None) -> list[tuple[str, ...]]:
    """What a table's name may have before it."""
    if "written" in table:
        return sorted({tuple(path[:-1]) for path in table["written"]})
    path = path_of(table)
    homes = [tuple(path[:-1])]
    if len(path) == 3:  # project.dataset.table
        homes.append((path[1],))
        if default == (path[0], path[1]):
            homes.append(())
    return homes
