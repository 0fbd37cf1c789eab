"""The run report in a real browser: at a desk and on a phone, light and dark, whatever its facts are.

Chromium is the machine's own: nothing is downloaded. Where there is none, this is skipped.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Literal, cast

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, ViewportSize, sync_playwright

from services.core.batch import Batch, BatchError, BatchState
from services.core.cost.run_cost import CostLine, RunCost
from services.core.health.attention import Attention, Cause
from services.core.health.standing import Standing
from services.core.state.quality import Audit, Group, Status
from services.core.state.state import Run
from services.core.tables import Mode
from services.core.window import Window
from services.transformer.report.facts import Facts, TableFacts
from services.transformer.report.page import render
from services.transformer.report.reasons import FailedObject

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")

QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ADDRESS = "https://report.example/latest.html"
"""Where the page is told to be; every request is answered or refused in the test."""
WCAG = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SIZES: dict[str, ViewportSize] = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 900}}
NOW = datetime(2026, 11, 23, 1, 20, tzinfo=UTC)
HTML = '<img src="https://elsewhere.example/x.png" onerror="console.error(1)"><script>throw Error("ran")</script> & "'
HUGE = 9_007_199_254_740_993
SMALLEST_LETTER = 10.0
"""Pixels, in a chart on a phone."""
LONG = "a_name_that_nobody_would_choose_and_somebody_will_" * 4


def batch(hours_ago: float, state: BatchState, table: str = "installments", **facts: Any) -> Batch:
    at = NOW - timedelta(hours=hours_ago)
    return Batch(
        id=f"{at:%Y%m%dT%H%M%S%f}Z-3f9a61c2",
        run_id="r",
        table=table,
        mode=Mode.INCREMENTAL,
        window=Window(low=None, high=at),
        extracted_at=at,
        started_at=at,
        state=state,
        merged_at=at + timedelta(minutes=1) if state is BatchState.MERGED else None,
        **facts,
    )


def node(name: str, kind: str, status: str, failures: int | None = None, seconds: float = 0.21) -> dict[str, Any]:
    facts = {"resource_type": kind, "status": status, "message": "", "seconds": seconds, "failures": failures}
    return {"name": name, **facts}


NODES = [
    node("cnpj_ws", "model", "success", seconds=1.9),
    node("installments", "model", "success", seconds=3.4),
    node("cnpj_ws_clean", "model", "success"),
    node("installments_clean", "model", "success"),
    node("installments_rejected", "model", "success"),
    node("company_payment_summary", "model", "success", seconds=0.8),
    node("payment_analytics_detailed", "model", "success", seconds=0.6),
]

TESTS = [
    ("accepted_values_cnpj_ws_company_status__Ativa__Baixada__Suspensa__Inapta", "warn", 12),
    ("relationships_installments_clean_buyer_tax_id__buyer_tax_id__ref_cnpj_ws_clean_", "warn", 1_234),
    ("every_company_is_in_the_summary_once", "pass", 0),
    ("not_null_installments_asset_id", "pass", 0),
    ("unique_installments_asset_id", "pass", 0),
]


def standing(name: str, status: str, failures: int, table: str | None = None) -> Standing:
    return Standing(
        name=name,
        status=cast(Status, status),
        failures=failures,
        message="",
        as_of=NOW - timedelta(hours=7),
        found_by="batch" if table else "audit",
        table=table,
    )


def audit(**figures: dict[str, int]) -> Audit:
    groups = {name: [Group(name=of, count=count) for of, count in counts.items()] for name, counts in figures.items()}
    return Audit(
        id="20261122T182000000000Z-00000000", at=NOW - timedelta(hours=7), seconds=4.2, tests=[], figures=groups
    )


def cost(rows: int, *names: str) -> RunCost:
    """What a run cost: each model and its test, by layer; and what has no name."""
    layers = ("bronze", "silver", "gold", "several")
    models = [
        CostLine(
            stage="bronze" if number == 0 else "downstream",
            layer=layers[number % len(layers)],
            model=name,
            node=name,
            billed=(10 + rows) * 2**20 * (number + 1),
            processed=rows * 2**10,
            slot_ms=rows,
        )
        for number, name in enumerate(names)
    ]
    return RunCost(
        lines=[*models, CostLine(stage="downstream", jobs=4), CostLine(stage="report", jobs=2, billed=2**25)]
    )


def run(at: datetime, rows: int, *batches: Batch, nodes: list[dict[str, Any]], **facts: Any) -> Run:
    merges = [{"table": b.table, "batches": [b.id], "rows": b.rows, "rows_merged": rows, "seconds": 1} for b in batches]
    details = {"seconds": {"bronze": 3.1, "downstream": 5.6}, "merges": merges, "nodes": nodes, "problems": []} | facts
    return Run(
        id=f"{at:%Y%m%dT%H%M%S%f}Z-b81d22e0",
        service="transformer",
        started_at=at,
        finished_at=at + timedelta(seconds=9),
        outcome="failed" if details["problems"] else "succeeded",
        details=details,
        cost=cost(rows, *(node["name"] for node in nodes if node["resource_type"] == "model")),
    )


def week() -> Facts:
    """A quiet week: a run every six hours, some rows left out, two tests that warn."""
    hours = [hour + 0.4 for hour in range(162, -1, -6)]
    batches = [batch(hour, BatchState.MERGED, rows=144 + 7 * number) for number, hour in enumerate(hours)]
    runs = [run(each.started_at, each.rows - 100, each, nodes=NODES) for each in batches]
    return Facts(
        at=NOW,
        project="credix-prod",
        tables=[
            TableFacts("cnpj_ws", "Companies (CNPJ), one row per company.", NOW - timedelta(minutes=25), NOW, 0, 0),
            TableFacts("installments", "Receivables, one row per installment.", NOW - timedelta(hours=1), NOW, 1, 0),
        ],
        runs=runs,
        batches=batches,
        failed=[],
        failed_count=0,
        audit=audit(
            rejected={"NEGATIVE_AMOUNT": 31, "MISSING_EXPECTED_AMOUNT": 4},
            tiers={
                "HIGH_RISK": 8_112, "GOOD": 5_040, "EXCELLENT": 3_911, "NO_HISTORY": 1_204, "FAIR": 640, "POOR": 211,
            },
        ),
        tests=[standing(*test) for test in TESTS],
    )  # fmt: skip


def trouble() -> Facts:
    """Everything at once that is hard to show: failures, HTML in reasons, long names, huge numbers."""
    failed = batch(1, BatchState.FAILED, rows=HUGE, error=BatchError(code="part_changed", message=HTML))
    waiting = batch(0.5, BatchState.LANDED, table=LONG, load_attempts=3, trouble=LONG, drift=[HTML, LONG])
    merged = batch(2, BatchState.MERGED, rows=HUGE, unrepresentable={LONG: HUGE})
    nodes = [*NODES, node(HTML, "model", "success", seconds=12_345.678)]
    return replace(
        week(),
        project=LONG[:30],
        tables=[
            TableFacts(LONG, HTML, None, None, 1, 0),
            TableFacts("installments", LONG, NOW - timedelta(days=400), NOW - timedelta(days=3), 0, HUGE),
        ],
        runs=[run(NOW, HUGE, merged, nodes=nodes, problems=[f"table {LONG}: {HTML}"])],
        batches=[merged, failed, waiting],
        failed=[
            FailedObject(f"gs://data_lake_credix/failed/{LONG}.parquet", "unknown_object", HTML, None, NOW.isoformat()),
            FailedObject("gs://data_lake_credix/failed/a.parquet", "type", LONG, LONG, NOW.isoformat()),
        ],
        failed_count=HUGE,
        needs=[
            Attention(cause=Cause.EXTRACTION_FAILED, about=LONG, table=LONG, what=HTML, since=NOW, why=HTML, cure=LONG),
            Attention(cause=Cause.BATCH_FAILED, about=LONG, table=LONG, count=HUGE, what="failed", cure="Correct it"),
            Attention(cause=Cause.LATE, about="installments", table="installments", what="late", since=NOW, cure=HTML),
        ],
        audit=audit(rejected={HTML: HUGE, LONG: 1}, tiers={LONG: HUGE, HTML: 1}),
        tests=[standing(LONG, "fail", HUGE, table=LONG), standing(HTML, "error", 0), *week().tests],
    )


def nothing() -> Facts:
    """A pipeline whose tables are declared and never ran."""
    tables = [TableFacts("cnpj_ws", "Companies.", None, None, 0, 0)]
    return Facts(NOW, "credix-dev", tables, [], [], [], 0)


@dataclass
class Seen:
    """What the browser did with a page."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """Of the console, and of scripts."""
    requests: list[str] = field(default_factory=list)
    """Besides the page itself."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@contextmanager
