"""Reconcile on a real state, with dbt and BigQuery as stand-ins: what is noted after what, and who stops whom."""

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.api_core.exceptions import Conflict, Forbidden, NotFound, ServiceUnavailable
from google.cloud.bigquery import SchemaField

from services.core.batch import Batch, BatchState, Step
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.jobs import VOID
from services.core.labels import job_labels, run_label
from services.core.naming import hashed_table
from services.core.settings import TransformerSettings
from services.core.state.lease import acquire, holding
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Column, ColumnType, Mode, OnFailedTests, Table, Tables
from services.core.window import Window
from services.transformer.bronze.batch_rows import ADDED_COLUMNS
from services.transformer.bronze.handover import MOST_BATCHES, view_definition
from services.transformer.bronze.tables import BASE, DEFINITION, DELTA, BronzeTables, Part
from services.transformer.dbt_project import DbtError, DbtProject, NodeResult
from services.transformer.reconcile import LEASE, Transformer
from tests.jobs import Jobs

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def table(name: str) -> Table:
    column = Column(name="id", type=ColumnType.INT64, required=True)
    facts: dict[str, Any] = {"source": f"s.{name}", "key": ["id"], "mode": Mode.SNAPSHOT, "bronze_model": name}
    return Table(name=name, columns=[column], deletes="soft", **facts)


TABLES = Tables(version=1, tables=[table("a"), table("b")])


class Client(Jobs):
    """The warehouse's tables and jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[str] = []
        self.hashed: set[str] = set()
        self.definitions: dict[str, str] = {}
        """Of the views, by model."""
        self.based: dict[str, int] = {}
        """Bytes of bases, by model; those have a delta, too."""
        self.delta_rows = 0
        self.refused_inserts: str | None = None
        """The reason why an INSERT's job fails."""
        self.loses_answers = False
        self.cleared: list[str] = []
        """Deletions from deltas."""
        self.there, self.gone = 0, 0
        """Rows of bronze, and those of them that any snapshot would find gone."""

    def list_tables(self, dataset: str, **_: Any) -> list[SimpleNamespace]:
        models = [table.bronze_model for table in TABLES.tables]
        return [SimpleNamespace(table_id=name) for model in models for name in (model, f"{model}{BASE}")]

    def get_table(self, table_id: str, **_: Any) -> SimpleNamespace:
        project, dataset, name = table_id.split(".")
        named = {"project": project, "dataset_id": dataset, "table_id": name}
        if name in self.definitions:
            return SimpleNamespace(table_type="VIEW", labels={DEFINITION: self.definitions[name]}, **named)
        model = name.removesuffix(BASE).removesuffix(DELTA)
        if name in self.hashed:
            types, rows, size = {"id": "INTEGER", "_extracted_at": "TIMESTAMP"}, 1, 100
        elif model in self.based and model != name:
            of_delta = name.endswith(DELTA)
            types = {"id": "INTEGER"} | ADDED_COLUMNS
            rows, size = (self.delta_rows, 100 * self.delta_rows) if of_delta else (5, self.based[model])
        else:
            raise NotFound(table_id)  # type: ignore[no-untyped-call]
        schema = [SchemaField(column, type_) for column, type_ in types.items()]
        return SimpleNamespace(schema=schema, num_rows=rows, num_bytes=size, table_type="TABLE", labels={}, **named)

    def delete_table(self, table_id: str, **_: Any) -> None:
        self.dropped.append(table_id)

    def query(self, statement: str, job_id: str | None = None, **_: Any) -> Any:
        if statement.startswith("select distinct _batch_id"):
            return SimpleNamespace(result=lambda **_: [("waiting",)])
        if statement.startswith("delete from"):
            self.cleared.append(statement)
            return SimpleNamespace(result=lambda **_: [])
        if job_id is None:
            return SimpleNamespace(result=lambda **_: [(self.there, self.gone)])
        inserts = statement.startswith("insert into")
        job = self.send(job_id, statement, rows=1, reason=self.refused_inserts if inserts else None)
        if inserts and self.loses_answers:
            raise ServiceUnavailable("no answer")  # type: ignore[no-untyped-call]
        return job


