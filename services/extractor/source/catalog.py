"""The source relation as PostgreSQL's catalog has it; every query runs on PostgreSQL 13 to 18."""

from dataclasses import dataclass, field
from enum import StrEnum

import psycopg

from services.core.errors import ConfigurationError
from services.core.tables import SchemaDrift, Table
from services.extractor.source.exclusion import excluded
from services.extractor.source.sql import quoted


class RelationKind(StrEnum):
    """What the relation is (``pg_class.relkind``)."""

    TABLE = "table"
    PARTITIONED = "partitioned"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized_view"
    FOREIGN = "foreign"


class TypeKind(StrEnum):
    """What a column's type is once domains are resolved (``pg_type.typtype``)."""

    BASE = "base"
    """A type that every PostgreSQL has: schema pg_catalog."""
    EXTENSION = "extension"
    """A base type of another schema: citext, hstore, or one that merely has a built-in's name."""
    ENUM = "enum"
    ARRAY = "array"
    COMPOSITE = "composite"
    RANGE = "range"
    MULTIRANGE = "multirange"
    PSEUDO = "pseudo"
    """Only in the catalog's own relations, for example anyarray in pg_stats."""


@dataclass(frozen=True)
class SourceColumn:
    """A column as the source's catalog has it."""

    name: str
    type: str
    """``pg_type.typname`` below all domains: int8, numeric, timestamptz, _text, …"""
    modifier: int = -1
    """Type modifier below all domains: precision and scale of a numeric; -1 for none."""
    declared: str = ""
    """The type as format_type() writes it: ``numeric(18,2)``, or the domain's name."""
    nullable: bool = True
    """False only where PostgreSQL itself keeps nulls out."""
    kind: TypeKind = TypeKind.BASE
    number: int = field(default=0, compare=False)
    """``pg_attribute.attnum``: a renamed column keeps it, one that is dropped and added again does not."""

    @property
    def shown(self) -> str:
        """The type, for people: with a domain, what is below it."""
        return self.declared or self.type


@dataclass(frozen=True)
class SourceRelation:
    """A relation as the source's catalog has it."""

    kind: RelationKind
    columns: dict[str, SourceColumn]
    """By name, in the relation's order; dropped columns are not there, generated ones are."""
    oid: int = 0


_RELATION = """
SELECT c.oid, c.relkind::text, has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), current_user
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind = ANY('{r,p,v,m,f}')
"""

# A domain's modifier is that of the last domain before the base type: one over another domain cannot have its own
# (getBaseTypeAndTypmod in PostgreSQL's lsyscache.c). PostgreSQL 18 sets attnotnull also for a constraint that is
# NOT VALID, below which older nulls may be; before 18, pg_constraint has no rows of type 'n'.
_COLUMNS = """
WITH RECURSIVE below AS (
  SELECT a.attnum, a.attname, a.atttypid AS type, a.atttypmod AS modifier,
    format_type(a.atttypid, a.atttypmod) AS declared,
    a.attnotnull AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_constraint k
      WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY(k.conkey)
    ) AS required,
    0 AS depth
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, b.attname, t.typbasetype, t.typtypmod, b.declared, b.required OR t.typnotnull, b.depth + 1
  FROM below b
  JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype = 'd'
)
SELECT DISTINCT ON (b.attnum) b.attname, t.typname, b.modifier, b.declared, NOT b.required,
  CASE
    WHEN t.typtype = 'b' AND t.typcategory = 'A' THEN 'array'
    WHEN t.typtype = 'b' AND n.nspname <> 'pg_catalog' THEN 'extension'
    WHEN t.typtype = 'b' THEN 'base'
    WHEN t.typtype = 'e' THEN 'enum'
    WHEN t.typtype = 'c' THEN 'composite'
    WHEN t.typtype = 'r' THEN 'range'
    WHEN t.typtype = 'm' THEN 'multirange'
    ELSE 'pseudo'
  END,
  has_column_privilege(%s, b.attnum, 'SELECT'), b.attnum
FROM below b
JOIN pg_catalog.pg_type t ON t.oid = b.type
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
ORDER BY b.attnum, b.depth DESC
"""