def opened(
    browser: Browser, document: str, scheme: Scheme, size: str, age: timedelta = timedelta(minutes=5)
) -> Iterator[Seen]:
    """Show a document of so long ago, with all that is folded unfolded; no request of its gets an answer."""
    context = browser.new_context(color_scheme=scheme, viewport=SIZES[size])
    context.clock.install(time=NOW + age)
    seen = Seen(context.new_page())

    def answer(route: Route) -> None:
        if route.request.url == ADDRESS:
            route.fulfill(body=document, content_type="text/html; charset=utf-8")
        else:
            seen.requests.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    seen.page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.goto(ADDRESS)
    seen.page.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")
    yield seen
    context.close()


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.1, level AA: rule, and where."""
    found = Axe().run(page, options=WCAG).response["violations"]
    return [f"{rule['id']}: {[node['html'][:120] for node in rule['nodes']]}" for rule in found]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


CHARTS = """() => [...document.querySelectorAll("figure svg")].map(svg => {
  const box = svg.getBoundingClientRect(), card = getComputedStyle(svg.closest("figure")).backgroundColor;
  const shown = found => [...svg.querySelectorAll(found)].filter(each => each.getBoundingClientRect().width > 0);
  const texts = shown("text").map(text => {
    const rect = text.getBoundingClientRect(), style = getComputedStyle(text);
    return {
      text: text.textContent, size: parseFloat(style.fontSize) * text.getScreenCTM().a, colour: style.fill,
      inside: rect.left >= box.left - 1 && rect.right <= box.right + 1 && rect.top >= box.top - 1
        && rect.bottom <= box.bottom + 1
    };
  });
  const bars = shown(".bars rect.rect").map(bar => getComputedStyle(bar).fill);
  return {name: svg.getAttribute("aria-label"), width: box.width, height: box.height, card, texts, bars};
})"""
"""Every chart as the browser draws it: its size, the background, its letters and the colours of its bars."""


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours as browsers write them, rgb(r, g, b)."""

    def luminance(colour: str) -> float:
        assert colour.startswith("rgb("), colour
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def hard_to_read(page: Page) -> list[str]:
    """What is wrong with the charts' letters and colours, which axe does not look at."""
    wrong = []
    for chart in page.evaluate(CHARTS):
        for text in chart["texts"]:
            told = f"{chart['name'][:40]}: {text['text']!r}"
            wrong += [f"{told} is cut off"] if not text["inside"] else []
            wrong += [f"{told} is small"] if text["size"] < SMALLEST_LETTER else []
            wrong += [f"{told} has little contrast"] if contrast(text["colour"], chart["card"]) < 4.5 else []
        wrong += [f"{chart['name']}: a faint bar" for bar in chart["bars"] if contrast(bar, chart["card"]) < 3]
    return wrong


