"""A PostgreSQL server: transactions, snapshots, clocks. The statements are the real texts; DuckDB runs them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from services.core.arrow import conform
from services.core.errors import TransientError
from services.core.tables import Table
from services.extractor.planning.plan import Plan
from services.extractor.reading.sieve import Sifting
from services.extractor.source.catalog import RelationKind, SourceColumn, SourceRelation, TypeKind
from services.extractor.source.clock import UNSEEN, SourceClock
from services.extractor.source.cursor import CursorType
from services.extractor.source.database import Estimate
from services.extractor.source.keys import KeyFacts, ValueType
from services.extractor.source.origin import Member, Origin
from services.extractor.source.server import Server
from services.extractor.source.session import ReadAt, Snapshot
from services.extractor.source.storage import Storage
from tests.unit.extractor.history.cells import Cells
from tests.unit.extractor.history.counting import COUNTS
from tests.unit.extractor.history.processes import AT_WORK, Process

ROOT, FIRST_PARTITION = 1, 2
"""Oids."""

PAGES = 3


@dataclass(eq=False)
class Message:
    """A string of several statements in one message: all its transactions have the message's time."""

    began: datetime
    latest_clock: datetime
    own: bool


@dataclass(eq=False)
class Transaction:
    """A transaction of the business."""

    began: datetime
    until: datetime
    """Latest clock while it was open, or until it was prepared."""
    latest_clock: datetime
    """The latest time that the source had shown when it began."""
    own: bool
    """Of the extractor's role, which sees its own transactions in any case."""
    message: Message | None = None
    hidden: bool = False
    """Of a session with track_activities = off."""
    shown: bool = False
    """Whether pg_stat_activity has it yet; it has its time already."""
    prepared: datetime | None = None
    xid: int = 0
    """Its id, from its first write on."""
    writes: dict[int, "Version"] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A version of a row, or its deletion."""

    key: int
    n: int
    a: datetime | None
    b: datetime | None
    """The moments of the columns; what is written for them, ``Cells`` says."""
    deleted: bool
    by: Transaction
    page: int
    """Versions of a row move between pages, forwards and backwards."""
    partition: int = FIRST_PARTITION
    """That it came in with, all at once; the first one takes what is written."""

    @property
    def place(self) -> str:
        """Its ctid."""
        return f"({self.page},1)"

    @property
    def moment(self) -> datetime | None:
        """The later of a and b, as SQL's greatest() has it."""
        return max((moment for moment in (self.a, self.b) if moment is not None), default=None)


