"""Bronze: the newest version of every row, whatever the order and number of times in which batches come."""

import datetime as dt
import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField

from services.core.batch import Batch as Extraction
from services.core.errors import DataError
from services.core.jobs import LASTING_REASONS
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.warehouse import TempTable
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.handover import characters
from services.transformer.quality.compiled import DataTest
from services.transformer.quality.fused import Answered, told_by_guard
from services.transformer.quality.row_tests import Plan
from tests.integration.bronze_feed import (
    BY_ID,
    ID,
    ITEM,
    NOTE,
    Batch,
    Feed,
    Row,
    at,
    batch,
    items,
    newest_and_alive,
    random_batches,
    random_runs,
    versions_alive,
)
from tests.integration.simulated_merges import SimulatedMerges, without_loaded_at
from tests.integration.warehouse_fixture import (
    ADDED,
    PROJECT,
    BronzeModel,
    Dbt,
    Warehouse,
    bronze_project,
    declared_schema,
)

MODELS = ("cnpj_ws", "installments")
# minutes after noon, and what each batch holds: key → paid amount in cents
HISTORY: dict[str, tuple[int, dict[str, int | None]]] = {
    "b1": (0, {"old": 1, "all": 1, "gone": 1}),
    "b2": (5, {"all": 2, "both": 2, "tie": 20}),
    "b3": (5, {"all": 3, "tie": 30, "null": None}),
    "b4": (9, {"both": 4, "null": 4}),
}
NEWEST = {
    "old": (1, "b1"),
    "gone": (1, "b1"),
    "all": (3, "b3"),
    "tie": (30, "b3"),
    "both": (4, "b4"),
    "null": (4, "b4"),
}


@pytest.fixture(scope="module")
def batches(dbt: Dbt) -> dict[str, Batch]:
    return {name: load_batch(dbt, name, minutes, rows) for name, (minutes, rows) in HISTORY.items()}


@pytest.fixture(autouse=True)
def empty_bronze(dbt: Dbt) -> Iterator[None]:
    yield
    dbt.drop_bronze(*MODELS)


def load_batch(dbt: Dbt, batch_id: str, minutes: int, amounts: dict[str, int | None]) -> Batch:
    rows = [{"asset_id": key, "paid_amount_in_cents": amount} for key, amount in amounts.items()]
    table = dbt.load(f"installments__{batch_id}", rows, declared_schema("installments"))
    return batch(table, batch_id, minutes)


def merge(dbt: Dbt, *run: Batch) -> None:
    dbt.run("run", "--select", "installments", batches={"installments": list(run)})


def held(dbt: Dbt) -> dict[str, tuple[int | None, str]]:
    rows = dbt.rows(dbt.datasets.bronze, "installments")
    found = {row["asset_id"]: (row["paid_amount_in_cents"], row["_batch_id"]) for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


ORDERS = list(itertools.permutations(HISTORY))


@pytest.mark.parametrize("order", ORDERS[::5], ids="-".join)
def test_any_order_one_at_a_time(dbt: Dbt, batches: dict[str, Batch], order: tuple[str, ...]) -> None:
    for name in order:
        merge(dbt, batches[name])
    assert held(dbt) == NEWEST


@pytest.mark.parametrize(
    "runs",
    [
        [["b1", "b2", "b3", "b4"]],
        [["b4", "b3"], ["b2", "b1"]],
        [["b3"], ["b3", "b1"], ["b4", "b2", "b1"], ["b1", "b2", "b3", "b4"]],
        [["b2", "b2"], ["b4"], ["b1", "b3", "b1"]],
    ],
    ids=["together", "newest-first", "replayed", "named-twice"],
)
def test_any_grouping_and_any_number_of_times(dbt: Dbt, batches: dict[str, Batch], runs: list[list[str]]) -> None:
    for run in runs:
        merge(dbt, *(batches[name] for name in run))
    assert held(dbt) == NEWEST


def test_a_replay_rewrites_nothing(dbt: Dbt, batches: dict[str, Batch]) -> None:
    merge(dbt, *batches.values())
    before = dbt.rows(dbt.datasets.bronze, "installments")
    merge(dbt, *batches.values())
    by_key = {row["asset_id"]: row for row in before}
    assert {row["asset_id"]: row for row in dbt.rows(dbt.datasets.bronze, "installments")} == by_key


def test_what_bronze_adds(dbt: Dbt, batches: dict[str, Batch]) -> None:
    started = dt.datetime.now(dt.UTC)
    merge(dbt, batches["b1"])
    (row,) = (row for row in dbt.rows(dbt.datasets.bronze, "installments") if row["asset_id"] == "old")
    assert (row["_source_table"], row["_batch_id"], row["_extracted_at"]) == ("oltp.a_table", "b1", at(0))
    assert started - dt.timedelta(seconds=1) <= row["_loaded_at"] <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)


