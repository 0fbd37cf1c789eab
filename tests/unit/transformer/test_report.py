"""The run report says what is the case, escapes what it is told, and asks for nothing from elsewhere."""

import io
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, cast

import pytest

from services.core.batch import Batch, BatchError, BatchState
from services.core.cost.run_cost import CostLine, RunCost
from services.core.errors import TransientError
from services.core.health.attention import Attention, Cause
from services.core.health.standing import Standing
from services.core.state.quality import Audit, Group, Status
from services.core.state.state import Run
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import Mode
from services.core.window import Window
from services.transformer.report.facts import Facts, TableFacts
from services.transformer.report.page import render
from services.transformer.report.published import Published
from services.transformer.report.reasons import MOST_BYTES, MOST_SHOWN, FailedObject, parse_reason, read_reasons
from services.transformer.report.verdict import verdict

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


def standing(name: str, status: Status, failures: int | None = 0, **facts: Any) -> Standing:
    told: dict[str, Any] = {"message": "", "as_of": NOW - timedelta(hours=3), "found_by": "audit"}
    return Standing(name=name, status=status, failures=failures, **(told | facts))


def audit(**figures: list[Group]) -> Audit:
    return Audit(
        id="20261122T222000000000Z-00000000", at=NOW - timedelta(hours=3), seconds=4, tests=[], figures=figures
    )


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
    audit=audit(
        rejected=[Group(name="missing buyer", count=3)],
        tiers=[Group(name="GOOD", count=5), Group(name="FAIR", count=2)],
    ),
)


def need(cause: Cause, about: str = "installments", **facts: Any) -> Attention:
    told: dict[str, Any] = {"what": "it is so", "cure": "Do something", "since": NOW - timedelta(hours=5, minutes=4)}
    return Attention(cause=cause, about=about, table=about, **(told | facts))


WARNS = [standing("t", "warn", 4_844_000), standing("u", "warn", 529), standing("v", "pass")]


@pytest.mark.parametrize(
    ("facts", "tone", "words"),
    [
        ({}, "good", "All tables are up to date, no test has run"),
        ({"tests": [standing("t", "pass")]}, "good", "up to date, all tests pass"),
        ({"runs": [run("failed", problems=("table installments: why",))]}, "bad", "The last run failed: table inst"),
        ({"tests": [standing("t", "fail", 4)], "needs": [need(Cause.TESTS_FAILED)]}, "bad", "1 test fails (4 rows)"),
        ({"needs": [need(Cause.AUDIT_FAILED, count=2)]}, "bad", "2 tests, or audits, could not be run"),
        ({"needs": [need(Cause.AUDIT_LATE)]}, "way", "1 audit is late"),
        ({"tests": WARNS}, "way", "2 tests warn (4,844,529 rows)"),
        ({"needs": [need(Cause.BATCH_FAILED, count=3)]}, "bad", "3 batches failed"),
        ({"needs": [need(Cause.EXTRACTION_FAILED), need(Cause.EXTRACTION_FAILED)]}, "bad", "2 tables cannot be extr"),
        ({"needs": [need(Cause.EXTRACTION_INTERRUPTED)]}, "bad", "1 extraction was interrupted"),
        ({"needs": [need(Cause.BATCH_HELD)]}, "bad", "1 batch waits for a person"),
        ({"needs": [need(Cause.BATCH_IN_TROUBLE)]}, "bad", "1 batch is tried again and again"),
        ({"needs": [need(Cause.OBJECTS_FAILED, count=2)]}, "bad", "2 objects in failed/ are of no batch"),
        ({"needs": [need(Cause.DOWNSTREAM_FAILED)]}, "bad", "It is so"),
        ({"needs": [need(Cause.LATE)]}, "way", "1 table is late"),
        ({"needs": [need(Cause.NEVER_EXTRACTED)]}, "way", "1 table was never extracted"),
        ({"needs": [need(Cause.LATE), need(Cause.BATCH_HELD)]}, "bad", "1 batch waits for a person, 1 table is late"),
        ({"needs": [need(Cause.LATE)], "tests": WARNS}, "way", "1 table is late, 2 tests warn"),
    ],
)
def test_the_verdict_counts_what_is_wrong_and_has_the_colour_of_the_worst(
    facts: dict[str, Any], tone: str, words: str
) -> None:
    told = replace(GOOD, **facts)
    assert verdict(told).tone == tone
    assert words in verdict(told).sentence
    assert f'class="verdict {tone}"' in render(told)