@dataclass
class Database:
    """The server as a history knows it."""

    table: Table
    cells: Cells
    sees_others: bool
    replica: bool
    by_pages: bool
    """Whether windows are read by chunks, for want of an index."""
    now: datetime
    peak: datetime
    """The latest time it has shown."""
    open: list[Transaction] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    """Those that are being worked on, whether a transaction of theirs is open or not."""
    history: dict[int, list[Version]] = field(default_factory=dict)
    """Per key its committed versions, in order."""
    commits: list[tuple[datetime, list[Version]]] = field(default_factory=list)
    attached: list[int] = field(default_factory=list)
    """Per attached partition, which commit it was; their oids follow the first one's."""
    replayed: int = 0
    """Commits that the replica has."""
    broken_reads: int = 0
    engine: duckdb.DuckDBPyConnection = field(default_factory=lambda: duckdb.connect(":memory:", config={"threads": 1}))
    versions: int = 0
    xids: int = 100
    """The next transaction's id."""
    snapshots: dict[str, list[Version]] = field(default_factory=dict)
    """What those that are held open see."""
    drops: Callable[[pa.RecordBatch], None] = lambda rows: None
    """Is told of rows that were read and do not land."""

    def __post_init__(self) -> None:
        self.engine.execute("SET TimeZone = 'UTC'")
        self.engine.execute("CREATE SCHEMA shop")
        self._show([])
        self.engine.execute("CREATE VIEW shop.orders AS SELECT * FROM seen")

    def _show(self, versions: list[Version]) -> None:
        columns = {"id": pa.int64(), "n": pa.int64(), "a": self.cells.arrow, "b": self.cells.arrow}
        columns |= {"tableoid": pa.int64(), "ctid": pa.string(), "xmin": pa.int64()}
        cell = self.cells.cell
        values = [[v.key, v.n, cell(v.a), cell(v.b), v.partition, v.place, v.by.xid] for v in versions]
        arrays = [pa.array([row[i] for row in values], type_) for i, type_ in enumerate(columns.values())]
        self.engine.register("seen", pa.table(dict(zip(columns, arrays, strict=True))))

    # what happens in it

    def pass_time(self, by: timedelta) -> None:
        """Let time pass; what has begun is seen before ``UNSEEN`` is over."""
        self.now += by
        self.peak = max(self.peak, self.now)
        for transaction in self.open:
            transaction.shown = transaction.shown or self.now - transaction.began >= UNSEEN
            if transaction.prepared is None or self.replica:
                transaction.until = max(transaction.until, self.now)

    def begin(self, own: bool = False, hidden: bool = False) -> Transaction:
        """Begin a transaction."""
        self.open.append(Transaction(self.now, self.now, self.peak, own, hidden=hidden))
        return self.open[-1]

    def send(self, own: bool) -> None:
        """Send a message."""
        self.messages.append(Message(self.now, self.peak, own))

    def is_busy(self, message: Message) -> bool:
        """Whether a transaction of a message is open in its session; a prepared one is no session's any more."""
        return any(transaction.message is message and not transaction.prepared for transaction in self.open)

    def go_on(self, message: Message) -> Transaction | None:
        """Begin the next transaction of a message, unless one is still open."""
        if self.is_busy(message):
            return None
        began, latest = message.began, message.latest_clock
        self.open.append(Transaction(began, self.now, latest, message.own, message, shown=True))
        return self.open[-1]

    def write(self, transaction: Transaction, key: int, how: str, by: timedelta) -> None:
        """Insert, update or delete a row; who would have to wait for a lock does nothing."""
        if transaction.prepared or any(key in other.writes for other in self.open if other is not transaction):
            return
        transaction.shown = True
        transaction.xid = transaction.xid or self._next_xid()
        before = transaction.writes.get(key) or next(reversed(self.history.get(key, [])), None)
        old = before if before is not None and not before.deleted else None
        if how == "delete" and old is None:
            return
        moments = {"clock": self.now, "skewed": transaction.began - by, "future": self.now + by}
        moment = moments.get(how, transaction.began)
        a: datetime | None
        b: datetime | None
        a, b = (moment, None) if old is None else (old.a, moment)
        if how == "null":
            a = b = None
        elif how == "undo" and old is not None:
            b = None
        elif how == "keep" and old is not None:
            b = old.b
        self.versions += 1
        n, page = self.versions, self.versions % PAGES
        before_that = self.history.get(key, [])[-2:-1]
        if how == "again" and old is not None and before_that and not before_that[0].deleted:
            n, a, b = before_that[0].n, before_that[0].a, before_that[0].b
            COUNTS["rows that were changed back"] += 1
        transaction.writes[key] = Version(key, n, a, b, how == "delete", transaction, page)

    def _next_xid(self) -> int:
        self.xids += 1
        return self.xids - 1

    def end(self, transaction: Transaction, *, commit: bool) -> None:
        """Commit a transaction, or roll it back."""
        self.open.remove(transaction)
        if commit and transaction.writes:
            self.commits.append((self.now, list(transaction.writes.values())))
            for version in transaction.writes.values():
                self.history.setdefault(version.key, []).append(version)
            COUNTS["transactions committed"] += 1
            COUNTS["row versions committed"] += len(transaction.writes)

    def attach(self, keys: list[int], by: timedelta) -> None:
        """Attach a partition that has rows of these keys already, as old as ``by``."""
        there = self.current()
        free = [k for k in keys if k not in there and not any(k in transaction.writes for transaction in self.open)]
        loading = Transaction(self.now, self.now, self.peak, own=False, xid=self._next_xid())
        oid = FIRST_PARTITION + 1 + len(self.attached)
        rows = []
        for key in free:
            self.versions += 1
            rows.append(Version(key, self.versions, self.now - by, None, False, loading, self.versions % PAGES, oid))
            self.history.setdefault(key, []).append(rows[-1])
        self.commits.append((self.now, list(rows)))
        self.attached.append(len(self.commits))
        COUNTS["partitions attached"] += 1
        COUNTS["rows of attached partitions"] += len(rows)

    def current(self) -> dict[int, Version]:
        """The rows that are there, by key."""
        return {key: versions[-1] for key, versions in self.history.items() if not versions[-1].deleted}

    # what the extractor asks

    def clock(self) -> SourceClock:
        """As ``Source.clock``."""
        if self.replica:
            at = self.commits[self.replayed - 1][0] if self.replayed else datetime.min.replace(tzinfo=UTC)
            return SourceClock(self.now - UNSEEN, None, None, True, at)
        sessions = [t for t in self.open if not t.prepared and (self.sees_others or t.own)]
        between = [m.began for m in self.messages if not self.is_busy(m) and (self.sees_others or m.own)]
        running = [t.began for t in sessions if t.shown and not t.hidden] + between
        prepared = [t.prepared for t in self.open if t.prepared]
        return SourceClock(
            self.now - UNSEEN,
            min(running, default=None),
            min(prepared, default=None),
            self.sees_others,
            hidden=any(t.hidden for t in sessions),
        )

    def relation(self, table: Table) -> SourceRelation:
        """As ``Source.relation``."""
        columns = [SourceColumn("id", "int8", nullable=False), SourceColumn("n", "int8", nullable=False)]
        columns += [self.cells.column("a"), self.cells.column("b")]
        return SourceRelation(RelationKind.PARTITIONED, {column.name: column for column in columns}, ROOT)

    def origin(self, relation: SourceRelation) -> Origin:
        """As ``Source.origin``."""
        commits = self.replayed if self.replica else len(self.commits)
        oids = [FIRST_PARTITION, *(FIRST_PARTITION + 1 + n for n, c in enumerate(self.attached) if c <= commits)]
        parts = [Member(oid, RelationKind.TABLE, f"shop.part{oid}", oid, pages=1) for oid in oids]
        return Origin((Member(ROOT, RelationKind.PARTITIONED, "shop.orders"), *parts))

    def server(self) -> Server:
        """As ``Source.server``."""
        return Server(database=1, in_recovery=bool(self.replica), system="1", timeline=1, position=len(self.commits))

    def partition_bounds(self, oid: int) -> None:
        """As ``Source.partition_bounds``."""

    def cursor_type(self, table: Table, relation: SourceRelation) -> CursorType:
        """As ``Source.cursor_type``."""
        return self.cells.cursor_type

    def key(self, relation: SourceRelation, names: Sequence[str]) -> KeyFacts:
        """As ``Source.key``: it is the primary key."""
        return KeyFacts({name: [ValueType("int8", TypeKind.BASE)] for name in names}, [frozenset(names)])

    def storage(self, table: Table) -> Storage:
        """As ``Source.storage``."""
        return Storage(PAGES, PAGES, 8192, 1.0, by_pages=self.by_pages, layout="")

    def foreign_tables(self, estimate: Estimate) -> list[str]:
        """As ``Source.foreign_tables``: none."""
        return []

    def estimate(self, statement: str, **_: object) -> Estimate:
        """As ``Source.estimate``."""
        return Estimate(1, 1.0, frozenset(["Seq Scan"] if self.by_pages else []))

    def time(self) -> datetime:
        """As ``Source.time``."""
        return self.now

    def oldest_running(self) -> int:
        """As ``Source.oldest_running``; on a replica, what it has not replayed yet is running."""
        open_ = [transaction.xid for transaction in self.open if transaction.xid]
        late = [v.by.xid for _, versions in self.commits[self.replayed :] for v in versions] if self.replica else []
        return min([*open_, *late], default=self.xids)

    def export(self) -> tuple[str, int]:
        """As ``Source.export``."""
        name = f"snapshot {COUNTS['snapshots exported']}"
        self.snapshots[name] = self._visible()
        COUNTS["snapshots exported"] += 1
        return name, self.oldest_running()

    def holds(self, name: str) -> bool:
        """Whether the session lives that holds a snapshot open."""
        return name in self.snapshots

    def _visible(self) -> list[Version]:
        if not self.replica:
            return list(self.current().values())
        there: dict[int, Version] = {}
        for _, versions in self.commits[: self.replayed]:
            there |= {version.key: version for version in versions}
        return [version for version in there.values() if not version.deleted]

    def rows(self, statement: str, snapshot: str | None = None) -> pa.Table:
        """A statement's rows under a snapshot, or under one of this moment."""
        if snapshot is not None and snapshot not in self.snapshots:
            raise TransientError("the snapshot is gone")
        self._show(self._visible() if snapshot is None else self.snapshots[snapshot])
        return self.engine.execute(statement).to_arrow_table()

    def shows_none(self, statement: str) -> bool:
        """As ``Source.shows_none``."""
        nothing: bool = self.rows(statement).num_rows == 0
        COUNTS["windows shown empty"] += nothing
        return nothing

    def count(self, statement: str) -> int:
        """As ``Source.count``."""
        return int(self.rows(statement).column(0)[0].as_py())