def test_a_key_twice_in_a_batch_is_one_row_and_always_the_same(dbt: Dbt) -> None:
    found = set()
    for name, amounts in (("twice", (1, 2, 1)), ("reversed", (1, 1, 2))):
        rows = [{"asset_id": "a", "paid_amount_in_cents": amount} for amount in amounts]
        table = dbt.load(f"installments__{name}", rows, declared_schema("installments"))
        merge(dbt, batch(table, "same", 0))
        found.add(held(dbt)["a"])
        dbt.client.delete_table(f"{dbt.datasets.bronze}.installments")
    assert len(found) == 1


def test_without_batches_the_first_run_makes_the_declared_table_and_others_do_nothing(
    dbt: Dbt, batches: dict[str, Batch]
) -> None:
    dbt.run("run", "--selector", "bronze")
    for model in MODELS:
        made = dbt.client.get_table(f"{dbt.datasets.bronze}.{model}")
        standard = {"INTEGER": "INT64", "BOOLEAN": "BOOL", "FLOAT": "FLOAT64"}
        types = {column.name: standard.get(column.field_type, column.field_type) for column in made.schema}
        expected = {column.name: column.field_type for column in [*declared_schema(model), *ADDED]}
        assert (made.num_rows, types) == (0, expected)
    merge(dbt, batches["b1"])
    merge(dbt)
    dbt.run("run", "--selector", "bronze", batches={"installments": []})
    assert set(held(dbt)) == {"old", "all", "gone"}


def test_every_type_arrives_exactly(dbt: Dbt) -> None:
    at = dt.datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
    company = dict.fromkeys(column.name for column in declared_schema("cnpj_ws")) | {
        "buyer_tax_id": "00123456000195",
        "share_capital": Decimal("9999999999999999.99"),
        "city": 'São "Luís" do\nParaitinga \\',
        "is_mei": False,
        "updated_at": at,
    }
    table = dbt.load("cnpj_ws__types", [company], declared_schema("cnpj_ws"))
    dbt.run("run", "--select", "cnpj_ws", batches={"cnpj_ws": [batch(table, "types", 0)]})
    (row,) = dbt.rows(dbt.datasets.bronze, "cnpj_ws")
    assert {name: row[name] for name in company} == company


def test_a_full_refresh_does_not_drop_bronze(dbt: Dbt, batches: dict[str, Batch]) -> None:
    merge(dbt, batches["b1"])
    dbt.run("run", "--select", "installments", "--full-refresh", batches={"installments": [batches["b4"]]})
    assert set(held(dbt)) == {"old", "all", "gone", "both", "null"}


@pytest.mark.parametrize("table", ["a`b.c.d", "only_a_table", f"{PROJECT}.x.y; drop table z"])
def test_a_name_that_is_not_a_table_is_refused(dbt: Dbt, table: str) -> None:
    with pytest.raises(ValueError, match="not a table"):
        merge(dbt, batch(table, "bad", 0))


FACTS = (
    "key",
    "columns",
    "deletes",
    "merged_snapshot",
    "guard",
    "job_id",
    "adopt",
    "view",
    "definition",
    "keeps_delta",
    "delta",
    "batches",
)


@pytest.mark.parametrize("fact", FACTS)
def test_a_table_that_does_not_say_all_is_refused(dbt: Dbt, fact: str) -> None:
    whole = dbt.handed_over({})
    assert set(whole["installments"]) == set(FACTS)
    del whole["installments"][fact]
    with pytest.raises(AssertionError, match=f"lacks '{fact}'"):
        dbt.run("run", "--select", "installments", bronze=whole)


@pytest.mark.parametrize("fact", ["table", "batch_id", "extracted_at", "snapshot", "rows"])
def test_a_batch_that_does_not_say_all_is_refused(dbt: Dbt, fact: str) -> None:
    whole = dbt.handed_over({"installments": [batch(f"{PROJECT}.x.y", "b", 0)]})
    del whole["installments"]["batches"][0][fact]
    with pytest.raises(AssertionError, match=f"lacks '{fact}'"):
        dbt.run("run", "--select", "installments", bronze=whole)