@pytest.mark.parametrize(
    ("facts", "scheme", "size"),
    [
        pytest.param(facts, scheme, size, id=f"{facts.__name__}-{scheme}-{size}")
        for facts, scheme, size in product((week, trouble, nothing), SCHEMES, SIZES)
    ],
)
def test_anybody_can_read_it_anywhere(browser: Browser, facts: Callable[[], Facts], scheme: Scheme, size: str) -> None:
    with opened(browser, render(facts()), scheme, size) as seen:
        page = seen.page
        page.screenshot(animations="disabled")  # all of it was drawn, the icon asked for
        assert overflow(page) <= 0
        assert hard_to_read(page) == []
        assert violations(page) == []
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (contrast(background, "rgb(0, 0, 0)") < 2) is (scheme == "dark")
        assert seen.requests == []
        assert seen.errors == []


@pytest.mark.parametrize("size", SIZES)
def test_charts_are_there_with_a_name_that_tells_them(browser: Browser, size: str) -> None:
    with opened(browser, render(week()), "light", size) as seen:
        tiers = "HIGH_RISK 8,112, GOOD 5,040, EXCELLENT 3,911, NO_HISTORY 1,204, FAIR 640, POOR 211"
        for name in (
            f"Companies by payment tier: {tiers}",
            "Installments that silver left out, by reason: NEGATIVE_AMOUNT 31, MISSING_EXPECTED_AMOUNT 4",
            "Rows extracted, loaded and changed in bronze, per run",
            "Seconds per run, by stage",
            re.compile("^Seconds per model: installments 3.40 s, cnpj_ws 1.90 s"),
            "Bytes billed per run, by stage",
            re.compile("^Billed by layer: gold "),
            re.compile("^Billed by model: payment_analytics_detailed "),
        ):
            chart = seen.page.get_by_role("img", name=name, exact=True)
            assert chart.is_visible(), name
            box = chart.bounding_box()
            assert box is not None
            assert box["width"] >= 300, (name, box)
            assert box["height"] >= 60, (name, box)
        assert seen.page.get_by_role("img").count() == 8
        bars = {chart["name"].split(":")[0]: len(chart["bars"]) for chart in seen.page.evaluate(CHARTS)}
        assert bars == {
            "Companies by payment tier": 6,
            "Installments that silver left out, by reason": 2,
            "Rows extracted, loaded and changed in bronze, per run": 24 * 3,
            "Seconds per run, by stage": 24 * 2,
            "Seconds per model": 7,
            "Bytes billed per run, by stage": 24 * 3,
            "Billed by layer": 5,
            "Billed by model": 8,
        }


