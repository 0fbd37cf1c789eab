"""By which way batches come into bronze: cheap where it can be, whole where it must be."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.core.tables import Compaction, Mode, Table
from services.core.warehouse import TempTable
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, Loaded
from services.transformer.bronze.compaction import Way, choose
from services.transformer.bronze.tables import BronzeTables, Part
from tests.unit.transformer.test_handover import HASHED, START, loaded, table

MB = 1_000_000
NOW = datetime(2026, 11, 26, tzinfo=UTC)
COLUMNS = {"id": "INT64", "gone": "DATE"} | ADDED_COLUMNS
BASE, DELTA = Part("p.bronze.a_model_base", COLUMNS, 1_000, 100 * MB), Part("p.bronze.a_model_delta", COLUMNS, 0, 0)
FOUND = BronzeTables("p.bronze.a_model", BASE, DELTA, "as wanted")


def incremental(batch_id: str = "b", size: int = MB, columns: dict[str, str] = HASHED, **facts: Any) -> Loaded:
    made = loaded(batch_id, columns, **{"mode": Mode.INCREMENTAL, **facts})
    return Loaded(made.batch, TempTable(made.temp.id, dict(columns), 3, size))


def way(
    *batches: Loaded,
    declared: Table | None = None,
    found: BronzeTables = FOUND,
    snapshot: Loaded | None = None,
    since: datetime | None = None,
) -> Way:
    noted = snapshot.batch if snapshot else None
    return choose(declared or table(), found, "as wanted", list(batches), noted, since, NOW).way


def test_the_usual_batch_is_appended() -> None:
    assert way(incremental()) is Way.APPEND
    assert way(incremental(), incremental("c")) is Way.APPEND


@pytest.mark.parametrize(("size", "chosen"), [(10 * MB, Way.APPEND), (10 * MB + 1, Way.MERGE)])
def test_a_delta_of_more_than_its_share_is_merged(size: int, chosen: Way) -> None:
    assert way(incremental(size=size)) is chosen
    waiting = dataclasses.replace(FOUND, delta=dataclasses.replace(DELTA, rows=5, size=size - MB))
    assert way(incremental(), found=waiting) is chosen
    assert way(found=dataclasses.replace(waiting, delta=dataclasses.replace(DELTA, rows=5, size=size))) is chosen


@pytest.mark.parametrize(("days", "chosen"), [(7, Way.APPEND), (7.01, Way.MERGE)])
def test_a_row_waits_no_longer_than_declared(days: float, chosen: Way) -> None:
    waiting = dataclasses.replace(FOUND, delta=dataclasses.replace(DELTA, rows=5, size=MB))
    since = NOW - timedelta(days=days)
    assert way(incremental(), found=waiting, since=since) is way(found=waiting, since=since) is chosen
    assert way(incremental(), since=since) is Way.APPEND, "nothing waits"


def test_a_small_base_is_merged_into() -> None:
    small = dataclasses.replace(FOUND, base=dataclasses.replace(BASE, size=10 * 1024 * 1024 - 1))
    assert way(incremental(size=1), found=small) is Way.MERGE
    assert (
        way(incremental(size=1), found=dataclasses.replace(FOUND, base=None, delta=None, definition=None)) is Way.MERGE
    )
    declared = table(compaction=Compaction(min_base=0))
    assert way(incremental(size=1), found=small, declared=declared) is Way.APPEND


def test_every_batch_is_merged_where_that_is_declared() -> None:
    assert way(incremental(size=1), declared=table(compaction=Compaction(max_share=0))) is Way.MERGE


def test_a_snapshot_is_merged_only_where_it_deletes() -> None:
    whole = incremental(mode=Mode.SNAPSHOT)
    assert way(whole, declared=table(deletes="soft")) is Way.MERGE
    assert way(whole, declared=table(deletes="keep")) is Way.APPEND
    assert way(whole, declared=table(key=[])) is Way.MERGE


def test_what_is_older_than_a_snapshot_is_merged_where_the_snapshot_deleted() -> None:
    snapshot = incremental("s", mode=Mode.SNAPSHOT, extracted_at=START + timedelta(minutes=5))
    older, newer = incremental("z", extracted_at=START), incremental("a", extracted_at=START + timedelta(minutes=6))
    same, later = (incremental(name, extracted_at=snapshot.batch.extracted_at) for name in ("r", "t"))
    soft = table(deletes="soft")
    for batch, chosen in ((older, Way.MERGE), (newer, Way.APPEND), (same, Way.MERGE), (later, Way.APPEND)):
        assert way(batch, declared=soft, snapshot=snapshot) is chosen, batch.batch.id
        assert way(batch, snapshot=snapshot) is Way.APPEND
    assert way(newer, older, declared=soft, snapshot=snapshot) is Way.MERGE


LACKING = {name: type_ for name, type_ in COLUMNS.items() if name != "gone"}


@pytest.mark.parametrize(
    "found",
    [
        dataclasses.replace(FOUND, delta=None),
        dataclasses.replace(FOUND, base=None, adopted=BASE),
        dataclasses.replace(FOUND, base=dataclasses.replace(BASE, columns=LACKING)),
        dataclasses.replace(FOUND, delta=dataclasses.replace(DELTA, columns=LACKING)),
        dataclasses.replace(FOUND, definition="another"),
        dataclasses.replace(FOUND, definition=None),
    ],
    ids=["no delta", "one table from before", "base lacks", "delta lacks", "another view", "no view"],
)
def test_what_is_not_as_it_is_to_be_is_made_first(found: BronzeTables) -> None:
    assert way(incremental(), found=found) is way(found=found) is Way.MAKE


def test_a_column_that_a_batch_brings_is_made_first() -> None:
    assert way(incremental(columns=HASHED | {"more": "STRING"})) is Way.MAKE
    assert way(incremental(columns=HASHED | {"GONE": "DATE"})) is Way.APPEND
