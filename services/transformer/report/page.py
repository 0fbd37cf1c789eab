"""Renders the facts as one HTML page without any request to elsewhere."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.core.batch import BatchState
from services.transformer.report import charts
from services.transformer.report.facts import Facts

LATE = timedelta(hours=26)
"""A table that was extracted every day is not behind it by more."""

_MOST_BATCHES = 40

_TONES = {
    BatchState.MERGED: "good",
    BatchState.FAILED: "bad",
    BatchState.EXTRACTING: "way",
    BatchState.LANDED: "way",
    BatchState.LOADED: "way",
}


def _moment(value: datetime | None) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if value else "–"


def _span(value: timedelta | None) -> str:
    """A duration for people: the two greatest units."""
    if value is None:
        return "–"
    seconds = max(0, int(value.total_seconds()))
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"


def headline(facts: Facts) -> tuple[str, str]:
    """The page's verdict, as (tone, sentence): the worst that is the case now."""
    run = facts.runs[-1] if facts.runs else None
    failing = [test for test in facts.tests if test["status"] == "fail"]
    if run is not None and run.outcome == "failed":
        return "bad", f"The last run failed: {'; '.join(run.details.get('problems', [])) or 'the log says why'}"
    if broken := [table.name for table in facts.tables if table.failed_batches and table.open_batches == 0
                  and _newest_failed(facts, table.name)]:  # fmt: skip
        return "bad", f"The newest batch of {', '.join(broken)} failed; the next extraction reads its window again"
    if failing:
        return "bad", f"{len(failing)} test(s) fail"
    if late := [table.name for table in facts.tables if (lag := table.lag(facts.at)) is None or lag > LATE]:
        return "way", f"Behind by more than {_span(LATE)}, or never extracted: {', '.join(late)}"
    return "good", "All tables are merged, all tests pass or warn"


def _newest_failed(facts: Facts, table: str) -> bool:
    mine = [batch for batch in facts.batches if batch.table == table]
    return bool(mine) and mine[-1].state is BatchState.FAILED


def render(facts: Facts) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"moment": _moment, "span": _span, "number": lambda value: f"{value:,}"}
    run = facts.runs[-1] if facts.runs else None
    nodes: list[dict[str, Any]] = run.details.get("nodes", []) if run else []
    tone, sentence = headline(facts)
    drawn = {
        "rows": Markup(charts.rows_per_run(facts.runs, facts.batches)),  # noqa: S704 - drawn here, names escaped
        "seconds": Markup(charts.seconds_per_run(facts.runs)),  # noqa: S704
        "models": Markup(charts.model_seconds(nodes)),  # noqa: S704
        "tiers": Markup(charts.shares("Companies by payment tier", facts.tiers)),  # noqa: S704
        "rejected": Markup(charts.shares("Installments that silver left out", facts.rejected)),  # noqa: S704
    }
    return environment.get_template("page.html.jinja").render(
        facts=facts,
        run=run,
        tone=tone,
        sentence=sentence,
        charts=drawn,
        tones=_TONES,
        late=LATE,
        batches=list(reversed(facts.batches))[:_MOST_BATCHES],
        tests=sorted(facts.tests, key=lambda t: (t["status"] == "pass", t["status"] == "warn", t["name"])),
    )
