"""Reconcile on a real state, with dbt and BigQuery's table list as stand-ins: what is noted after what."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.core.batch import Batch, BatchState, Step
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.naming import hashed_table
from services.core.settings import TransformerSettings
from services.core.state.lease import acquire, holding
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Column, ColumnType, Mode, Table, Tables
from services.core.window import Window
from services.transformer.dbt_project import DbtProject, NodeResult
from services.transformer.reconcile import LEASE, Transformer

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def table(name: str) -> Table:
    column = Column(name="id", type=ColumnType.INT64, required=True)
    return Table(name=name, source=f"s.{name}", key=["id"], mode=Mode.SNAPSHOT, bronze_model=name, columns=[column])


TABLES = Tables(version=1, tables=[table("a"), table("b")])


@dataclass
class Dbt:
    """Answers as it is told to, and remembers what it was asked."""

    failing: set[str] = field(default_factory=set)
    runs: list[list[str]] = field(default_factory=list)
    variables: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], None] = lambda: None

    def run(self, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        self.runs.append(arguments)
        self.variables.append(variables or {})
        self.during()
        names = arguments[2:] if arguments[0] == "run" else ["gold"]
        return [
            NodeResult(name, "model", "error" if name in self.failing else "success", "why", 0.1, 1, None)
            for name in names
        ]


@dataclass
class Client:
    """The warehouse's tables."""

    dropped: list[str] = field(default_factory=list)
    hashed: set[str] = field(default_factory=set)

    def list_tables(self, dataset: str) -> list[SimpleNamespace]:
        bronze = {table.bronze_model for table in TABLES.tables}
        return [SimpleNamespace(table_id=name) for name in (self.hashed if dataset.endswith("_temp") else bronze)]

    def delete_table(self, table_id: str, not_found_ok: bool) -> None:
        self.dropped.append(table_id)


class NoArtifacts:
    """Keeps nothing."""

    def keep(self, run_id: str, stage: str) -> None:
        return


class NoReports:
    """Publishes nothing."""

    def publish(self, run_id: str) -> None:
        return


@dataclass
class World:
    transformer: Transformer
    state: PipelineState
    dbt: Dbt
    client: Client

    def loaded(self, name: str, low: int | None, high: int) -> str:
        batch = Batch(
            id=f"20261122T1700{high:02}000000Z-00000000",
            run_id="r",
            table=name,
            mode=Mode.INCREMENTAL,
            window=Window(low=None if low is None else at(low), high=at(high)),
            extracted_at=at(high),
            started_at=at(high),
            state=BatchState.LOADED,
        )
        assert self.state.create_batch(batch)
        self.client.hashed.add(hashed_table(name, batch.id))
        return batch.id

    def state_of(self, batch_id: str) -> BatchState:
        batch = self.state.batch(batch_id)
        assert batch is not None
        return batch.state


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("GCP_PROJECT", "p")
    settings = TransformerSettings(transform_lease=timedelta(seconds=1.5))  # type: ignore[call-arg]
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    dbt, client = Dbt(), Client()
    transformer = Transformer(
        settings, TABLES, state, cast(Any, client), cast(DbtProject, dbt), NoArtifacts(), NoReports()
    )
    return World(transformer, state, dbt, client)


def test_a_batch_whose_hashed_table_is_gone_fails_and_does_not_stop_the_others(world: World) -> None:
    gone, same_table, other_table = world.loaded("a", None, 1), world.loaded("a", 1, 2), world.loaded("b", None, 3)
    world.client.hashed.remove(hashed_table("a", gone))
    world.transformer.reconcile("me")
    failed = world.state.batch(gone)
    assert failed is not None
    assert failed.error is not None
    assert (failed.state, failed.error.code, failed.open) == (BatchState.FAILED, "hashed_table_gone", False)
    assert world.state_of(same_table) is world.state_of(other_table) is BatchState.MERGED
    assert world.state.progress("a").watermark is None, "the gap holds it back; the window is read again"
    assert world.state.progress("b").watermark == at(3)


def test_all_loaded_batches_are_merged_in_one_dbt_run(world: World) -> None:
    ids = [world.loaded("a", None, 1), world.loaded("b", None, 2), world.loaded("a", 1, 3)]
    world.transformer.reconcile("me")
    assert [run[0] for run in world.dbt.runs] == ["run", "build"]
    assert world.dbt.runs[0][2:] == ["a", "b"]
    merged = world.dbt.variables[0]["batches"]
    assert {name: [b["batch_id"] for b in batches] for name, batches in merged.items()} == {
        "a": [ids[0], ids[2]],
        "b": [ids[1]],
    }
    assert [world.state_of(id) for id in ids] == [BatchState.MERGED] * 3
    assert (world.state.progress("a").watermark, world.state.progress("b").watermark) == (at(3), at(2))
    assert len(world.client.dropped) == 3
    assert world.state.open_batches("a") == world.state.open_batches("b") == []
    assert world.state.downstream_due() is None