_PRIMARY_KEY = """
SELECT a.attname
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE i.indisprimary AND n.nspname = %s AND c.relname = %s AND k.position <= i.indnkeyatts
ORDER BY k.position
"""

# A constant default that is dropped stays in the catalog (atthasmissing): of the partitions, not of their parent.
_FILLED = """
SELECT DISTINCT a.attname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY(%s) AND a.attname = ANY(%s) AND NOT a.attisdropped
  AND (a.atthasdef OR a.atthasmissing OR a.attnotnull OR a.attidentity <> '' OR a.attgenerated <> ''
    OR t.typtype = 'd' OR c.relkind NOT IN ('r', 'p'))
"""

KINDS = {
    "r": RelationKind.TABLE,
    "p": RelationKind.PARTITIONED,
    "v": RelationKind.VIEW,
    "m": RelationKind.MATERIALIZED_VIEW,
    "f": RelationKind.FOREIGN,
}
"""By ``pg_class.relkind``."""


def read_relation(connection: psycopg.Connection[tuple[object, ...]], table: Table) -> SourceRelation:
    """The source relation of a table.

    Raises:
        ConfigurationError: the relation is not there, or this role may not read it or one of the columns that the
            table needs; then the message has the GRANT that is missing.
    """
    found = connection.execute(_RELATION, (table.schema_name, table.relation_name)).fetchone()
    if found is None:
        raise ConfigurationError(
            f"table {table.name}: source {table.source} does not exist in this database; "
            "correct 'source' in tables.yaml or create it"
        )
    oid, kind, reaches, reads_all, user = found
    role = str(user)
    if not reaches:
        raise ConfigurationError(
            f"table {table.name}: role {role} may not use schema {table.schema_name}; "
            f"GRANT USAGE ON SCHEMA {quoted(table.schema_name)} TO {quoted(role)}"
        )
    rows = connection.execute(_COLUMNS, (oid, oid)).fetchall()
    if not reads_all:
        _check_privileges(table, {str(row[0]): bool(row[6]) for row in rows}, role)
    columns = [
        SourceColumn(
            str(name),
            str(type_),
            int(str(modifier)),
            str(declared),
            bool(nullable),
            TypeKind(str(type_kind)),
            int(str(number)),
        )
        for name, type_, modifier, declared, nullable, type_kind, _, number in rows
    ]
    return SourceRelation(KINDS[str(kind)], {column.name: column for column in columns}, int(str(oid)))


def filled_columns(
    connection: psycopg.Connection[tuple[object, ...]], members: list[int], names: list[str]
) -> set[str]:
    """Columns in which rows that are older than the column can have a value: by a default, or an expression.

    Args:
        connection: the source.
        members: oids of the relation and of its partitions and children.
        names: the columns that are asked for.
    """
    return {str(name) for (name,) in connection.execute(_FILLED, (members, names)).fetchall()}


def primary_key(connection: psycopg.Connection[tuple[object, ...]], table_schema: str, relation: str) -> list[str]:
    """The columns of a relation's primary key, in the key's order; none where it has no such key."""
    return [str(name) for (name,) in connection.execute(_PRIMARY_KEY, (table_schema, relation)).fetchall()]


def _check_privileges(table: Table, readable: dict[str, bool], user: str) -> None:
    """Refuse when the role lacks SELECT on a column that the table reads.

    Columns that are not read need no privilege: a grant on some columns is a way to keep the others away.

    Raises:
        ConfigurationError: names the columns and the GRANT.
    """
    declared = {column.name_in_source for column in table.columns}
    brings_all = table.schema_drift is SchemaDrift.EVOLVE
    missing = [
        name
        for name, may in readable.items()
        if not may and (name in declared or (brings_all and not excluded(name, table)))
    ]
    if not missing:
        return
    columns = ", ".join(quoted(name) for name in missing)
    relation = f"{quoted(table.schema_name)}.{quoted(table.relation_name)}"
    every = len(missing) == len(readable)
    grant = f"GRANT SELECT{'' if every else f' ({columns})'} ON {relation} TO {quoted(user)}"
    raise ConfigurationError(
        f"table {table.name}: role {user} may not read "
        f"{f'{table.source}' if every else f'column(s) {columns} of {table.source}'}; {grant}"
    )
