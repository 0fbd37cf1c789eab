"""Compares a source table with its bronze table, row by row and value by value."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from google.cloud import bigquery
from psycopg import sql

from services.core.tables import Table

_EXAMPLES = 5

Row = tuple[Any, ...]


@dataclass
class Comparison:
    """What a comparison found."""

    table: str
    source_rows: int = 0
    bronze_rows: int = 0
    lost: list[Row] = field(default_factory=list)
    """Keys that are in the source and not, or only as deleted, in bronze."""
    foreign: list[Row] = field(default_factory=list)
    """Keys that are in bronze and not in the source."""
    doubled: list[Row] = field(default_factory=list)
    """Keys that bronze has more than once."""
    different: list[tuple[Row, str, Any, Any]] = field(default_factory=list)
    """Key, column, value in the source, value in bronze."""

    @property
    def equal(self) -> bool:
        """Whether both hold the same."""
        return not (self.lost or self.foreign or self.doubled or self.different)

    def __str__(self) -> str:
        if self.equal:
            return f"{self.table}: {self.source_rows:,} rows equal"
        return (
            f"{self.table}: source {self.source_rows:,} rows, bronze {self.bronze_rows:,}; lost {len(self.lost)} "
            f"{self.lost[:_EXAMPLES]}, foreign {len(self.foreign)} {self.foreign[:_EXAMPLES]}, doubled "
            f"{len(self.doubled)} {self.doubled[:_EXAMPLES]}, different {len(self.different)} "
            f"{self.different[:_EXAMPLES]}"
        )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return type(one) is type(other) and bool(one == other)


def _source_rows(connection: psycopg.Connection[Any], table: Table) -> Iterator[Row]:
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns),
        sql.Identifier(table.schema_name, table.relation_name),
    )
    for column in table.columns:
        if column.name == table.deleted_at:  # what the source itself calls deleted is deleted in bronze
            query += sql.SQL(" WHERE {} IS NULL").format(sql.Identifier(column.name_in_source))
    with connection.transaction(), connection.cursor(name="comparison") as cursor:
        cursor.itersize = 20_000
        yield from cursor.execute(query)


def compare(connection: psycopg.Connection[Any], client: bigquery.Client, table: Table, bronze: str) -> Comparison:
    """Compare a table's source with the rows of its bronze table that are not deleted.

    Holds the source's rows in memory.

    Args:
        connection: to the source database, with TimeZone UTC or not: timestamps are compared as instants.
        client: to the warehouse.
        table: the declared table; its columns are compared, bronze's own are not.
        bronze: full id of the bronze table, ``project.dataset.table``.
    """
    result = Comparison(table.name)
    names = [column.name for column in table.columns]
    places = [names.index(name) for name in table.key]

    def key(row: Row) -> Row:
        return tuple(row[place] for place in places)

    source = {key(row): row for row in _source_rows(connection, table)}
    result.source_rows = len(source)
    seen: set[Row] = set()
    columns = ", ".join(f"`{name}`" for name in names)
    alive = f"SELECT {columns} FROM `{bronze}` WHERE _deleted_at IS NULL"  # noqa: S608
    for found in client.query(alive).result():
        row: Row = tuple(found[place] for place in range(len(names)))  # values() would copy every value deeply
        result.bronze_rows += 1
        if key(row) in seen:
            result.doubled.append(key(row))
            continue
        seen.add(key(row))
        expected = source.get(key(row))
        if expected is None:
            result.foreign.append(key(row))
            continue
        if expected == row and [*map(type, expected)] == [*map(type, row)]:
            continue
        result.different += [
            (key(row), name, one, other)
            for name, one, other in zip(names, expected, row, strict=True)
            if not _same(one, other)
        ]
    result.lost = [each for each in source if each not in seen]
    return result
