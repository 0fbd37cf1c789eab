"""Costs: sums that are exact and small, whatever was sent; a price; a month; nothing that is not known is 0."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.api_core.exceptions import Forbidden
from google.cloud import bigquery
from google.cloud.bigquery.job import CopyJob, LoadJob, QueryJob
from hypothesis import given
from hypothesis import strategies as st

from services.core.cost.interrupted import note_interrupted, run_of_label
from services.core.cost.keeping import keep_cost, note_with_cost
from services.core.cost.price import TIB, measured_span, month, usd
from services.core.cost.reading import cost_of, costs_of, listed_jobs, read_cost
from services.core.cost.run_cost import MOST_LINES, CostLine, JobCost, RunCost, added, grouped, run_cost
from services.core.labels import run_label
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, Run
from services.core.state.store import DocumentExists

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RUN = "20261126T110000000000Z-0123abcd"
KILLED = "20261126T100000000000Z-00000000"

NAMES = st.sampled_from(["a", "b", "c", None])
BYTES = st.none() | st.integers(0, 2**60)
JOBS = st.lists(
    st.builds(
        lambda names, billed, slot_ms: JobCost(
            {f"credix_{key}": value for key, value in names.items() if value}, billed, billed, slot_ms
        ),
        st.fixed_dictionaries(dict.fromkeys(("stage", "layer", "table", "model", "node", "kind"), NAMES)),
        BYTES,
        st.integers(0, 10**9),
    ),
    max_size=60,
)


def job(
    run_id: str = RUN, stage: str = "bronze", billed: int | None = 10, kind: Any = QueryJob, **statistics: Any
) -> Any:
    """A job as BigQuery lists it."""
    labels = {"credix_stage": stage, "credix_run": run_label(run_id)}
    told = {} if billed is None else {"totalBytesBilled": str(billed), "totalBytesProcessed": str(billed // 2)}
    resource = {
        "jobReference": {"projectId": "p", "jobId": "j", "location": "US"},
        "configuration": {"labels": labels, kind._JOB_TYPE: {"query": "SELECT 1"}},
        "status": {"state": "DONE", **({"errorResult": statistics.pop("error")} if "error" in statistics else {})},
        "statistics": {
            "creationTime": "1795000000000",
            "endTime": "1795000001000",
            "query": {"totalSlotMs": "7", **told},
            **statistics,
        },
    }
    return kind.from_api_repr(resource, cast(Any, SimpleNamespace(project="p", location="US")))


class Lists:
    """BigQuery's list of jobs."""

    def __init__(self, *jobs: Any, error: Exception | None = None) -> None:
        self.jobs, self.error = jobs, error
        self.asked: list[datetime] = []

    def list_jobs(self, *, min_creation_time: datetime, **_: Any) -> Iterator[Any]:
        self.asked.append(min_creation_time)
        if self.error:
            raise self.error
        return iter(self.jobs)

    @property
    def client(self) -> bigquery.Client:
        return cast(bigquery.Client, self)


@pytest.fixture
def state(tmp_path: Path) -> PipelineState:
    return PipelineState(SqliteStore(tmp_path / "state.sqlite"))


def noted(state: PipelineState, run_id: str = RUN) -> Run:
    run = Run(id=run_id, service="transformer", started_at=NOW, finished_at=NOW, outcome="succeeded")
    state.add_run(run)
    return run


# ---- sums


@given(JOBS)
def test_the_lines_of_a_run_add_up_to_its_jobs(jobs: list[JobCost]) -> None:
    total = run_cost(jobs).total
    assert total.jobs == len(jobs)
    assert total.untold == sum(job.billed is None for job in jobs)
    assert total.billed == sum(job.billed or 0 for job in jobs)
    assert total.processed == sum(job.processed or 0 for job in jobs)
    assert total.slot_ms == sum(job.slot_ms for job in jobs)


@given(JOBS)
def test_what_is_grouped_adds_up_too_and_the_dearest_is_first(jobs: list[JobCost]) -> None:
    cost = run_cost(jobs)
    for key in (lambda line: line.stage, lambda line: line.about, lambda line: line.part, lambda line: line.table):
        groups = grouped(cost.lines, key)
        assert added(groups.values()) == cost.total
        assert [line.billed for line in groups.values()] == sorted((g.billed for g in groups.values()), reverse=True)


