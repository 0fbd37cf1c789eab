"""What bytes cost in USD, and what a month of them would."""

from datetime import datetime, timedelta

TIB = 1024**4
"""Bytes of the unit that BigQuery's on-demand price is for."""

FREE_TIB = 1
"""TiB a month that BigQuery does not bill, once per billing account (https://cloud.google.com/bigquery/pricing)."""

MONTH = timedelta(days=30)


def usd(billed: int, usd_per_tib: float) -> float:
    """The price of bytes billed, in USD, without what is free."""
    return billed / TIB * usd_per_tib


def measured_span(since: datetime, until: datetime, begun: list[datetime]) -> timedelta:
    """How long the window really is, to scale it to a month.

    From ``since`` on where the history is older than that, else from the first run on; a day at least, because a
    pipeline of an hour tells nothing of a month.

    Args:
        since: beginning of the window.
        until: its end.
        begun: when the known runs began, those before the window, too.
    """
    first = min(begun, default=since)
    return max(until - max(since, first), timedelta(days=1))


def month(billed: int, span: timedelta) -> int:
    """Bytes of a window scaled to 30 days."""
    return round(billed * (MONTH / span))
