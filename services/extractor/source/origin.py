"""Where a relation's rows come from: the relations below it, and the subscriptions that feed them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.extractor.source.catalog import KINDS, RelationKind
from services.extractor.source.connection import Connection


@dataclass(frozen=True)
class Member:
    """A relation that rows come from: the source itself, a partition or child, or what a view reads."""

    oid: int
    kind: RelationKind
    name: str
    """Schema and name, for people."""
    file: int | None = None
    """Number of its file; another one when its rows were written anew. None where it has none."""
    definition: str | None = None
    """Digest of a view's text."""
    pages: int = 0


@dataclass(frozen=True)
class Subscription:
    """A logical subscription that brings rows of another server into a member, with that server's cursors."""

    name: str
    relation: int
    """Oid of the member, or of a partitioned table that it is a part of."""
    copied: bool
    """Whether the first copy of the rows has ended."""
    position: str
    """Where that copy ended; another one when the rows were copied again."""
    applied: datetime | None
    """The publisher's clock up to which it has told what there is, all of it applied; None when no worker runs."""


@dataclass(frozen=True)
class Origin:
    """Where a relation's rows come from."""

    members: tuple[Member, ...] = ()
    """The relation itself first."""
    subscriptions: tuple[Subscription, ...] = ()

    def of_kind(self, kind: RelationKind) -> list[str]:
        """Names of the members of a kind."""
        return [member.name for member in self.members if member.kind is kind]

    @property
    def plain(self) -> bool:
        """Whether all rows are in tables of this server: one statement sees them all under one snapshot."""
        return all(member.kind in (RelationKind.TABLE, RelationKind.PARTITIONED) for member in self.members)


# A materialized view ends the way down: what is below it shows only with its next REFRESH.
_MEMBERS = """
WITH RECURSIVE below AS (
  SELECT %(root)s::oid AS oid
  UNION
  SELECT found.oid
  FROM below
  CROSS JOIN LATERAL (
    SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = below.oid
    UNION ALL
    SELECT d.refobjid
    FROM pg_catalog.pg_class v
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid AND r.ev_type = '1'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
      AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> v.oid
    WHERE v.oid = below.oid AND v.relkind = 'v'
  ) AS found
)
SELECT c.oid, c.relkind::text, n.nspname || '.' || c.relname, pg_catalog.pg_relation_filenode(c.oid),
  CASE WHEN c.relkind IN ('v', 'm') THEN
    pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.pg_get_viewdef(c.oid), 'UTF8')), 'hex')
  END,
  CASE WHEN c.relkind IN ('r', 'm') THEN
    pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint
  END
FROM below
JOIN pg_catalog.pg_class c ON c.oid = below.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.oid <> %(root)s::oid, c.oid
"""

# A subscription names a table, or the partitioned table that it is a part of. Its state is 'r' once the first copy has
# ended. The leading worker of a subscription (relid is null) tells what the publisher has told it; while it is told
# something, all that came before is applied.
_SUBSCRIPTIONS = """
WITH RECURSIVE above AS (
  SELECT unnest(%(oids)s::oid[]) AS oid
  UNION
  SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid
)
SELECT r.srrelid, s.subname, r.srsubstate::text, r.srsublsn::text,
  (SELECT max(w.latest_end_time) FROM pg_catalog.pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL)
FROM pg_catalog.pg_subscription_rel r
JOIN above ON above.oid = r.srrelid
JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid
ORDER BY r.srrelid, s.subname
"""


def read_origin(connection: Connection, oid: int) -> Origin:
    """Where the rows of a relation come from.

    Args:
        connection: the source.
        oid: the relation's.
    """
    members = tuple(_member(row) for row in connection.execute(_MEMBERS, {"root": oid}).fetchall())
    return Origin(members, tuple(_subscriptions(connection, members)))


def _member(row: tuple[Any, ...]) -> Member:
    oid, kind, name, file, definition, pages = row
    return Member(int(oid), KINDS[kind], str(name), int(file) if file else None, definition, int(pages or 0))


def _subscriptions(connection: Connection, members: Iterable[Member]) -> Iterable[Subscription]:
    oids = [member.oid for member in members]
    for relation, name, state, position, applied in connection.execute(_SUBSCRIPTIONS, {"oids": oids}).fetchall():
        yield Subscription(str(name), int(relation), state == "r", str(position), applied)
