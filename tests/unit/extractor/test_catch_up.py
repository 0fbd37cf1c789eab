"""Chunks of a table that were read under different snapshots, and the catch-up that makes them one (``plan``).

A simulated heap: pages of slots, row versions with the transactions that made and ended them, transactions that run
side by side, VACUUM that frees slots, which are filled again. Several sessions read the chunks in between. The
statements are the plan's own, evaluated by SQLite; the times are the state's own.

What holds, and what the property below checks. Let L be the last snapshot: the catch-up's, or the only one.

- Every key that L sees, and whose version there fulfils the batch's condition, comes out with exactly that version.
- It needs that L is later than the other snapshots and that its time is the latest. The order of the others, among
  themselves and against their times, does not matter: a session takes its time before its snapshot, so two sessions
  can be in one order by the one and in the other by the other.
- The ids of rows that were there long before do not matter: what is read once more is a version that L sees.
- A key that L does not see can remain, with a version that an earlier snapshot saw: it was deleted meanwhile. So can
  one whose version that L sees does not fulfil the condition any more. Nothing else remains: nothing rolled back.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.extractor.planning.plan import ChunkResult, Plan, catch_up_from, page_bounds, whole
from services.extractor.source.storage import Storage

EXAMPLES = int(os.environ.get("CREDIX_CATCH_UP_EXAMPLES", "1000"))
CIRCLE = 2**32
RESERVED = 3
"""Transaction ids 0, 1 and 2 mean something else; the counter skips them in every round."""
SLOTS = 3
"""Row versions in a page; few, so that slots are reused at once."""
START = datetime(2026, 11, 22, tzinfo=UTC)
BOUND = 50
KEYS = 10
CHUNKS = 4


def plan(bounds: list[int], condition: str = "") -> Plan:
    return Plan(
        batch_id="20261122T170000000000Z-00000000",
        table="t",
        execution="x",
        select="SELECT key, n FROM heap",
        condition=condition,
        columns=[],
        flags=[],
        bounds=bounds,
        layout="",
        estimated_rows=0,
    )


@dataclass
class Version:
    """A version of a row."""

    key: int
    n: int
    """Which version; no two are equal."""
    value: int
    """What the condition looks at."""
    xmin: int
    xmax: int | None = None
    raw_xmin: int | None = None
    """The id that the row shows, where it is not the transaction's: the version was frozen long ago."""

    @property
    def shown(self) -> int:
        return self.xmin % CIRCLE if self.raw_xmin is None else self.raw_xmin


@dataclass(frozen=True)
class Snapshot:
    """What a transaction sees: what was committed when it was taken."""

    oldest_running: int
    committed: frozenset[int]

    def sees(self, version: Version) -> bool:
        return version.xmin in self.committed and version.xmax not in self.committed


@dataclass
class Session:
    """A session of one process; its time is taken before its snapshot."""

    read_at: datetime
    snapshot: Snapshot | None = None