class Reader:
    """Reads what the simulated server shows, in batches of two rows."""

    def __init__(self, engine: Any) -> None:
        self._process, self._database = cast(tuple[Process, Database], engine)

    def close(self) -> None:
        """As the real one's."""
        return

    def read(
        self,
        plan: Plan,
        statement: str,
        snapshot: Snapshot | None,
        read_at: datetime,
        counts: object,
        sifting: Sifting | None,
    ) -> Iterator[Any]:
        """As the real one's; breaks off where the history says so."""
        name = snapshot.name if snapshot is not None else None
        rows = self._process.outside("source.read", lambda: self._database.rows(statement, name))
        COUNTS["chunks read"] += snapshot is not None
        for batch in rows.combine_chunks().to_batches(max_chunksize=2):
            landing = conform(batch, plan.columns, plan.table, read_at)
            news = sifting.news(landing, batch.column(len(plan.columns))) if sifting and plan.again else None
            if news is not None:
                self._database.drops(landing.filter(pc.invert(news)))
                COUNTS["rows dropped from chunks"] += pc.sum(pc.invert(news)).as_py() * (snapshot is not None)
                landing = landing.filter(news)
            if landing.num_rows:
                yield landing
            if self._database.broken_reads:
                self._database.broken_reads -= 1
                COUNTS["reads broken off"] += 1
                self._database.snapshots.clear()
                raise TransientError("the connection was lost")


class Sessions:
    """The session that a process reads chunks in; as the real one, on the simulated server."""

    def __init__(self, info: str, table: Table, statement: str, read_at: ReadAt, first: object = None) -> None:
        self._table, self._read_at = table, read_at
        self._snapshot: Snapshot | None = None

    def current(self) -> Snapshot:
        """The snapshot to read; another one when its session is gone."""
        source = AT_WORK.get()
        if self._snapshot is None or not source.holds(self._snapshot.name):
            at = self._read_at(source.time())
            name, oldest = source.export()
            self._snapshot = Snapshot(name, oldest, at, source.storage(self._table), source.server())
        return self._snapshot

    def close(self) -> None:
        """Let it go."""
        self._snapshot = None

    def __enter__(self) -> "Sessions":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
