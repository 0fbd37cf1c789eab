"""BigQuery in memory: tables that expire, jobs with ids that go on after their caller died, lists that may be stale.

What a MERGE does is the rule of dbt/macros/bronze.sql in Python; tests/integration/test_dbt_bronze.py compares both.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from google.api_core.exceptions import Conflict

from services.core.parquet import whole_file
from tests.simulation.buckets import MemoryBuckets
from tests.simulation.scheduler import Scheduler
from tests.simulation.statements import (
    FAILING,
    BatchRows,
    Clear,
    Insert,
    Row,
    Shrinkage,
    Statement,
    Void,
    Waiting,
    is_bad,
)

DELAYS = (0.0, 0.5, 30.0, 400.0)
"""Seconds after which a job that was sent runs: at once, or later."""
ROW_BYTES = 100


@dataclass
class Table:
    """A table or a view, as BigQuery has it."""

    columns: dict[str, str]
    created: datetime
    rows: list[Row] = field(default_factory=list)
    expires: datetime | None = None
    view: str | None = None
    """Of a view: the fingerprint of its definition."""
    over_delta: bool = False
    """Whether a view shows the delta, too."""


class JobFailed(Exception):
    """A job ends with an error, and has done nothing."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass
class Job:
    """A job that was sent."""

    id: str
    kind: str
    """query, load or copy."""
    text: str
    work: Callable[[], int]
    """Does it; returns how many rows it wrote."""
    done: bool = False
    rows: int = 0
    error: dict[str, str] | None = None


