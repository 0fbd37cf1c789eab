"""The run report says what is the case, escapes what it is told, and asks for nothing from elsewhere."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from services.core.batch import Batch, BatchError, BatchState
from services.core.state.state import Run
from services.core.tables import Mode
from services.core.window import Window
from services.transformer.report.facts import Facts, FailedObject, Share, TableFacts
from services.transformer.report.page import headline, render

NOW = datetime(2026, 11, 23, 1, 20, tzinfo=UTC)


def batch(hours_ago: int, state: BatchState, table: str = "installments", **facts: Any) -> Batch:
    at = NOW - timedelta(hours=hours_ago)
    return Batch(
        id=f"{at:%Y%m%dT%H%M%S%f}Z-00000000",
        run_id="r",
        table=table,
        mode=Mode.INCREMENTAL,
        window=Window(low=None, high=at),
        extracted_at=at,
        started_at=at,
        state=state,
        **facts,
    )


def node(name: str, kind: str, status: str, failures: int | None = None) -> dict[str, Any]:
    return {"name": name, "resource_type": kind, "status": status, "message": "", "seconds": 0.2, "failures": failures}


def run(outcome: str = "succeeded", *nodes: dict[str, Any], problems: tuple[str, ...] = ()) -> Run:
    merges = [{"table": "installments", "batches": [GOOD.batches[0].id], "rows": 7, "rows_merged": None, "seconds": 1}]
    details = {"seconds": {"bronze": 1.5}, "merges": merges, "nodes": list(nodes), "problems": list(problems)}
    return Run(
        id="20261123T000000000000Z-00000000", service="transformer", started_at=NOW, finished_at=NOW, outcome=outcome,
        details=details,
    )  # fmt: skip


GOOD = Facts(
    at=NOW,
    project="p",
    tables=[TableFacts("installments", "Receivables.", NOW - timedelta(minutes=5), NOW, 0, 0)],
    runs=[],
    batches=[batch(2, BatchState.MERGED, rows=7)],
    failed=[],
    failed_count=0,
    rejected=[Share("missing buyer", 3)],
    tiers=[Share("GOOD", 5), Share("FAIR", 2)],
)


@pytest.mark.parametrize(
    ("facts", "tone", "words"),
    [
        (GOOD, "good", "All tables are merged"),
        (replace(GOOD, runs=[run("failed", problems=("table installments: why",))]), "bad", "table installments: why"),
        (replace(GOOD, runs=[run("tests_failed", node("t", "test", "fail", 4))]), "bad", "1 test"),
        (replace(GOOD, runs=[run("succeeded", node("t", "test", "warn", 4))]), "good", "warn"),
        (
            replace(
                GOOD,
                tables=[replace(GOOD.tables[0], failed_batches=1)],
                batches=[*GOOD.batches, batch(1, BatchState.FAILED)],
            ),
            "bad",
            "newest batch of installments failed",
        ),
        (replace(GOOD, tables=[replace(GOOD.tables[0], watermark=NOW - timedelta(days=2))]), "way", "Behind"),
        (replace(GOOD, tables=[replace(GOOD.tables[0], watermark=None)]), "way", "never extracted: installments"),
    ],
    ids=["good", "run failed", "test fails", "test warns", "batch failed", "late", "never"],
)
def test_the_headline_is_the_worst_that_is_the_case(facts: Facts, tone: str, words: str) -> None:
    assert headline(facts)[0] == tone
    assert words in headline(facts)[1]
    assert f'class="verdict {tone}"' in render(facts)


def test_a_failure_that_was_followed_by_a_good_batch_is_no_headline() -> None:
    facts = replace(
        GOOD,
        tables=[replace(GOOD.tables[0], failed_batches=1)],
        batches=[batch(3, BatchState.FAILED), *GOOD.batches],
    )
    assert headline(facts)[0] == "good"


def test_the_page_shows_everything_and_escapes_it() -> None:
    evil = "<script>alert(1)</script>"
    facts = replace(
        GOOD,
        runs=[run("succeeded", node("a_test", "test", "fail", 1234), node("a_model", "model", "success"))],
        batches=[*GOOD.batches, batch(1, BatchState.FAILED, error=BatchError(code="part_changed", message=evil))],
        failed=[FailedObject(f"gs://b/{evil}", "unknown_object", evil, None, "2026-11-23T00:00:00+00:00")],
        failed_count=31,
        tiers=[Share(evil, 1)],
    )
    page = render(facts)
    assert evil not in page
    for shown in ("a_test", "1,234", "a_model", "part_changed", "unknown_object", "31 object(s)", "missing buyer"):
        assert shown in page, shown


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = render(replace(GOOD, runs=[run("succeeded", node("a_model", "model", "success"))]))

    class Asked(HTMLParser):
        """Everything that a browser would fetch."""

        found: list[str]

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.found += [str(v) for k, v in attributes if k in ("src", "href", "xlink:href", "srcset", "action")]
            if tag in ("script", "iframe", "object", "embed"):
                self.found.append(tag)

    asked = Asked()
    asked.found = []
    asked.feed(page)
    assert asked.found == ["data:,"], "the empty icon"
    assert not re.search(r"url\(|@import", page)


def test_an_empty_pipeline_has_a_page() -> None:
    page = render(Facts(NOW, "p", [], [], [], [], 0, [], []))
    assert "No run with tests" in page
    assert "No installment was left out" in page


def test_a_layer_that_does_not_answer_is_not_taken_for_an_empty_one() -> None:
    page = render(replace(GOOD, rejected=None, tiers=None))
    assert "Silver does not answer" in page
    assert "Gold does not answer" in page
    assert "No installment was left out" not in page


def test_what_needs_a_look_is_in_the_open_and_the_rest_is_folded() -> None:
    nodes = [node("a_failing_test", "test", "fail", 1), node("a_warning_test", "test", "warn", 1)]
    nodes += [node(f"passing_{number}", "test", "pass", 0) for number in range(3)]
    waiting = batch(100, BatchState.LANDED, load_attempts=2, trouble="the bucket is away", drift=["column x is new"])
    batches = [waiting, *(batch(hours, BatchState.MERGED) for hours in range(50, 30, -1))]
    page = render(replace(GOOD, runs=[run("tests_failed", *nodes)], batches=batches))
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    opened = re.sub(r"(?s)<details>.*?</details>", "", page)
    assert "3 test(s) pass" in folded
    assert "passing_0" in folded
    assert opened.index("a_failing_test") < opened.index("a_warning_test")
    assert "attempt 2: the bucket is away column x is new." in opened
    assert "10 more that were merged" in folded
    assert (batches[-1].id in opened, batches[1].id in folded) == (True, True)