@dataclass
class Dbt:
    """Merges as it is told to, and remembers what it was asked."""

    client: Client
    failing: set[str] = field(default_factory=set)
    """Models that fail, with and without batches, before any statement is sent."""
    poisoned: dict[str, str | None] = field(default_factory=dict)
    """Batches that make the merge of their model fail: with this reason of the job, or before it is sent."""
    breaking: set[str] = field(default_factory=set)
    """Batches that make dbt end without results."""
    refused: dict[str, str] = field(default_factory=dict)
    runs: list[list[str]] = field(default_factory=list)
    variables: list[dict[str, Any]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)
    """What each was run for, and for whom."""
    during: Callable[[], None] = lambda: None
    defined: str = "as ever"
    """How silver and gold are defined."""

    def parsed(self) -> None:
        return

    def described(self, model: str) -> str:
        return model

    def definition(self) -> str:
        return self.defined

    def run(self, stage: str, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        self.runs.append(arguments)
        self.stages.append((stage, job_labels(stage).get("credix_run", "")))
        self.variables.append(variables or {})
        self.during()
        names = ["gold"] if "--selector" in arguments else arguments[2:]
        tables = (variables or {}).get("bronze", {})
        if any(batch["batch_id"] in self.breaking for table in tables.values() for batch in table["batches"]):
            raise DbtError("dbt ended without results")
        return [self._result(name, tables.get(name, {"batches": []})) for name in names]

    def _result(self, name: str, table: dict[str, Any]) -> NodeResult:
        if table.get("view") and name not in self.failing:
            self.client.definitions[name] = table["definition"]
        poison = [self.poisoned[id_] for each in table["batches"] if (id_ := each["batch_id"]) in self.poisoned]
        bad = name in self.failing or bool(poison)
        if (table["batches"] or table.get("delta")) and name not in self.failing and (not poison or poison[0]):
            try:
                self.client.send(table["job_id"], "merge", rows=1, reason=poison[0] if poison else None)
            except Conflict:
                bad = False  # dbt attaches to the job that has the id, and takes its end for its own
        return NodeResult(name, "model", "error" if bad else "success", "why", 0.1, 1, None)

    def merged(self) -> list[dict[str, list[str]]]:
        """The batches of every bronze run, by model."""
        return [
            {name: [each["batch_id"] for each in table["batches"]] for name, table in variables["bronze"].items()}
            for variables in self.variables
            if "bronze" in variables
        ]


@dataclass
class Tests:
    """Row tests: what they are asked, and how they end."""

    bad: set[str] = field(default_factory=set)
    """Batches with a row that fails."""
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def results(self, client: Any, table: Table, rows: str) -> list[NodeResult]:
        if self.error is not None:
            raise self.error
        self.asked.append(rows)
        failures = sum(f'"{batch}" as _batch_id' in rows for batch in self.bad)
        return [NodeResult(f"not_null_{table.name}", "test", "fail" if failures else "pass", "", 0.1, None, failures)]


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
    alerts: list[str]
    tests: "Tests"

    def loaded(self, name: str, low: int | None, high: int, mode: Mode = Mode.INCREMENTAL) -> str:
        batch = Batch(
            id=f"20261122T17{high:04}000000Z-00000000",
            run_id="r",
            table=name,
            mode=mode,
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
    client = Client()
    dbt = Dbt(client)
    alerts: list[str] = []
    tester = Tests()
    transformer = Transformer(
        settings,
        TABLES,
        state,
        cast(Any, client),
        cast(DbtProject, dbt),
        tester,
        NoArtifacts(),
        NoReports(),
        lambda batch: alerts.append(batch.id),
    )
    return World(transformer, state, dbt, client, alerts, tester)


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
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "downstream"]
    assert world.dbt.runs[0][2:] == ["a", "b"]
    assert world.dbt.merged() == [{"a": [ids[0], ids[2]], "b": [ids[1]]}]
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
    with pytest.raises(TransientError, match="table a: why"):
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
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "downstream", "downstream"]
    assert world.state.downstream_due() is None


def test_what_a_crash_left_after_the_merge_is_finished(world: World) -> None:
    batch_id = world.loaded("a", None, 1)
    world.state.step(batch_id, Step.MERGE)
    world.state.note_downstream_due()
    world.transformer.reconcile("me")
    assert world.state.progress("a").watermark == at(1)
    assert len(world.client.dropped) == 1
    assert [stage for stage, _ in world.dbt.stages] == ["downstream"]


