"""The row tests of batches that are about to go in: what they hold, and in how many statements they are asked."""

import dataclasses

import pytest

from services.core.batch import BatchState, Step
from services.core.errors import TransientError
from services.core.state.quality import row_tests
from services.core.tables import Mode, OnFailedTests, Tables
from services.transformer.dbt_project import DbtError
from tests.unit.transformer.reconcile_world import GUARDED, MIB, World, appended, at, large, merged, table


def test_batches_that_pass_are_tested_and_appended_in_one_statement(world: World) -> None:
    large(world, "a")
    ids = [world.loaded("a", None, 1), world.loaded("a", 1, 2)]
    [report] = world.transformer.reconcile("me")
    [statement] = appended(world)
    assert statement.endswith(GUARDED)
    assert world.tests.asked == []
    tests = [(node.name, node.status) for node in report.nodes if node.resource_type == "test"]
    assert tests == [("not_null_a", "pass")]
    assert [world.state_of(id_) for id_ in ids] == [BatchState.MERGED] * 2
    assert report.outcome() == "succeeded"


def test_what_does_not_pass_is_told_by_the_statements_error_and_appended_without_tests(world: World) -> None:
    large(world, "a")
    bad = world.loaded("a", None, 1)
    world.client.bad = {bad}
    [report] = world.transformer.reconcile("me")
    assert [GUARDED in statement for statement in appended(world)] == [True, False]
    assert world.tests.asked == []
    assert [(node.name, node.status, node.failures) for node in report.nodes if node.resource_type == "test"] == [
        ("not_null_a", "fail", 1)
    ]
    assert report.outcome() == "tests_failed"
    [noted] = row_tests(world.state.store)
    assert (noted.tests["not_null_a"].status, noted.tests["not_null_a"].batches) == ("fail", [bad])
    assert world.state_of(bad) is BatchState.MERGED


def test_an_error_that_does_not_tell_of_tests_lets_them_be_asked(world: World) -> None:
    large(world, "a")
    world.client.refused_inserts = "invalidQuery"
    batch_id = world.loaded("a", None, 1)
    world.transformer.reconcile("me")
    assert [GUARDED in statement for statement in appended(world)] == [True, False]
    assert len(world.tests.asked) == 1
    assert world.state_of(batch_id) is BatchState.MERGED


def test_tests_that_no_single_statement_can_ask_are_asked_first(world: World) -> None:
    large(world, "a")
    world.tests.fused = False
    batch_id = world.loaded("a", None, 1)
    world.transformer.reconcile("me")
    assert (len(world.tests.asked), [GUARDED in each for each in appended(world)]) == (1, [False])
    assert world.state_of(batch_id) is BatchState.MERGED


def test_a_batch_is_tested_before_bronze_has_it_and_goes_on(world: World) -> None:
    first, second = world.loaded("a", None, 1), world.loaded("a", 1, 2)
    world.client.bad = {first}
    [report] = world.transformer.reconcile("me")
    assert merged(world) == [f"merge {GUARDED}", "merge"]
    assert world.tests.asked == []
    assert [(node.name, node.status) for node in report.nodes if node.name == "a"] == [("a", "success")]
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
    world.client.bad = {bad}
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


def test_batches_that_pass_are_tested_and_merged_in_one_statement(world: World) -> None:
    ids = [world.loaded("a", None, 1), world.loaded("a", 1, 2), world.loaded("b", None, 3)]
    [report] = world.transformer.reconcile("me")
    assert merged(world) == [f"merge {GUARDED}"] * 2
    assert (len(world.dbt.merged()), world.tests.asked) == (1, [])
    tests = [(node.name, node.status) for node in report.nodes if node.resource_type == "test"]
    assert tests == [("not_null_a", "pass"), ("not_null_b", "pass")]
    assert [noted.tests.keys() for noted in row_tests(world.state.store)] == [{"not_null_a"}, {"not_null_b"}]
    assert [world.state_of(id_) for id_ in ids] == [BatchState.MERGED] * 3