@given(JOBS)
def test_a_line_stands_once(jobs: list[JobCost]) -> None:
    lines = run_cost(jobs).lines
    assert len({(li.stage, li.layer, li.table, li.model, li.node, li.kind) for li in lines}) == len(lines)


@pytest.mark.parametrize("tables", [1, 1_000])
def test_of_thousands_of_models_the_dearest_keep_their_names_and_the_document_stays_small(tables: int) -> None:
    jobs = [
        JobCost(
            {
                "credix_stage": "downstream",
                "credix_layer": "silver",
                "credix_table": f"table_{number % tables:057}",
                "credix_model": f"model_{number:057}",
                "credix_node": f"node_{number:058}",
                "credix_kind": "model",
            },
            2**40 + number,
            2**40 + number,
            10**9,
        )
        for number in range(6_000)
    ]
    cost = run_cost(jobs)
    assert cost.total.billed == sum(job.billed or 0 for job in jobs)
    named = [line.node for line in cost.lines if line.node]
    assert named == [f"node_{number:058}" for number in range(5_999, 5_999 - MOST_LINES, -1)]
    assert len(json.dumps(cost.model_dump(mode="json")).encode()) < 300_000, "a document has at most 1 MiB"


# ---- what BigQuery says of a job


@pytest.mark.parametrize(
    ("found", "billed", "processed", "slot_ms"),
    [
        (job(billed=20), 20, 10, 7),
        (job(billed=0), 0, 0, 7),
        (job(billed=None), None, None, 7),
        (job(billed=None, error={"reason": "invalidQuery"}), 0, 0, 7),
        (job(billed=20, error={"reason": "stopped"}), 20, 10, 7),
        (job(kind=LoadJob), 0, 0, 0),
        (job(kind=CopyJob), 0, 0, 0),
    ],
    ids=["query", "cached", "not told", "failed", "cancelled and billed", "load", "copy"],
)
def test_a_job_costs_what_bigquery_says(found: Any, billed: int | None, processed: int | None, slot_ms: int) -> None:
    cost = cost_of(found)
    assert (cost.billed, cost.processed, cost.slot_ms) == (billed, processed, slot_ms)
    assert cost.labels["credix_stage"] == "bronze"


def test_a_run_s_jobs_are_those_with_its_label_and_a_script_counts_once() -> None:
    other = job("20261126T120000000000Z-00000000")
    unlabelled = job()
    unlabelled._properties["configuration"].pop("labels")
    script, statement = job(billed=30), job(billed=30, parentJobId="script")
    listed = list(listed_jobs(Lists(other, unlabelled, script, statement).client, NOW))
    assert [cost.billed for cost in costs_of(listed, RUN)] == [30]


def test_jobs_are_asked_for_from_before_the_run_began() -> None:
    """This machine's clock may be before BigQuery's."""
    lists = Lists(job())
    read_cost(lists.client, RUN, NOW)
    assert NOW - timedelta(minutes=15) < lists.asked[0] < NOW - timedelta(minutes=1)


def test_a_list_that_cannot_be_read_is_unknown_and_says_why() -> None:
    cost = read_cost(Lists(error=Forbidden("no right to jobs.list")).client, RUN, NOW)  # type: ignore[no-untyped-call]
    assert cost.lines == []
    assert cost.unknown is not None
    assert "Forbidden" in cost.unknown
    assert "no right" in cost.unknown


# ---- what the history keeps


def test_a_cost_is_kept_and_read_again_it_takes_the_place_of_the_one_before(state: PipelineState) -> None:
    noted(state)
    keep_cost(state, Lists(job(billed=10)).client, RUN, NOW)
    keep_cost(state, Lists(job(billed=10), job(stage="report", billed=5)).client, RUN, NOW)
    [run] = state.runs("transformer")
    assert run.cost == RunCost(
        lines=[
            CostLine(stage="bronze", billed=10, processed=5, slot_ms=7),
            CostLine(stage="report", billed=5, processed=2, slot_ms=7),
        ]
    )


def test_what_was_known_stays_when_the_rest_is_not_known(state: PipelineState) -> None:
    noted(state)
    keep_cost(state, Lists(job(billed=10)).client, RUN, NOW)
    kept = keep_cost(state, Lists(error=ConnectionError("away")).client, RUN, NOW)
    [run] = state.runs("transformer")
    assert run.cost == kept
    assert kept.unknown is not None
    assert kept.total.billed == 10