@pytest.mark.parametrize("size", SIZES)
def test_tables_are_tables_on_a_phone_too(browser: Browser, size: str) -> None:
    with opened(browser, render(trouble()), "light", size) as seen:
        for name, headers in {
            "Tests": ["test", "result", "failing rows", "as of"],
            "Cost": ["layer", "billed", "USD", "processed", "slot time", "jobs"],
            "Batches": ["batch", "table", "state", "rows", "begun", "merged", "remarks"],
            "Objects in failed/": ["object", "table", "reason", "since"],
        }.items():
            table = seen.page.get_by_role("table", name=name, exact=True)
            assert table.get_by_role("columnheader").all_text_contents() == headers
            for row in table.get_by_role("row").all()[1:]:
                assert [cell.get_attribute("data-label") for cell in row.get_by_role("cell").all()] == [
                    header for header, cell in zip(headers, row.locator("td").all(), strict=True) if cell.is_visible()
                ]
        told = "getComputedStyle(document.querySelector('td'), '::before').content"
        assert seen.page.evaluate(told) == ('"layer"' if size == "phone" else "none")


def test_html_in_what_the_report_is_told_is_text(browser: Browser) -> None:
    with opened(browser, render(trouble()), "light", "desk") as seen:
        page = seen.page
        assert page.locator("img, iframe, object, embed, link[rel=stylesheet]").count() == 0
        assert page.locator("script").count() == 1, "the page's own"
        for place in (".verdict", ".needs", ".card", "td[data-label=remarks]", "td[data-label=reason]"):
            assert page.locator(place).filter(has_text=HTML).count() >= 1, place
        assert page.get_by_role("img", name=HTML).count() == 4, "tiers, rejected, models' seconds, and their bytes"