@dataclass
class Heap:
    """A table with its transactions."""

    next_id: int
    pages: list[list[Version | None]] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    committed: set[int] = field(default_factory=set)
    made: list[Version] = field(default_factory=list)
    """All versions there ever were; a version's number is its place."""

    def begin(self) -> None:
        while self.next_id % CIRCLE < RESERVED:
            self.next_id += 1
        self.running.append(self.next_id)
        self.next_id += 1

    def end(self, transaction: int, *, commit: bool) -> None:
        self.running.remove(transaction)
        if commit:
            self.committed.add(transaction)

    def snapshot(self) -> Snapshot:
        return Snapshot(min([*self.running, self.next_id]), frozenset(self.committed))

    def versions(self) -> Iterator[tuple[int, Version]]:
        for number, page in enumerate(self.pages):
            for version in page:
                if version is not None:
                    yield number, version

    def current(self, transaction: int, key: int) -> Version | None:
        """The version that a writer finds: its own, or the committed one."""
        sees = Snapshot(0, frozenset({*self.committed, transaction})).sees
        return next((version for _, version in self.versions() if version.key == key and sees(version)), None)

    def locked(self, transaction: int, key: int) -> bool:
        """Whether another running transaction has written the key."""
        others = {*self.running} - {transaction}
        return any(v.key == key and (v.xmin in others or v.xmax in others) for _, v in self.versions())

    def put(self, version: Version, where: int) -> None:
        """Store a version in some free slot, on a new page when there is none."""
        self.made.append(version)
        free = [(p, s) for p, page in enumerate(self.pages) for s, held in enumerate(page) if held is None]
        if not free or where % 7 == 0:
            self.pages.append([None] * SLOTS)
            free.append((len(self.pages) - 1, 0))
        page, slot = free[where % len(free)]
        self.pages[page][slot] = version

    def write(self, transaction: int, key: int, where: int, *, delete: bool) -> None:
        """Insert, update or delete a row; who would have to wait for a lock does nothing."""
        if self.locked(transaction, key):
            return
        old = self.current(transaction, key)
        if old is not None:
            # A version whose deleter was rolled back is deleted anew: the mark is overwritten.
            old.xmax = transaction
        if not delete:
            self.put(Version(key, len(self.made), where % 100, transaction), where)

    def vacuum(self, held: list[Snapshot]) -> None:
        """Free the slots of versions that no snapshot can see, now or later."""
        horizon = [self.snapshot(), *held]
        for page in self.pages:
            for slot, version in enumerate(page):
                if version is None or version.xmin in self.running or version.xmax in self.running:
                    continue
                if not any(snapshot.sees(version) for snapshot in horizon):
                    page[slot] = None

    def read(self, statement: str, snapshot: Snapshot) -> list[tuple[int, int]]:
        """Key and number of the versions that a snapshot sees and the plan's statement finds."""
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE TABLE heap (page INTEGER, xmin INTEGER, key INTEGER, n INTEGER, value INTEGER)")
            database.executemany(
                "INSERT INTO heap VALUES (?, ?, ?, ?, ?)",
                [(page, v.shown, v.key, v.n, v.value) for page, v in self.versions() if snapshot.sees(v)],
            )
            return database.execute(for_sqlite(statement)).fetchall()


def for_sqlite(statement: str) -> str:
    """The statement with PostgreSQL's own words put into SQLite's; the arithmetic stays."""
    return re.sub(r"ctid (>=|<) '\((\d+),0\)'", r"page \1 \2", statement).replace("xmin::text::bigint", "xmin")


