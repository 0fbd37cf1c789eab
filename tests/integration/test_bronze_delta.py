"""Bronze's view shows at every moment what merging everything would give, whatever waits, comes twice, or dies.

The random histories go the ways that the transformer chooses (services/transformer/bronze/compaction.py), and besides
are compacted at any time, and die between any two of a compaction's statements.
"""

import datetime as dt
import os
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.core.batch import Batch as Extraction
from services.core.tables import Compaction
from services.transformer.bronze.compaction import Way, choose
from services.transformer.bronze.handover import view_definition
from services.transformer.bronze.tables import DELTA, BronzeTables, look
from tests.integration.bronze_feed import (
    BY_ID,
    ITEM,
    Batch,
    Extracted,
    Feed,
    at,
    items,
    newest_and_alive,
    order_of,
    random_batches,
    versions_alive,
)
from tests.integration.warehouse_fixture import (
    PROJECT,
    BronzeModel,
    Dbt,
    Warehouse,
    bronze_project,
    declared_table,
    loaded_batch,
)

pytest_plugins = ["tests.integration.warehouse_fixture"]

HISTORIES = int(os.environ.get("CREDIX_BRONZE_SEEDS", "2"))
CASES = 10
"""Models on which random histories run side by side: most of a run's time is dbt's, not the model's."""
ALWAYS_DELTA = Compaction(max_share=100, min_base=0)


@pytest.fixture(scope="module")
def made(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    models = {"items": BronzeModel(ITEM, ["id"], compaction=ALWAYS_DELTA), "old": BronzeModel(ITEM, ["id"])} | {
        f"case_{number}": BronzeModel(ITEM, ["id"], BY_ID if number % 2 else None, ALWAYS_DELTA)
        for number in range(CASES)
    }
    return bronze_project(warehouse_endpoint, tmp_path_factory.mktemp("delta"), "delta", models)


@pytest.fixture
def soft(made: Dbt) -> Iterator[Feed]:
    feed = Feed(made, "items", {"deletes": "soft"})
    feed.merge()
    assert way(feed) is Way.MAKE, "a base without a delta"
    feed.merge()
    assert way(feed) is Way.APPEND
    yield feed
    feed.drop()


def looked_at(feed: Feed, *batches: Batch) -> BronzeTables:
    table = declared_table(feed.model, feed.project.models[feed.model], list(batches))
    return look(feed.project.client, f"{PROJECT}.{feed.project.datasets.bronze}", table)


def way(feed: Feed, *batches: Batch) -> Way:
    """The way that the transformer would choose."""
    model = feed.project.models[feed.model]
    table = declared_table(feed.model, model, list(batches))
    loaded, found = [loaded_batch(each, model) for each in batches], looked_at(feed, *batches)
    newest = max(feed.snapshots, key=order_of, default=None)
    snapshot: Extraction | None = loaded_batch(newest, model).batch if newest else None
    wanted = view_definition(table, found, "", loaded)
    return choose(table, found, wanted, loaded, snapshot, None, dt.datetime.now(dt.UTC)).way


def copied(feed: Feed, name: str, source: str) -> None:
    dataset = f"{PROJECT}.{feed.project.datasets.bronze}"
    feed.project.client.query_and_wait(
        f"create or replace table `{dataset}.{name}` as select * from `{dataset}.{source}`"
    )


def compact(feed: Feed, *, dies: bool = False) -> None:
    """Merge the delta; a death leaves there what the base has by then."""
    delta = f"{feed.model}{DELTA}"
    if dies:
        copied(feed, "saved", delta)
    feed.merge()
    assert looked_at(feed).delta_rows == 0
    if dies:
        copied(feed, delta, "saved")


def test_an_appended_batch_is_seen_and_costs_no_merge(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1, _2=1, _3=1)))
    newer, older = soft.load("b", 2, items(_1=2, _4=2)), soft.load("0", -1, items(_1=0, _3=0, _5=0))
    for each in (newer, older, newer):
        assert way(soft, each) is Way.APPEND
        soft.project.append(soft.model, each)
    expected = {1: 2, 2: 1, 3: 1, 4: 2, 5: 0}
    assert soft.values() == expected
    assert looked_at(soft).delta_rows == 7
    before = soft.by_id()
    compact(soft)
    # Also when a version came into bronze, which who reads it step by step goes by.
    assert soft.by_id() == before


