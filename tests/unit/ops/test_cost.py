"""`credix cost`: windows, sums, a month, and what is not known; as numbers and in words."""

import io
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services.core.cost.price import TIB
from services.core.cost.run_cost import CostLine, RunCost
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, Run
from services.ops.cost import By, Costs, costs, parse_since, read_costs
from services.ops.cost_text import doubts, print_costs, sentences

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
WEEK = NOW - timedelta(days=7)
LINES = [
    CostLine(stage="bronze", layer="bronze", table="cnpj_ws", model="cnpj_ws", node="cnpj_ws", billed=3 * TIB),
    CostLine(stage="downstream", layer="silver", model="clean", node="clean", billed=0, slot_ms=5),
    CostLine(stage="downstream", layer="silver", model="clean", node="not_null_clean_id", billed=TIB, processed=7),
    CostLine(stage="downstream", layer="several", node="amounts_add_up", billed=TIB // 2),
    CostLine(stage="downstream", billed=0),
    CostLine(stage="report", billed=TIB // 4, untold=1, jobs=3),
]
TOTAL = 3 * TIB + TIB + TIB // 2 + TIB // 4


def run(days_ago: float, cost: RunCost | None = RunCost(lines=LINES), service: str = "transformer") -> Run:  # noqa: B008
    at = NOW - timedelta(days=days_ago)
    return Run.model_validate(
        {
            "id": f"{at:%Y%m%dT%H%M%S%f}Z-00000000",
            "service": service,
            "started_at": at,
            "finished_at": at,
            "outcome": "succeeded",
            "cost": cost,
        }
    )


def week(*runs: Run, by: By = By.STAGE) -> Costs:
    return costs(sorted(runs, key=lambda each: each.id), WEEK, NOW, by, 6.25)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("12h", NOW - timedelta(hours=12)),
        ("7d", WEEK),
        ("4w", NOW - timedelta(weeks=4)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T06:00", datetime(2026, 11, 1, 6, tzinfo=UTC)),
        ("2026-11-01T06:00-03:00", datetime(2026, 11, 1, 6, tzinfo=timezone(timedelta(hours=-3)))),
    ],
)
def test_a_window_begins_where_it_is_said_to(text: str, since: datetime) -> None:
    assert parse_since(text, NOW) == since
    assert parse_since(text, NOW).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "0d", "-1d", "7", "7 d", "1y", "yesterday", "2026-13-01", "2027-01-01", "99999d"])
def test_any_other_words_are_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="is n"):
        parse_since(text, NOW)


@given(st.text(max_size=12))
def test_whatever_is_typed_is_a_time_in_the_past_or_a_mistake(text: str) -> None:
    try:
        since = parse_since(text, NOW)
    except ValueError as error:
        assert text in str(error)
    else:
        assert since < NOW


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        (By.STAGE, {"bronze": 3 * TIB, "downstream": TIB + TIB // 2, "report": TIB // 4}),
        (By.TABLE, {"cnpj_ws": 3 * TIB, "(several tables)": TOTAL - 3 * TIB}),
        (
            By.MODEL,
            {
                **{"cnpj_ws": 3 * TIB, "clean": TIB, "amounts_add_up": TIB // 2, "(report)": TIB // 4},
                "(downstream)": 0,
            },
        ),
    ],
)
def test_the_sums_are_of_what_was_asked_the_dearest_first(by: By, rows: dict[str, int]) -> None:
    found = week(run(1), by=by)
    assert [(row.name, row.billed_bytes) for row in found.rows] == list(rows.items())
    assert found.total is not None
    assert (found.total.billed_bytes, found.total.jobs, found.total.untold_jobs) == (TOTAL, 8, 1)
    assert found.total.usd == pytest.approx(4.75 * 6.25)
    assert sum(row.usd for row in found.rows) == pytest.approx(found.total.usd)


def test_by_run_they_are_in_time_s_order() -> None:
    found = week(run(1), run(3, service="observer"), run(2, None), by=By.RUN)
    assert [row.name.split()[1] for row in found.rows] == ["observer", "transformer"]
    assert [row.billed_bytes for row in found.rows] == [TOTAL, TOTAL]


def test_a_month_is_the_window_scaled_and_what_is_free_is_not_taken_off() -> None:
    found = week(run(20), run(1))
    assert found.month is not None
    assert (found.month.from_days, found.month.free_tib) == (7, 1)
    assert found.month.billed_bytes == round(TOTAL * 30 / 7)
    assert found.month.usd == pytest.approx(4.75 * 6.25 * 30 / 7)
    assert found.runs == 1, "the run before the window only says that there was a history"
    young = week(run(2), run(1))
    assert young.month is not None
    assert young.month.from_days == 2


def test_runs_of_which_nothing_is_known_are_in_no_sum_and_named() -> None:
    partly = RunCost(lines=LINES[:1], unknown="BigQuery was away")
    found = week(run(3, None), run(2, partly), run(1))
    assert [each.why for each in found.unknown_runs] == ["nobody read what it cost", "BigQuery was away"]
    assert found.total is not None
    assert found.total.billed_bytes == TOTAL + 3 * TIB
    [doubt, untold] = doubts(found)
    assert doubt.startswith("Of 2 of 3 runs it is not known, or not all, so the sum is higher: ")
    assert "BigQuery was away" in doubt
    assert untold == "Of 1 job BigQuery does not say what they billed."


def test_when_nothing_at_all_is_known_there_is_no_sum() -> None:
    found = week(run(2, None), run(1, RunCost(unknown="no right")))
    assert (found.total, found.month, found.rows) == (None, None, [])
    assert sentences(found) == ["What 2 runs since 2026-11-19 12:00 UTC cost is not known."]


def test_a_run_that_cost_nothing_is_known() -> None:
    found = week(run(1, RunCost()))
    assert found.total is not None
    assert (found.total.billed_bytes, found.unknown_runs) == (0, [])


def test_without_runs_that_is_said() -> None:
    assert sentences(week(run(9))) == ["No run since 2026-11-19 12:00 UTC."]
    assert doubts(week()) == []


def test_people_read_it_at_eighty_columns() -> None:
    for by in By:
        written = io.StringIO()
        print_costs(week(run(20), run(1), run(2, None), by=by), Console(file=written, width=80, highlight=False))
        text = written.getvalue()
        assert all(len(line) <= 80 for line in text.splitlines()), text
        words = " ".join(text.split())
        assert f"credix cost by {by.value}" in words
        assert "billed at least 4.8 TiB: 29.69 USD at 6.25 USD per TiB (BIGQUERY_USD_PER_TIB)." in words
        assert "the bytes of 7.0 days scaled to 30: 20.4 TiB, 127.23 USD." in words
        assert "does not bill the first 1 TiB a month of a billing account: up to 6.25 USD less." in words
        assert "not known" in words


def test_the_history_is_asked_for_all_who_send_jobs(tmp_path: Path) -> None:
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    for each in (
        run(20),
        run(10),
        run(3, service="observer"),
        run(2, service="report"),
        run(1),
        run(0.5, None, "sweep"),
    ):
        state.add_run(each)
    found = read_costs(state, WEEK, NOW, By.STAGE, 6.25)
    assert (found.runs, found.unknown_runs) == (3, []), "a sweep sends loads and copies, which nobody bills"
    assert found.month is not None
    assert found.month.from_days == 7