@pytest.mark.parametrize("cause", Cause)
def test_nothing_that_needs_a_person_leaves_the_verdict_green(cause: Cause) -> None:
    found = verdict(replace(GOOD, needs=[need(cause)]))
    assert found.tone != "good"
    assert "up to date" not in found.sentence


def test_failures_that_were_made_up_for_are_told_and_frighten_nobody() -> None:
    discarded = batch(4, BatchState.FAILED, error=BatchError(code="discarded", message="m"))
    facts = replace(GOOD, batches=[batch(3, BatchState.FAILED), discarded, *GOOD.batches])
    assert verdict(facts).tone == "good"
    assert "1 failed batch was made up for" in verdict(facts).sentence


def test_what_needs_a_person_is_said_in_full_below_the_verdict() -> None:
    page = render(replace(GOOD, needs=[need(Cause.BATCH_HELD, why="<b>too many</b>")]))
    words = "installments: it is so 5 h 4 min ago (2026-11-22 20:16 UTC): &lt;b&gt;too many&lt;/b&gt;. Do something"
    assert words in page


def test_the_page_says_when_it_was_made_and_when_it_no_longer_counts() -> None:
    page = render(replace(GOOD, late_after=timedelta(hours=30)))
    assert "Made 2026-11-23 01:20:00 UTC" in page
    assert "after 1 d 6 h it no longer counts" in page, "also where no script runs"
    assert 'data-made="2026-11-23T01:20:00+00:00" data-late="108000"' in page


def test_a_table_that_is_late_is_marked() -> None:
    card = re.compile(r'behind by</dt><dd><span class="tag (\w+)">')
    assert card.findall(render(GOOD)) == ["good"]
    assert card.findall(render(replace(GOOD, needs=[need(Cause.LATE)]))) == ["way"]


