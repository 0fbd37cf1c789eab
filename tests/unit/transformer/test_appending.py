"""Appends: what is sent, what becomes of a batch whose append fails, and what is cleared of a delta."""

import pytest

from services.core.batch import BatchState
from services.core.errors import TransientError
from services.core.jobs import VOID
from services.core.tables import Mode
from tests.unit.transformer.reconcile_world import World, appended, at, large


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