@dataclass
class Reading:
    """A batch that is read by chunks, while the table changes."""

    heap: Heap
    plan: Plan
    state: PipelineState
    clock: datetime = START
    sessions: list[Session] = field(default_factory=list)
    results: dict[int, ChunkResult] = field(default_factory=dict)
    rows: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Per chunk, what its result stands for."""
    snapshots: dict[datetime, Snapshot] = field(default_factory=dict)
    """All that were taken, by the time of their session."""

    def open(self) -> None:
        self.sessions.append(Session(self.state.take_time("t", self.clock)))

    def take(self, session: Session) -> Snapshot:
        if session.snapshot is None:
            session.snapshot = self.heap.snapshot()
            self.snapshots[session.read_at] = session.snapshot
        return session.snapshot

    def read_chunk(self, session: Session, chunk: int) -> None:
        snapshot = self.take(session)
        self.rows[chunk] = self.heap.read(self.plan.statement(chunk), snapshot)
        self.results[chunk] = ChunkResult(
            chunk=chunk, read_at=session.read_at, oldest_running=snapshot.oldest_running, parts=[]
        )

    def missing(self) -> list[int]:
        return [chunk for chunk in range(len(self.plan.bounds)) if chunk not in self.results]

    def finish(self) -> tuple[Snapshot, dict[int, int]]:
        """The last snapshot, and per key the version that is newest by its time."""
        versions = [(result.read_at, key, n) for chunk, result in self.results.items() for key, n in self.rows[chunk]]
        newer_than = catch_up_from(self.results.values())
        if newer_than is None:
            last = self.snapshots[self.results[0].read_at]
        else:
            session = Session(self.state.take_time("t", self.clock))
            last = self.take(session)
            for chunk in range(len(self.plan.bounds)):
                found = self.heap.read(self.plan.statement(chunk, newer_than), last)
                versions += [(session.read_at, key, n) for key, n in found]
        newest: dict[int, tuple[datetime, int]] = {}
        for read_at, key, n in versions:
            if key not in newest or newest[key][0] < read_at:
                newest[key] = (read_at, n)
        return last, {key: n for key, (_, n) in newest.items()}


def apply(reading: Reading, action: str, one: int, other: int) -> None:
    """One step beside the reads; numbers choose among what there is."""
    heap = reading.heap
    transaction = heap.running[one % len(heap.running)] if heap.running else None
    session = reading.sessions[one % len(reading.sessions)] if reading.sessions else None
    match action:
        case "begin":
            heap.begin()
        case "write" | "delete" if transaction is not None:
            heap.write(transaction, other % KEYS, other, delete=action == "delete")
        case "commit" | "rollback" if transaction is not None:
            heap.end(transaction, commit=action == "commit")
        case "change":  # a whole transaction
            heap.begin()
            heap.write(heap.running[-1], other % KEYS, other, delete=False)
            heap.end(heap.running[-1], commit=True)
        case "vacuum":
            heap.vacuum([s.snapshot for s in reading.sessions if s.snapshot is not None])
        case "clock":  # forward, or back: the state keeps the times in order
            reading.clock += timedelta(seconds=one - 300)
        case "take" if session is not None:
            reading.take(session)
        case "lose" if session is not None:
            # Its snapshot no longer keeps VACUUM away; what it has read stays.
            reading.sessions.remove(session)


ACTIONS = {
    **dict.fromkeys(("change", "write", "vacuum"), 3),
    **dict.fromkeys(("begin", "commit"), 2),
    **dict.fromkeys(("delete", "rollback", "clock", "take", "lose"), 1),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([name for name, weight in ACTIONS.items() for _ in range(weight)]),
        st.integers(0, 999),
        st.integers(0, 999),
    ),
    max_size=8,
)


@dataclass(frozen=True)
class Turn:
    """A chunk is read: which one, by which session, how many are opened before, and what else happens before."""

    chunk: int
    opens: int
    session: int
    before: list[tuple[str, int, int]]


TURNS = st.lists(
    st.builds(Turn, st.integers(0, 99), st.integers(0, 2), st.integers(0, 99), STEPS), min_size=CHUNKS, max_size=CHUNKS
)
NEAR_THE_WRAP = st.integers(CIRCLE - 20, CIRCLE + 20) | st.integers(CIRCLE // 2 - 20, CIRCLE // 2 + 20)


@settings(max_examples=EXAMPLES)
@given(
    first_id=NEAR_THE_WRAP | st.integers(3, 2**62),
    before=st.lists(st.none() | st.integers(0, CIRCLE - 1), min_size=KEYS, max_size=KEYS),
    condition=st.sampled_from(["", f"(value > {BOUND})"]),
    turns=TURNS,
)
def test_every_key_that_the_last_snapshot_sees_comes_out_with_its_version_there(
    first_id: int, before: list[int | None], condition: str, turns: list[Turn]
) -> None:
    heap = Heap(first_id)
    heap.begin()
    [loader] = heap.running
    for key, raw in enumerate(before):
        heap.put(Version(key, len(heap.made), key * 10, loader, raw_xmin=raw), key + 1)
    heap.end(loader, commit=True)
    bounds = list(range(0, len(heap.pages), -(-len(heap.pages) // CHUNKS)))
    with closing(SqliteStore(Path(":memory:"))) as store:
        reading = Reading(heap, plan(bounds, condition), PipelineState(store))
        for turn in turns:
            for _ in range(turn.opens):
                reading.open()
            for action, one, other in turn.before:
                apply(reading, action, one, other)
            if not reading.sessions:
                reading.open()
            if missing := reading.missing():
                session = reading.sessions[turn.session % len(reading.sessions)]
                reading.read_chunk(session, missing[turn.chunk % len(missing)])
        assert not reading.missing()
        last, came_out = reading.finish()
    read_under = {result.read_at for result in reading.results.values()}
    orders = [reading.snapshots[read_at].oldest_running for read_at in sorted(read_under)]
    event(f"snapshots that chunks were read under: {min(4, len(read_under))}")
    event(f"of these, transactions ended in between: {len(set(orders)) > 1}")
    event(f"snapshots in another order than their times: {orders != sorted(orders)}")
    seen = {v.key: v for _, v in heap.versions() if last.sees(v)}
    expected = {key: v.n for key, v in seen.items() if not condition or v.value > BOUND}
    event(f"the chunks alone were not enough: {chunks_alone(reading, expected) != expected}")
    assert {key: n for key, n in came_out.items() if key in expected} == expected
    # What else came out, an earlier snapshot saw.
    for key in came_out.keys() - expected.keys():
        assert any(snapshot.sees(heap.made[came_out[key]]) for snapshot in reading.snapshots.values())
    assert not condition or all(heap.made[n].value > BOUND for n in came_out.values())


def chunks_alone(reading: Reading, expected: dict[int, int]) -> dict[int, int]:
    """What would have come out without the catch-up, of the keys that are expected."""
    by_time = sorted(reading.results, key=lambda chunk: reading.results[chunk].read_at)
    return {key: n for chunk in by_time for key, n in reading.rows[chunk] if key in expected}


@given(newer_than=NEAR_THE_WRAP | st.integers(3, 2**62), distances=st.lists(st.integers(-(2**31), 2**31 - 1)))
@example(newer_than=CIRCLE, distances=[-1, 0, 1, -(2**31), 2**31 - 1])
@example(newer_than=CIRCLE - 1, distances=[-1, 0, 1, -(2**31), 2**31 - 1])
@example(newer_than=5 * CIRCLE + 3, distances=[-4, -3, -1, 0])
def test_what_is_newer_is_found_whatever_round_the_ids_are_in(newer_than: int, distances: list[int]) -> None:
    """The expression as it stands, casts included, in DuckDB: a row's id has 32 bits, the other one 64."""
    statement = plan([0]).statement(0, newer_than)
    condition = statement.split(" AND ", 1)[1]
    shown = [(newer_than + distance) % CIRCLE for distance in distances]
    with duckdb.connect(":memory:") as database:
        table = ", ".join(f"({position}, {xmin})" for position, xmin in enumerate(shown)) or "(-1, 0)"
        rows = database.execute(
            f"SELECT position, {condition} FROM (VALUES {table}) AS t(position, xmin) ORDER BY position"
        ).fetchall()
    assert [found for position, found in rows if position >= 0] == [distance >= 0 for distance in distances]


