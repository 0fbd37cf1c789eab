"""Random histories of a source, of extractions, events and crashes: nothing is lost on the way (invariants 1 to 4).

The extractor, the loader and the transformer are the real ones, on the real state (SQLite in memory). What is outside
of them is simulated: a PostgreSQL server (transactions and snapshots; the statements are the real texts, which DuckDB
runs on what a snapshot sees), a bucket, and bronze with the rule by which dbt merges. Every call to the outside is a
step before which a process can be stopped, overtaken, or killed.

Promised is that a change reaches bronze when its cursor is later than all these together: the moment at which its
transaction began (or the latest time that the source had shown by then, if its clock was set back), less the table's
lag and lookback. Where open transactions cannot be seen (prepared ones, those of others without the privilege, those
of a replica's primary, those of a session that hides them), it must also have been open for less than the safety lag.
A null cursor is promised by ``every_run`` only. What else changes, the next snapshot brings: a change that does not
move the cursor, or moves it further back; and deletes, under ``deletes: soft``.

The application writes its cursors as moments, rounded to seconds, as local times of New York while its clocks go back,
or as days of some place on earth. Some of its transactions come several in one message, and have that message's time.
tests/unit/extractor/history/ has the parts: the source, the bucket and the warehouse, the processes, what happens, and
what must hold.
"""

import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.core.tables import Cursor, Mode
from tests.unit.extractor.history.cells import Cells, Kind
from tests.unit.extractor.history.counting import COUNTS
from tests.unit.extractor.history.inventing import KEYS, SCALES, STEPS, TICK, invented
from tests.unit.extractor.history.playing import Told, failure, reduced, simulated_outside

EXAMPLES = int(os.environ.get("CREDIX_WINDOW_EXAMPLES", "50"))


@pytest.fixture
def simulated() -> Iterator[None]:
    with simulated_outside():
        yield


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("kind", SCALES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**64 - 1))
def test_whatever_happens_nothing_is_lost_on_the_way_and_bronze_ends_equal_to_the_source(kind: Kind, seed: int) -> None:
    declared, happenings = invented(kind, seed)
    COUNTS[f"histories with a {kind}"] += 1
    if failure(declared, happenings) is not None:
        needed = reduced(declared, happenings)
        error = failure(declared, needed) or AssertionError("the failure did not come again")
        error.add_note("\n".join([f"seed {seed}", str(declared), *map(str, needed)]))
        raise error


def test_the_histories_had_in_them_what_they_are_meant_to_have() -> None:
    """Otherwise nothing was tested; ``pytest -s`` shows the counts."""
    sys.stdout.write(json.dumps(COUNTS, indent=1, sort_keys=True))
    if COUNTS["steps"] < 5_000:
        pytest.skip("too few histories to say")
    killed = [what for what in COUNTS if what.startswith("killed")]
    for kind, least in (("extractor", 8), ("loader", 2), ("transformer", 4)):
        assert sum(kind in what for what in killed) >= least, killed
    events = ["extractions: busy", "parts damaged", "reads broken off", "transactions prepared", "transactions hidden"]
    events += ["transactions of messages", "rows of attached partitions", "lags raised"]
    events += ["batches appended", "compactions", "deltas cleared"]
    events += ["rows dropped from chunks", "rows that were changed back", "sessions lost", "tasks tried again"]
    for what in events:
        assert COUNTS[what] >= 5, what
    assert COUNTS["rows compared after two runs"] >= COUNTS["steps"] / STEPS


# --- histories that are worth a name ------------------------------------------------------------------------------

UTC = ZoneInfo("UTC")
STRICT = Cursor(expression="greatest(a, b)", type="timestamp")
MOMENTS = Cells("timestamp", UTC)
SECOND, TEN_SECONDS = 3, 4


@pytest.mark.usefixtures("simulated")
def test_a_batch_that_comes_after_a_later_snapshot_does_not_bring_back_what_that_found_gone() -> None:
    """Of a row that bronze never had, only the snapshot's time tells."""
    told, new = Told(STRICT, MOMENTS, deletes="soft"), KEYS - 1
    assert new not in told.history.warehouse.bronze
    told("change", key=new)
    told("extraction", pause=SECOND)
    told("change", key=new, how="delete")
    told("extraction", mode=Mode.SNAPSHOT, pause=SECOND)
    older, snapshot = told.history.bucket.manifests[-2:]
    told.deliver(snapshot)
    told.deliver(older)
    assert told.history.warehouse.bronze[new].deleted
    told.judge.settle()


