"""What must hold in every history: at any time, and when it has come to rest (invariants 1 to 4)."""

from datetime import datetime, timedelta

from services.core.batch import Batch, BatchState
from services.core.errors import PipelineError
from services.core.tables import Cursor, Mode
from services.core.warehouse import hashed_table_id
from services.extractor.source.clock import UNSEEN
from tests.unit.extractor.history.bucket import LANDING
from tests.unit.extractor.history.cells import Cells
from tests.unit.extractor.history.counting import COUNTS
from tests.unit.extractor.history.history import History
from tests.unit.extractor.history.inventing import TICK
from tests.unit.extractor.history.source import FIRST_PARTITION, Version


class Judge:
    """Looks at a history, again and again."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._furthest: dict[int, int] = {}
        """Per key the place in its history of the version that bronze has."""

    def promised(self, version: Version, cursor: Cursor | None = None) -> bool:
        """Whether incremental runs bring a version, once the source is at rest.

        Args:
            version: the version.
            cursor: what was declared when the runs were planned; what is declared now if not given.
        """
        history = self._history
        return promised(version, cursor or history.cursor, history.cells, history.sight, history.scale.safety)

    def _places(self, key: int, n: int, *, deleted: bool = False) -> list[int]:
        """Which versions of a key's history a row can be: one that was changed back is like an older one."""
        versions = self._history.database.history[key]
        found = [place for place, version in enumerate(versions) if version.n == n and not version.deleted]
        if deleted:
            gone = [next((p for p, v in enumerate(versions) if p > place and v.deleted), None) for place in found]
            found = [place for place in gone if place is not None]
        return found

    def check(self) -> None:
        """What must hold at any time."""
        history = self._history
        for process in [process for process in history.processes if process.ended]:
            history.processes.remove(process)
            if process.error is not None and not isinstance(process.error, PipelineError):
                raise process.error
        can_be = {key: self._places(key, h.n, deleted=h.deleted) for key, h in history.warehouse.bronze.items()}
        for key, found in can_be.items():
            later = [place for place in found if place >= self._furthest.get(key, 0)]
            assert later, "a newer version was replaced"
            self._furthest[key] = later[0]
        places = {key: found[-1] for key, found in can_be.items()}
        merged = [b for b in history.state.batches_of_table("t") if b.state is BatchState.MERGED]
        for batch in merged:
            for row in history.warehouse.loaded[batch.id]:
                place = self._places(row["id"], row["n"])[0]
                assert places.get(row["id"], -1) >= place, "a batch that is noted as merged is not in bronze"
        watermark = history.state.progress("t").watermark
        if watermark is not None:
            anew_at = history.state.progress("t").anew_at
            counting = [b for b in merged if anew_at is None or b.extracted_at >= anew_at]
            reached = reach([(b.window.low, b.window.high) for b in counting if b.window])
            assert watermark <= history.cells.place(history.database.peak), "it passed the moment of extraction"
            assert reached is not None
            assert watermark <= reached, "the watermark passed a gap"
            self._watermark_has_passed_nothing(watermark, places, merged)
        COUNTS["steps"] += 1

    def _rests_on(self, merged: list[Batch]) -> Cursor:
        """The cursor as it was declared when the watermark was planned."""
        history = self._history
        raised = history.raised_at
        anew = raised is not None and any(b.anew and int(b.run_id.removeprefix("run-")) > raised for b in merged)
        return history.cursor if anew else history.declared.cursor

    def _watermark_has_passed_nothing(self, watermark: datetime, places: dict[int, int], merged: list[Batch]) -> None:
        cursor, cells = self._rests_on(merged), self._history.cells
        for key, version in self._history.database.current().items():
            attached = version.partition != FIRST_PARTITION  # with rows that are older than any window
            if version.moment is None or attached or not self.promised(version, cursor):
                continue
            # Below the lookback nothing is read again. Above it, what a transaction writes by its own clock is not
            # passed either; the rows of a day go on changing until it is over.
            honest = cursor.type == "timestamp" and version.moment >= version.by.latest_clock - cursor.lag
            passed = watermark if honest else watermark - cursor.lookback
            if cells.place(version.moment) <= passed:
                versions = self._history.database.history[key]
                assert places.get(key, -1) >= len(versions) - 1, "the watermark passed a change"

    def settle(self) -> None:
        """All transactions and processes end, and two more runs bring what is promised, a snapshot all the rest."""
        history, database = self._history, self._history.database
        history.let_all_finish()
        database.broken_reads = history.warehouse.failing_merges = 0
        for transaction in list(database.open):
            database.end(transaction, commit=True)
        database.messages.clear()
        database.now = database.peak
        self._let_come_what_is_due()
        history.cycle(Mode.INCREMENTAL)
        before = history.state.batches_of_table("t")
        history.cycle(Mode.INCREMENTAL)
        self.check()
        promised = {key: v.n for key, v in database.current().items() if self.promised(v)}
        bronze = self._bronze()
        assert {key: bronze.get(key) for key in promised} == promised, "lost after two quiet runs"
        if len(history.state.batches_of_table("t")) > len(before):
            self._watermark_has_moved()
        history.cycle(Mode.SNAPSHOT)
        self.check()
        source = {key: v.n for key, v in database.current().items()}
        bronze = self._bronze()
        assert {key: bronze.get(key) for key in source} == source, "lost after a snapshot"
        assert history.table.deletes == "keep" or bronze == source, "a deleted row is still there after a snapshot"
        self._nothing_is_left()
        COUNTS["rows compared after two runs"] += len(promised)
        COUNTS["rows compared after a snapshot"] += len(source)

    def _bronze(self) -> dict[int, int]:
        return {key: held.n for key, held in self._history.warehouse.bronze.items() if not held.deleted}

    def _let_come_what_is_due(self) -> None:
        """A person corrects nulls that fail, and time passes until what was ahead of it is not any more."""
        history, database, cursor = self._history, self._history.database, self._history.cursor
        if cursor.nulls == "fail":
            correcting = database.begin()
            for key, version in database.current().items():
                if version.moment is None:
                    database.write(correcting, key, "now", timedelta(0))
            database.end(correcting, commit=True)
        if cursor.future != "every_run":
            latest = max((v.moment for v in database.current().values() if v.moment), default=database.now)
            database.pass_time(max(latest - database.now, timedelta(0)) + cursor.lag + timedelta(days=3))
        database.pass_time(history.scale.safety + UNSEEN)
        database.commits.append((database.now, []))
        database.replayed = len(database.commits)

    def _watermark_has_moved(self) -> None:
        """A pipeline that never moved its watermark would lose nothing either."""
        history = self._history
        unseen = timedelta(0) if history.sight == "all" else history.scale.safety
        due = history.database.now - UNSEEN - unseen - history.cursor.lag - history.cells.rounding
        anywhere = history.cursor.type == "date" and history.cursor.time_zone is None
        watermark = history.state.progress("t").watermark
        assert watermark is not None
        assert watermark >= history.cells.place(due) - timedelta(days=2 if anywhere else 0)

    def _nothing_is_left(self) -> None:
        history = self._history
        assert {b.state for b in history.state.batches_of_table("t")} <= {BatchState.MERGED, BatchState.FAILED}
        failed = [b for b in history.state.batches_of_table("t") if b.state is BatchState.FAILED]
        # Objects of a batch whose extractor was killed while it cleared them away are the sweep's, which is not here.
        left = [batch.id for batch in failed] if "extractor" in history.killed else []
        assert [name for name in history.bucket.landed(LANDING) if not any(id_ in name for id_ in left)] == []
        # A loader that comes late can load a batch that has failed meanwhile; its temp table expires.
        assert history.warehouse.temp.keys() <= {hashed_table_id("p", "business_case_temp", batch) for batch in failed}
        assert [d.id for d in history.store.query("leases", {}) if d.data["holder"] is not None] == []


def reach(windows: list[tuple[datetime | None, datetime]]) -> datetime | None:
    """How far windows cover the time from its beginning, by trying until none leads further."""
    reached: datetime | None = None
    while True:
        further = [
            high
            for low, high in windows
            if (low is None or (reached is not None and low <= reached)) and (reached is None or high > reached)
        ]
        if not further:
            return reached
        reached = further[0]


def promised(version: Version, cursor: Cursor, cells: Cells, sight: str, safety: timedelta) -> bool:
    """Whether incremental runs bring a version, once the source is at rest.

    Args:
        version: the version.
        cursor: as it was declared when the runs were planned.
        cells: how the application writes moments.
        sight: what the extractor's role sees of open transactions.
        safety: EXTRACT_SAFETY_LAG.
    """
    by, moment = version.by, version.moment
    if moment is None:
        return cursor.nulls == "every_run"
    if version.partition != FIRST_PARTITION:
        return True
    if by.prepared and sight == "all" and not by.hidden:
        in_time = by.prepared - by.began < safety
    else:
        in_time = (sight == "all" and not by.hidden) or by.until - by.began < safety
    covered = cells.place(by.latest_clock - TICK - cursor.lag)
    return in_time and cells.place(moment) > covered - cursor.lookback