def test_nothing_due_runs_nothing(world: World) -> None:
    assert world.transformer.reconcile("me") == []
    assert world.dbt.runs == []


def test_a_failed_merge_leaves_watermark_and_hashed_table_and_stops_no_other_table(world: World) -> None:
    bad, good = world.loaded("a", None, 1), world.loaded("b", None, 2)
    world.dbt.failing = {"a"}
    with pytest.raises(TransientError, match="table a: bronze model a failed: why"):
        world.transformer.reconcile("me")
    assert (world.state_of(bad), world.state_of(good)) == (BatchState.LOADED, BatchState.MERGED)
    assert (world.state.progress("a").watermark, world.state.progress("b").watermark) == (None, at(2))
    assert [name.split(".")[-1][0] for name in world.client.dropped] == ["b"]
    world.dbt.failing = set()
    world.transformer.reconcile("me")
    assert world.state_of(bad) is BatchState.MERGED
    assert world.state.progress("a").watermark == at(1)


def test_a_gap_holds_the_watermark_until_it_is_filled(world: World) -> None:
    world.loaded("a", None, 1)
    later = world.loaded("a", 2, 3)
    world.transformer.reconcile("me")
    assert world.state.progress("a").watermark == at(1)
    assert [batch.id for batch in world.state.open_batches("a")] == [later]
    world.loaded("a", 1, 2)
    world.transformer.reconcile("me")
    assert world.state.progress("a").watermark == at(3)
    assert world.state.open_batches("a") == []


def test_a_failing_gold_does_not_hold_back_the_watermark_and_is_built_when_the_event_comes_again(world: World) -> None:
    world.loaded("a", None, 1)
    world.dbt.failing = {"gold"}
    with pytest.raises(TransientError, match="gold"):
        world.transformer.reconcile("me")
    assert world.state.progress("a").watermark == at(1)
    assert world.state.downstream_due() is not None
    world.dbt.failing = set()
    world.transformer.reconcile("me")
    assert [run[0] for run in world.dbt.runs] == ["run", "build", "build"]
    assert world.state.downstream_due() is None


def test_what_a_crash_left_after_the_merge_is_finished(world: World) -> None:
    batch_id = world.loaded("a", None, 1)
    world.state.step(batch_id, Step.MERGE)
    world.state.note_downstream_due()
    world.transformer.reconcile("me")
    assert world.state.progress("a").watermark == at(1)
    assert len(world.client.dropped) == 1
    assert [run[0] for run in world.dbt.runs] == ["build"]


def test_a_batch_that_is_loaded_meanwhile_is_merged_too(world: World) -> None:
    world.loaded("a", None, 1)
    late: list[str] = []

    def during() -> None:
        if world.dbt.runs[-1][0] == "build" and not late:
            late.append(world.loaded("b", None, 2))

    world.dbt.during = during
    world.transformer.reconcile("me")
    assert world.state_of(late[0]) is BatchState.MERGED
    assert [run[0] for run in world.dbt.runs] == ["run", "build", "run", "build"]


def test_batches_that_land_together_build_gold_once(world: World) -> None:
    world.loaded("a", None, 1)
    late: list[str] = []

    def during() -> None:
        if not late:
            late.append(world.loaded("b", None, 2))

    world.dbt.during = during
    world.transformer.reconcile("me")
    assert [run[0] for run in world.dbt.runs] == ["run", "run", "build"]


def test_a_holder_that_lives_is_left_to_it(world: World) -> None:
    world.loaded("a", None, 1)
    with holding(world.state.store, LEASE, "other", timedelta(seconds=1.5)):
        with pytest.raises(LeaseBusy):
            world.transformer.reconcile("me")
        assert world.transformer.reconcile_or_leave("me") is None
    assert world.dbt.runs == []


def test_a_holder_that_died_is_replaced_when_its_lease_expires(world: World) -> None:
    batch_id = world.loaded("a", None, 1)
    acquire(world.state.store, LEASE, "dead", timedelta(seconds=1))
    assert world.transformer.reconcile_or_leave("me")
    assert world.state_of(batch_id) is BatchState.MERGED


def test_a_holder_that_lost_its_lease_writes_nothing_more(world: World) -> None:
    """It slept through its lease while dbt ran; another has merged and gone on (fencing)."""
    batch_id = world.loaded("a", None, 1)

    def during() -> None:
        document = world.state.store.get("leases", LEASE)
        assert document is not None
        world.state.store.update(document, {"holder": "other", "token": document.data["token"] + 1})

    world.dbt.during = during
    with pytest.raises(LeaseLost):
        world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.LOADED
    assert world.state.progress("a").watermark is None
    assert world.client.dropped == []


def test_two_at_once_do_the_work_once(world: World) -> None:
    world.loaded("a", None, 1)
    world.dbt.during = lambda: time.sleep(0.3)
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(world.transformer.reconcile_or_leave(f"t{n}")))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run[0] for run in world.dbt.runs] == ["run", "build"]
    assert len(results) == 3