class Warehouse:
    """The datasets and the jobs of a project."""

    def __init__(self, scheduler: Scheduler, buckets: MemoryBuckets) -> None:
        self.scheduler, self._buckets = scheduler, buckets
        self._tables: dict[str, Table] = {}
        self.jobs: dict[str, Job] = {}
        self.loaded: dict[str, list[Row]] = {}
        """All rows that were ever loaded, by hashed table."""
        self.copied: dict[str, list[str]] = {}
        """By destination, what was copied over it, in order."""
        self.changes = 0
        """How often a table has changed."""
        self._listed: dict[str, list[str]] = {}
        """What was said last of a dataset."""

    # --- tables -------------------------------------------------------------------------------------------------------

    def table(self, id_: str) -> Table | None:
        """A table, unless it has expired."""
        found = self._tables.get(id_)
        if found is not None and found.expires is not None and found.expires <= self.scheduler.now():
            del self._tables[id_]
            return None
        return found

    def there(self, id_: str) -> Table:
        """A table that is there.

        Raises:
            JobFailed: it is not.
        """
        if (found := self.table(id_)) is None:
            raise JobFailed("notFound", f"Not found: Table {id_}")
        return found

    def names(self, dataset: str) -> list[str]:
        """The names of a dataset's tables, or what was said of them the time before."""
        scheduler = self.scheduler
        before = self._listed.get(dataset)
        names = [id_.removeprefix(f"{dataset}.") for id_ in sorted(self._tables) if id_.startswith(f"{dataset}.")]
        self._listed[dataset] = names
        if before is None or before == names or scheduler.quiet or not scheduler.choices.happens(scheduler.odds.slow):
            return names
        scheduler.say(f"BigQuery's list of {dataset} is an old one")
        return before

    def create(self, id_: str, columns: dict[str, str], *, if_absent: bool) -> Table:
        """Make an empty table; without ``if_absent`` in the place of one that is there."""
        if if_absent and (found := self.table(id_)) is not None:
            return found
        self.changes += 1
        self._tables[id_] = Table(dict(columns), self.scheduler.now())
        return self._tables[id_]

    def drop(self, id_: str) -> bool:
        """Drop a table; whether it was there."""
        found = self.table(id_) is not None
        self._tables.pop(id_, None)
        self.changes += found
        return found

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def send(self, id_: str, kind: str, text: str, work: Callable[[], int]) -> Job:
        """Take a job; it runs at once or later, and fails for a passing reason now and then.

        Raises:
            Conflict: its id was taken before.
        """
        if id_ in self.jobs:
            raise Conflict(f"Already Exists: Job {id_}")  # type: ignore[no-untyped-call]
        job = self.jobs[id_] = Job(id_, kind, text, work)
        scheduler = self.scheduler
        if not scheduler.quiet and scheduler.choices.happens(scheduler.odds.fails / 2):
            job.done, job.error = True, {"reason": "backendError", "message": "of BigQuery's own"}
            scheduler.say(f"BigQuery's job {id_} fails by itself")
            return job
        delay = 0.0 if scheduler.quiet else DELAYS[scheduler.choices.one_of(len(DELAYS), scheduler.odds.slow)]
        if delay:
            scheduler.say(f"BigQuery lets job {id_} wait for {delay:g} s")

            def later() -> None:
                scheduler.sleep(delay)
                self._run(job)

            scheduler.start(f"job {id_}", later, sure=True)
        else:
            self._run(job)
        return job

    def _run(self, job: Job) -> None:
        try:
            job.rows = job.work()
        except JobFailed as error:
            job.error = {"reason": error.reason, "message": error.message}
        job.done = True
        self.changes += 1

    # --- what jobs do -------------------------------------------------------------------------------------------------

    def load(self, uris: Iterable[str], to: str, columns: dict[str, str]) -> int:
        """Load Parquet into a table, in the place of what it held.

        Raises:
            JobFailed: an object is not there, or is no Parquet.
        """
        rows: list[Row] = []
        for uri in uris:
            bucket, _, name = uri.removeprefix("gs://").partition("/")
            content = self._buckets.read(bucket, name)
            if content is None:
                raise JobFailed("notFound", f"Not found: URI {uri}")
            try:
                rows += parquet_rows(content)
            except ValueError as error:
                raise JobFailed("invalid", str(error)) from error
        self.create(to, columns, if_absent=False).rows = self.loaded[to] = rows
        return len(rows)

    def copy(self, from_: str, to: str) -> int:
        """Copy a table over another one.

        Raises:
            JobFailed: it is not there.
        """
        source = self.there(from_)
        self.create(to, source.columns, if_absent=False).rows = list(source.rows)
        self.copied.setdefault(to, []).append(from_)
        return len(source.rows)

    def run(self, statement: Statement) -> tuple[int, list[tuple[Any, ...]]]:
        """Run a statement of the services': rows it wrote, and rows it gave.

        Raises:
            JobFailed: a table is not there.
        """
        match statement:
            case Void():
                return 0, []
            case Insert(into, batches, guarded):
                rows = self.tested(self.rows_of(batches)) if guarded else self.rows_of(batches)
                self.there(into).rows += rows
                return len(rows), []
            case Waiting(delta):
                return 0, [(id_,) for id_ in sorted({row["_batch_id"] for row in self.there(delta).rows})]
            case Clear(delta, cleared):
                table = self.there(delta)
                kept = [row for row in table.rows if row["_batch_id"] not in cleared]
                count, table.rows = len(table.rows) - len(kept), kept
                return count, []
            case Shrinkage(bronze, snapshot, key):
                found = {tuple(row[name] for name in key) for row in self.there(snapshot).rows}
                held = [row for row in self.view(bronze, key) if row["_deleted_at"] is None]
                return 0, [(len(held), sum(tuple(row[name] for name in key) not in found for row in held))]

    def rows_of(self, batches: Iterable[BatchRows]) -> list[Row]:
        """The rows of batches, as bronze has them.

        Raises:
            JobFailed: a hashed table is not there.
        """
        now = self.scheduler.now()
        return [row for batch in batches for row in batch.of(self.there(batch.table).rows, now)]

    @staticmethod
    def tested(rows: list[Row]) -> list[Row]:
        """The rows, if all pass their tests.

        Raises:
            JobFailed: they do not.
        """
        if bad := sum(map(is_bad, rows)):
            raise JobFailed("invalidQuery", f"{FAILING}: {bad}")
        return rows

    def view(self, name: str, key: tuple[str, ...]) -> list[Row]:
        """What people see of a bronze model: the newest version of every key.

        Raises:
            JobFailed: there is none.
        """
        view = self.there(name)
        if view.view is None:
            raise JobFailed("notFound", f"{name} is no view")
        delta = self.table(f"{name}_delta") if view.over_delta else None
        versions = [*self.there(f"{name}_base").rows, *(delta.rows if delta else [])]
        return list(newest(versions, key).values())

    def merge(self, name: str, told: dict[str, Any], batches: tuple[BatchRows, ...]) -> int:
        """Merge batches, and the delta, into the base; by the rule of ``merge_of_versions``.

        Args:
            name: the bronze model, project.dataset.model.
            told: its entry in dbt's variable ``bronze``.
            batches: its batches' rows.

        Raises:
            JobFailed: a table is not there.
        """
        key = tuple(told["key"])
        base = self.there(f"{name}_base")
        versions = self.tested(self.rows_of(batches)) if told["guard"] else self.rows_of(batches)
        if told["delta"]:
            versions += self.there(f"{name}_delta").rows
        deletes = told["deletes"] == "soft"
        taken = {_told(batch) for batch in told["batches"] if deletes and batch["snapshot"]}
        known = {_told(told["merged_snapshot"])} if deletes and told["merged_snapshot"] else set()
        if taken:
            versions += [row for row in base.rows if row["_deleted_at"] is None and as_new(row) < max(taken)]
        held = {_key(row, key): row for row in base.rows}
        written = 0
        for place, row in newest(versions, key).items():
            living = row["_deleted_at"] is None
            gone = next((each for each in sorted(taken | known) if living and as_new(row) < each), None)
            before = held.get(place)
            newer = before is None or as_new(before) < as_new(row)
            if newer or (gone is not None and before is not None and as_new(before) == as_new(row)):
                held[place] = row if gone is None else _gone(row, gone)
                written += 1
        base.rows = list(held.values())
        return written


AsNew = tuple[datetime, str]
"""How new a version of a row is: when it was read, and the batch."""


def as_new(row: Row) -> AsNew:
    """How new a row of bronze is."""
    return row["_extracted_at"], row["_batch_id"]


def newest(versions: Iterable[Row], key: tuple[str, ...]) -> dict[tuple[Any, ...], Row]:
    """The newest version of every key."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in versions:
        place = _key(row, key)
        if place not in found or as_new(found[place]) < as_new(row):
            found[place] = row
    return found


def _key(row: Row, key: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row[name] for name in key)


def _gone(row: Row, snapshot: AsNew) -> Row:
    at, batch_id = snapshot
    return row | {"_batch_id": batch_id, "_extracted_at": at, "_deleted_at": at}


def _told(version: dict[str, str]) -> AsNew:
    return datetime.fromisoformat(version["extracted_at"]), version["batch_id"]


@lru_cache(5_000)
def parquet_rows(content: bytes) -> list[Row]:
    """The rows of a Parquet file.

    Raises:
        ValueError: it is none.
    """
    return whole_file(content).to_pylist()  # type: ignore[no-any-return]
