"""Between moments and what the clocks and calendars of a time zone show, where these are set back. Pure functions.

Where clocks go back, an hour is shown twice, and what they showed says no more when it was. So a window's edge becomes
two local times: before which nothing later than the edge can be, and after which nothing earlier.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The first and the last representable time."""

_WESTERNMOST, _EASTERNMOST = timedelta(hours=-12), timedelta(hours=14)

_FURTHEST = 26
"""Hours between the westernmost and the easternmost zone: no clock was ever set further."""


def earliest_local(edge: datetime, zone: ZoneInfo | None) -> datetime:
    """A local time that every moment after the edge is later than; without a zone.

    Args:
        edge: a moment, aware.
        zone: whose clocks; None for any on earth.
    """
    offsets = [_WESTERNMOST] if zone is None else _offsets(edge, zone, range(_FURTHEST + 1))
    return _local(edge, min(offsets))


def latest_local(edge: datetime, zone: ZoneInfo | None) -> datetime:
    """A local time that no moment until the edge is later than; without a zone.

    Args:
        edge: a moment, aware.
        zone: whose clocks; None for any on earth.
    """
    offsets = [_EASTERNMOST] if zone is None else _offsets(edge, zone, range(-_FURTHEST, 1))
    return _local(edge, max(offsets))


def earlier(moment: datetime, by: timedelta) -> datetime:
    """``moment - by``, not before the first representable time; in UTC."""
    return _shifted(moment, -by)


def _offsets(edge: datetime, zone: ZoneInfo, hours: range) -> list[timedelta]:
    """The zone's offsets around a moment, asked for every hour: none lasts for less."""
    # Of the first and the last days some zones have no local time.
    moment = min(max(edge, datetime(2, 1, 1, tzinfo=UTC)), datetime(9998, 1, 1, tzinfo=UTC))
    found = [_shifted(moment, timedelta(hours=hour)).astimezone(zone).utcoffset() for hour in hours]
    return [offset for offset in found if offset is not None]


def _shifted(moment: datetime, by: timedelta) -> datetime:
    """``moment + by`` in UTC, within the representable times."""
    try:
        return moment.astimezone(UTC) + by
    except OverflowError:
        return FIRST if by < timedelta(0) else LAST


def _local(edge: datetime, offset: timedelta) -> datetime:
    return _shifted(edge, offset).replace(tzinfo=None)