REMOVALS = [ID, SchemaField("day", "DATE"), SchemaField("clock", "DATETIME"), SchemaField("moment", "TIMESTAMP")]
RESERVED = [
    SchemaField(name, "INT64")
    for name in (
        *("order", "Group", "select", "held", "newest", "versions", "found", "_found_gone", "nothing"),
        *("DBT_INTERNAL_DEST", "DBT_INTERNAL_SOURCE"),
    )
]
DAYS = [ID, SchemaField("day", "DATE"), SchemaField("value", "INT64")]
HISTORIES = int(os.environ.get("CREDIX_BRONZE_SEEDS", "2"))
CASES = 10
"""Models on which random histories run side by side: most of a run's time is dbt's, not the model's."""


@pytest.fixture(scope="module")
def made(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """A project of bronze models that are made for these tests."""
    models = {
        "items": BronzeModel(ITEM, ["id"]),
        "removals": BronzeModel(REMOVALS, ["id"]),
        "reserved": BronzeModel(RESERVED, ["order", "Group"]),
        "reserved_whole": BronzeModel(RESERVED, []),
        "whole": BronzeModel(ITEM, []),
        "by_day": BronzeModel(DAYS, ["id", "day"], {"field": "day", "data_type": "date", "granularity": "month"}),
        "by_value": BronzeModel(DAYS, ["id"], {"field": "day", "data_type": "date"}),
    } | {f"case_{number}": BronzeModel(ITEM, ["id"], BY_ID if number % 2 else None) for number in range(CASES)}
    return bronze_project(warehouse_endpoint, tmp_path_factory.mktemp("made"), "made", models)


@pytest.fixture
def soft(made: Dbt) -> Iterator[Feed]:
    feed = Feed(made, "items", {"deletes": "soft"})
    yield feed
    feed.drop()


@pytest.fixture
def whole(made: Dbt) -> Iterator[Feed]:
    feed = Feed(made, "whole")
    yield feed
    feed.drop()


def test_a_version_is_as_new_as_the_moment_at_which_its_row_was_read(soft: Feed) -> None:
    again: list[Row] = [
        {"id": 1, "value": value, "_extracted_at": at(minutes)} for value, minutes in ((3, 30), (9, 20))
    ]
    others: list[Row] = [{"id": 2, "value": 1}, {"id": 3, "value": 1, "_extracted_at": at(-5)}]
    long = soft.load("a", 0, [*again, *others])
    short = soft.load("b", 10, items(_1=7, _2=2))
    for each in (long, short, long):
        soft.merge(each)
    found = {key: (row["value"], row["_batch_id"], row["_extracted_at"]) for key, row in soft.by_id().items()}
    # A row is never older than its batch: the source's clock may have gone back.
    assert found == {1: (3, "a", at(30)), 2: (2, "b", at(10)), 3: (1, "a", at(0))}


def guarded_merge(dbt: Dbt, model: str, *run: Batch) -> dict[int, Answered] | None:
    """Merge batches unless a row of theirs has a value below zero; what the refusal tells, None when it was not."""
    rows = f"`rows of {model}`"
    guard = Plan([DataTest("no_debts", f"select * from {rows} where value < 0")], {}, rows, {}).guard()
    variable = dbt.handed_over({model: list(run)})
    variable[model]["guard"] = {"before": guard.before, "after": guard.after}
    result = dbt.results("run", "--select", model, bronze=variable)[model]
    job = dbt.client.get_job(variable[model]["job_id"])
    assert isinstance(job, bigquery.QueryJob)
    assert (str(result.status) == "error") == (job.error_result is not None)
    if job.error_result is None:
        return None
    assert not job.total_bytes_billed, "a statement that fails bills nothing"
    assert job.error_result["reason"] in LASTING_REASONS
    return told_by_guard(job.error_result["message"])


def test_a_merge_tests_its_batches_and_takes_all_of_them_in_or_none(soft: Feed) -> None:
    first = soft.load("a", 0, items(_1=1, _2=-2))
    soft.merge(first)
    good, bad = soft.snapshot("s", 5, items(_1=5, _3=3)), soft.load("b", 6, items(_4=4, _5=-5, _6=-6))
    before = soft.rows()
    told = guarded_merge(soft.project, "items", good, bad)
    assert told is not None
    assert [(each.number, each.warns, each.fails) for each in told.values()] == [(2, True, True)]
    assert soft.rows() == before
    # The base has a row that does not pass: it is not of the batches.
    assert guarded_merge(soft.project, "items", good) is None
    assert soft.values() == {1: 5, 3: 3}


def test_a_snapshot_that_replaces_a_table_is_tested_by_its_merge(whole: Feed) -> None:
    assert guarded_merge(whole.project, "whole", whole.snapshot("a", 0, items(_1=1, _2=2))) is None
    before = sorted(map(str, whole.rows()))
    assert guarded_merge(whole.project, "whole", whole.snapshot("b", 5, items(_1=-1))) is not None
    assert sorted(map(str, whole.rows())) == before


@pytest.mark.parametrize("column", ["day", "clock", "moment"])
def test_the_source_says_what_is_deleted(made: Dbt, column: str) -> None:
    feed = Feed(made, "removals", {"deleted_at": column})
    day = dt.date(2026, 11, 20)
    clock = dt.datetime(2026, 11, 20, 23, 59, 59, 999999)
    there = {"day": day, "clock": clock, "moment": clock.replace(tzinfo=dt.UTC)}
    expected = dt.datetime(2026, 11, 20, tzinfo=dt.UTC) if column == "day" else there["moment"]
    feed.merge(feed.load("a", 0, [{"id": 1, **there}, {"id": 2, **there, column: None}], REMOVALS))
    assert feed.column("_deleted_at") == {1: expected, 2: None}
    # The other way round: one comes back, the other is deleted.
    feed.merge(feed.load("b", 1, [{"id": 2, **there}, {"id": 1, **there, column: None}], REMOVALS))
    assert feed.column("_deleted_at") == {1: None, 2: expected}
    assert feed.column("_batch_id") == {1: "b", 2: "b"}
    feed.drop()


def test_a_snapshot_marks_what_it_does_not_have(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1, _2=1, _3=1)))
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    soft.merge(soft.snapshot("s", 5, items(_2=2, _4=2)))
    assert soft.values() == {2: 2, 4: 2}
    assert soft.deleted() == {1: (1, "s", at(5), at(5)), 3: (1, "s", at(5), at(5))}
    assert all(row["_source_table"] == "oltp.a_table" and row["_loaded_at"] > before for row in soft.rows())


