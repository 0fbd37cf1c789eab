"""What the page says of costs: of the last run, and of all within the span."""

from dataclasses import dataclass

from services.core.cost.price import usd
from services.core.cost.run_cost import CostLine, added, grouped
from services.core.words import counted, dollars, size, slot_time
from services.transformer.report.facts import Facts


@dataclass(frozen=True)
class Costs:
    """The page's section on costs."""

    sentences: list[str]
    layers: dict[str, CostLine]
    """Of the last run, the dearest first."""
    models: dict[str, CostLine]
    """Of the last run."""


def costs(facts: Facts) -> Costs:
    """Sum what is known, and say what is not."""
    run = facts.runs[-1] if facts.runs else None
    if run is None:
        return Costs([], {}, {})
    lines = run.cost.lines if run.cost else []
    sentences = []
    if run.cost is not None and (lines or run.cost.unknown is None):
        total = added(lines)
        price = f"{dollars(usd(total.billed, facts.usd_per_tib))} at {facts.usd_per_tib:g} USD per TiB"
        work = f"{counted(total.jobs, 'job')} and {slot_time(total.slot_ms)} of slots"
        least = "at least " if total.untold or run.cost.unknown is not None else ""
        sentences.append(
            f"The last run billed {least}{size(total.billed)}, {price}. It processed {size(total.processed)} in {work}."
        )
        if total.untold:
            sentences.append(f"Of {counted(total.untold, 'job')} BigQuery does not say what they billed.")
    if run.cost is None or run.cost.unknown is not None:
        what = "All that the last run cost" if lines else "What the last run cost"
        sentences.append(f"{what} is not known{f': {run.cost.unknown}' if run.cost else ''}.")
    if len(facts.runs) > 1:
        sentences.append(_of_all(facts))
    return Costs(sentences, grouped(lines, lambda line: line.part), grouped(lines, lambda line: line.about))


def _of_all(facts: Facts) -> str:
    known = [run for run in facts.runs if run.cost is not None and run.cost.unknown is None]
    billed = sum(run.cost.total.billed for run in facts.runs if run.cost)
    unknown = len(facts.runs) - len(known)
    words = f"All {counted(len(facts.runs), 'run')} of the last 7 days billed {'at least ' if unknown else ''}"
    words += f"{size(billed)}, {dollars(usd(billed, facts.usd_per_tib))}"
    return f"{words}{f'; of {unknown:,} of them it is not known, or not all' if unknown else ''}."
