"""Reconcile on a real state, with dbt and BigQuery as stand-ins: what is noted after what, and who stops whom."""

import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core.exceptions import Forbidden

from services.core.batch import BatchState, Step
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.labels import job_labels, run_label
from services.core.naming import hashed_table
from services.core.state.lease import acquire, holding
from services.core.tables import Mode
from services.transformer.bronze.handover import MOST_BATCHES
from services.transformer.reconcile import LEASE
from tests.unit.transformer.reconcile_world import START, World, at


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
    assert sum(job.query.startswith("merge") for job in world.client.sent.values()) == 1
    assert world.state_of(first) is BatchState.MERGED
    assert world.state.progress("a").watermark == at(2)


def test_a_merge_that_a_dead_process_left_running_is_waited_for(world: World) -> None:
    world.loaded("a", None, 1)
    world.client.send("credix-merge-a-left", "merge", rows=1)
    assert world.state.note_merge_job("a", "credix-merge-a-left", 0, None)
    world.transformer.reconcile("me")
    assert len(world.client.sent) == 2
    assert all(job.query.startswith("merge") for job in world.client.sent.values())


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