def test_a_row_that_is_deleted_already_is_left_as_it_is(soft: Feed) -> None:
    soft.facts["deleted_at"] = "removed_on"
    removed = {"id": 2, "value": 1, "removed_on": at(-60)}
    soft.merge(soft.load("a", 0, [*items(_1=1), removed]))
    soft.merge(soft.snapshot("s", 5, []))
    before = soft.by_id()
    assert {key: row["_deleted_at"] for key, row in before.items()} == {1: at(5), 2: at(-60)}
    soft.merge(soft.snapshot("t", 9, []))
    assert soft.by_id() == before
    # Nor is one that the source deleted and that comes with a snapshot, or after it.
    soft.merge(soft.load("b", 7, [removed | {"id": 3}]), soft.snapshot("u", 10, []))
    soft.merge(soft.load("c", 8, [removed | {"id": 4}]))
    assert {key: soft.deleted()[key] for key in (3, 4)} == {3: (1, "b", at(7), at(-60)), 4: (1, "c", at(8), at(-60))}


def test_a_later_version_revives_and_an_earlier_one_does_not(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1, _2=1)))
    soft.merge(soft.snapshot("s", 5, []))
    soft.merge(soft.load("late", 4, items(_1=4)), soft.load("later", 6, items(_2=6)))
    assert (soft.values(), set(soft.deleted())) == ({2: 6}, {1})
    soft.merge(soft.snapshot("t", 7, items(_1=7)))
    assert (soft.values(), set(soft.deleted())) == ({1: 7}, {2})


def test_a_row_that_bronze_did_not_know_when_the_snapshot_came_is_deleted_too(soft: Feed) -> None:
    soft.merge(soft.snapshot("s", 5, items(_2=5)))
    soft.merge(soft.load("late", 4, items(_1=4, _2=4)))
    assert (soft.values(), soft.deleted()) == ({2: 5}, {1: (4, "s", at(5), at(5))})


def test_a_version_between_two_snapshots_that_comes_last_is_deleted_by_the_second(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1)))
    soft.merge(soft.snapshot("s", 5, []))
    soft.merge(soft.snapshot("t", 9, []))
    soft.merge(soft.load("between", 7, items(_1=7)))
    assert soft.deleted() == {1: (7, "t", at(9), at(9))}


def test_an_old_snapshot_does_nothing_to_newer_rows(soft: Feed) -> None:
    old, new = soft.snapshot("s", 5, items(_1=5)), soft.snapshot("t", 9, items(_2=9))
    soft.merge(new)
    soft.merge(soft.load("b", 7, items(_3=7)), soft.load("c", 10, items(_4=10)))
    before = soft.by_id()
    assert (set(soft.values()), set(soft.deleted())) == ({2, 4}, {3})
    soft.merge(old)
    assert soft.by_id().pop(1)["_deleted_at"] == at(9)
    assert {key: row for key, row in soft.by_id().items() if key != 1} == before
    for replay in ([new], [old], [old, new]):
        soft.merge(*replay)
    assert {key: row for key, row in soft.by_id().items() if key != 1} == before