def test_the_page_tells_its_age_while_it_is_open(browser: Browser) -> None:
    with opened(browser, render(week()), "light", "desk") as seen:
        made, verdict = seen.page.locator("#made"), seen.page.locator("#verdict")
        assert made.text_content() == "Made 2026-11-23 01:20:00 UTC, 5 min ago."
        said = verdict.text_content()
        seen.page.clock.run_for(timedelta(hours=5, minutes=4) // timedelta(milliseconds=1))
        assert made.text_content() == "Made 2026-11-23 01:20:00 UTC, 5 h 9 min ago."
        assert verdict.text_content() == said
        assert "old" not in (verdict.get_attribute("class") or "")
        seen.page.clock.fast_forward(timedelta(hours=21) // timedelta(milliseconds=1))
        assert made.text_content() == "Made 2026-11-23 01:20:00 UTC, 1 d 2 h ago."
        assert (verdict.text_content() or "").startswith("This page is old: it was made 1 d 2 h ago")
        assert (verdict.text_content() or "").endswith(f"Its verdict no longer counts; {OLD}It was: {said}")
        assert verdict.get_attribute("class") == "verdict bad old"
        assert "old" in seen.page.title()


OLD = "credix status says how it is now. "


@pytest.mark.parametrize(("scheme", "size"), list(product(SCHEMES, SIZES)))
def test_a_page_that_is_found_days_later_says_that_it_no_longer_counts(
    browser: Browser, scheme: Scheme, size: str
) -> None:
    """It was green when it was made; extraction has died since."""
    with opened(browser, render(week()), scheme, size, age=timedelta(days=3)) as seen:
        assert (seen.page.locator("#verdict").text_content() or "").startswith("This page is old: it was made 3 d ago")
        assert overflow(seen.page) <= 0
        assert violations(seen.page) == []
        assert (seen.requests, seen.errors) == ([], [])


@pytest.mark.parametrize(
    ("age", "words"),
    [(timedelta(seconds=20), "less than a minute"), (timedelta(minutes=-9), "less than a minute")],
    ids=["just made", "the reader's clock is behind"],
)
def test_an_age_is_never_less_than_nothing(browser: Browser, age: timedelta, words: str) -> None:
    with opened(browser, render(week()), "light", "desk", age=age) as seen:
        assert seen.page.locator("#made").text_content() == f"Made 2026-11-23 01:20:00 UTC, {words} ago."


def test_without_scripts_the_time_is_there_and_how_long_it_counts(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(render(week()))
    assert page.locator("#made").text_content() == "Made 2026-11-23 01:20:00 UTC; after 1 d 2 h it no longer counts."
    context.close()


@pytest.mark.parametrize(
    ("fault", "finds"),
    [
        ("<img src=https://elsewhere.example/x.png alt=x>", lambda seen: seen.requests),
        ("<link rel=stylesheet href=https://elsewhere.example/x.css>", lambda seen: seen.requests),
        ("<script>console.error('no')</script>", lambda seen: seen.errors),
        ("<script>throw Error('no')</script>", lambda seen: seen.errors),
        ("<p style='width:2000px'>wide</p>", lambda seen: overflow(seen.page) > 0),
        ("<p style='color:#999;background:#fff'>faint</p>", lambda seen: violations(seen.page)),
        ("<table role=table><tr><td>1</td></tr></table><svg role=img></svg>", lambda seen: violations(seen.page)),
        ("<style>figure svg text{font-size:6px!important}</style>", lambda seen: hard_to_read(seen.page)),
        ("<style>figure svg text{fill:#ddd!important}</style>", lambda seen: hard_to_read(seen.page)),
        ("<style>figure svg .rect{fill:#ddd!important}</style>", lambda seen: hard_to_read(seen.page)),
    ],
    ids=["image", "style", "console", "script", "wide", "faint", "nameless", "small text", "faint text", "faint bar"],
)
def test_these_tests_find(browser: Browser, fault: str, finds: Callable[[Seen], Any]) -> None:
    with opened(browser, render(week()).replace("</main>", f"{fault}</main>"), "light", "phone") as seen:
        assert finds(seen)
