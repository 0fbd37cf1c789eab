"""What changed since the batch that the watermark rests on, and what that takes."""

from typing import Any

import pytest

from services.core.errors import SourceChanged
from services.core.state.memory import ColumnSeen, CursorSeen, Seen, ServerSeen
from services.core.tables import Column, ColumnType, Cursor, Mode, OnChange, Table
from services.extractor.planning.change import Change, Decision, Found, Verdict, changes, decide

ID = ColumnSeen(number=1, source="id", source_type="bigint", type="INT64", policy="fail", mask=None)
NAME = ColumnSeen(number=2, source="name", source_type="text", type="STRING", policy="fail", mask=None)
CURSOR = CursorSeen(expression="at", type="timestamp with time zone", time_zone=None, lag=0, lookback=0)
SEEN = Seen(
    server=ServerSeen(system="7", database=5, timeline=1, position=1_000),
    relation=100,
    members={"100": "1"},
    subscriptions=[],
    last_column=3,
    key=["id"],
    mode="incremental",
    cursor=CURSOR,
    safety_lag=0,
    columns={"id": ID, "name": NAME},
    mask_digits=None,
)
NOTHING = Found()


def server(**facts: Any) -> Seen:
    return SEEN.model_copy(update={"server": SEEN.server.model_copy(update=facts)})


def seen(**facts: Any) -> Seen:
    return SEEN.model_copy(update=facts)


def cursor(**facts: Any) -> Seen:
    return seen(cursor=CURSOR.model_copy(update=facts))


def column(seen_column: ColumnSeen = NAME, **facts: Any) -> Seen:
    name = "id" if seen_column is ID else "name"
    return seen(columns={**SEEN.columns, name: seen_column.model_copy(update=facts)})


def extra(**facts: Any) -> Seen:
    return seen(columns={**SEEN.columns, "extra": NAME.model_copy(update={"number": 4, "source": "extra", **facts})})


def key(source_type: str) -> Seen:
    """It lands as a text."""
    return column(ID, type="STRING", source_type=source_type)


