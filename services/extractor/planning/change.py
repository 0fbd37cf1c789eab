"""What changed at the source, or in tables.yaml, since the batch that the watermark rests on; what it takes to go on.

A window says "nothing below low changes any more". That rests on much: the same server and table, the same partitions,
the same cursor. Where one of them changed, rows below low can be others than bronze has. Pure functions and data.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum

from services.core.errors import SourceChanged
from services.core.state.memory import ColumnSeen, CursorSeen, Seen, ServerSeen
from services.core.tables import ColumnType, Mask, Mode, OnChange, Table, Unrepresentable
from services.extractor.contract.typechange import keeps_texts, what_changed


class Verdict(IntEnum):
    """What a change takes; the greatest counts."""

    NOTE = 0
    """Nothing: it is noted."""
    SNAPSHOT = 1
    """Older rows can be others than bronze has: all are read."""
    ANEW = 2
    """What windows covered does not count any more: all rows are read, and the watermark begins anew."""
    PERSON = 3
    """Bronze could mix two sources, or show what was hidden: a person has to accept it."""


@dataclass(frozen=True)
class Change:
    """One thing that changed."""

    what: str
    """For people."""
    verdict: Verdict


@dataclass(frozen=True)
class Found:
    """What the source was asked because of what seems to have changed."""

    older_rows: Collection[str] = ()
    """Oids of new members with rows that the next window would not read."""
    filled: Collection[str] = ()
    """Source columns, new ones, in which older rows can have a value."""
    views: Collection[str] = ()
    """Oids of the members that are views."""


def changes(before: Seen, now: Seen, found: Found) -> list[Change]:
    """What changed, in the order of how much rests on it."""
    return [
        *_server(before.server, now.server),
        *_relation(before, now, found),
        *_key(before, now),
        *_cursor(before, now),
        *_columns(before, now, found),
        *_others(before, now),
    ]


def _server(before: ServerSeen, now: ServerSeen) -> Iterator[Change]:
    if None not in (before.system, now.system) and before.system != now.system:
        yield Change("another database cluster answers (its system identifier is another)", Verdict.PERSON)
        return
    if before.database != now.database:
        yield Change("another database answers (its oid is another)", Verdict.PERSON)
        return
    if before.position is not None and now.position is not None and now.position < before.position:
        yield Change(
            "the server is behind what was read from it (its WAL is shorter): it was restored from a backup, or a "
            "failover lost transactions",
            Verdict.PERSON,
        )
    if None not in (before.timeline, now.timeline) and before.timeline != now.timeline:
        yield Change(f"another server took over (timeline {before.timeline} is now {now.timeline})", Verdict.ANEW)


def _relation(before: Seen, now: Seen, found: Found) -> Iterator[Change]:
    if before.relation != now.relation:
        yield Change("the relation was dropped and created anew", Verdict.SNAPSHOT)
        return
    gained = [oid for oid in now.members if oid not in before.members]
    if older := [oid for oid in gained if oid in found.older_rows]:
        yield Change(f"{len(older)} partition(s) with older rows were attached", Verdict.SNAPSHOT)
    if rest := len(gained) - len(older):
        yield Change(f"{rest} partition(s) were added, without older rows", Verdict.NOTE)
    if lost := sum(oid not in now.members for oid in before.members):
        yield Change(f"{lost} partition(s) are gone; their rows stay in bronze", Verdict.NOTE)
    others = [oid for oid, mark in now.members.items() if before.members.get(oid, mark) != mark]
    if any(oid in found.views for oid in others):
        yield Change("the text of a view is another", Verdict.SNAPSHOT)
    if any(oid not in found.views for oid in others):
        yield Change(
            "its rows were written anew (TRUNCATE, ALTER TABLE, VACUUM FULL, CLUSTER, pg_repack)", Verdict.SNAPSHOT
        )
    if set(before.subscriptions) != set(now.subscriptions):
        yield Change("the subscriptions that fill it are others, or copied it again", Verdict.SNAPSHOT)


def _key(before: Seen, now: Seen) -> Iterator[Change]:
    if before.key != now.key:
        was, is_ = ", ".join(before.key) or "none", ", ".join(now.key) or "none"
        yield Change(f"the key was ({was}) and is ({is_}); bronze has rows by the old one", Verdict.PERSON)


def _cursor(before: Seen, now: Seen) -> Iterator[Change]:
    was, is_ = before.cursor, now.cursor
    if is_ is None:
        if was is not None:
            yield Change("there is no cursor any more", Verdict.NOTE)
        return
    if was is None:
        yield Change("a cursor was declared", Verdict.ANEW)
        return
    for what in ("expression", "type", "time_zone"):
        old, new = getattr(was, what), getattr(is_, what)
        if old != new:
            yield Change(f"cursor.{what} was {old} and is {new}", Verdict.ANEW)
    yield from _distances(was, is_)
    if before.safety_lag and now.safety_lag > before.safety_lag:
        yield Change("EXTRACT_SAFETY_LAG is longer", Verdict.ANEW)


def _distances(was: CursorSeen, is_: CursorSeen) -> Iterator[Change]:
    """A longer distance says that rows come later than the windows until now allowed for."""
    if was.lag != is_.lag:
        verdict = Verdict.ANEW if is_.lag > was.lag else Verdict.NOTE
        yield Change(f"cursor.lag was {was.lag:g} s and is {is_.lag:g} s", verdict)
    if was.lookback != is_.lookback:
        verdict = Verdict.SNAPSHOT if is_.lookback > was.lookback else Verdict.NOTE
        yield Change(f"cursor.lookback was {was.lookback:g} s and is {is_.lookback:g} s", verdict)


def _columns(before: Seen, now: Seen, found: Found) -> Iterator[Change]:
    for name, column in now.columns.items():
        was = before.columns.get(name)
        if was is None:
            yield _added(name, column, before, now, found)
        elif was != column:
            yield from _column(name, was, column, in_key=name in now.key, same_table=before.relation == now.relation)
    if gone := [name for name in before.columns if name not in now.columns]:
        yield Change(f"column(s) not read any more: {', '.join(gone)}", Verdict.NOTE)


def _added(name: str, column: ColumnSeen, before: Seen, now: Seen, found: Found) -> Change:
    same_table = before.relation == now.relation
    was = [(old, seen.mask) for old, seen in before.columns.items() if seen.number == column.number and same_table]
    if hidden := [old for old, mask in was if _shows_more(mask, column.mask)]:
        return Change(f"column {name} was {hidden[0]}, and shows what that masked", Verdict.PERSON)
    new_in_source = before.relation == now.relation and column.number > before.last_column
    if new_in_source and column.source not in found.filled:
        return Change(f"column {name} is new, and null in all older rows", Verdict.NOTE)
    return Change(f"column {name} is new, and older rows have values in it", Verdict.SNAPSHOT)


def _column(name: str, was: ColumnSeen, is_: ColumnSeen, *, in_key: bool, same_table: bool) -> Iterator[Change]:
    if was.mask != is_.mask:
        shown = f"column {name}: its mask was {was.mask or 'none'} and is {is_.mask or 'none'}"
        yield Change(shown, Verdict.PERSON if in_key or _shows_more(was.mask, is_.mask) else Verdict.SNAPSHOT)
    if same_table and was.number and is_.number and was.number != is_.number:
        verdict = Verdict.PERSON if in_key else Verdict.SNAPSHOT
        yield Change(f"column {name} is another one of the source now ({was.source}, {is_.source})", verdict)
    elif not is_.number:
        yield Change(f"column {name} is gone in the source", Verdict.NOTE)
    elif was.source_type != is_.source_type:
        widened = (
            was.source_type is not None
            and is_.source_type is not None
            and what_changed(was.source_type, is_.source_type) == "was widened"
        )
        verdict = Verdict.NOTE if widened else Verdict.SNAPSHOT
        what = f"column {name} was {was.source_type or 'gone'} and is {is_.source_type} in the source"
        if in_key and is_.type == ColumnType.STRING and not keeps_texts(was.source_type or "", is_.source_type or ""):
            verdict, what = (
                Verdict.PERSON,
                f"{what}: the same key can have another text; bronze has rows by the old one",
            )
        yield Change(what, verdict)
    if was.type != is_.type:
        yield Change(f"column {name} was declared {was.type} and is {is_.type}", Verdict.SNAPSHOT)
    if was.policy != is_.policy:
        lossless = was.policy in (Unrepresentable.FAIL, Unrepresentable.EXACT)
        verdict = Verdict.NOTE if lossless else Verdict.SNAPSHOT
        yield Change(f"column {name}: on_unrepresentable was {was.policy} and is {is_.policy}", verdict)


_HIDES = {Mask.REDACT.value: 3, Mask.HASH.value: 2, Mask.PARTIAL.value: 1}


def _shows_more(was: str | None, is_: str | None) -> bool:
    """Whether a mask leaves more of a value than another; ``partial 4`` leaves four characters."""

    def hides(mask: str | None) -> tuple[int, int]:
        kind, _, keep = (mask or "").partition(" ")
        return _HIDES.get(kind, 0), -int(keep or 0)

    return hides(is_) < hides(was)


def _others(before: Seen, now: Seen) -> Iterator[Change]:
    if None not in (before.mask_digits, now.mask_digits) and before.mask_digits != now.mask_digits:
        in_key = any((now.columns[name].mask or "").startswith(Mask.HASH.value) for name in now.key)
        verdict = Verdict.PERSON if in_key else Verdict.SNAPSHOT
        yield Change("EXTRACT_MASK_SECRET is another: the same values have other hashes", verdict)
    if before.mode != now.mode:
        yield Change(f"the mode was {before.mode} and is {now.mode}", Verdict.NOTE)


@dataclass(frozen=True)
class Decision:
    """How a run goes on after what changed."""

    mode: Mode
    anew: bool = False
    """Whether the watermark begins anew with this batch."""
    changes: tuple[Change, ...] = ()
    due: tuple[str, ...] = ()
    """Why a snapshot is read instead of a window."""

    @property
    def said(self) -> list[str]:
        """The changes, for people."""
        return [change.what for change in self.changes]


def decide(table: Table, mode: Mode, found: list[Change], *, accepted: bool) -> Decision:
    """How a run goes on.

    Args:
        table: the table.
        mode: what the run would read without any change.
        found: what changed.
        accepted: whether a person accepts what changed; then it is a snapshot.

    Raises:
        SourceChanged: a person has to accept it, or the table's policy is to wait for one; it says how.
    """
    worst = max((change.verdict for change in found), default=Verdict.NOTE)
    if accepted:
        return Decision(Mode.SNAPSHOT, anew=True, changes=tuple(found))
    asks_for = [change.what for change in found if change.verdict is Verdict.PERSON]
    if asks_for:
        raise SourceChanged(_told(table, asks_for))
    due = tuple(change.what for change in found if change.verdict >= Verdict.SNAPSHOT)
    if due and mode is not Mode.SNAPSHOT:
        if table.on_change is OnChange.WAIT:
            raise SourceChanged(_told(table, list(due)))
        return Decision(Mode.SNAPSHOT, worst >= Verdict.ANEW, tuple(found), due)
    return Decision(mode, worst >= Verdict.ANEW, tuple(found))


def _told(table: Table, what: list[str]) -> str:
    lines = "".join(f"\n  {change}" for change in what)
    return (
        f"table {table.name}: {table.source} is not what its watermark rests on:{lines}\n"
        f"If that is meant to be: credix extract --table {table.name} --accept-changes reads all rows and goes on from "
        "there"
    )
