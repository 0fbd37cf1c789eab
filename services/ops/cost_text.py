"""The costs for people: a table, then what the sums are, what is not known, and a month's projection."""

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from services.core.cost.price import usd
from services.core.words import counted, dollars, minute, size, slot_time
from services.ops.cost import Costs

_MOST_REASONS = 3


def print_costs(costs: Costs, console: Console) -> None:
    """Show the costs."""
    if costs.rows:
        window = f"{minute(costs.since)} to {minute(costs.until)} UTC"
        console.print(Text(f"credix cost by {costs.by.value}, {window}", style="italic", overflow="fold"))
        console.print(_table(costs))
        console.print()
    for sentence in sentences(costs):
        console.print(Text(sentence, overflow="fold"))
    for sentence in doubts(costs):
        console.print(Text(sentence, style="yellow", overflow="fold"))


def sentences(costs: Costs) -> list[str]:
    """What is known, in words."""
    if not costs.runs:
        return [f"No run since {minute(costs.since)} UTC."]
    if costs.total is None or costs.month is None:
        return [f"What {counted(costs.runs, 'run')} since {minute(costs.since)} UTC cost is not known."]
    price = f"{costs.usd_per_tib:g} USD per TiB (BIGQUERY_USD_PER_TIB)"
    free = dollars(usd(costs.month.free_tib * 1024**4, costs.usd_per_tib))
    least = "at least " if doubts(costs) else ""
    return [
        f"{counted(costs.runs, 'run')} since {minute(costs.since)} UTC billed {least}{size(costs.total.billed_bytes)}: "
        f"{dollars(costs.total.usd)} at {price}.",
        f"A month like that, the bytes of {costs.month.from_days:.1f} days scaled to 30: "
        f"{size(costs.month.billed_bytes)}, {dollars(costs.month.usd)}. Of it BigQuery does not bill the first "
        f"{costs.month.free_tib} TiB a month of a billing account: up to {free} less.",
    ]


def doubts(costs: Costs) -> list[str]:
    """What is not known, in words."""
    said = []
    if costs.unknown_runs:
        reasons = sorted({run.why for run in costs.unknown_runs})
        more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
        what = "it is not known, or not all, what it cost" if costs.runs == 1 else "it is not known, or not all"
        said.append(
            f"Of {len(costs.unknown_runs):,} of {counted(costs.runs, 'run')} {what}, so the sum is higher: "
            f"{'; '.join(reasons[:_MOST_REASONS])}{more}."
        )
    if costs.total and costs.total.untold_jobs:
        said.append(f"Of {counted(costs.total.untold_jobs, 'job')} BigQuery does not say what they billed.")
    return said


def _table(costs: Costs) -> RichTable:
    table = RichTable(box=None, padding=(0, 1, 0, 0))
    table.add_column(costs.by.value, overflow="fold")
    for heading in ("billed", "USD", "processed", "slot time", "jobs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in costs.rows:
        table.add_row(
            Text(row.name),
            size(row.billed_bytes),
            dollars(row.usd).removesuffix(" USD"),
            size(row.processed_bytes),
            slot_time(row.slot_ms),
            f"{row.jobs:,}",
        )
    return table