def test_rows_and_snapshots_of_one_run_see_each_other(soft: Feed) -> None:
    run = [soft.load("a", 0, items(_1=1, _2=1, _3=1)), soft.snapshot("s", 5, items(_1=5)), soft.snapshot("t", 9, [])]
    soft.merge(*run, soft.load("b", 7, items(_2=7)), soft.load("c", 9.5, items(_4=9)))
    assert soft.values() == {4: 9}
    # Each is deleted by the first snapshot after its newest version.
    assert {key: row[2:] for key, row in soft.deleted().items()} == {
        1: (at(9), at(9)),
        2: (at(9), at(9)),
        3: (at(5), at(5)),
    }


def test_versions_of_the_snapshots_own_moment(soft: Feed) -> None:
    """Of two batches of one moment the greater id is the newer, snapshot or not."""
    soft.merge(soft.load("a", 5, items(_1=1)), soft.load("z", 5, items(_2=1)))
    soft.merge(soft.snapshot("s", 5, []))
    assert (soft.values(), set(soft.deleted())) == ({2: 1}, {1})


def test_nothing_is_deleted_unless_declared(soft: Feed) -> None:
    soft.facts["deletes"] = "keep"
    soft.merge(soft.load("a", 0, items(_1=1)))
    soft.merge(soft.snapshot("s", 5, items(_2=1)))
    soft.merge(soft.load("late", 4, items(_3=1)))
    assert soft.values() == {1: 1, 2: 1, 3: 1}


