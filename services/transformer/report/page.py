"""Renders the facts as one HTML page without any request to elsewhere."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from services.core.batch import Batch, BatchState
from services.core.cost.price import usd
from services.core.health.attention import SOFT, Cause
from services.core.words import dollars, moment, size, slot_time, span
from services.transformer.report import charts
from services.transformer.report.costs import costs
from services.transformer.report.facts import Facts
from services.transformer.report.verdict import verdict

_MOST_BATCHES = 40
_AT_ONCE = 10
"""Batches that are shown before the reader asks for more; those that are not merged always are."""

_TONES = {
    BatchState.MERGED: "good",
    BatchState.FAILED: "bad",
    BatchState.EXTRACTING: "way",
    BatchState.LANDED: "way",
    BatchState.LOADED: "way",
    BatchState.HELD: "bad",
}


def _remarks(batch: Batch) -> str:
    """What is to be known of a batch: why it failed or waits, values that were not held, how the source differed."""
    remarks = [f"{count:,} value(s) of {column} could not be held." for column, count in batch.unrepresentable.items()]
    if batch.error:
        remarks.insert(0, f"{batch.error.code}: {batch.error.message}")
    elif batch.state is BatchState.HELD and batch.hold:
        remarks.insert(0, f"{batch.hold.code}: {batch.hold.message}")
    elif batch.trouble:
        remarks.insert(0, f"attempt {batch.load_attempts}: {batch.trouble}" if batch.load_attempts else batch.trouble)
    return " ".join([*remarks, *(f"{known}." for known in (*batch.drift, *batch.changes, *batch.unseen))])


def render(facts: Facts) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "moment": moment, "span": span, "number": lambda value: f"{value:,}", "remarks": _remarks,
        "size": size, "slot_time": slot_time, "dollars": lambda billed: dollars(usd(billed, facts.usd_per_tib)),
    }  # fmt: skip
    run = facts.runs[-1] if facts.runs else None
    nodes: list[dict[str, Any]] = run.details.get("nodes", []) if run else []
    found = verdict(facts)
    told = costs(facts)
    drawn = {
        "business": {
            "Companies by payment tier": charts.groups("Companies by payment tier", facts.figure("tiers") or []),
            "Installments that silver left out, by reason": charts.groups(
                "Installments that silver left out, by reason", facts.figure("rejected") or []
            ),
        },
        "runs": {
            "Rows per run": charts.rows_per_run(facts.runs, facts.batches),
            "Seconds per run": charts.seconds_per_run(facts.runs),
            "Seconds per model, last run": charts.model_seconds(nodes),
        },
        "costs": {
            "Billed per run": charts.billed_per_run(facts.runs),
            "Billed by layer, last run": charts.billed("Billed by layer", told.layers),
            "Billed by model, last run": charts.billed("Billed by model", told.models),
        },
    }
    newest = list(reversed(facts.batches))[:_MOST_BATCHES]
    at_once = [b for at, b in enumerate(newest) if at < _AT_ONCE or b.state is not BatchState.MERGED]
    return environment.get_template("page.html.jinja").render(
        facts=facts,
        run=run,
        tone=found.tone,
        sentence=found.sentence,
        needs=[(need.sentence(facts.at), "way" if need.cause in SOFT else "bad") for need in facts.needs],
        # Drawn here, names escaped.
        figures={part: {name: Markup(svg) for name, svg in of.items() if svg} for part, of in drawn.items()},  # noqa: S704
        tones=_TONES,
        costs=told,
        late={need.table for need in facts.needs if need.cause in (Cause.LATE, Cause.NEVER_EXTRACTED)},
        batches=at_once,
        older_batches=[batch for batch in newest if batch not in at_once],
        tests=[test for test in facts.tests if test.status != "pass"],
        passed=[test for test in facts.tests if test.status == "pass"],
    )
