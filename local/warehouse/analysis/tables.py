"""The tables that a statement names, in the form that the analyzer's catalog takes."""

import re
from collections.abc import Iterable
from typing import Any

from local.googlesql.analysis import GoogleSql
from local.googlesql.metadata import metadata_views
from local.googlesql.names import without_comments

PARTITION_TIME = [{"name": "_PARTITIONTIME", "type": "TIMESTAMP"}, {"name": "_PARTITIONDATE", "type": "DATE"}]
"""Pseudo-columns of a table that is partitioned by the time at which rows came in."""


class NotThere(Exception):
    """A statement names what the warehouse's catalog does not have, or has otherwise: it will say so itself."""


def named_tables(google: GoogleSql, sql: str, project: str, catalog: Any) -> list[dict[str, Any]]:
    """The tables and views that a statement names, and what those views name.

    Args:
        google: the analyzer.
        sql: one statement.
        project: the project of names without one.
        catalog: bqemulator's.

    Raises:
        NotThere: one of them is not in the catalog.
        Refused: the statement cannot be parsed.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting = [sql]
    while waiting:
        text = waiting.pop()
        for written, path in _paths(google.tables_of(text) or _altered(text), project):
            name = ".".join(path)
            if name not in found:
                table = catalog.get_table(*path)
                if table is None:
                    raise NotThere(name)
                found[name] = as_table(table)
                if table.view_query:
                    waiting.append(table.view_query)
            if written not in found[name]["written"]:
                found[name]["written"].append(written)
    return [*found.values(), *metadata_views(sql)]


_NAME = r"(?:`[^`]+`|[\w-]+)"
_ALTERED = re.compile(rf"\s*alter\s+(?:table|view)\s+(?:if\s+exists\s+)?({_NAME}(?:\s*\.\s*{_NAME})*)", re.IGNORECASE)


def _altered(sql: str) -> list[list[str]]:
    """The path of the table that an ALTER statement changes: the engine finds no table in one."""
    found = _ALTERED.match(without_comments(sql))
    return [[name for name in re.split(r"[`.\s]+", found[1]) if name]] if found else []


def _paths(paths: Iterable[list[str]], project: str) -> Iterable[tuple[list[str], list[str]]]:
    """Each path as it is written, and with its project."""
    for path in paths:
        if path[-1] == "__TABLES__" or (len(path) > 1 and path[-2].upper() == "INFORMATION_SCHEMA"):
            continue
        full = path if len(path) == 3 else [project, *path]
        if len(full) != 3 or full[-1].endswith("*"):
            raise NotThere(".".join(path))
        yield path, full


def as_table(table: Any) -> dict[str, Any]:
    """A table of bqemulator's catalog as one of the analyzer's."""
    fields = [_field(field) for field in table.schema_.fields]
    name = f"{table.project_id}.{table.dataset_id}.{table.table_id}"
    made: dict[str, Any] = {"id": name, "fields": fields, "written": []}
    if table.view_query:
        made["view"] = table.view_query
    if table.time_partitioning and not table.time_partitioning.field:
        made["pseudo"] = PARTITION_TIME
    made["meta"] = table
    return made


def _field(field: Any) -> dict[str, Any]:
    made = {"name": field.name, "type": field.type, "mode": field.mode}
    if field.fields:
        made["fields"] = [_field(inner) for inner in field.fields]
    if field.type == "RANGE":
        made["rangeElementType"] = {"name": "", "type": getattr(field, "range_element_type", None) or "DATE"}
    return made