def test_a_batch_that_is_loaded_meanwhile_is_merged_too(world: World) -> None:
    world.loaded("a", None, 1)
    late: list[str] = []

    def during() -> None:
        if world.dbt.stages[-1][0] == "downstream" and not late:
            late.append(world.loaded("b", None, 2))

    world.dbt.during = during
    world.transformer.reconcile("me")
    assert world.state_of(late[0]) is BatchState.MERGED
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "downstream", "bronze", "downstream"]


def test_batches_that_land_together_build_gold_once(world: World) -> None:
    world.loaded("a", None, 1)
    late: list[str] = []

    def during() -> None:
        if not late:
            late.append(world.loaded("b", None, 2))

    world.dbt.during = during
    world.transformer.reconcile("me")
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "bronze", "downstream"]


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
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "downstream"]
    assert len(results) == 3


# --- one bad thing stops no other -----------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", ["invalidQuery", None], ids=["refused by BigQuery", "before it is sent"])
def test_a_poisoned_batch_is_found_by_halves_and_held(world: World, poison: str | None) -> None:
    ids = [world.loaded("a", high - 1 if high > 1 else None, high) for high in range(1, 8)]
    other = world.loaded("b", None, 9)
    world.dbt.poisoned[ids[4]] = poison
    reports = world.transformer.reconcile("me")
    assert [world.state_of(id_) for id_ in ids] == [
        BatchState.HELD if id_ == ids[4] else BatchState.MERGED for id_ in ids
    ]
    assert world.state_of(other) is BatchState.MERGED
    held = world.state.batch(ids[4])
    assert held is not None
    assert held.hold is not None
    assert (held.hold.code, world.alerts) == ("merge_refused", [ids[4]])
    assert reports[-1].problems == [], "what waits for a person makes no event come again"
    # The watermark waits for it, and for no other table's.
    assert (world.state.progress("a").watermark, world.state.progress("b").watermark) == (at(4), at(9))


def test_the_second_half_is_told_of_a_snapshot_that_the_first_half_has_just_merged(world: World) -> None:
    """Without it, a file of old rows could bring back what the snapshot found gone."""
    snapshot, poison = world.loaded("a", None, 1, Mode.SNAPSHOT), world.loaded("a", 1, 2)
    world.dbt.poisoned[poison] = "invalidQuery"
    world.transformer.reconcile("me")
    told = [variables["bronze"]["a"] for variables in world.dbt.variables if "bronze" in variables]
    alone = [table["merged_snapshot"] for table in told if [b["batch_id"] for b in table["batches"]] == [poison]]
    assert [each["batch_id"] for each in alone] == [snapshot] * 2


def test_a_held_batch_that_a_person_releases_is_merged(world: World) -> None:
    batch_id = world.loaded("a", None, 1)
    world.dbt.poisoned[batch_id] = "invalidQuery"
    world.transformer.reconcile("me")
    world.dbt.poisoned.clear()
    assert world.transformer.reconcile("me") == []
    world.state.step(batch_id, Step.RELEASE, released_by="somebody")
    world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.MERGED
    assert world.state.progress("a").watermark == at(1)


def test_a_batch_that_makes_dbt_end_without_results_stops_no_other(world: World) -> None:
    bad, good, other = world.loaded("a", None, 1), world.loaded("a", 1, 2), world.loaded("b", None, 3)
    world.dbt.breaking = {bad}
    world.transformer.reconcile("me")
    assert [world.state_of(id_) for id_ in (bad, good, other)] == [
        BatchState.HELD,
        BatchState.MERGED,
        BatchState.MERGED,
    ]


@pytest.mark.parametrize("reason", ["backendError", "quotaExceeded", "accessDenied", "resourcesExceeded"])
def test_what_may_pass_holds_nothing_and_is_told_in_trouble(world: World, reason: str) -> None:
    bad, good = world.loaded("a", None, 1), world.loaded("b", None, 2)
    world.dbt.poisoned[bad] = reason
    with pytest.raises(TransientError, match=f"table a: why {reason}"):
        world.transformer.reconcile("me")
    assert (world.state_of(bad), world.state_of(good)) == (BatchState.LOADED, BatchState.MERGED)
    waiting = world.state.batch(bad)
    assert waiting is not None
    assert waiting.trouble == f"why {reason}"
    world.dbt.poisoned.clear()
    world.transformer.reconcile("me")
    merged = world.state.batch(bad)
    assert merged is not None
    assert (merged.state, merged.trouble) == (BatchState.MERGED, None)


