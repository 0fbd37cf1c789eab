"""What `credix cost` shows: bytes billed and USD of the runs in the history, and what a month of them would cost."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel

from services.core.cost.price import FREE_TIB, measured_span, month, usd
from services.core.cost.run_cost import CostLine, added, grouped
from services.core.state.state import PipelineState, Run

SENDERS = ("transformer", "audit", "report", "observer")
"""Services whose runs send jobs that BigQuery bills; of loads and copies, all that the loader does, it bills none."""

_SPAN = re.compile(r"(?P<number>[1-9]\d{0,3})(?P<unit>[hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class By(StrEnum):
    """What the sums are made by."""

    STAGE = "stage"
    TABLE = "table"
    MODEL = "model"
    RUN = "run"


class CostRow(BaseModel):
    """A sum."""

    name: str
    """Of the stage, table, model or run; in parentheses where there is none."""
    jobs: int
    untold_jobs: int
    """Those of them whose bytes BigQuery does not tell; they are in no sum."""
    billed_bytes: int
    processed_bytes: int
    slot_ms: int
    usd: float


class UnknownRun(BaseModel):
    """A run whose cost is not known, or not all of it."""

    id: str
    why: str


class Month(BaseModel):
    """What 30 days like the window would cost."""

    billed_bytes: int
    usd: float
    """Without what is free."""
    from_days: float
    """Days of history that were scaled to 30."""
    free_tib: int = FREE_TIB
    """TiB a month that BigQuery does not bill, once per billing account; they are not taken off."""


class Costs(BaseModel):
    """What the runs of a window cost."""

    since: datetime
    until: datetime
    usd_per_tib: float
    runs: int
    unknown_runs: list[UnknownRun]
    """What they cost is in no sum, so the real sum is higher."""
    total: CostRow | None
    """None when there are runs, and of none it is known."""
    month: Month | None
    by: By
    rows: list[CostRow]
    """The dearest first; runs by time."""


def parse_since(text: str, now: datetime) -> datetime:
    """The beginning of a window: ``12h``, ``7d``, ``4w`` before now, or a date or time, in UTC where it names no zone.

    Raises:
        ValueError: it is none of these, or not in the past.
    """
    if span := _SPAN.fullmatch(text):
        return now - int(span["number"]) * _UNITS[span["unit"]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text} is neither a span like 12h, 7d or 4w, nor a date like 2026-11-01") from error
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if at >= now:
        raise ValueError(f"{text} is not in the past")
    return at


def read_costs(state: PipelineState, since: datetime, until: datetime, by: By, usd_per_tib: float) -> Costs:
    """Ask the history for the window's runs, and for as long a time before it: whether there was a history then.

    Raises:
        Exception: the state does not answer.
    """
    before = since - (until - since)
    runs = [run for service in SENDERS for run in state.runs(service, before)]
    return costs(sorted(runs, key=lambda run: run.id), since, until, by, usd_per_tib)


def costs(runs: list[Run], since: datetime, until: datetime, by: By, usd_per_tib: float) -> Costs:
    """Sum the runs of a window.

    Args:
        runs: the known ones, oldest first, those before the window, too.
        since: beginning of the window.
        until: its end.
        by: what the sums are made by.
        usd_per_tib: the price.
    """
    within = [run for run in runs if since <= run.started_at <= until]
    unknown = [UnknownRun(id=run.id, why=why) for run in within if (why := _unknown(run)) is not None]
    lines = [line for run in within if run.cost for line in run.cost.lines]
    known = bool(lines) or len(unknown) < len(within) or not within
    total = _row("total", added(lines), usd_per_tib) if known else None
    span = measured_span(since, until, [run.started_at for run in runs])
    billed = month(total.billed_bytes, span) if total else 0
    return Costs(
        since=since,
        until=until,
        usd_per_tib=usd_per_tib,
        runs=len(within),
        unknown_runs=unknown,
        total=total,
        month=Month(billed_bytes=billed, usd=usd(billed, usd_per_tib), from_days=span / timedelta(days=1))
        if total and within
        else None,
        by=by,
        rows=[_row(name, line, usd_per_tib) for name, line in _sums(within, by).items()],
    )


def _unknown(run: Run) -> str | None:
    if run.cost is None:
        return "nobody read what it cost"
    return run.cost.unknown


def _sums(runs: list[Run], by: By) -> dict[str, CostLine]:
    if by is By.RUN:
        return {f"{run.id} {run.service}": run.cost.total for run in runs if run.cost and run.cost.lines}
    name = {
        By.STAGE: lambda line: line.stage,
        By.TABLE: lambda line: line.table or "(several tables)",
        By.MODEL: lambda line: line.about,
    }[by]
    return grouped((line for run in runs if run.cost for line in run.cost.lines), name)


def _row(name: str, line: CostLine, usd_per_tib: float) -> CostRow:
    return CostRow(
        name=name,
        jobs=line.jobs,
        untold_jobs=line.untold,
        billed_bytes=line.billed,
        processed_bytes=line.processed,
        slot_ms=line.slot_ms,
        usd=usd(line.billed, usd_per_tib),
    )