HASHED = column(mask="hash")
CASES: list[tuple[str, Seen, Seen, Found, Verdict, str]] = [
    ("another cluster", SEEN, server(system="8", position=1), NOTHING, Verdict.PERSON, "another database cluster"),
    ("another database", SEEN, server(database=6), NOTHING, Verdict.PERSON, "another database answers"),
    ("restored", SEEN, server(position=999), NOTHING, Verdict.PERSON, "restored from a backup"),
    ("restored by recovery", SEEN, server(position=999, timeline=2), NOTHING, Verdict.PERSON, "restored"),
    ("failover", SEEN, server(position=1_001, timeline=2), NOTHING, Verdict.ANEW, "another server took over"),
    ("created anew", SEEN, seen(relation=101, members={"101": "2"}), NOTHING, Verdict.SNAPSHOT, "created anew"),
    (
        "attached",
        SEEN,
        seen(members={"100": "1", "7": "7", "8": "8"}),
        Found(older_rows=["7"]),
        Verdict.SNAPSHOT,
        "1 partition(s) with older rows were attached",
    ),
    ("added partition", SEEN, seen(members={"100": "1", "7": "7"}), NOTHING, Verdict.NOTE, "without older rows"),
    ("detached", seen(members={"100": "1", "7": "7"}), SEEN, NOTHING, Verdict.NOTE, "their rows stay in bronze"),
    ("written anew", SEEN, seen(members={"100": "2"}), NOTHING, Verdict.SNAPSHOT, "written anew"),
    ("another view", SEEN, seen(members={"100": "2"}), Found(views=["100"]), Verdict.SNAPSHOT, "the text of a view"),
    ("subscribed", SEEN, seen(subscriptions=["s 100 0/1"]), NOTHING, Verdict.SNAPSHOT, "copied it again"),
    ("key", SEEN, seen(key=["id", "name"]), NOTHING, Verdict.PERSON, "the key was (id) and is (id, name)"),
    ("mode", SEEN, seen(mode="snapshot"), NOTHING, Verdict.NOTE, "the mode was incremental"),
    ("no cursor", SEEN, seen(cursor=None), NOTHING, Verdict.NOTE, "no cursor any more"),
    ("a cursor", seen(cursor=None), SEEN, NOTHING, Verdict.ANEW, "a cursor was declared"),
    ("expression", SEEN, cursor(expression="b"), NOTHING, Verdict.ANEW, "cursor.expression was at and is b"),
    ("cursor type", SEEN, cursor(type="date"), NOTHING, Verdict.ANEW, "cursor.type was"),
    ("zone", SEEN, cursor(time_zone="UTC"), NOTHING, Verdict.ANEW, "cursor.time_zone was None and is UTC"),
    ("longer lag", SEEN, cursor(lag=60), NOTHING, Verdict.ANEW, "cursor.lag was 0 s and is 60 s"),
    ("shorter lag", cursor(lag=60), SEEN, NOTHING, Verdict.NOTE, "cursor.lag was 60 s and is 0 s"),
    ("longer lookback", SEEN, cursor(lookback=60), NOTHING, Verdict.SNAPSHOT, "cursor.lookback"),
    ("shorter lookback", cursor(lookback=60), SEEN, NOTHING, Verdict.NOTE, "cursor.lookback"),
    ("longer safety lag", seen(safety_lag=60), seen(safety_lag=90), NOTHING, Verdict.ANEW, "EXTRACT_SAFETY_LAG"),
    ("new and null", SEEN, extra(), NOTHING, Verdict.NOTE, "extra is new, and null in all older rows"),
    ("new and filled", SEEN, extra(), Found(filled=["extra"]), Verdict.SNAPSHOT, "older rows have values in it"),
    ("declared late", SEEN, extra(number=3), NOTHING, Verdict.SNAPSHOT, "older rows have values in it"),
    ("not read", extra(), SEEN, NOTHING, Verdict.NOTE, "not read any more: extra"),
    ("gone", SEEN, column(number=0, source_type=None), NOTHING, Verdict.NOTE, "name is gone in the source"),
    ("back", column(number=0, source_type=None), SEEN, NOTHING, Verdict.SNAPSHOT, "name was gone and is text"),
    ("another column", SEEN, column(number=9), NOTHING, Verdict.SNAPSHOT, "name is another one of the source now"),
    ("another key", SEEN, column(ID, number=9), NOTHING, Verdict.PERSON, "id is another one of the source now"),
    ("renamed", SEEN, column(source="nome"), NOTHING, Verdict.NOTE, ""),
    ("wider", column(source_type="character varying(9)"), SEEN, NOTHING, Verdict.NOTE, "is text in the source"),
    ("narrower", SEEN, column(source_type="character varying(9)"), NOTHING, Verdict.SNAPSHOT, "was text and is"),
    ("declared type", SEEN, column(type="BYTES"), NOTHING, Verdict.SNAPSHOT, "was declared STRING and is BYTES"),
    ("lossless policy", SEEN, column(policy="string"), NOTHING, Verdict.NOTE, "on_unrepresentable was fail"),
    ("lossy policy", column(policy="string"), SEEN, NOTHING, Verdict.SNAPSHOT, "on_unrepresentable was string"),
    ("masked", SEEN, HASHED, NOTHING, Verdict.SNAPSHOT, "its mask was none and is hash"),
    ("unmasked", HASHED, SEEN, NOTHING, Verdict.PERSON, "its mask was hash and is none"),
    ("masked more", HASHED, column(mask="redact"), NOTHING, Verdict.SNAPSHOT, "its mask was hash and is redact"),
    ("masked less", column(mask="partial 2"), column(mask="partial 4"), NOTHING, Verdict.PERSON, "partial 4"),
    ("masked key", SEEN, column(ID, mask="hash"), NOTHING, Verdict.PERSON, "column id: its mask was none"),
    ("wider key", key("character varying(9)"), key("text"), NOTHING, Verdict.NOTE, "is text in the source"),
    ("key of other texts", key("numeric(9,2)"), key("numeric"), NOTHING, Verdict.PERSON, "can have another text"),
    ("key of other type", key("bigint"), key("uuid"), NOTHING, Verdict.PERSON, "can have another text"),
    (
        "unmasked by another name",
        HASHED,
        seen(columns={"id": ID, "nome": NAME}),
        NOTHING,
        Verdict.PERSON,
        "column nome was name, and shows what that masked",
    ),
    (
        "another secret",
        seen(columns={"id": ID, "name": HASHED.columns["name"]}, mask_digits="1"),
        seen(columns={"id": ID, "name": HASHED.columns["name"]}, mask_digits="2"),
        NOTHING,
        Verdict.SNAPSHOT,
        "EXTRACT_MASK_SECRET is another",
    ),
    (
        "another secret of a key",
        seen(columns={"id": ID.model_copy(update={"mask": "hash"})}, mask_digits="1"),
        seen(columns={"id": ID.model_copy(update={"mask": "hash"})}, mask_digits="2"),
        NOTHING,
        Verdict.PERSON,
        "EXTRACT_MASK_SECRET is another",
    ),
]


