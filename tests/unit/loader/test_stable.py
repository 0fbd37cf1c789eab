"""The stable table is the newest loaded batch's, whoever stood still, died, or came late."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.api_core.exceptions import NotFound

from services.core.batch import Batch
from services.core.errors import LeaseLost
from services.core.naming import batch_of_stable_job, stable_job_id
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Mode
from services.loader.stable import refresh_stable
from tests.jobs import Jobs

START = datetime(2026, 11, 22, tzinfo=UTC)
STABLE = "p.temp.t"


def batch(number: int) -> Batch:
    id_ = f"20261122T17{number:04}000000Z-00000000"
    return Batch(
        id=id_, run_id="r", table="t", mode=Mode.SNAPSHOT, window=None, extracted_at=START, started_at=START
    )  # fmt: skip


class Warehouse(Jobs):
    """Tables, and what happens just before a copy is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, str] = {batch(number).id: batch(number).id for number in range(4)}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def copy_table(self, source: str, target: str, job_id: str, **_: Any) -> Any:
        before, self.before = self.before, lambda: None
        before()
        if source not in self.tables:
            raise NotFound(source)  # type: ignore[no-untyped-call]
        self.send(job_id, "copy")
        self.tables[target] = self.tables[source]
        after, self.after = self.after, lambda: None
        after()
        return SimpleNamespace(result=lambda **_: None)


@pytest.fixture
def state(tmp_path: Path) -> PipelineState:
    return PipelineState(SqliteStore(tmp_path / "state.sqlite"))


def refresh(warehouse: Warehouse, state: PipelineState, number: int) -> bool:
    return refresh_stable(cast(Any, warehouse), state, batch(number), batch(number).id, STABLE)


def lease_passes(state: PipelineState) -> None:
    """The holder of the lease stands still for longer than it lasts."""
    lease = state.store.get("leases", "stable-t")
    assert lease is not None
    state.store.update(lease, {**lease.data, "expires_at": (datetime.now(UTC) - timedelta(1)).isoformat()})


def test_a_newer_batch_replaces_an_older_one_and_never_the_other_way_round(state: PipelineState) -> None:
    warehouse = Warehouse()
    assert [refresh(warehouse, state, number) for number in (1, 2, 1, 0)] == [True, True, False, False]
    assert warehouse.tables[STABLE] == state.progress("t").stable_batch == batch(2).id


def test_a_loader_that_stood_still_before_its_copy_does_not_put_an_older_batch_over_a_newer(
    state: PipelineState,
) -> None:
    warehouse = Warehouse()

    def meanwhile() -> None:
        lease_passes(state)
        assert refresh(warehouse, state, 2)

    warehouse.before = meanwhile
    with pytest.raises(LeaseLost, match="came too late"):
        refresh(warehouse, state, 1)
    assert warehouse.tables[STABLE] == state.progress("t").stable_batch == batch(2).id
    assert not refresh(warehouse, state, 1), "its event comes again"


def test_a_copy_that_was_made_and_not_noted_counts(state: PipelineState) -> None:
    warehouse = Warehouse()

    def dies() -> None:
        raise KeyboardInterrupt

    warehouse.after = dies
    with pytest.raises(KeyboardInterrupt):
        refresh(warehouse, state, 2)
    assert state.progress("t").stable_batch is None
    assert not refresh(warehouse, state, 1)
    assert warehouse.tables[STABLE] == state.progress("t").stable_batch == batch(2).id


def test_a_batch_that_was_merged_and_dropped_meanwhile_is_left_out(state: PipelineState) -> None:
    warehouse = Warehouse()
    del warehouse.tables[batch(1).id]
    assert not refresh(warehouse, state, 1)
    assert refresh(warehouse, state, 2)


def test_a_jobs_id_tells_its_batch() -> None:
    assert batch_of_stable_job(stable_job_id("t_1", batch(1).id)) == batch(1).id
    assert stable_job_id("t", batch(1).id) != stable_job_id("t", batch(1).id)
    with pytest.raises(ValueError, match="is not the id"):
        batch_of_stable_job("credix-merge-t-1")
