"""What PostgreSQL's catalog says of a key: the types that its values are made of, and the unique indexes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.extractor.source.catalog import TypeKind
from services.extractor.source.connection import Connection


@dataclass(frozen=True)
class ValueType:
    """A type that a column's values are made of: its own, an array's elements', a composite's columns', a range's."""

    name: str
    """``pg_type.typname`` below all domains."""
    kind: TypeKind
    builtin: bool = True
    """Whether it is in the schema pg_catalog."""
    modifier: int = -1
    """Type modifier; -1 for none."""
    deterministic: bool = True
    """Whether only texts of the same bytes are equal by its collation."""
    inside: bool = False
    """Whether it is not the column's own type, but what that has in it."""
    extension: str | None = None
    """The extension that it belongs to."""


@dataclass(frozen=True)
class KeyFacts:
    """What the catalog says of a relation's key."""

    types: Mapping[str, Sequence[ValueType]]
    """By column of the key, in the source: all types that its values are made of."""
    unique: Sequence[frozenset[str]] = field(default=())
    """The columns of each index that keeps all rows of the relation itself apart by them."""
    children: bool = False
    """Whether other tables inherit from it, or are its partitions: their rows are read, too."""


# Arrays are those that a type names as its own, not all of the category. pg_range has no rngmultitypid before
# PostgreSQL 14.
_TYPES = """
WITH RECURSIVE below AS (
  SELECT a.attname::text AS name, a.atttypid AS type, a.atttypmod AS modifier, a.attcollation AS collation,
    false AS inside
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = %(oid)s AND a.attname = ANY(%(names)s) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT b.name, found.type, found.modifier, found.collation, found.inside
  FROM below b
  JOIN pg_catalog.pg_type t ON t.oid = b.type
  CROSS JOIN LATERAL (
    SELECT t.typbasetype AS type, t.typtypmod AS modifier, b.collation, b.inside WHERE t.typtype = 'd'
    UNION ALL
    SELECT e.oid, b.modifier, b.collation, true FROM pg_catalog.pg_type e WHERE e.typarray = t.oid
    UNION ALL
    SELECT a.atttypid, a.atttypmod, a.attcollation, true FROM pg_catalog.pg_attribute a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT r.rngsubtype, -1, r.rngcollation, true FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
    UNION ALL
    SELECT r.rngtypid, -1, 0::oid, true FROM pg_catalog.pg_range r
    WHERE (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid
  ) AS found
)
SELECT b.name, t.typname,
  CASE
    WHEN e.oid IS NOT NULL THEN 'array'
    WHEN t.typtype = 'b' AND n.nspname <> 'pg_catalog' THEN 'extension'
    WHEN t.typtype = 'b' THEN 'base'
    WHEN t.typtype = 'e' THEN 'enum'
    WHEN t.typtype = 'c' THEN 'composite'
    WHEN t.typtype = 'r' THEN 'range'
    WHEN t.typtype = 'm' THEN 'multirange'
    ELSE 'pseudo'
  END,
  n.nspname = 'pg_catalog', b.modifier, coalesce(c.collisdeterministic, true), b.inside,
  (SELECT x.extname FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_extension x ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND x.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
FROM below b
JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type e ON e.typarray = t.oid
LEFT JOIN pg_catalog.pg_collation c ON c.oid = b.collation
ORDER BY b.inside, t.typname
"""

# An index that is being built, or whose building failed, keeps nothing apart yet; one with a condition only some rows,
# one over expressions only those. What follows INCLUDE does not count.
_UNIQUE = """
SELECT pg_catalog.array_agg(a.attname::text)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive
  AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts
GROUP BY i.indexrelid
"""

_CHILDREN = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = %s)"


def read_key(connection: Connection, oid: int, names: Sequence[str]) -> KeyFacts:
    """What the catalog says of a relation's key.

    Args:
        connection: the source.
        oid: the relation's.
        names: columns of the key, by their names in the source.
    """
    types: dict[str, list[ValueType]] = {name: [] for name in names}
    found = connection.execute(_TYPES, {"oid": oid, "names": list(names)}).fetchall()
    for column, name, kind, *facts in found:
        types[column].append(ValueType(name, TypeKind(kind), *facts))
    unique = [frozenset(columns) for (columns,) in connection.execute(_UNIQUE, (oid,)).fetchall()]
    children = connection.execute(_CHILDREN, (oid,)).fetchone()
    return KeyFacts(types, unique, bool(children and children[0]))