@pytest.mark.usefixtures("simulated")
def test_a_transaction_that_waits_before_pg_stat_activity_shows_it_is_not_passed() -> None:
    """Measured on PostgreSQL 15: of 2,700 windows that ended at the clock, three lost a row in this way."""
    told = Told(STRICT, MOMENTS)
    told("begin", key=0)
    told.database.open[-1].shown = False
    told("change", key=1, pause=2)
    told("cycle")
    told("commit")
    told.judge.settle()


@pytest.mark.usefixtures("simulated")
def test_a_cursor_older_by_the_lag_than_a_long_transaction_is_not_passed() -> None:
    """The lag counts from the start of the transaction, not from the run."""
    lag = timedelta(seconds=10)
    told = Told(STRICT.model_copy(update={"lag": lag}), MOMENTS)
    told.database.pass_time(lag)
    told("begin", key=1)
    told.database.write(told.database.open[-1], 0, "skewed", lag)
    told("change", key=1, pause=8)
    told("cycle")
    told("commit")
    told.judge.settle()


@pytest.mark.usefixtures("simulated")
def test_a_future_that_fails_a_run_is_not_what_is_written_while_a_transaction_is_open() -> None:
    told = Told(STRICT.model_copy(update={"future": "fail"}), MOMENTS)
    before = told.history.state.progress("t").watermark
    told("change", key=0, pause=TEN_SECONDS)
    told("begin", key=1, pause=SECOND)
    told("change", key=2, pause=TEN_SECONDS)
    told("cycle")
    [running] = told.database.open
    assert told.history.state.progress("t").watermark == running.began - TICK
    assert before is not None
    assert before < running.began - TICK
    told("commit")
    told.database.begin()
    told.database.write(told.database.open[-1], 3, "future", timedelta(minutes=5))
    told("commit", pause=SECOND)
    told("cycle")
    assert told.history.state.progress("t").watermark == running.began - TICK, "the run failed"
    told.judge.settle()


READ_AGAIN = STRICT.model_copy(update={"lookback": timedelta(minutes=1)})


@pytest.mark.usefixtures("simulated")
def test_runs_by_chunks_that_find_no_news_leave_nothing_however_many_there_are() -> None:
    """Each begins a batch and takes times, before it knows that there is nothing to bring."""
    told = Told(READ_AGAIN, MOMENTS, by_pages=True)
    told("change", key=0, pause=SECOND)
    told("cycle")
    before, dropped = told.history.state.batches_of_table("t"), COUNTS["rows dropped from chunks"]
    for _ in range(3):
        told("cycle", pause=SECOND)
        assert [b.id for b in told.history.state.batches_of_table("t")] == [b.id for b in before]
        assert COUNTS["rows dropped from chunks"] > dropped
        dropped = COUNTS["rows dropped from chunks"]
    told.judge.settle()


@pytest.mark.usefixtures("simulated")
def test_a_row_that_changes_while_chunks_are_read_and_back_later_lands_each_time() -> None:
    """It lands as two versions, under two snapshots: neither tells whether the next window's is news."""
    told = Told(READ_AGAIN, MOMENTS, by_pages=True)
    told("change", key=1)
    told("change", key=0)
    database, warehouse = told.database, told.history.warehouse
    first, second = database.versions, database.versions + 1
    assert database.current()[0].page == 0
    extractor, read = told.history.extractor(Mode.INCREMENTAL), COUNTS["chunks read"]
    while COUNTS["chunks read"] == read:
        extractor.advance(1)
    told("session lost")
    told("change", key=0)
    extractor.finish()
    told.deliver(told.history.bucket.manifests[-1])
    assert warehouse.bronze[0].n == second
    told("change", key=0, how="again")
    told("cycle")
    assert warehouse.bronze[0].n == first
    told.judge.settle()