def test_tables_whose_merges_are_refused_by_tests_are_merged_together_and_others_once(world: World) -> None:
    bad, other, good = world.loaded("a", None, 1), world.loaded("a", 1, 2), world.loaded("b", None, 3)
    world.client.bad = {bad}
    world.transformer.reconcile("me")
    assert world.dbt.merged() == [{"a": [bad, other], "b": [good]}, {"a": [bad, other]}]
    ids = [variables["bronze"]["a"]["job_id"] for variables in world.dbt.variables if "bronze" in variables]
    assert len(set(ids)) == 2, "a job id is never used again"


def test_a_table_whose_tests_have_found_something_is_asked_before_it_is_merged(
    world: World,
) -> None:
    """A MERGE that is refused is followed by another run of dbt, which takes longer than the question."""
    bad = world.loaded("a", None, 1)
    world.client.bad = {bad}
    world.transformer.reconcile("me")
    next_ = world.loaded("a", 1, 2)
    world.transformer.reconcile("me")
    assert world.dbt.merged() == [{"a": [bad]}, {"a": [bad]}, {"a": [next_]}]
    assert len(world.tests.asked) == 1
    assert f'"{next_}" as _batch_id' in world.tests.asked[0]


def test_what_does_not_pass_is_noted_before_bronze_has_it(world: World) -> None:
    bad = world.loaded("a", None, 1)
    world.client.bad = {bad}
    known: list[list[str]] = []
    world.dbt.during = lambda: known.append([test for noted in row_tests(world.state.store) for test in noted.tests])
    world.transformer.reconcile("me")
    assert known[:2] == [[], ["not_null_a"]], "the guarded MERGE, and the one without"


def test_a_refusal_that_does_not_tell_all_lets_the_tests_be_asked(world: World) -> None:
    bad, other = world.loaded("a", None, 1), world.loaded("a", 1, 2)
    world.client.bad, world.tests.cut = {bad}, True
    [report] = world.transformer.reconcile("me")
    [asked] = world.tests.asked
    assert asked.count("union all") == 1, "one statement for all batches of a table"
    assert merged(world) == [f"merge {GUARDED}", "merge"]
    assert report.outcome() == "tests_failed"
    assert world.state_of(bad) is world.state_of(other) is BatchState.MERGED


def test_tests_that_no_merge_can_ask_are_asked_first(world: World) -> None:
    world.tests.fused = False
    batch_id = world.loaded("a", None, 1)
    world.transformer.reconcile("me")
    assert (len(world.tests.asked), merged(world)) == (1, ["merge"])
    assert world.state_of(batch_id) is BatchState.MERGED


@pytest.mark.parametrize(
    ("minutes", "newest", "guarded"), [([1], None, True), ([2], 1, True), ([1, 2], None, False), ([1], 2, False)]
)
def test_a_snapshot_that_the_merge_does_not_read_is_tested_by_itself(
    world: World, minutes: list[int], newest: int | None, guarded: bool
) -> None:
    """Of a table without a key, a MERGE reads the newest snapshot, if it is newer than bronze's."""
    declared = world.transformer.tables.get("a")
    assert declared is not None
    whole = declared.model_copy(update={"key": (), "deletes": "keep"})
    world.transformer = dataclasses.replace(world.transformer, tables=Tables(version=1, tables=[whole, table("b")]))
    if newest is not None:
        world.loaded("a", None, newest, Mode.SNAPSHOT)
        world.transformer.reconcile("me")
    before = len(merged(world))
    asked = len(world.tests.asked)
    for each in minutes:
        world.loaded("a", None, each * 10 if newest is not None and each > newest else each, Mode.SNAPSHOT)
    world.transformer.reconcile("me")
    assert [GUARDED in each for each in merged(world)[before:]] == [guarded]
    assert (len(world.tests.asked) == asked) is guarded


def test_batches_of_which_nothing_can_be_known_wait(world: World) -> None:
    batch_id = world.loaded("a", None, 1)
    large(world, "b")
    of_b = world.loaded("b", None, 2)
    world.tests.error = DbtError("away")
    with pytest.raises(TransientError, match="table a: row tests: "):
        world.transformer.reconcile("me")
    assert world.state_of(batch_id) is world.state_of(of_b) is BatchState.LOADED
    assert (world.dbt.merged(), appended(world)) == ([], [])
    world.tests.error = None
    world.transformer.reconcile("me")
    assert world.state_of(batch_id) is world.state_of(of_b) is BatchState.MERGED