def test_bronze_is_searched_for_deleted_rows_only_when_a_snapshot_comes(soft: Feed) -> None:
    held = f"from `{PROJECT}`.`made_bronze`.`items_base` as `bronze row`"
    soft.merge(soft.snapshot("s", 5, items(_1=1)))
    soft.merge(soft.load("a", 6, items(_2=1)))
    assert held not in soft.project.executed("items")
    soft.merge(soft.snapshot("t", 7, items(_1=1)))
    assert soft.project.executed("items").count(held) == 1
    soft.facts["deletes"] = "keep"
    soft.merge(soft.snapshot("u", 8, items(_1=1)))
    assert held not in soft.project.executed("items")


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_any_history_in_any_order_and_any_number_of_times(made: Dbt, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible, not secret
    feeds = [Feed(made, f"case_{number}", {"deletes": "soft", "deleted_at": "removed_on"}) for number in range(CASES)]
    histories = [random_batches(chance) for _ in feeds]
    in_memory = SimulatedMerges(made.datasets.bronze)
    loaded = [
        {
            each.id: in_memory.hold(
                feed.load(each.id, each.minutes, [v.row() for v in each.rows], snapshot=each.snapshot),
                [v.row() for v in each.rows],
            )
            for each in all
        }
        for feed, all in zip(feeds, histories, strict=True)
    ]
    for step in itertools.zip_longest(*(list(random_runs(chance, history)) for history in histories)):
        # Of the models whose history is not over yet: what is merged, and whether that is noted.
        runs = {
            feed: ([batches[each.id] for each in run[0]], run[1])
            for feed, batches, run in zip(feeds, loaded, step, strict=True)
            if run is not None
        }
        variable = {feed.model: feed.known(batches) for feed, (batches, _) in runs.items()}
        made.run("run", "--select", *variable, batches=variable)
        in_memory.merge({model: made.told[model] for model in variable})
        for feed, (batches, noted) in runs.items():
            if noted:
                feed.note(batches)
    for number, (feed, history) in enumerate(zip(feeds, histories, strict=True)):
        alive, deleted = newest_and_alive(history)
        rows = feed.by_id()
        found = versions_alive(rows)
        assert (found, rows.keys() - found.keys()) == (alive, deleted), f"seed {seed}, case {number}: {history}"
        moments = {at(each.minutes) for each in history if each.snapshot} | {at(-60)}
        assert {row["_deleted_at"] for key, row in rows.items() if key in deleted} <= moments
        expected = {key: without_loaded_at(row) for key, row in rows.items()}
        assert in_memory.by_id(feed.model) == expected, f"seed {seed}, case {number}: {history}"
        feed.drop()


SNAPSHOTS = {"s1": (1, [1, 1, 2]), "s2": (5, [2, 3, 3, 3]), "s3": (9, [])}
"""minutes after noon, and the keys that each snapshot holds."""


@pytest.mark.parametrize("order", [["s1", "s2", "s3"], ["s3", "s1", "s2"], ["s2", "s3"], ["s2", "s1"]], ids="-".join)
def test_a_table_without_a_key_is_its_newest_snapshot(whole: Feed, order: list[str]) -> None:
    snapshots = {
        name: whole.snapshot(name, SNAPSHOTS[name][0], [{"id": key, "value": 0} for key in SNAPSHOTS[name][1]])
        for name in order
    }
    for name in (*order, order[0]):
        whole.merge(snapshots[name])
    newest = max(order)
    assert Counter(row["id"] for row in whole.rows()) == Counter(SNAPSHOTS[newest][1])
    assert {(row["_batch_id"], row["_extracted_at"]) for row in whole.rows()} <= {(newest, at(SNAPSHOTS[newest][0]))}


def test_several_snapshots_of_one_run_and_runs_without_one(whole: Feed) -> None:
    whole.project.run("run", "--select", "whole")
    made = whole.project.client.get_table("made_bronze.whole_base")
    assert (made.num_rows, [column.name for column in made.schema]) == (0, [column.name for column in [*ITEM, *ADDED]])
    # All rows of a snapshot are as new as the snapshot, whenever they were read.
    late = {"_extracted_at": at(60)}
    one, two = whole.snapshot("a", 1, [row | late for row in items(_1=1)]), whole.snapshot("b", 2, items(_2=2, _3=2))
    whole.merge(whole.snapshot("0", 0, items(_0=0)), one)
    assert whole.column("_extracted_at") == {1: at(1)}
    whole.merge(two, one)
    before = whole.by_id()
    assert before.keys() == {2, 3}
    whole.merge()
    whole.merge(one)
    assert whole.by_id() == before
    whole.merge(whole.snapshot("c", 3, items(_3=3)))
    assert whole.values() == {3: 3}


def test_a_table_without_a_key_honours_deleted_at_and_is_merged_in_one_statement(whole: Feed) -> None:
    whole.facts["deleted_at"] = "removed_on"
    whole.merge(whole.snapshot("a", 1, items(_1=1)))
    whole.merge(whole.snapshot("b", 2, [*items(_1=1), {"id": 2, "value": 2, "removed_on": at(0)}]))
    assert whole.column("_deleted_at") == {1: None, 2: at(0)}
    assert whole.project.executed("whole").count("merge into") == 1


def test_only_a_snapshot_can_replace_a_table_without_a_key(whole: Feed) -> None:
    with pytest.raises(AssertionError, match="has no key"):
        whole.merge(whole.load("a", 1, items(_1=1)))


def notes(**values: str | None) -> list[Row]:
    return [{"id": int(key[1:]), "value": 0, "note": note} for key, note in values.items()]


@pytest.mark.parametrize("model", ["items", "whole"])
def test_columns_that_nobody_declared_are_there_from_the_first_run_on(made: Dbt, model: str) -> None:
    feed = Feed(made, model, {"deletes": "soft"})
    feed.merge(feed.snapshot("a", 0, notes(_1="one"), extra=[NOTE]))
    assert feed.column("note") == {1: "one"}
    # The next snapshot has no such column any more, and the one after it has it again.
    feed.merge(feed.snapshot("b", 1, items(_1=1, _2=2)))
    assert feed.column("note") == {1: None, 2: None}
    feed.merge(feed.snapshot("c", 2, notes(_2="two"), extra=[NOTE]))
    assert feed.column("note") == ({1: None, 2: "two"} if model == "items" else {2: "two"})
    feed.drop()


def test_columns_that_nobody_declared_come_later_and_stay(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1, _2=1, _3=1)))
    size = SchemaField("Size", "FLOAT64")
    both = [row | {"Size": 0.5} for row in notes(_2="two")]
    one = soft.load("b", 1, notes(_2="one", _3="three"), extra=[NOTE])
    soft.merge(soft.load("c", 2, both, extra=[NOTE, size]), one, soft.load("d", 3, items(_1=3)))
    assert soft.column("note") == {1: None, 2: "two", 3: "three"}
    assert soft.column("Size") == {1: None, 2: 0.5, 3: None}
    # Runs whose batches bring neither leave them alone, and rows that a snapshot deletes keep them.
    soft.merge(soft.load("e", 4, items(_1=4, _4=4)))
    soft.merge()
    soft.merge(soft.snapshot("s", 5, items(_1=5)))
    assert soft.column("note") == {1: None, 2: "two", 3: "three", 4: None}
    assert soft.column("Size") == {1: None, 2: 0.5, 3: None, 4: None}
    # A late batch that brings them is still late; a new one whose names differ in case only means the same columns.
    soft.merge(soft.load("late", 4.5, notes(_1="late"), extra=[NOTE]))
    same = [{"id": 3, "value": 6, "NOTE": "six", "size": 6.5}]
    extra = [SchemaField("NOTE", "STRING"), SchemaField("size", "FLOAT64")]
    soft.merge(soft.load("f", 6, same, extra=extra))
    assert "`NOTE`" not in soft.project.executed("items")
    assert soft.column("note") == {1: None, 2: "two", 3: "six", 4: None}
    assert soft.column("Size") == {1: None, 2: 0.5, 3: 6.5, 4: None}