def test_a_broken_model_keeps_its_batches_and_says_so_in_each(world: World) -> None:
    bad, good = [world.loaded("a", None, 1), world.loaded("a", 1, 2)], world.loaded("b", None, 3)
    world.dbt.failing = {"a"}
    with pytest.raises(TransientError):
        world.transformer.reconcile("me")
    assert world.state_of(good) is BatchState.MERGED
    assert [(b.state, b.trouble) for b in world.state.open_batches("a")] == [(BatchState.LOADED, "why")] * len(bad)


def test_a_warehouse_that_does_not_answer_is_told_in_every_batch_that_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [world.loaded("a", None, 1), world.loaded("b", None, 2)]

    def refused(*_: Any, **__: Any) -> None:
        raise Forbidden("quota exceeded")  # type: ignore[no-untyped-call]

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "get_table", refused)
        with pytest.raises(Forbidden):
            world.transformer.reconcile("me")
    for id_ in ids:
        waiting = world.state.batch(id_)
        assert waiting is not None
        assert (waiting.state, waiting.trouble) == (BatchState.LOADED, "Forbidden: 403 quota exceeded")
    world.transformer.reconcile("me")
    assert [world.state_of(id_) for id_ in ids] == [BatchState.MERGED] * 2


def test_what_bronze_lacks_is_asked_for_once_silver_and_gold_are_due_and_a_refusal_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = world.loaded("a", None, 1)

    def refused(*_: Any, **__: Any) -> None:
        raise Forbidden("quota exceeded")  # type: ignore[no-untyped-call]

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "list_tables", refused)
        with pytest.raises(TransientError, match="bronze could not be looked at: Forbidden: 403 quota exceeded"):
            world.transformer.reconcile("me")
    assert world.state_of(merged) is BatchState.MERGED, "it does not wait for tables that nobody has filled"
    assert world.state.downstream_due() is not None
    world.transformer.reconcile("me")
    assert world.state.downstream_due() is None


def test_a_refused_table_waits_for_a_person_and_no_event_comes_again(world: World) -> None:
    bad, good = world.loaded("a", None, 1), world.loaded("b", None, 2)
    world.dbt.refused = {"a": "the yml of model a lacks id"}
    [report] = world.transformer.reconcile("me")
    assert (world.state_of(bad), world.state_of(good)) == (BatchState.LOADED, BatchState.MERGED)
    assert report.problems == ["table a: the yml of model a lacks id"]
    assert report.outcome() == "failed"
    waiting = world.state.batch(bad)
    assert waiting is not None
    assert waiting.trouble == "the yml of model a lacks id"


def test_a_backlog_is_merged_in_bounded_rounds_oldest_first(world: World) -> None:
    count = 2 * MOST_BATCHES + 50
    ids = [world.loaded("a", high - 1 if high > 1 else None, high) for high in range(1, count + 1)]
    world.transformer.reconcile("me")
    assert [run["a"] for run in world.dbt.merged()] == [ids[:100], ids[100:200], ids[200:]]
    assert world.state.progress("a").watermark == at(count)


# --- what is sent late, and what is not told ------------------------------------------------------------------------


def test_a_merge_whose_answer_was_lost_is_merged(world: World) -> None:
    batch_id = world.loaded("a", None, 1)

    def during() -> None:
        if world.dbt.stages[-1][0] == "bronze":
            world.client.send(world.dbt.variables[-1]["bronze"]["a"]["job_id"], "merge", rows=7)
            world.dbt.failing = {"a"}  # dbt heard nothing

    world.dbt.during = during
    reports = world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.MERGED
    assert reports[0].merges[0]["rows_merged"] == 7


def test_a_process_that_stood_still_before_its_merge_cannot_send_it_any_more(world: World) -> None:
    """Its lease has passed to another, which merged more; then it goes on."""
    first = world.loaded("a", None, 1)
    jobs: list[str] = []

    def during() -> None:
        if jobs or world.dbt.stages[-1][0] != "bronze":
            return
        jobs.append(world.dbt.variables[-1]["bronze"]["a"]["job_id"])
        lease = world.state.store.get("leases", LEASE)
        assert lease is not None
        world.state.store.update(lease, {**lease.data, "expires_at": START.isoformat()})
        world.loaded("a", 1, 2)
        world.transformer.reconcile("other")

    world.dbt.during = during
    with pytest.raises(LeaseLost):
        world.transformer.reconcile("frozen")
    assert world.client.sent[jobs[0]].query.startswith("SELECT 'void"), "the other made its job void"
    assert sum(job.query == "merge" for job in world.client.sent.values()) == 1
    assert world.state_of(first) is BatchState.MERGED
    assert world.state.progress("a").watermark == at(2)