def test_neither_bigquery_nor_the_state_can_fail_a_run(state: PipelineState, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_cost(state, Lists(job()).client, RUN, NOW).total.billed == 10, "though it is not in the history"

    def away(*_: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(state, "note_cost", away)
    monkeypatch.setattr(state, "add_run", away)
    run = noted_run()
    assert keep_cost(state, Lists(job()).client, RUN, NOW).total.billed == 10
    note_with_cost(state, Lists(job()).client, run, 6.25)
    assert note_interrupted(state, Lists(job(KILLED)).client, "transformer", {"bronze"}, NOW, {}) == []


def noted_run() -> Run:
    return Run(id=RUN, service="observer", started_at=NOW, finished_at=NOW, outcome="succeeded")


def test_a_run_from_before_costs_were_kept_has_none(state: PipelineState) -> None:
    data = noted_run().model_dump(mode="json")
    del data["cost"]
    state.store.create("runs", RUN, data)
    [run] = state.runs("observer")
    assert run.cost is None


def test_a_run_that_nobody_noted_is_noted_by_the_next_with_what_it_cost(state: PipelineState) -> None:
    noted(state)
    observed = job("20261126T103000000000Z-00000001", stage="observe")
    later = job("20261126T130000000000Z-00000002")
    foreign = job("of-somebody-else")
    jobs = [job(KILLED, billed=30), job(KILLED, stage="report", billed=3), job(), observed, later, foreign]
    lists = Lists(*jobs)
    [found] = note_interrupted(state, lists.client, "transformer", {"bronze"}, NOW, {"seconds": {}})
    assert (found.id, found.outcome, found.details) == (KILLED, "interrupted", {"seconds": {}})
    assert found.started_at == datetime(2026, 11, 26, 10, tzinfo=UTC)
    assert found.cost is not None
    assert found.cost.total.billed == 33
    assert state.run(KILLED) == found
    assert note_interrupted(state, lists.client, "transformer", {"bronze"}, NOW, {}) == [], "and only once"


def test_a_run_that_only_stood_still_says_itself_how_it_ended(state: PipelineState) -> None:
    """Its lease had passed to another, which found its jobs and took it for dead."""
    [found] = note_interrupted(state, Lists(job(KILLED, billed=30)).client, "transformer", {"bronze"}, NOW, {})
    state.add_run(found.model_copy(update={"outcome": "succeeded", "cost": None}))
    [run] = state.runs("transformer")
    assert (run.outcome, run.cost) == ("succeeded", found.cost)
    for again in (run, found):
        with pytest.raises(DocumentExists):
            state.add_run(again)


def test_interrupted_runs_are_looked_for_since_the_last_look(state: PipelineState) -> None:
    first, second = Lists(), Lists()
    note_interrupted(state, first.client, "transformer", {"bronze"}, NOW, {})
    note_interrupted(state, second.client, "transformer", {"bronze"}, NOW + timedelta(days=9), {})
    assert second.asked == first.asked, "from when the run before began"


@pytest.mark.parametrize("name", ["", "of-somebody-else", "20261126t103000000000z", "20261126T103000000000Z-00000001"])
def test_a_label_of_somebody_else_is_no_run(name: str) -> None:
    assert run_of_label(name) is None
    assert run_of_label(run_label(RUN)) == RUN


# ---- prices


def test_a_tib_costs_the_price() -> None:
    assert usd(TIB, 6.25) == 6.25
    assert usd(0, 6.25) == 0
    assert usd(TIB // 2, 10) == 5


@pytest.mark.parametrize(
    ("since", "begun", "days"),
    [
        (7, [], 7),
        (7, [30], 7),
        (7, [10, 3], 7),
        (7, [3, 2, 0], 3),
        (7, [0.5], 1),
        (7, [0.01], 1),
        (0.5, [3], 1),
    ],
    ids=["no run", "only before", "older than the window", "younger", "of a morning", "of a moment", "a short window"],
)
def test_the_days_that_are_scaled_to_a_month(since: float, begun: list[float], days: float) -> None:
    starts = [NOW - timedelta(days=ago) for ago in begun]
    assert measured_span(NOW - timedelta(days=since), NOW, starts) == timedelta(days=days)


def test_a_month_is_thirty_days() -> None:
    assert month(7 * 10**12, timedelta(days=7)) == 30 * 10**12
    assert month(10, timedelta(days=30)) == 10
    assert month(10, timedelta(days=1)) == 300
