"""What is seen of a table's source and declaration now; what the source is asked where something seems to differ."""

from collections.abc import Iterable

import psycopg

from services.core.state.memory import ColumnSeen, CursorSeen, Seen, ServerSeen
from services.core.tables import Column, Mask, Mode, Table
from services.extractor.contract.masking import secret_digits
from services.extractor.planning.change import Found
from services.extractor.planning.cursor import SettledCursor
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation
from services.extractor.source.database import Source
from services.extractor.source.origin import Member, Origin
from services.extractor.source.server import Server
from services.extractor.source.sql import relation_sql

Landed = Iterable[tuple[Column, SourceColumn | None]]

_VIEWS = (RelationKind.VIEW, RelationKind.MATERIALIZED_VIEW)


def see(
    table: Table,
    mode: Mode,
    server: Server,
    relation: SourceRelation,
    origin: Origin,
    cursor: SettledCursor | None,
    landed: Landed,
    safety_lag: float,
    mask_secret: str,
) -> Seen:
    """What the batch that is planned now rests on.

    Args:
        table: the declaration.
        mode: how it is extracted.
        server: who answers.
        relation: the source.
        origin: where its rows come from.
        cursor: the cursor, if there is one.
        landed: the columns that land, each with the source's; None where that is gone.
        safety_lag: seconds that are kept from what cannot be seen.
        mask_secret: the key of masks; only some digits that change with it are kept.
    """
    columns = {column.name: _column(column, source) for column, source in landed}
    hashes = any((column.mask or "").startswith(Mask.HASH.value) for column in columns.values())
    return Seen(
        server=_server(server),
        relation=relation.oid,
        members={str(member.oid): _mark(member) for member in origin.members},
        subscriptions=[f"{s.name} {s.relation} {s.position}" for s in origin.subscriptions if s.copied],
        last_column=max((column.number for column in relation.columns.values()), default=0),
        key=table.key,
        mode=mode.value,
        cursor=_cursor(cursor) if cursor else None,
        safety_lag=safety_lag,
        columns=columns,
        mask_digits=secret_digits(mask_secret) if hashes else None,
    )


def _server(server: Server) -> ServerSeen:
    # Replicas behind one address are not equally far.
    position = None if server.in_recovery else server.position
    return ServerSeen(system=server.system, database=server.database, timeline=server.timeline, position=position)


def _mark(member: Member) -> str:
    """What changes when a member's rows can be others, whatever their cursor. A REFRESH is not meant by that."""
    if member.kind in _VIEWS:
        return (member.definition or "")[:16]
    return str(member.file) if member.kind is RelationKind.TABLE else ""


def _column(column: Column, source: SourceColumn | None) -> ColumnSeen:
    mask = None
    if column.mask is not None:
        mask = f"{column.mask} {column.mask_keep}" if column.mask is Mask.PARTIAL else column.mask.value
    return ColumnSeen(
        number=source.number if source else 0,
        source=column.name_in_source,
        source_type=source.declared if source else None,
        type=column.type.value,
        policy=column.on_unrepresentable.value,
        mask=mask,
    )


def _cursor(cursor: SettledCursor) -> CursorSeen:
    return CursorSeen(
        expression=cursor.declared.expression,
        type=cursor.shown,
        time_zone=cursor.declared.time_zone,
        lag=cursor.lag.total_seconds(),
        lookback=cursor.declared.lookback.total_seconds(),
    )


def ask(source: Source, table: Table, before: Seen, now: Seen, origin: Origin, unread_condition: str) -> Found:
    """Ask the source about what seems to have changed; nothing is asked when nothing did.

    Args:
        source: the source.
        table: the declaration.
        before: what the watermark rests on.
        now: what is seen now.
        origin: where the rows come from.
        unread_condition: SQL condition of the rows that the next window does not read.
    """
    views = {str(member.oid) for member in origin.members if member.kind in _VIEWS}
    if before.relation != now.relation:
        return Found(views=views)
    gained = [member for member in origin.members if str(member.oid) not in before.members]
    older = {
        str(m.oid) for m in gained if _has_older_rows(source, table, m, str(now.relation) in views, unread_condition)
    }
    new = [c.source for name, c in now.columns.items() if name not in before.columns and c.number > before.last_column]
    members = [member.oid for member in origin.members]
    return Found(older, source.filled(members, new) if new else (), views)


def _has_older_rows(source: Source, table: Table, member: Member, below_a_view: bool, unread_condition: str) -> bool:
    """Whether a member that was attached has rows that the next window would not read."""
    if member.kind is RelationKind.PARTITIONED or (member.kind is RelationKind.TABLE and not member.pages):
        return False
    if below_a_view or member.kind is not RelationKind.TABLE:
        return True  # it cannot be asked for alone, or not cheaply
    counting = _one_older_row(table, member, source.partition_bounds(member.oid), unread_condition)
    try:
        return source.count(counting) > 0
    except psycopg.errors.InsufficientPrivilege:
        return True  # a role that may read some columns may not read tableoid


def _one_older_row(table: Table, member: Member, bounds: str | None, unread_condition: str) -> str:
    """Counts one row at most. By its bounds the planner leaves the other partitions alone, which tableoid cannot do."""
    conditions = [f"tableoid = {member.oid}", *([f"({bounds})"] if bounds else []), unread_condition]
    return (
        f"SELECT count(*) FROM (SELECT 1 FROM {relation_sql(table)} "  # noqa: S608
        f"WHERE {' AND '.join(conditions)} LIMIT 1) AS older"
    )