def test_a_column_that_nobody_declared_keeps_its_type(soft: Feed) -> None:
    exact, text = SchemaField("amount", "NUMERIC"), SchemaField("note", "STRING")
    soft.merge(soft.load("a", 0, [{"id": 1, "amount": Decimal("0.5"), "note": "n"}], extra=[exact, text]))
    whole_number, day = SchemaField("amount", "INT64"), SchemaField("note", "DATE")
    row = {"id": 2, "amount": 2**53 + 1, "note": dt.date(2026, 1, 31)}
    soft.merge(soft.load("b", 1, [row], extra=[whole_number, day]))
    assert soft.column("amount") == {1: Decimal("0.5"), 2: Decimal(2**53 + 1)}
    assert soft.column("note") == {1: "n", 2: "2026-01-31"}
    wrong = soft.load("c", 2, [{"id": 3, "amount": 0.5}], extra=[SchemaField("amount", "FLOAT64")])
    with pytest.raises(DataError, match="column amount is FLOAT64 in batch c and NUMERIC in"):
        soft.merge(wrong)
    assert set(soft.by_id()) == {1, 2}


@pytest.mark.parametrize("name", ["a`b", "a\\b", "a\nb", ""])
def test_a_name_that_is_not_a_column_is_refused(soft: Feed, name: str) -> None:
    bad = soft.load("a", 0, items(_1=1)) | {"columns": [{"name": name, "data_type": "STRING"}]}
    with pytest.raises(ValueError, match="not a column"):
        soft.merge(bad)


@pytest.mark.parametrize("model", ["reserved", "reserved_whole"])
def test_reserved_words_are_names_of_columns(made: Dbt, model: str) -> None:
    feed = Feed(made, model, {"deletes": "soft"})

    def row(key: int, value: int, **more: int) -> Row:
        return {column.name: value for column in RESERVED} | {"order": key, "Group": 0} | more

    extra = [SchemaField("from", "INT64"), SchemaField("Where", "INT64")]
    feed.merge(feed.snapshot("a", 0, [row(1, 1), row(2, 1)], columns=RESERVED))
    feed.merge(feed.snapshot("b", 1, [row(2, 2, **{"from": 5, "Where": 6})], columns=RESERVED, extra=extra))
    # Every name is quoted, also after a dot, where BigQuery would not ask for it.
    assert not re.search(r"\.(order|Group|from|Where)\b", feed.project.executed(model))
    feed.merge()
    found = {
        found["order"]: ([found[column.name] for column in RESERVED[2:]], found["from"], found["Where"])
        for found in feed.rows()
        if found["_deleted_at"] is None
    }
    assert found == {2: ([2] * (len(RESERVED) - 2), 5, 6)}
    assert len(feed.rows()) == (2 if model == "reserved" else 1)
    feed.drop()


def test_a_table_partitioned_by_a_column_of_its_key_is_merged_in_the_partitions_of_the_batches(made: Dbt) -> None:
    feed = Feed(made, "by_day", {"deletes": "soft"})

    def days(value: int, *numbers: int) -> list[Row]:
        return [{"id": 1, "day": dt.date(2026, 3, number), "value": value} for number in numbers]

    def values() -> dict[int, tuple[int, bool]]:
        return {row["day"].day: (row["value"], row["_deleted_at"] is None) for row in feed.rows()}

    condition = '`day` between cast("2026-03-02" as date) and cast("2026-03-09" as date)'
    feed.merge(feed.load("a", 0, days(1, 1, 2, 5, 9, 10), DAYS))
    feed.merge(feed.load("b", 1, days(2, 2, 5), DAYS), feed.load("c", 1, days(3, 9), DAYS))
    assert values() == {1: (1, True), 2: (2, True), 5: (2, True), 9: (3, True), 10: (1, True)}
    assert f"and `bronze row`.{condition}" in made.executed("by_day")
    feed.merge(feed.load("d", 2, [], DAYS))
    assert "between" not in made.executed("by_day")
    # What a snapshot finds gone can be in any partition.
    feed.merge(feed.load("e", 3, days(4, 5), DAYS, snapshot=True))
    assert "between" not in made.executed("by_day")
    assert values() == {1: (1, False), 2: (2, False), 5: (4, True), 9: (3, False), 10: (1, False)}