def test_a_snapshot_deletes_what_waits_in_the_delta(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1)))
    soft.project.append(soft.model, soft.load("b", 1, items(_1=2, _2=2)), soft.load("c", 9, items(_3=3)))
    snapshot = soft.snapshot("s", 5, items(_1=5))
    assert way(soft, snapshot) is Way.MERGE
    soft.merge(snapshot)
    assert soft.values() == {1: 5, 3: 3}
    assert soft.deleted() == {2: (2, "s", at(5), at(5))}
    # What is older than the snapshot is merged, so that it is known to be gone.
    assert way(soft, soft.load("late", 4, items(_4=4))) is Way.MERGE
    assert way(soft, soft.load("newer", 6, items(_4=4))) is Way.APPEND


def test_a_death_between_merge_and_clearing_changes_nothing(soft: Feed) -> None:
    soft.merge(soft.load("a", 0, items(_1=1, _2=1)))
    twice = [{"id": 1, "value": value} for value in (7, 9, 8)]
    soft.project.append(soft.model, soft.load("b", 1, twice))
    before = soft.by_id()
    compact(soft, dies=True)
    assert soft.by_id() == before
    assert before[1]["value"] == 9
    soft.project.append(soft.model, soft.load("c", 2, items(_2=2)))
    compact(soft)
    assert soft.values() == {1: 9, 2: 2}


def test_a_table_from_before_becomes_the_base(made: Dbt) -> None:
    feed = Feed(made, "old", {"deletes": "soft"})
    feed.merge(feed.load("a", 0, items(_1=1, _2=1)))
    before, dataset = feed.by_id(), f"{PROJECT}.{made.datasets.bronze}"
    # As it was when bronze was one table.
    made.client.delete_table(f"{dataset}.old")
    made.client.query_and_wait(f"alter table `{dataset}.old_base` rename to old")
    found = looked_at(feed)
    assert (found.base, found.adopted is not None, found.definition) == (None, True, None)
    feed.merge()
    assert feed.by_id() == before
    assert looked_at(feed).definition
    feed.merge(feed.load("b", 1, items(_2=2)))
    assert feed.values() == {1: 1, 2: 2}
    feed.drop()


def steps(chance: random.Random, batches: list[Extracted]) -> Iterator[tuple[list[Extracted], str]]:
    """What happens: batches that come, some again, and what is done besides."""
    waiting = chance.sample(batches, len(batches))
    done: list[Extracted] = []
    while waiting:
        run = [waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 2)))]
        again = chance.sample(done, min(len(done), chance.choice([0, 0, 1])))
        yield [*run, *again], chance.choice(["", "", "compacted", "died"])
        done += run


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_the_view_is_what_merging_everything_gives(made: Dbt, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  reproducible, not secret
    ways = dict.fromkeys(Way, 0)
    feeds = [
        Feed(made, f"case_{number}", {"deletes": "keep" if number % 3 else "soft", "deleted_at": "removed_on"})
        for number in range(CASES)
    ]
    for _ in range(2):
        made.run("run", "--select", *(feed.model for feed in feeds))
    for feed in feeds:
        history = random_batches(chance)
        loaded = {
            each.id: feed.load(each.id, each.minutes, [v.row() for v in each.rows], snapshot=each.snapshot)
            for each in history
        }
        known: list[Extracted] = []
        for run, besides in steps(chance, history):
            batches = [loaded[each.id] for each in run]
            chosen = way(feed, *batches)
            ways[chosen] += 1
            if chosen is Way.APPEND:
                made.append(feed.model, *feed.known(batches))
            else:
                feed.merge(*batches)
            if besides:
                compact(feed, dies=besides == "died")
            known += [replace(each, snapshot=each.snapshot and feed.facts["deletes"] == "soft") for each in run]
            alive, deleted = newest_and_alive(known)
            rows = feed.by_id()
            found = versions_alive(rows)
            assert (found, rows.keys() - found.keys()) == (alive, deleted), f"seed {seed}, {feed.model}: {known}"
        feed.drop()
    assert min(ways[Way.APPEND], ways[Way.MERGE]) >= CASES / 2