def test_a_merge_that_a_dead_process_left_running_is_waited_for(world: World) -> None:
    world.loaded("a", None, 1)
    world.client.send("credix-merge-a-left", "merge", rows=1)
    assert world.state.note_merge_job("a", "credix-merge-a-left", 0, None)
    world.transformer.reconcile("me")
    assert len(world.client.sent) == 2
    assert all(job.query == "merge" for job in world.client.sent.values())


# --- snapshots that delete too much ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("gone", "state"), [(50, BatchState.MERGED), (51, BatchState.HELD), (100, BatchState.HELD)])
def test_a_snapshot_that_would_delete_more_than_half_is_held(world: World, gone: int, state: BatchState) -> None:
    batch_id, other = world.loaded("a", None, 1, Mode.SNAPSHOT), world.loaded("b", None, 2)
    world.client.there, world.client.gone = 100, gone
    world.transformer.reconcile("me")
    assert (world.state_of(batch_id), world.state_of(other)) == (state, BatchState.MERGED)
    assert world.alerts == ([batch_id] if state is BatchState.HELD else [])
    if state is BatchState.HELD:
        held = world.state.batch(batch_id)
        assert held is not None
        assert held.hold is not None
        assert held.hold.code == "too_many_deleted"
        assert f"lacks {gone} of the 100 rows" in held.hold.message
        world.state.step(batch_id, Step.RELEASE, released_by="somebody")
        world.transformer.reconcile("me")
        assert world.state_of(batch_id) is BatchState.MERGED, "a person has looked at it"


def test_a_held_snapshot_is_given_up_when_a_newer_one_is_in_bronze(world: World) -> None:
    held = world.loaded("a", None, 1, Mode.SNAPSHOT)
    world.client.there, world.client.gone = 10, 10
    world.transformer.reconcile("me")
    world.client.gone = 0
    world.loaded("a", None, 2, Mode.SNAPSHOT)
    world.transformer.reconcile("me")
    batch = world.state.batch(held)
    assert batch is not None
    assert batch.error is not None
    assert (batch.state, batch.error.code) == (BatchState.FAILED, "superseded")
    assert world.state.progress("a").watermark == at(2)


# ---- what it costs


class Listed(SimpleNamespace):
    """A job of a run, as BigQuery lists it; the client's own classes are tests/unit/core/test_cost.py's."""

    parent_job_id = error_result = None

    def __init__(self, run_id: str) -> None:
        super().__init__(labels={"credix_stage": "bronze", "credix_run": run_label(run_id)}, ended=START)


def test_dbt_is_told_what_for_and_in_which_run(world: World) -> None:
    world.loaded("a", None, 1)
    [report] = world.transformer.reconcile("me")
    run = run_label(report.run_id)
    assert world.dbt.stages == [("bronze", run), ("downstream", run)]


def test_what_a_run_cost_is_in_its_history(world: World) -> None:
    world.loaded("a", None, 1)
    world.dbt.during = lambda: world.client.listed.append(Listed(current()))
    [report] = world.transformer.reconcile("me")
    [run] = world.state.runs("transformer")
    assert run.id == report.run_id
    assert run.cost is not None
    assert (run.cost.unknown, run.cost.total.jobs) == (None, 2)


def current() -> str:
    return job_labels("bronze")["credix_run"]


def test_a_list_of_jobs_that_cannot_be_read_fails_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise Forbidden("bigquery.jobs.list")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(world.client, "list_jobs", refused)
    batch_id = world.loaded("a", None, 1)
    [report] = world.transformer.reconcile("me")
    assert (report.outcome(), world.state_of(batch_id)) == ("succeeded", BatchState.MERGED)
    [run] = world.state.runs("transformer")
    assert run.cost is not None
    assert run.cost.lines == []
    assert "Forbidden" in (run.cost.unknown or "")


