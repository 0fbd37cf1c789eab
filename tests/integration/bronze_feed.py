"""Batches of a made-up table, random histories of them, and what bronze is to have after one."""

import datetime as dt
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.cloud.bigquery import SchemaField

from tests.integration.warehouse_fixture import Dbt

Row = dict[str, Any]
Batch = dict[str, Any]

NOON = dt.datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=dt.UTC)

ID, VALUE, NOTE = SchemaField("id", "INT64"), SchemaField("value", "INT64"), SchemaField("note", "STRING")
REMOVED_ON = SchemaField("removed_on", "TIMESTAMP")
ITEM = [ID, VALUE, REMOVED_ON]
BY_ID = {"field": "id", "data_type": "int64", "range": {"start": 0, "end": 6, "interval": 1}}


def at(minutes: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minutes)


def batch(table: str, batch_id: str, minutes: float, **facts: Any) -> Batch:
    """An entry of the variable ``batches``: an incremental batch of a table that keeps what is deleted."""
    keeping = {"snapshot": False, "columns": [], "latest": None, "deleted_at": None}
    version = {"table": table, "batch_id": batch_id, "extracted_at": at(minutes).isoformat(), "source": "oltp.a_table"}
    return version | keeping | facts


@dataclass(eq=False)
class Feed:
    """Merges batches into one model as the transformer does: it knows which snapshots are in bronze."""

    project: Dbt
    model: str
    facts: Row = field(default_factory=dict)
    """What the batches' table declares."""
    loaded: Iterator[int] = field(default_factory=itertools.count)
    snapshots: list[Batch] = field(default_factory=list)

    def load(
        self, batch_id: str, minutes: float, rows: list[Row], columns: Iterable[SchemaField] = ITEM, **facts: Any
    ) -> Batch:
        extra = facts.pop("extra", [])
        table = self.project.load(f"{self.model}__{batch_id}_{next(self.loaded)}", rows, [*columns, *extra])
        brought = [{"name": column.name, "data_type": column.field_type} for column in extra]
        return batch(table, batch_id, minutes, columns=brought, **self.facts | facts)

    def snapshot(self, batch_id: str, minutes: float, rows: list[Row], **facts: Any) -> Batch:
        return self.load(batch_id, minutes, rows, snapshot=True, **facts)

    def known(self, batches: Iterable[Batch]) -> list[Batch]:
        """The batches as the transformer hands them to dbt now."""
        newest = max(self.snapshots, key=order_of, default=None)
        version = newest and {name: newest[name] for name in ("batch_id", "extracted_at")}
        return [each | {"merged_snapshot": version} for each in batches]

    def note(self, batches: Iterable[Batch]) -> None:
        self.snapshots += [each for each in batches if each["snapshot"]]

    def merge(self, *batches: Batch) -> None:
        self.project.run("run", "--select", self.model, batches={self.model: self.known(batches)})
        self.note(batches)

    def rows(self) -> list[Row]:
        return self.project.rows(self.project.datasets.bronze, self.model)

    def by_id(self) -> dict[int, Row]:
        rows = self.rows()
        found = {row["id"]: row for row in rows}
        assert len(found) == len(rows), "a key is there twice"
        return found

    def values(self) -> dict[int, int]:
        """The rows that are not deleted."""
        return {key: row["value"] for key, row in self.by_id().items() if row["_deleted_at"] is None}

    def deleted(self) -> dict[int, tuple[int, str, dt.datetime, dt.datetime]]:
        return {
            key: (row["value"], row["_batch_id"], row["_extracted_at"], row["_deleted_at"])
            for key, row in self.by_id().items()
            if row["_deleted_at"] is not None
        }

    def column(self, name: str) -> dict[int, Any]:
        return {key: row[name] for key, row in self.by_id().items()}

    def drop(self) -> None:
        self.project.drop_bronze(self.model)


def order_of(batch: Batch) -> tuple[dt.datetime, str]:
    return dt.datetime.fromisoformat(batch["extracted_at"]), batch["batch_id"]


def items(**values: int) -> list[Row]:
    """``items(_1=10)`` is the row of key 1 with value 10."""
    return [{"id": int(key[1:]), "value": value} for key, value in values.items()]


@dataclass(frozen=True)
class Version:
    """A row of a random batch."""

    key: int
    value: int
    read: float | None
    removed: float | None

    def row(self) -> Row:
        moments = {"_extracted_at": self.read, "removed_on": self.removed}
        return {"id": self.key, "value": self.value} | {
            name: None if minutes is None else at(minutes) for name, minutes in moments.items()
        }


@dataclass(frozen=True)
class Extracted:
    """A random batch."""

    id: str
    minutes: int
    snapshot: bool
    rows: tuple[Version, ...]

    @property
    def order(self) -> tuple[float, str]:
        return (float(self.minutes), self.id)


def random_batches(chance: random.Random) -> list[Extracted]:
    batches = []
    for _ in range(chance.randint(2, 7)):
        minutes = chance.randrange(8)
        rows: dict[tuple[int, float], Version] = {}
        for key in range(6):
            for _ in range(chance.choice([0, 0, 1, 1, 1, 2])):
                # A half lies between two batches; what is before the batch counts as its beginning.
                read = chance.choice([None, None, minutes + 0.5, minutes + 3, minutes - 1])
                moment = max(read or minutes, minutes)
                removed = chance.choice([None, None, None, -60.0])
                rows.setdefault((key, moment), Version(key, chance.randrange(100), read, removed))
        # Ids in no order of time: two batches of one moment are ordered by them.
        batches.append(Extracted(f"{chance.randrange(10**6):06}", minutes, chance.random() < 0.5, tuple(rows.values())))
    return batches


def newest_and_alive(batches: list[Extracted]) -> tuple[dict[int, tuple[int, str, dt.datetime]], set[int]]:
    """The rule: the newest version wins; a key that the first complete snapshot after it does not have is deleted."""
    newest: dict[int, tuple[tuple[float, str], Version]] = {}
    for each in batches:
        for version in each.rows:
            order = (max(float(each.minutes), version.read or 0.0), each.id)
            if version.key not in newest or newest[version.key][0] < order:
                newest[version.key] = (order, version)
    snapshots = [each.order for each in batches if each.snapshot]
    alive = {
        key: (version.value, order[1], at(order[0]))
        for key, (order, version) in newest.items()
        if version.removed is None and not any(order < snapshot for snapshot in snapshots)
    }
    return alive, newest.keys() - alive.keys()


def random_runs(chance: random.Random, batches: list[Extracted]) -> Iterator[tuple[list[Extracted], bool]]:
    """Runs that bring every batch, some again, in any order; whether the run's end is noted, or it died before that."""
    waiting = chance.sample(batches, len(batches))
    done: list[Extracted] = []
    while waiting:
        run = [waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 3)))]
        noted = chance.random() < 0.8
        replayed = chance.sample(done, min(len(done), chance.choice([0, 0, 1, 2])))
        yield chance.sample([*run, *replayed], len(run) + len(replayed)), noted
        done += run
        if not noted:
            waiting += run


def versions_alive(rows: dict[int, Row]) -> dict[int, tuple[int, str, dt.datetime]]:
    """Of the rows that are not deleted, by key: the value, and the version that it is of."""
    return {
        key: (row["value"], row["_batch_id"], row["_extracted_at"])
        for key, row in rows.items()
        if row["_deleted_at"] is None
    }