def test_a_partition_column_outside_the_key_may_change(made: Dbt) -> None:
    feed = Feed(made, "by_value")
    feed.merge(feed.load("a", 0, [{"id": 1, "day": dt.date(2026, 3, 1), "value": 1}], DAYS))
    feed.merge(feed.load("b", 1, [{"id": 1, "day": dt.date(2026, 9, 9), "value": 2}], DAYS))
    assert feed.values() == {1: 2}
    assert feed.column("day") == {1: dt.date(2026, 9, 9)}


PAIRS = [SchemaField("a", "STRING", mode="REQUIRED"), SchemaField("b", "INT64", mode="REQUIRED")]
AMOUNT = SchemaField("value", "NUMERIC")


def test_a_key_of_two_columns_and_a_column_declared_later(warehouse_endpoint: Warehouse, tmp_path: Path) -> None:
    def pairs_project(*columns: SchemaField) -> Dbt:
        return bronze_project(warehouse_endpoint, tmp_path, "pairs", {"pairs": BronzeModel([*columns], ["a", "b"])})

    project = pairs_project(*PAIRS, AMOUNT)
    first = [{"a": a, "b": b, "value": Decimal(b)} for a in "xy" for b in (1, 2)]
    run = [batch(project.load("pairs__1", first, [*PAIRS, AMOUNT]), "1", 0)]
    project.run("run", batches={"pairs": run})

    project = pairs_project(*PAIRS, AMOUNT, NOTE)
    second = [{"a": "x", "b": 2, "value": Decimal(9), "note": "new"}, {"a": "x", "b": 3, "value": None, "note": None}]
    late = batch(project.load("pairs__0", [first[0] | {"value": Decimal(7)}], [*PAIRS, AMOUNT, NOTE]), "0", -1)
    run = [batch(project.load("pairs__2", second, [*PAIRS, AMOUNT, NOTE]), "2", 1), late]
    for _ in range(2):
        project.run("run", batches={"pairs": run})

    rows = project.rows("pairs_bronze", "pairs")
    assert sorted(((row["a"], row["b"]), row["value"], row["note"]) for row in rows) == [
        (("x", 1), Decimal(1), None),
        (("x", 2), Decimal(9), "new"),
        (("x", 3), None, None),
        (("y", 1), Decimal(1), None),
        (("y", 2), Decimal(2), None),
    ]


@pytest.mark.parametrize("deletes", ["keep", "soft"])
def test_a_merge_is_never_longer_than_what_bounds_it(
    warehouse_endpoint: Warehouse, tmp_path: Path, deletes: Literal["keep", "soft"]
) -> None:
    """The number of batches in a MERGE is chosen by an estimate of its length; BigQuery takes 1 MB."""
    columns = [ID, *(SchemaField(f"c{number}_{'x' * (number % 60)}", "NUMERIC") for number in range(150))]
    project = bronze_project(warehouse_endpoint, tmp_path, f"wide_{deletes}", {"wide": BronzeModel(columns, ["id"])})
    table = Table(
        name="wide",
        source="oltp.pedidos😀",
        key=["id"],
        mode=Mode.SNAPSHOT,
        deletes=deletes,
        bronze_model="wide",
        columns=[Column(name=c.name, type=ColumnType(c.field_type), required=c is ID) for c in columns],
    )
    run, loaded = [], []
    for number in range(4):
        hashed = project.load(f"wide__{number:012x}", [{"id": number}], columns)
        facts: Row = {"snapshot": number % 2 == 1, "deletes": deletes, "source": table.source}
        run.append(batch(hashed, f"20261122T17000{number}000000Z-00000000", number, **facts))
        types = {column.name: column.field_type for column in columns}
        made = Extraction(
            id=run[-1]["batch_id"],
            run_id="r",
            table="wide",
            mode=Mode.SNAPSHOT,
            window=None,
            extracted_at=at(number),
            started_at=at(number),
        )
        loaded.append(Loaded(made, TempTable(hashed, types, 1)))
        project.run("run", "--select", "wide", batches={"wide": run})
        assert len(project.executed("wide")) <= characters(table, loaded), f"{number + 1} batches"
