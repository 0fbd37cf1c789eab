"""Many small tables, made by number: at the source, in tables.yaml, and as bronze models of a dbt project.

The same number gives the same table: a key, a name, a cursor and some columns of mixed types, 0 to 200 rows.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql

from services.core.tables import BRONZE_COLUMNS

SCHEMA = "many"
MOST_ROWS = 200


@dataclass(frozen=True)
class Kind:
    """A kind of column: its type at the source and in BigQuery, and what a row has there."""

    source: str
    type: str
    value: str
    """PostgreSQL's expression, of the row's number ``n``."""


COLUMNS = {
    "id": Kind("bigint", "INT64", "n"),
    "name": Kind("text", "STRING", "'name ' || n"),
    "updated_at": Kind("timestamptz", "TIMESTAMP", "timestamptz '2026-01-01 00:00:00+00' + n * interval '1 minute'"),
}
"""What every table has; ``id`` is its key and ``updated_at`` its cursor."""

MORE_COLUMNS = {
    "amount": Kind("numeric(12, 2)", "NUMERIC", "n * 1.25"),
    "active": Kind("boolean", "BOOL", "n % 3 = 0"),
    "born": Kind("date", "DATE", "date '2020-01-01' + n"),
    "share": Kind("double precision", "FLOAT64", "n / 7.0"),
    "note": Kind("text", "STRING", "case when n % 5 > 0 then md5(n::text) end"),
}
"""Of which a table has the first one to five, each under a name of its own: no two tables are alike."""


@dataclass(frozen=True)
class ManyTable:
    """One of them."""

    number: int

    @property
    def name(self) -> str:
        """At the source, in tables.yaml and of its model."""
        return f"t{self.number:04d}"

    @property
    def rows(self) -> int:
        """How many rows it has; every tenth table has none."""
        return self.number * 37 % (MOST_ROWS + 1) if self.number % 10 else 0

    @property
    def columns(self) -> dict[str, Kind]:
        """Its columns by name."""
        more = list(MORE_COLUMNS.items())[: 1 + self.number % len(MORE_COLUMNS)]
        return COLUMNS | {f"{name}_{self.number}": kind for name, kind in more}

    def declaration(self) -> dict[str, Any]:
        """Its entry in tables.yaml."""
        return {
            "name": self.name,
            "source": f"{SCHEMA}.{self.name}",
            "key": ["id"],
            "mode": "incremental",
            "cursor": {"expression": "updated_at", "type": "timestamp", "lookback": "PT5M"},
            "bronze_model": self.name,
            "columns": [
                {"name": name, "type": kind.type, "required": name == "id"} for name, kind in self.columns.items()
            ],
        }

    def model(self) -> dict[str, Any]:
        """Its bronze model's entry in a yml."""
        columns: list[dict[str, Any]] = [
            {"name": name, "data_type": kind.type.lower()} for name, kind in self.columns.items()
        ]
        columns[0]["data_tests"] = ["not_null", "unique"]
        texts = ("_source_table", "_batch_id")
        columns += [{"name": name, "data_type": "string" if name in texts else "timestamp"} for name in BRONZE_COLUMNS]
        return {"name": self.name, "columns": columns}


def many(tables: int) -> list[ManyTable]:
    """So many of them."""
    return [ManyTable(number) for number in range(1, tables + 1)]


def seed_many(connection: psycopg.Connection[Any], tables: Iterable[ManyTable]) -> None:
    """Make the tables at the source, with their rows."""
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        for table in tables:
            columns = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind.source))
                for name, kind in table.columns.items()
            )
            values = sql.SQL(", ").join(sql.SQL(kind.value) for kind in table.columns.values())
            place = sql.Identifier(SCHEMA, table.name)
            connection.execute(sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY (id))").format(place, columns))
            connection.execute(
                sql.SQL("INSERT INTO {} SELECT {} FROM generate_series(1, {}) AS n").format(place, values, table.rows)
            )


def change_many(connection: psycopg.Connection[Any], tables: Iterable[ManyTable]) -> None:
    """Add a row to each of some tables, newer than all others."""
    with connection.transaction():
        for table in tables:
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} (id, name, updated_at) SELECT coalesce(max(id), 0) + 1, 'new', now() FROM {}"
                ).format(*[sql.Identifier(SCHEMA, table.name)] * 2)
            )


def write_tables_file(path: Path, tables: Iterable[ManyTable]) -> None:
    """Write the tables.yaml that declares them."""
    content = {"version": 1, "tables": [table.declaration() for table in tables]}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_project(source: Path, target: Path, tables: Sequence[ManyTable]) -> None:
    """Copy a dbt project, with their bronze models instead of its own; there is no silver and no gold."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("models", "target", "logs", "observability"))
    shutil.rmtree(target / "tests")
    shutil.copytree(source / "tests" / "generic", target / "tests" / "generic")
    models = target / "models" / "bronze"
    models.mkdir(parents=True)
    for table in tables:
        (models / f"{table.name}.sql").write_text("{{ config(cluster_by=['id']) }}\n{{ bronze() }}\n", encoding="utf-8")
    content = {"models": [table.model() for table in tables]}
    (models / "bronze.yml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
