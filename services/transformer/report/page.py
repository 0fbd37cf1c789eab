"""Renders the facts as one HTML page without any request to elsewhere."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.core.batch import Batch, BatchState
from services.transformer.report import charts
from services.transformer.report.facts import Facts

LATE = timedelta(hours=26)
"""A table that was extracted every day is not behind it by more."""

_MOST_BATCHES = 40
_AT_ONCE = 10
"""Batches that are shown before the reader asks for more; those that are not merged always are."""

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


def _remarks(batch: Batch) -> str:
    """What is to be known of a batch: why it failed or waits, values that were not held, how the source differed."""
    remarks = [f"{count:,} value(s) of {column} could not be held." for column, count in batch.unrepresentable.items()]
    if batch.error:
        remarks.insert(0, f"{batch.error.code}: {batch.error.message}")
    elif batch.trouble:
        remarks.insert(0, f"attempt {batch.load_attempts}: {batch.trouble}")
    return " ".join([*remarks, *(f"{difference}." for difference in batch.drift)])


def _newest_failed(facts: Facts, table: str) -> bool:
    mine = [batch for batch in facts.batches if batch.table == table]
    return bool(mine) and mine[-1].state is BatchState.FAILED


def render(facts: Facts) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "moment": _moment, "span": _span, "number": lambda value: f"{value:,}", "remarks": _remarks,
    }  # fmt: skip
    run = facts.runs[-1] if facts.runs else None
    nodes: list[dict[str, Any]] = run.details.get("nodes", []) if run else []
    tone, sentence = headline(facts)
    drawn = {
        "business": {
            "Companies by payment tier": charts.shares("Companies by payment tier", facts.tiers or []),
            "Installments that silver left out, by reason": charts.shares(
                "Installments that silver left out, by reason", facts.rejected or []
            ),
        },
        "runs": {
            "Rows per run": charts.rows_per_run(facts.runs, facts.batches),
            "Seconds per run": charts.seconds_per_run(facts.runs),
            "Seconds per model, last run": charts.model_seconds(nodes),
        },
    }
    newest = list(reversed(facts.batches))[:_MOST_BATCHES]
    at_once = [b for at, b in enumerate(newest) if at < _AT_ONCE or b.state is not BatchState.MERGED]
    tests = sorted(facts.tests, key=lambda t: (t["status"] == "warn", t["name"]))
    return environment.get_template("page.html.jinja").render(
        facts=facts,
        run=run,
        tone=tone,
        sentence=sentence,
        # Drawn here, names escaped.
        figures={part: {name: Markup(svg) for name, svg in of.items() if svg} for part, of in drawn.items()},  # noqa: S704
        tones=_TONES,
        late=LATE,
        batches=at_once,
        older_batches=[batch for batch in newest if batch not in at_once],
        tests=[test for test in tests if test["status"] != "pass"],
        passed=[test for test in tests if test["status"] == "pass"],
    )
