"""Silver, gold and old deltas: what is built, and when."""

from datetime import UTC, datetime, timedelta

from tests.unit.transformer.reconcile_world import World, large


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


def test_views_that_the_daily_maintenance_has_built_are_due_no_more(world: World) -> None:
    large(world, "a")
    world.state.note_downstream_due()
    world.transformer.maintain("me")
    assert world.state.downstream_due(world.dbt.definition()) is None
    assert world.transformer.reconcile("me") == [], "nothing is left to do"