def test_the_page_shows_everything_and_escapes_it() -> None:
    evil = "<script>alert(1)</script>"
    facts = replace(
        GOOD,
        runs=[run("succeeded", node("a_model", "model", "success"))],
        tests=[standing("a_test", "fail", 1234, table=evil, found_by="batch"), standing(evil, "error", None)],
        batches=[*GOOD.batches, batch(1, BatchState.FAILED, error=BatchError(code="part_changed", message=evil))],
        failed=[FailedObject(f"gs://b/{evil}", "unknown_object", evil, None, "2026-11-23T00:00:00+00:00")],
        failed_count=31,
        audit=audit(tiers=[Group(name=evil, count=1)], rejected=[Group(name="missing buyer", count=3)]),
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
            if tag in ("iframe", "object", "embed") or (tag == "script" and attributes):
                self.found.append(tag)

    asked = Asked()
    asked.found = []
    asked.feed(page)
    assert asked.found == ["data:,"], "the empty icon"
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", page)


def test_an_empty_pipeline_has_a_page() -> None:
    page = render(Facts(NOW, "p", [], [], [], [], 0))
    assert "No test has run" in page
    assert "There are figures once an audit was made" in page
    assert "No installment was left out" not in page


def test_every_figure_says_as_of_when_it_is() -> None:
    tests = [standing("a_test", "fail", 1, table="installments", as_of=NOW - timedelta(hours=1), found_by="batch")]
    page = render(replace(GOOD, tests=tests))
    assert "As of the audit of 2026-11-22 22:20:00 UTC." in page
    assert "2026-11-23 00:20:00, a batch of installments" in page
    assert "The newest audit, of all tests on everything, was on 2026-11-22 22:20:00 UTC" in page
    assert "only rows of batches were tested" in render(replace(GOOD, tests=tests, audit=None))


def test_a_figure_that_was_not_counted_is_not_taken_for_none() -> None:
    assert "No installment was left out" in render(replace(GOOD, audit=audit(rejected=[])))
    assert "No installment was left out" not in render(replace(GOOD, audit=audit()))


def test_what_needs_a_look_is_in_the_open_and_the_rest_is_folded() -> None:
    tests = [standing("a_failing_test", "fail", 1), standing("a_warning_test", "warn", 1)]
    tests += [standing(f"passing_{number}", "pass") for number in range(3)]
    waiting = batch(100, BatchState.LANDED, load_attempts=2, trouble="the bucket is away", drift=["column x is new"])
    batches = [waiting, *(batch(hours, BatchState.MERGED) for hours in range(50, 30, -1))]
    page = render(replace(GOOD, tests=tests, batches=batches))
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    opened = re.sub(r"(?s)<details>.*?</details>", "", page)
    assert "3 test(s) pass" in folded
    assert "passing_0" in folded
    assert opened.index("a_failing_test") < opened.index("a_warning_test")
    assert "attempt 2: the bucket is away column x is new." in opened
    assert "10 more that were merged" in folded
    assert (batches[-1].id in opened, batches[1].id in folded) == (True, True)


# ---- what it cost

LINES = [
    CostLine(stage="bronze", layer="bronze", table="installments", model="installments", billed=3 * 2**40, slot_ms=900),
    CostLine(stage="downstream", layer="silver", model="<b>clean</b>", node="t", kind="test", billed=2**39, jobs=2),
    CostLine(stage="downstream", jobs=4),
]


def costing(cost: RunCost | None) -> Run:
    return run("succeeded", node("t", "test", "pass", 0)).model_copy(update={"cost": cost})


def section(facts: Facts) -> str:
    """The page's text on costs."""
    found = re.search(r'<section aria-labelledby="cost">(.*?)</section>', render(facts), re.DOTALL)
    assert found
    return found[1]


def test_the_cost_of_the_last_run_is_told_by_layer_and_model() -> None:
    text = section(replace(GOOD, runs=[costing(RunCost(lines=LINES))], usd_per_tib=10))
    assert "The last run billed 3.5 TiB, 35.00 USD at 10 USD per TiB. It processed" in text
    assert "7 jobs and 0.9 s of slots" in text
    for row in ("bronze", "silver", "(downstream)", "installments", "&lt;b&gt;clean&lt;/b&gt;", "30.00 USD", "512 GiB"):
        assert row in text, row
    assert "<b>clean</b>" not in text
    for name in ("Billed per run", "Billed by layer, last run", "Billed by model, last run"):
        assert f"<figcaption>{name}</figcaption>" in text


@pytest.mark.parametrize(
    ("cost", "words", "billed"),
    [
        (None, "What the last run cost is not known.", None),
        (RunCost(unknown="BigQuery <away>"), "What the last run cost is not known: BigQuery &lt;away&gt;.", None),
        (RunCost(lines=LINES, unknown="away"), "All that the last run cost is not known: away.", "at least 3.5 TiB"),
        (RunCost(lines=[CostLine(stage="bronze", untold=1)]), "Of 1 job BigQuery does not say", "at least 0 B"),
        (RunCost(), "The last run billed 0 B, 0.00 USD", "0 B"),
    ],
    ids=["before costs were kept", "not read", "partly read", "not told", "nothing was sent"],
)
def test_what_is_not_known_is_said_and_is_not_nothing(cost: RunCost | None, words: str, billed: str | None) -> None:
    text = section(replace(GOOD, runs=[costing(cost)]))
    assert words in text
    assert re.findall(r"The last run billed ([^,]+),", text) == ([billed] if billed else [])
    assert ("<table" in text) is bool(cost and cost.lines)


def test_the_week_s_sum_says_of_how_many_runs_it_is_not_known() -> None:
    runs = [costing(RunCost(lines=LINES)), costing(None), costing(RunCost(lines=LINES))]
    text = section(replace(GOOD, runs=runs))
    assert (
        "All 3 runs of the last 7 days billed at least 7.0 TiB, 43.75 USD; of 1 of them it is not known, or not all."
        in text
    )
    assert "No run in the last 7 days" in section(GOOD)


# ---- the reasons in failed/, whatever bytes they are


def reason(name: str = "a.parquet", size: int = 10, hours_ago: float = 1) -> StoredObject:
    at = NOW - timedelta(hours=hours_ago)
    return StoredObject("b", f"business_case/failed/{name}.error.json", 1, size, "c", at)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"this is no JSON",
        b"{",
        b"\xff\xfe\x00",
        b"\x89PNG\r\n",
        b"null",
        b"[]",
        b"7",
        b'"a text"',
        b"[" * 100_000,
        b'{"code": ' + b"9" * 10_000 + b"}",
        b'{"code": {"a": 1}, "message": [1], "table": 7, "object": null, "failed_at": 12.5}',
        b'{"code": "\\ud83d", "message": "\\udc00 half of a character", "table": "\\ud83d"}',
        b'{"message": "' + b"x" * 60_000 + b'"}',
        b'{"code": "a\\u0000b", "message": "\\u001b[31m", "failed_at": "yesterday"}',
        '{"code": "ação", "message": "😀"}'.encode(),
    ],
)
def test_no_bytes_beside_a_failed_object_stop_the_report(content: bytes) -> None:
    found = parse_reason(reason(), content)
    page = render(replace(GOOD, failed=[found], failed_count=1))
    assert page.encode()
    assert found.object == "gs://b/business_case/failed/a.parquet"
    assert len(page) < 60_000 + len(render(GOOD))