@pytest.mark.parametrize(
    ("before", "now", "found", "verdict", "told"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_every_change_has_its_verdict(before: Seen, now: Seen, found: Found, verdict: Verdict, told: str) -> None:
    result = changes(before, now, found)
    assert max((change.verdict for change in result), default=Verdict.NOTE) is verdict
    assert any(told in change.what for change in result) or not told


def test_nothing_changed() -> None:
    assert changes(SEEN, SEEN, NOTHING) == []
    assert changes(SEEN, server(position=2_000), NOTHING) == [], "its WAL grows"


def test_what_a_server_does_not_say_is_no_change() -> None:
    silent = server(system=None, timeline=None, position=None)
    assert changes(SEEN, silent, NOTHING) == changes(silent, SEEN, NOTHING) == []


def table(on_change: OnChange = OnChange.SNAPSHOT) -> Table:
    return Table(
        name="t",
        source="shop.orders",
        key=["id"],
        cursor=Cursor(expression="at", type="timestamp"),
        on_change=on_change,
        bronze_model="t",
        columns=[Column(name="id", type=ColumnType.INT64, required=True)],
    )


def change(verdict: Verdict) -> Change:
    return Change(verdict.name, verdict)


NOTE, SNAPSHOT, ANEW, PERSON = (change(verdict) for verdict in Verdict)


@pytest.mark.parametrize(
    ("found", "mode", "expected"),
    [
        ([], Mode.INCREMENTAL, (Mode.INCREMENTAL, False, ())),
        ([NOTE], Mode.INCREMENTAL, (Mode.INCREMENTAL, False, ())),
        ([NOTE, SNAPSHOT], Mode.INCREMENTAL, (Mode.SNAPSHOT, False, ("SNAPSHOT",))),
        ([ANEW, SNAPSHOT], Mode.INCREMENTAL, (Mode.SNAPSHOT, True, ("ANEW", "SNAPSHOT"))),
        ([SNAPSHOT], Mode.SNAPSHOT, (Mode.SNAPSHOT, False, ())),
        ([ANEW], Mode.SNAPSHOT, (Mode.SNAPSHOT, True, ())),
    ],
)
def test_a_run_goes_on_as_the_worst_change_needs_it(
    found: list[Change], mode: Mode, expected: tuple[Mode, bool, tuple[str, ...]]
) -> None:
    decision = decide(table(), mode, found, accepted=False)
    assert (decision.mode, decision.anew, decision.due) == expected
    assert decision.said == [change.what for change in found]


def test_a_person_is_waited_for_where_bronze_could_mix_two_sources() -> None:
    for mode in Mode:
        with pytest.raises(SourceChanged, match=r"(?s)PERSON.*credix extract --table t --accept-changes"):
            decide(table(), mode, [PERSON, NOTE], accepted=False)
    accepted = decide(table(), Mode.INCREMENTAL, [PERSON, NOTE], accepted=True)
    assert accepted == Decision(Mode.SNAPSHOT, anew=True, changes=(PERSON, NOTE))


def test_a_table_can_wait_for_the_hour_of_its_snapshot() -> None:
    with pytest.raises(SourceChanged, match=r"(?s)SNAPSHOT.*credix extract --table t --accept-changes"):
        decide(table(OnChange.WAIT), Mode.INCREMENTAL, [SNAPSHOT], accepted=False)
    assert decide(table(OnChange.WAIT), Mode.INCREMENTAL, [NOTE], accepted=False).mode is Mode.INCREMENTAL
    assert decide(table(OnChange.WAIT), Mode.SNAPSHOT, [SNAPSHOT], accepted=False).mode is Mode.SNAPSHOT