def test_no_catch_up_is_needed_when_all_chunks_were_read_under_one_snapshot() -> None:
    def result(chunk: int, read_at: datetime, oldest: int) -> ChunkResult:
        return ChunkResult(chunk=chunk, read_at=read_at, oldest_running=oldest, parts=[])

    later = START + timedelta(seconds=1)
    assert catch_up_from([result(0, START, 7), result(1, START, 7)]) is None
    assert catch_up_from([]) is None
    assert catch_up_from([result(0, later, 7), result(1, START, 9)]) == 7
    assert catch_up_from([result(0, START, 9), result(1, later, 9)]) == 9, "who ran then can have ended in between"


@given(
    pages=st.integers(0, 5_000_000),
    partitions=st.integers(1, 50),
    chunk_pages=st.integers(1, 10_000),
    share=st.floats(0, 1),
)
def test_chunks_cover_every_page_of_every_partition_once(
    pages: int, partitions: int, chunk_pages: int, share: float
) -> None:
    largest = max(-(-pages // partitions), int(pages * share)) if pages else 0
    storage = Storage(pages, largest, pages * 8192, 0.0, True, "")
    bounds = page_bounds(storage, chunk_pages, everything=True)
    assert whole(bounds)
    assert not bounds or bounds[-1] < largest
    assert bool(bounds) == (pages > chunk_pages)
    assert page_bounds(storage, chunk_pages, everything=False) == []


@pytest.mark.parametrize("page", [0, 1, 4, 5, 9, 10, 11, 10_000])
def test_a_page_belongs_to_one_chunk_and_new_pages_to_the_last(page: int) -> None:
    cut = plan([0, 5, 10])
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE heap (page INTEGER, key INTEGER, n INTEGER)")
        database.execute("INSERT INTO heap VALUES (?, 1, 1)", (page,))
        found = [c for c in range(3) if database.execute(for_sqlite(cut.statement(c))).fetchall()]
    assert found == [min(page // 5, 2)]
