"""Random histories of one table, with dropping and without it: bronze is the same, key by key, at every moment.

The rule is the real one (``planning.again``), on the real batches, windows and chains. What is around it is a model
that is small enough for thousands of histories: rows with a day as their cursor; runs that land, fail, or die; batches
that are merged in any order, rejected or discarded; files, parts of failed batches that somebody brings back, snapshots
that find rows deleted; other declarations; fingerprints that are gone. test_window_history.py plays the real services.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.batch import Batch, BatchState, Fingerprints, Step
from services.core.chain import covered
from services.core.state.memory import Seen
from services.core.state.state import TableProgress
from services.core.tables import Mode
from services.core.window import Window
from services.extractor.planning.again import FORM, arrived, void
from services.extractor.planning.window import next_window
from tests.unit.extractor.test_again import SEEN

EXAMPLES = int(os.environ.get("CREDIX_AGAIN_EXAMPLES", "1000"))
STEPS = 60
KEYS = 4
START = datetime(2026, 11, 26, tzinfo=UTC)
DAY = timedelta(days=1)
COUNTS: Counter[str] = Counter()

WHAT = {
    **{"write": 8, "back": 6, "delete": 2, "another day": 2},
    **{"run": 14, "snapshot": 1, "run that fails": 2, "run that dies": 1},
    **{"merge": 6, "merge all": 10, "reject": 1, "hold": 1, "release": 2, "discard": 1},
    **{"file": 1, "part brought back": 2, "file noted": 2},
    **{"declared otherwise": 1, "fingerprints gone": 1},
}
CHOICES = [what for what, weight in WHAT.items() for _ in range(weight)]

Row = tuple[int, str, datetime | None]
"""Key, value, cursor: what a fingerprint is made of here."""
Read = tuple[Row, int, datetime]
"""A row, which columns were declared when it was read, and when it was read."""


@dataclass(frozen=True)
class Held:
    """A row of bronze."""

    row: tuple[Row, int]
    as_new: tuple[datetime, str]
    deleted: bool = False


@dataclass
class Bronze:
    """What merging makes of versions: the newest wins, and a snapshot deletes what it lacks and is older."""

    rows: dict[int, Held] = field(default_factory=dict)
    snapshots: list[tuple[datetime, str]] = field(default_factory=list)

    def merge(self, batch: Batch, rows: list[Read]) -> None:
        """Merge a batch."""
        for row, columns, read_at in rows:
            as_new = (read_at, batch.id)
            if row[0] not in self.rows or self.rows[row[0]].as_new < as_new:
                self.rows[row[0]] = Held((row, columns), as_new)
        if batch.mode is Mode.SNAPSHOT:
            self.snapshots.append((batch.extracted_at, batch.id))
        for key, held in self.rows.items():
            if not held.deleted and any(held.as_new < snapshot for snapshot in self.snapshots):
                self.rows[key] = Held(held.row, held.as_new, deleted=True)

    def shown(self) -> dict[int, tuple[Row, int]]:
        """What readers see."""
        return {key: held.row for key, held in self.rows.items() if not held.deleted}


@dataclass
class Landed:
    """What a batch has landed, and what it would have without dropping."""

    rows: list[Read]
    all_rows: list[Read]


class History:
    """One table, and what happens to it."""

    def __init__(self) -> None:
        self.now = START + DAY / 2
        self.table: dict[int, Row] = {}
        self.older: dict[int, Row] = {}
        """Per key the version before."""
        self.batches: dict[str, Batch] = {}
        self.landed: dict[str, Landed] = {}
        self.kept: dict[str, frozenset[Row]] = {}
        self.seen: dict[str, Seen] = {}
        self.declared = SEEN
        self.progress = TableProgress()
        self.in_landing: list[tuple[datetime, list[Read]]] = []
        """Files that nobody has noted."""
        self.with_dropping, self.without = Bronze(), Bronze()

    def happens(self, what: str, random: Random) -> None:
        """Let something happen."""
        self.now += timedelta(seconds=1)
        key = random.randrange(KEYS)
        match what:
            case "write":
                day = random.choice([0, 0, 0, -1, -1, -3, 1, 2, None])
                cursor = None if day is None else self.today + day * DAY
                self._write((key, random.choice("AB"), cursor))
            case "back" if key in self.older:
                self._write(self.older[key])
            case "delete":
                self.table.pop(key, None)
            case "another day":
                self.now += DAY
            case "run" | "run that fails" | "run that dies" | "snapshot":
                self._run(what)
            case "file":
                row: Row = (key, random.choice("ABF"), self.today)
                self.in_landing.append((self.now, [self._read(row)]))
            case "part brought back":
                failed = [b for b in self.batches.values() if b.state is BatchState.FAILED and b.id in self.landed]
                if failed:
                    self.in_landing.append((self.now, self.landed[random.choice(failed).id].all_rows))
            case "file noted" if self.in_landing:
                self._note(*self.in_landing.pop(random.randrange(len(self.in_landing))))
            case "declared otherwise":
                self.declared = SEEN.model_copy(update={"last_column": random.randrange(3)})
            case "fingerprints gone" if self.kept:
                self.kept.pop(random.choice(sorted(self.kept)))
            case "merge all":
                for _ in self.batches:
                    self._step("merge", random)
            case "merge" | "reject" | "hold" | "release" | "discard":
                self._step(what, random)

    @property
    def today(self) -> datetime:
        """The window's day now."""
        return self.now.replace(hour=0, minute=0, second=0, microsecond=0)

    def _write(self, row: Row) -> None:
        if row[0] in self.table:
            self.older[row[0]] = self.table[row[0]]
        self.table[row[0]] = row

    def _run(self, what: str) -> None:
        self.now += timedelta(seconds=1)
        mode = Mode.SNAPSHOT if what == "snapshot" else Mode.INCREMENTAL
        reached = covered(self.progress.covered, [b for b in self.batches.values() if b.open])
        window = next_window(mode, reached.until, self.today)
        known, fingerprints = self._known(reached.batch, mode, window)
        read = [row for row in self.table.values() if window.low is None or _after(row, window.low)]
        news = [row for row in read if row not in known]
        dropped = [row for row in read if row in known]
        COUNTS["rows dropped"] += len(dropped)
        if not news and mode is Mode.INCREMENTAL:
            COUNTS["runs without news"] += 1
            # Without dropping there were a batch, which is merged at some time: at once is the hardest for the other.
            quiet = self._batch(mode, window)
            self.without.merge(quiet, [self._read(row) for row in dropped])
            return
        batch = self._batch(mode, window)
        self.progress = self.progress.model_copy(update={"extracted_at": batch.extracted_at})
        self.seen[batch.id] = self.declared
        if what == "run that dies":
            COUNTS["runs that died"] += 1
            return  # before the batch was noted
        again = frozenset(row for row in read if _after(row, window.high))
        kept = Fingerprints(
            form=FORM,
            columns="columns",
            rows=len(again),
            ahead=sum(cursor is not None and cursor > window.high for _, _, cursor in again),
            sha256="",
            unannounced=fingerprints,
        )
        self.kept[batch.id] = again
        self.batches[batch.id] = batch.model_copy(update={"fingerprints": kept, "rows_known": len(dropped)})
        self.landed[batch.id] = Landed([self._read(row) for row in news], [self._read(row) for row in read])
        self._after(batch.id, Step.ABANDON if what == "run that fails" else Step.LAND)

    def _read(self, row: Row) -> Read:
        return row, self.declared.last_column, self.now

    def _batch(self, mode: Mode, window: Window) -> Batch:
        return Batch(
            id=f"{self.now:%Y%m%dT%H%M%S%f}Z-00000000",
            run_id="run",
            table="t",
            mode=mode,
            window=window,
            extracted_at=self.now,
            started_at=self.now,
        )

    def _known(self, batch_id: str | None, mode: Mode, window: Window) -> tuple[frozenset[Row], str | None]:
        """What the extractor asks, in its order: the state, then landing/, then the state again, then the object."""
        unannounced = self.progress.unannounced
        tip = self.batches.get(batch_id or "")
        nothing: frozenset[Row] = frozenset()
        if tip is None or mode is Mode.SNAPSHOT:
            return nothing, unannounced
        why = void(tip, window, self.progress, self.seen.get(tip.id), self.declared, "columns")
        if why is None:
            why = "a file is there" if self.in_landing else arrived(tip, self.progress)
        COUNTS[f"void: {why}" if why else "fingerprints counted"] += 1
        return (self.kept.get(tip.id, nothing) if why is None else nothing), unannounced

    def _note(self, arrived_at: datetime, rows: list[Read]) -> None:
        """The loader takes a file."""
        batch = self._batch(Mode.INCREMENTAL, Window(low=None, high=arrived_at)).model_copy(
            update={"window": None, "extracted_at": arrived_at, "arrived_at": arrived_at}
        )
        self.progress = self.progress.model_copy(update={"unannounced": batch.id})
        self.batches[batch.id] = batch
        self.landed[batch.id] = Landed(rows, rows)
        self._after(batch.id, Step.LAND)
        COUNTS["files"] += 1

    def _after(self, batch_id: str, step: Step) -> None:
        self.batches[batch_id] = self.batches[batch_id].after(step, self.now)

    def _step(self, what: str, random: Random) -> None:
        """The loader, the transformer or a person do something about a batch."""
        states = {"merge": (BatchState.LANDED, BatchState.LOADED), "reject": (BatchState.LANDED,)}
        states |= {"hold": (BatchState.LANDED,), "release": (BatchState.HELD,), "discard": (BatchState.HELD,)}
        found = [batch.id for batch in self.batches.values() if batch.state in states[what]]
        if not found:
            return
        batch_id = random.choice(found) if random.random() < 0.3 else found[0]
        steps = {"merge": (Step.LOAD, Step.MERGE), "reject": (Step.REJECT,), "hold": (Step.LOAD, Step.HOLD)}
        steps |= {"release": (Step.RELEASE,), "discard": (Step.DISCARD,)}
        for step in steps[what]:
            self._after(batch_id, step)
        COUNTS[what] += 1
        if what == "merge":
            landed = self.landed[batch_id]
            self.with_dropping.merge(self.batches[batch_id], landed.rows)
            self.without.merge(self.batches[batch_id], landed.all_rows)
            self._advance()

    def _advance(self) -> None:
        """Move the watermark as ``PipelineState.advance`` does."""
        merged = [b for b in self.batches.values() if b.open and b.state is BatchState.MERGED]
        reached = covered(self.progress.covered, merged)
        self.progress = self.progress.model_copy(update={"watermark": reached.until, "watermark_batch": reached.batch})
        for batch in merged:
            if batch.window is None or (reached.until is not None and batch.window.high <= reached.until):
                self.batches[batch.id] = batch.model_copy(update={"open": False})


def _after(row: Row, edge: datetime) -> bool:
    """Whether a window that begins at an edge reads a row: its lookback is a day, and it reads nulls."""
    return row[2] is None or row[2] > edge - DAY


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_bronze_is_what_it_would_be_if_nothing_were_dropped(seed: int) -> None:
    random, history = Random(seed), History()  # noqa: S311 - reproducible, not secret
    told: list[Any] = []
    for _ in range(STEPS):
        what = random.choice(CHOICES)
        told.append(what)
        history.happens(what, random)
        assert history.with_dropping.shown() == history.without.shown(), told
    assert {k for k, h in history.with_dropping.rows.items()} == set(history.without.rows), told


def test_the_histories_had_in_them_what_they_are_meant_to_have() -> None:
    """Otherwise nothing was tested."""
    if COUNTS["fingerprints counted"] < 500:
        pytest.skip("too few histories to say")
    expected = ["rows dropped", "runs without news", "files", "runs that died", "reject", "discard", "release"]
    reasons = [what for what in COUNTS if what.startswith("void: ")]
    assert len(reasons) >= 5, reasons
    for what in expected:
        assert COUNTS[what] >= 20, (what, COUNTS)