def test_a_run_that_broke_off_is_noted_by_the_next_one(world: World) -> None:
    killed = "20261121T100000000000Z-00000000"
    world.client.listed = [Listed(killed)]
    world.loaded("a", None, 1)
    [report] = world.transformer.reconcile("me")
    interrupted, finished = world.state.runs("transformer")
    assert (interrupted.id, interrupted.outcome) == (killed, "interrupted")
    assert interrupted.details.keys() == finished.details.keys(), "whoever reads the one can read the other"
    assert finished.id == report.run_id


MIB = 1024 * 1024


def large(world: World, name: str) -> None:
    """Give a table a base that is not small, with delta and view."""
    world.client.based[name] = 100 * MIB
    declared = world.transformer.tables.get(name)
    assert declared is not None
    columns = {"id": "INT64"} | ADDED_COLUMNS
    base, delta = Part("b", columns, 5, 100 * MIB), Part("d", columns, 0, 0)
    found = BronzeTables(f"p.business_case_bronze.{name}", base, delta, None)
    world.client.definitions[name] = view_definition(declared, found, name, [])


def appended(world: World) -> list[str]:
    return [job.query for job in world.client.sent.values() if job.query.startswith("insert into")]


def test_batches_of_a_large_table_are_appended_and_nothing_is_built(world: World) -> None:
    large(world, "a")
    world.state.note_downstream_built(0, "as ever")
    ids = [world.loaded("a", None, 1), world.loaded("a", 1, 2)]
    [report] = world.transformer.reconcile("me")
    assert world.dbt.runs == []
    [statement] = appended(world)
    assert statement.startswith("insert into `p.business_case_bronze.a_delta` (`id`, _loaded_at, ")
    assert [statement.count(f'"{id_}" as _batch_id') for id_ in ids] == [1, 1]
    assert [world.state_of(id_) for id_ in ids] == [BatchState.MERGED] * 2
    progress = world.state.progress("a")
    assert (progress.watermark, progress.delta_since is not None) == (at(2), True)
    assert [merge["way"] for merge in report.merges] == ["append"]
    assert report.outcome() == "succeeded"


def test_an_append_that_fails_by_its_content_is_merged_with_what_waits(world: World) -> None:
    large(world, "a")
    world.client.delta_rows = 3
    world.client.refused_inserts = "invalidQuery"
    batch_id = world.loaded("a", None, 1)
    world.transformer.reconcile("me")
    assert world.dbt.merged() == [{"a": [batch_id]}]
    assert world.dbt.variables[0]["bronze"]["a"]["delta"] is True
    assert world.state_of(batch_id) is BatchState.MERGED


def test_an_append_that_may_pass_leaves_the_batch_loaded(world: World) -> None:
    large(world, "a")
    world.client.refused_inserts = "backendError"
    batch_id, other = world.loaded("a", None, 1), world.loaded("b", None, 2)
    with pytest.raises(TransientError, match="table a: why backendError"):
        world.transformer.reconcile("me")
    assert (world.state_of(batch_id), world.state_of(other)) == (BatchState.LOADED, BatchState.MERGED)
    world.client.refused_inserts = None
    world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.MERGED


def test_an_append_whose_answer_was_lost_is_noted_once(world: World) -> None:
    large(world, "a")
    batch_id = world.loaded("a", None, 1)
    world.client.loses_answers = True
    world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.MERGED
    assert len(appended(world)) == 1


def test_a_snapshot_takes_along_what_waits_in_the_delta(world: World) -> None:
    large(world, "a")
    world.client.delta_rows = 3
    world.loaded("a", None, 1, Mode.SNAPSHOT)
    world.transformer.reconcile("me")
    assert world.dbt.variables[0]["bronze"]["a"]["delta"] is True
    assert world.client.cleared == ['delete from `p.business_case_bronze.a_delta` where _batch_id in ("waiting")']
    assert world.state.progress("a").delta_since is None


def test_a_delta_whose_merge_did_not_run_is_not_cleared(world: World) -> None:
    """A process stood still before its MERGE; another made the job's id void, and dbt took it for its own."""
    large(world, "a")
    world.client.delta_rows = 3
    world.state.note_delta("a", at(0), 0)
    batch_id = world.loaded("a", None, 1, Mode.SNAPSHOT)

    def during() -> None:
        if world.dbt.stages[-1][0] == "bronze":
            world.client.send(world.dbt.variables[-1]["bronze"]["a"]["job_id"], VOID)

    world.dbt.during = during
    with pytest.raises(TransientError):
        world.transformer.reconcile("me")
    assert world.client.cleared == []
    assert world.state.progress("a").delta_since is not None
    assert world.state_of(batch_id) is BatchState.LOADED


