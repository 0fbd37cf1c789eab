"""How times, durations, counts and costs are written for people."""

from datetime import UTC, datetime, timedelta


def moment(value: datetime | None) -> str:
    """A time to the second, in UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if value else "–"


def minute(value: datetime | None) -> str:
    """A time to the minute, in UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}" if value else "–"


def span(value: timedelta | None) -> str:
    """A duration, by its two greatest units."""
    if value is None:
        return "–"
    seconds = max(0, int(value.total_seconds()))
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    shown = [f"{number} {unit}" for number, unit in parts[first : first + 2] if number]
    return " ".join(shown) or "0 s"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def size(number: float) -> str:
    """Bytes in the units that BigQuery bills in."""
    unit, units = "B", ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB"]
    while abs(number) >= 1024 and units:
        number, unit = number / 1024, units.pop(0)
    return f"{number:,.0f} {unit}" if unit == "B" or number >= 100 else f"{number:,.1f} {unit}"


def dollars(value: float) -> str:
    """USD, with cents, and of less than one with hundredths of cents."""
    return f"{value:,.2f} USD" if value == 0 or value >= 1 else f"{value:,.4f} USD"


def slot_time(milliseconds: int) -> str:
    """Time that slots worked."""
    seconds = milliseconds / 1000
    return f"{seconds:,.1f} s" if seconds < 60 else span(timedelta(seconds=seconds))