@dataclass
class Bucket:
    """A bucket whose reasons are as a test says; what is no bytes is raised."""

    contents: dict[str, bytes | Exception]
    most: int = 0
    """The most that was asked for at once."""

    def open(self, stored: StoredObject) -> "io.BytesIO":
        content = self.contents[stored.name]
        if isinstance(content, Exception):
            raise content
        bucket = self

        class Content(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                assert size is not None
                assert size > 0, "never all of it"
                bucket.most = max(bucket.most, size)
                return super().read(size)

        return Content(content)


def test_a_reason_that_has_gone_is_left_out_and_one_that_cannot_be_read_says_so() -> None:
    good, gone, away = reason("good", hours_ago=3), reason("gone", hours_ago=2), reason("away")
    contents: dict[str, bytes | Exception] = {
        good.name: b'{"code": "part_changed", "object": "gs://b/x"}',
        gone.name: TransientError("no longer there"),
        away.name: ConnectionError("away"),
    }
    found = read_reasons(cast(ObjectStore, Bucket(contents)), [good, gone, away])
    assert [(each.code, each.object) for each in found] == [
        ("unreadable", "gs://b/business_case/failed/away"),
        ("part_changed", "gs://b/x"),
    ]
    assert "ConnectionError: away" in found[0].message


def test_a_huge_reason_is_not_read() -> None:
    """Neither one that was huge when it was listed, nor one that has grown since."""
    listed, grown = reason("listed", size=10**9), reason("grown")
    bucket = Bucket({listed.name: AssertionError("read"), grown.name: b"{" + b" " * 10**6})
    found = read_reasons(cast(ObjectStore, bucket), [listed, grown])
    assert {each.code for each in found} == {"unreadable"}
    assert any("1,000,000,000 bytes" in each.message for each in found)
    assert bucket.most <= MOST_BYTES


def test_only_the_newest_reasons_are_read() -> None:
    many = [reason(f"x{hours}", hours_ago=hours) for hours in range(1, 100)]
    bucket = Bucket({each.name: b"{}" for each in many[:MOST_SHOWN]})
    assert len(read_reasons(cast(ObjectStore, bucket), many[::-1])) == MOST_SHOWN


# ---- whether a report has to be published again


def test_a_report_is_published_again_when_it_would_say_something_else_or_is_soon_too_old() -> None:
    half = timedelta(hours=13)
    before = Published.of(NOW, [need(Cause.LATE)], audit())

    def differs(hours: float, *needs: Attention) -> bool:
        return Published.of(NOW + timedelta(hours=hours), list(needs), audit()).differs(before, half)

    assert not differs(12.9, need(Cause.LATE, since=NOW))
    assert differs(13.1, need(Cause.LATE))
    assert differs(0.1)
    assert differs(0.1, need(Cause.LATE), need(Cause.EXTRACTION_FAILED))
    assert differs(0.1, need(Cause.LATE, "cnpj_ws"))
    assert Published.of(NOW, [], None).differs(None, half), "there is none yet"
    assert Published.of(NOW, [need(Cause.LATE)], None).differs(before, half), "of another audit"
