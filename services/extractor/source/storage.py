"""How a relation's rows are stored: its files, their pages, and whether they can be read by ranges of pages."""

from dataclasses import dataclass

from services.core.tables import Table
from services.extractor.source.connection import Connection

_STORAGE = """
WITH RECURSIVE tree AS (
  SELECT c.oid, c.oid AS root FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %s AND c.relname = %s
  UNION
  SELECT i.inhrelid, tree.root FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)
SELECT
  c.oid,
  c.relkind::text = ANY ('{r,m}') AND a.amname = 'heap' AND pg_catalog.has_table_privilege(tree.root, 'SELECT'),
  pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint,
  pg_catalog.pg_table_size(c.oid),
  greatest(c.reltuples, 0),
  pg_catalog.pg_relation_filenode(c.oid)
FROM tree
JOIN pg_catalog.pg_class c ON c.oid = tree.oid
LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE c.relkind <> 'p'
ORDER BY c.oid
"""


@dataclass(frozen=True)
class Storage:
    """How a relation's rows are stored, its partitions and children included."""

    pages: int
    """Pages of all relations together; 0 for a view."""
    largest: int
    """Pages of the largest one."""
    size: int
    """Bytes, values kept out of line included."""
    rows: float
    """The planner's estimate; 0 when the relation was never analysed."""
    by_pages: bool
    """Whether rows can be read by ranges of pages: PostgreSQL 14 or newer, tables all the way down, and SELECT on the
    whole table, which ctid and xmin need."""
    layout: str
    """The relations' files, between blanks: another one when its rows are rewritten to other places."""
    filled: frozenset[str] = frozenset()
    """Those files that have pages."""


def read_storage(connection: Connection, table: Table) -> Storage:
    """How the table's rows are stored."""
    rows = connection.execute(_STORAGE, (table.schema_name, table.relation_name)).fetchall()
    ranged = connection.info.server_version >= 140_000
    return Storage(
        pages=sum(int(row[2] or 0) for row in rows),
        largest=max((int(row[2] or 0) for row in rows), default=0),
        size=sum(int(row[3] or 0) for row in rows),
        rows=sum(float(row[4]) for row in rows),
        by_pages=ranged and bool(rows) and all(row[1] for row in rows),
        layout=" ".join(f"{row[0]}/{row[5]}" for row in rows),
        filled=frozenset(f"{row[0]}/{row[5]}" for row in rows if row[2]),
    )
