"""What can be promised for a source: what a window's end can rest on, and what cannot be seen. Pure functions and data.

docs/windows.md has EXACT and RULES as a table.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.core.errors import ConfigurationError
from services.core.tables import Mode, Table
from services.extractor.planning.local_time import FIRST, earlier
from services.extractor.source.catalog import RelationKind
from services.extractor.source.clock import SourceClock
from services.extractor.source.origin import Origin


class Unseen(StrEnum):
    """What the list of open transactions does not show of the rows that are still to come."""

    OTHERS = "others"
    HIDDEN = "hidden"
    PREPARED = "prepared"
    REPLICA = "replica"
    FOREIGN = "foreign"
    SUBSCRIBED = "subscribed"
    NOT_APPLIED = "not_applied"
    REFRESHED = "refreshed"


class Does(StrEnum):
    """What the extractor does about it."""

    SAFETY_LAG = "safety_lag"
    """The window ends the safety lag before what can be seen."""
    HOLD = "hold"
    """The window does not move."""
    LOOKBACK = "lookback"
    """What is below the window has to be read again: the table has to declare how much."""


@dataclass(frozen=True)
class Rule:
    """What is done about something unseen, and what is promised then."""

    source: str
    """Of which source, for people."""
    seen_by: str
    """How it is recognised."""
    because: str
    """Why, for the log."""
    does: Does
    window: str
    """Where the window ends."""
    promised: str
    """Which changes the next run brings."""


_IN_TIME = "transactions that are open for less than `EXTRACT_SAFETY_LAG`"

RULES: dict[Unseen, Rule] = {
    Unseen.OTHERS: Rule(
        "any, read by a role that may not see other users' activity",
        "no `pg_read_all_stats`",
        "this role cannot see other users' transactions; GRANT pg_read_all_stats to it",
        Does.SAFETY_LAG,
        "`EXTRACT_SAFETY_LAG` before now",
        _IN_TIME,
    ),
    Unseen.HIDDEN: Rule(
        "any, while a session has `track_activities = off`",
        "`pg_stat_activity.state` is `disabled`, or a transaction shows no `xact_start`",
        "a session with track_activities = off does not show when its transaction began",
        Does.SAFETY_LAG,
        "`EXTRACT_SAFETY_LAG` before now",
        _IN_TIME,
    ),
    Unseen.PREPARED: Rule(
        "any, while a transaction is prepared (two-phase commit)",
        "`pg_prepared_xacts`",
        "a prepared transaction does not show when it began",
        Does.SAFETY_LAG,
        "`EXTRACT_SAFETY_LAG` before the oldest `PREPARE TRANSACTION`",
        "transactions that were prepared within `EXTRACT_SAFETY_LAG` of their start",
    ),
    Unseen.REPLICA: Rule(
        "any, on a streaming replica",
        "`pg_is_in_recovery()`",
        "this server is a replica: its primary's open transactions cannot be seen from here",
        Does.SAFETY_LAG,
        "`EXTRACT_SAFETY_LAG` before the last transaction that was replayed",
        _IN_TIME,
    ),
    Unseen.FOREIGN: Rule(
        "foreign table, or one among the partitions or below the view",
        "`pg_class.relkind`",
        "the open transactions of a foreign table's server cannot be seen from here",
        Does.SAFETY_LAG,
        "`EXTRACT_SAFETY_LAG` before now",
        f"{_IN_TIME} over there; a clock that is behind this server's needs `lag`",
    ),
    Unseen.SUBSCRIBED: Rule(
        "table that a logical subscription fills (or a partition, or one below the view)",
        "`pg_subscription_rel`",
        "a subscription brings the rows of a publisher, whose open transactions cannot be seen from here",
        Does.SAFETY_LAG,
        "`EXTRACT_SAFETY_LAG` before the publisher's clock at the last word from it",
        f"{_IN_TIME} on the publisher; a publisher that decodes further behind needs more",
    ),
    Unseen.NOT_APPLIED: Rule(
        "the same, while its first copy has not ended, or its worker does not run",
        "`srsubstate` is not `r`; no `latest_end_time` in `pg_stat_subscription`",
        "a subscription has not ended its first copy, or its worker does not run",
        Does.HOLD,
        "where the last one ended: the watermark waits",
        "all changes, once it runs again",
    ),
    Unseen.REFRESHED: Rule(
        "materialized view, or one below the view",
        "`pg_class.relkind`",
        "a REFRESH of a materialized view shows rows that are older than what windows have passed",
        Does.LOOKBACK,
        "before the oldest open transaction; without a `lookback` `mode: incremental` is refused",
        "changes that a `REFRESH` shows within `lookback` of their cursor (of a date, one day less)",
    ),
}


EXACT = [
    (
        "table, partitioned table, parent of others",
        "`pg_class.relkind`",
        "just before the start of the oldest open transaction",
        "every change whose cursor is not older than the start of its transaction",
    ),
    (
        "view over such",
        "`pg_depend`",
        "the same",
        "the same, where every change of one of its rows moves its cursor; what a function in it reads is not seen",
    ),
]
"""What is promised where everything can be seen: source, how it is recognised, where windows end, what they bring."""


@dataclass(frozen=True)
class Blindness:
    """Something that cannot be seen of this source now."""

    what: Unseen
    about: str = ""
    """Which relations, subscriptions."""

    @property
    def rule(self) -> Rule:
        """What is done about it."""
        return RULES[self.what]

    @property
    def said(self) -> str:
        """For people."""
        return f"{self.rule.because} ({self.about})" if self.about else self.rule.because


def unseen(clock: SourceClock, origin: Origin) -> list[Blindness]:
    """What the clock of open transactions cannot see of a source's rows that are still to come."""
    found = []
    if clock.replayed is not None:
        found.append(Blindness(Unseen.REPLICA))
    elif not clock.sees_others:
        found.append(Blindness(Unseen.OTHERS))
    if clock.hidden:
        found.append(Blindness(Unseen.HIDDEN))
    if clock.oldest_prepared is not None:
        found.append(Blindness(Unseen.PREPARED))
    if foreign := origin.of_kind(RelationKind.FOREIGN):
        found.append(Blindness(Unseen.FOREIGN, _names(foreign)))
    if origin.subscriptions:
        found.append(Blindness(Unseen.SUBSCRIBED, _names(s.name for s in origin.subscriptions)))
        # A replica has no workers: there its own rule says how far the rows are.
        lacking = [s.name for s in origin.subscriptions if not s.copied or (s.applied is None and not clock.replayed)]
        if lacking:
            found.append(Blindness(Unseen.NOT_APPLIED, _names(lacking)))
    if refreshed := origin.of_kind(RelationKind.MATERIALIZED_VIEW):
        found.append(Blindness(Unseen.REFRESHED, _names(refreshed)))
    return found


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def seen_until(clock: SourceClock, origin: Origin, safety_lag: timedelta) -> datetime | None:
    """Where a window must end for what cannot be seen; None where all can.

    The first representable time where it must not move at all.
    """
    bounds = []
    for blindness in unseen(clock, origin):
        match blindness.what:
            case Unseen.OTHERS | Unseen.HIDDEN | Unseen.FOREIGN:
                bounds.append(earlier(clock.now, safety_lag))
            case Unseen.PREPARED if clock.oldest_prepared is not None:
                bounds.append(earlier(clock.oldest_prepared, safety_lag))
            case Unseen.REPLICA if clock.replayed is not None:
                bounds.append(earlier(clock.replayed, safety_lag))
            case Unseen.SUBSCRIBED:
                told = [s.applied for s in origin.subscriptions if s.applied is not None]
                bounds += [earlier(applied, safety_lag) for applied in told]
            case Unseen.NOT_APPLIED:
                bounds.append(FIRST)
    return min(bounds, default=None)


def keeps_a_distance(blindness: Iterable[Blindness]) -> bool:
    """Whether windows end the safety lag before what can be seen, for as long as the source is what it is."""
    lasting = (found for found in blindness if found.what is not Unseen.PREPARED)
    return any(found.rule.does is Does.SAFETY_LAG for found in lasting)


def check_lookback(table: Table, mode: Mode, blindness: Iterable[Blindness]) -> None:
    """Refuse windows over rows that become visible long after their cursor, unless the table says how long.

    Raises:
        ConfigurationError: names the relation, and says what to declare.
    """
    cursor = table.cursor
    needing = [found for found in blindness if found.rule.does is Does.LOOKBACK]
    if mode is Mode.SNAPSHOT or cursor is None or not needing:
        return
    of_the_type = timedelta(days=1) if cursor.type == "date" else timedelta(0)
    if cursor.lookback <= of_the_type:
        raise ConfigurationError(
            f"table {table.name}: {needing[0].said}; declare mode: snapshot, or a cursor.lookback that is longer than "
            f"from a change to the end of the REFRESH that shows it{', and a day' if of_the_type else ''}"
        )