def test_views_are_built_when_their_definition_changes_and_only_then(world: World) -> None:
    large(world, "a")
    world.loaded("a", None, 1)
    world.transformer.reconcile("me")
    assert [stage for stage, _ in world.dbt.stages] == ["downstream"], "nobody has noted yet that they are built"
    world.loaded("a", 1, 2)
    world.transformer.reconcile("me")
    assert [stage for stage, _ in world.dbt.stages] == ["downstream"]
    world.dbt.defined = "otherwise"
    world.loaded("a", 2, 3)
    world.transformer.reconcile("me")
    assert [stage for stage, _ in world.dbt.stages] == ["downstream"] * 2


def test_once_a_day_old_deltas_are_merged_and_all_views_are_made_anew(world: World) -> None:
    large(world, "a")
    large(world, "b")
    world.client.delta_rows = 3
    long_ago = datetime.now(UTC) - timedelta(days=8)
    world.state.note_delta("a", long_ago, 0)
    world.state.note_delta("b", datetime.now(UTC), 0)
    report = world.transformer.maintain("me")
    assert world.dbt.merged() == [{"a": []}]
    assert world.dbt.variables[0]["bronze"]["a"]["delta"] is True
    assert (world.state.progress("a").delta_since, world.state.progress("b").delta_since is None) == (None, False)
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "downstream"]
    assert [run.outcome for run in world.state.runs("transformer")] == [report.outcome()] == ["succeeded"]
    world.transformer.maintain("me")
    assert [stage for stage, _ in world.dbt.stages] == ["bronze", "downstream", "downstream"]


def test_a_batch_is_tested_before_bronze_has_it_and_goes_on(world: World) -> None:
    large(world, "a")
    first, second = world.loaded("a", None, 1), world.loaded("a", 1, 2)
    world.tests.bad = {first}
    [report] = world.transformer.reconcile("me")
    [asked] = world.tests.asked
    assert asked.count("union all") == 1, "one statement for all batches of a table"
    assert [(node.name, node.status, node.failures) for node in report.nodes if node.resource_type == "test"] == [
        ("not_null_a", "fail", 1)
    ]
    assert report.outcome() == "tests_failed"
    assert world.state_of(first) is world.state_of(second) is BatchState.MERGED


@pytest.mark.parametrize("size", [1, 100 * MIB], ids=["merged", "appended"])
def test_a_bad_batch_is_held_where_that_is_declared_and_goes_on_when_released(world: World, size: int) -> None:
    declared = world.transformer.tables.get("a")
    assert declared is not None
    holding_ = declared.model_copy(update={"on_failed_tests": OnFailedTests.HOLD})
    tables = Tables(version=1, tables=[holding_, table("b")])
    world.transformer = dataclasses.replace(world.transformer, tables=tables)
    large(world, "a")
    world.client.based["a"] = size
    bad, good = world.loaded("a", None, 1), world.loaded("a", 1, 2)
    world.tests.bad = {bad}
    world.transformer.reconcile("me")
    assert (world.state_of(bad), world.state_of(good)) == (BatchState.HELD, BatchState.MERGED)
    held = world.state.batch(bad)
    assert held is not None
    assert held.hold is not None
    assert held.hold.code == "tests_failed"
    assert "not_null_a (1 row)" in held.hold.message
    assert world.alerts == [bad]
    assert world.state.progress("a").watermark is None
    world.state.step(bad, Step.RELEASE)
    world.transformer.reconcile("me")
    assert world.state_of(bad) is BatchState.MERGED
    assert world.state.progress("a").watermark == at(2)


def test_batches_of_which_nothing_can_be_known_wait(world: World) -> None:
    batch_id = world.loaded("a", None, 1)
    world.tests.error = ServiceUnavailable("away")  # type: ignore[no-untyped-call]
    with pytest.raises(TransientError, match="table a: row tests: "):
        world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.LOADED
    assert world.dbt.merged() == []
    world.tests.error = None
    world.transformer.reconcile("me")
    assert world.state_of(batch_id) is BatchState.MERGED
