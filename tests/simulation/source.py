"""The PostgreSQL server of the simulation: the one of the extractor's histories, in the simulation's time.

Its statements are run by functions and not by DuckDB (``conditions``), so that thousands of schedules a minute can ask.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from services.core.arrow import conform
from services.core.errors import TransientError
from services.core.tables import Table
from services.extractor.planning.plan import Plan
from services.extractor.reading.sieve import Sifting
from services.extractor.source.session import Snapshot
from tests.simulation.conditions import selected
from tests.simulation.scheduler import Scheduler
from tests.unit.extractor.history.cells import START, Cells
from tests.unit.extractor.history.source import Database, Version


class Source(Database):
    """A database, whose clock goes with the scheduler's time."""

    def __init__(
        self, scheduler: Scheduler, table: Table, cells: Cells, *, sees_others: bool, replica: bool, by_pages: bool
    ) -> None:
        """Begin, empty.

        Args:
            scheduler: has the time.
            table: how the table is declared.
            cells: how the application writes moments.
            sees_others: whether the extractor's role sees others' transactions.
            replica: whether it is one.
            by_pages: whether windows are read by chunks.
        """
        start = START[cells.kind]
        super().__init__(table, cells, sees_others, replica, by_pages, start, start, engine=cast(Any, None))
        self._scheduler, self._seen_time = scheduler, scheduler.time

    def __post_init__(self) -> None:
        """No engine is needed."""

    def catch_up(self) -> None:
        """Let as much time pass here as has passed for the processes."""
        passed, self._seen_time = self._scheduler.time - self._seen_time, self._scheduler.time
        if passed > 0:
            self.pass_time(timedelta(seconds=passed))

    def selected(self, statement: str, snapshot: str | None = None) -> list[list[Any]]:
        """What a statement gives under a snapshot, or under one of this moment."""
        if snapshot is not None and snapshot not in self.snapshots:
            raise TransientError("the snapshot is gone")
        versions = self._visible() if snapshot is None else self.snapshots[snapshot]
        return selected(statement, [self._row(version) for version in versions])

    def _row(self, version: Version) -> dict[str, Any]:
        cell = self.cells.cell
        return {
            "id": version.key,
            "n": version.n,
            "a": cell(version.a),
            "b": cell(version.b),
            "tableoid": version.partition,
            "ctid": (version.page, 1),
            "xmin": version.by.xid,
        }

    def shows_none(self, statement: str) -> bool:
        """As ``Source.shows_none``."""
        return not self.selected(statement)

    def count(self, statement: str) -> int:
        """As ``Source.count``."""
        return int(self.selected(statement)[0][0])


class Reader:
    """Reads what the simulated server shows, in batches of two rows."""

    def __init__(self, engine: Any) -> None:
        self._scheduler, self._source = cast(tuple[Scheduler, Source], engine)

    def close(self) -> None:
        """As the real one's."""

    def read(
        self,
        plan: Plan,
        statement: str,
        snapshot: Snapshot | None,
        read_at: Any,
        counts: object,
        sifting: Sifting | None,
    ) -> Iterator[Any]:
        """As the real one's."""
        source, name = self._source, snapshot.name if snapshot is not None else None
        rows = self._scheduler.outside("the source's rows", lambda: source.selected(statement, name), gone)
        types = [pa.int64(), pa.int64(), source.cells.arrow, source.cells.arrow, pa.int64()]
        for first in range(0, len(rows), 2):
            some = rows[first : first + 2]
            columns = [pa.array([row[i] for row in some], type_) for i, type_ in enumerate(types[: len(some[0])])]
            batch = pa.RecordBatch.from_arrays(columns, [f"c{i}" for i in range(len(columns))])
            landing = conform(batch, plan.columns, plan.table, read_at)
            news = sifting.news(landing, batch.column(len(plan.columns))) if sifting and plan.again else None
            if news is not None:
                source.drops(landing.filter(pc.invert(news)))
                landing = landing.filter(news)
            if landing.num_rows:
                yield landing


def gone(*, lost: bool) -> Exception:
    """The error of a connection that broke."""
    return TransientError("the connection was lost" if lost else "the server does not answer")
