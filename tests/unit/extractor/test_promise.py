"""What is promised for what kind of source: the decision, and the table in docs/windows.md that is made of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Cursor, Mode, Table
from services.extractor.planning.local_time import FIRST
from services.extractor.planning.promise import EXACT, RULES, Does, Unseen, check_lookback, seen_until, unseen
from services.extractor.planning.window import window_high
from services.extractor.source.catalog import RelationKind
from services.extractor.source.clock import SourceClock
from services.extractor.source.origin import Member, Origin, Subscription

REPOSITORY = Path(__file__).parents[3]
NOW = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
LAG = timedelta(minutes=15)
AGO = NOW - timedelta(hours=1)
CLOCK = SourceClock(NOW, None, None, sees_others=True)
APPLIED = Subscription("s", 1, copied=True, position="0/1", applied=AGO)


def of(*kinds: RelationKind, subscription: Subscription | None = None) -> Origin:
    members = tuple(Member(number, kind, f"shop.r{number}") for number, kind in enumerate(kinds))
    return Origin(members, (subscription,) if subscription else ())


PLAIN = of(RelationKind.TABLE)
SOURCES: list[tuple[SourceClock, Origin, list[Unseen], datetime | None]] = [
    (CLOCK, PLAIN, [], None),
    (CLOCK, of(RelationKind.VIEW, RelationKind.PARTITIONED, RelationKind.TABLE), [], None),
    (replace(CLOCK, sees_others=False), PLAIN, [Unseen.OTHERS], NOW - LAG),
    (replace(CLOCK, hidden=True), PLAIN, [Unseen.HIDDEN], NOW - LAG),
    (replace(CLOCK, oldest_prepared=AGO), PLAIN, [Unseen.PREPARED], AGO - LAG),
    (replace(CLOCK, replayed=AGO), PLAIN, [Unseen.REPLICA], AGO - LAG),
    (replace(CLOCK, replayed=FIRST), PLAIN, [Unseen.REPLICA], FIRST),
    (CLOCK, of(RelationKind.PARTITIONED, RelationKind.FOREIGN), [Unseen.FOREIGN], NOW - LAG),
    (CLOCK, of(RelationKind.TABLE, subscription=APPLIED), [Unseen.SUBSCRIBED], AGO - LAG),
    (
        CLOCK,
        of(RelationKind.TABLE, subscription=replace(APPLIED, copied=False)),
        [Unseen.SUBSCRIBED, Unseen.NOT_APPLIED],
        FIRST,
    ),
    (
        CLOCK,
        of(RelationKind.TABLE, subscription=replace(APPLIED, applied=None)),
        [Unseen.SUBSCRIBED, Unseen.NOT_APPLIED],
        FIRST,
    ),
    (
        replace(CLOCK, replayed=AGO),
        of(RelationKind.TABLE, subscription=replace(APPLIED, applied=None)),
        [Unseen.REPLICA, Unseen.SUBSCRIBED],
        AGO - LAG,
    ),
    (CLOCK, of(RelationKind.VIEW, RelationKind.MATERIALIZED_VIEW), [Unseen.REFRESHED], None),
    (
        replace(CLOCK, sees_others=False, oldest_prepared=AGO),
        of(RelationKind.FOREIGN),
        [Unseen.OTHERS, Unseen.PREPARED, Unseen.FOREIGN],
        AGO - LAG,
    ),
]


@pytest.mark.parametrize(("clock", "origin", "expected", "until"), SOURCES)
def test_what_cannot_be_seen_is_known_and_holds_the_window_back(
    clock: SourceClock, origin: Origin, expected: list[Unseen], until: datetime | None
) -> None:
    assert [blindness.what for blindness in unseen(clock, origin)] == expected
    assert seen_until(clock, origin, LAG) == until
    assert window_high(clock, origin, None, LAG) == (until or NOW)


def test_every_kind_of_blindness_has_an_example() -> None:
    assert {what for _, _, expected, _ in SOURCES for what in expected} == set(Unseen) == set(RULES)


def test_the_log_names_the_relation() -> None:
    [blindness] = unseen(CLOCK, of(RelationKind.PARTITIONED, RelationKind.FOREIGN, RelationKind.FOREIGN))
    assert blindness.said.endswith("cannot be seen from here (shop.r1, shop.r2)")


def incremental(cursor: Cursor) -> Table:
    columns = [Column(name="id", type=ColumnType.INT64, required=True)]
    return Table(name="t", source="shop.r0", key=["id"], cursor=cursor, bronze_model="t", columns=columns)


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("cursor", "enough"),
    [
        (Cursor(expression="at", type="timestamp"), False),
        (Cursor(expression="at", type="timestamp", lookback=timedelta(hours=2)), True),
        (Cursor(expression="day", type="date", lookback=DAY), False),
        (Cursor(expression="day", type="date", lookback=2 * DAY), True),
    ],
)
def test_windows_of_a_materialized_view_need_a_lookback(cursor: Cursor, enough: bool) -> None:
    blind = unseen(CLOCK, of(RelationKind.MATERIALIZED_VIEW))
    table = incremental(cursor)
    check_lookback(table, Mode.SNAPSHOT, blind)
    check_lookback(table, Mode.INCREMENTAL, unseen(CLOCK, PLAIN))
    if enough:
        check_lookback(table, Mode.INCREMENTAL, blind)
        return
    with pytest.raises(
        ConfigurationError, match=r"^table t: a REFRESH .*\(shop.r0\); declare mode: snapshot, or a cur"
    ):
        check_lookback(table, Mode.INCREMENTAL, blind)


def promise_table() -> str:
    """What docs/windows.md says, from the decisions on the sources above."""
    rows = [("source", "recognised by", "a window ends", "the next run brings"), *EXACT]
    said = []
    for clock, origin, expected, _ in SOURCES:
        for blindness in unseen(clock, origin):
            if blindness.what not in said and blindness.what in expected:
                said.append(blindness.what)
                rule = blindness.rule
                event = {Does.SAFETY_LAG: "safety_lag", Does.HOLD: "held", Does.LOOKBACK: "lookback"}[rule.does]
                rows.append((rule.source, rule.seen_by, f"{rule.window} (`window.{event}`)", rule.promised))
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---|---|---|---|", *lines, ""])


def test_the_documentation_has_the_decisions() -> None:
    assert promise_table() in (REPOSITORY / "docs" / "windows.md").read_text(encoding="utf-8"), promise_table()
