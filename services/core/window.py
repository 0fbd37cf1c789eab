"""A window of a cursor, in UTC; a date is its midnight."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is not within the years 1 to 9999 of UTC") from error


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time in UTC; one with another offset becomes it, if it can."""


class Window(BaseModel):
    """The half-open interval (low, high] of a cursor; low None is everything up to high, null cursors included."""

    model_config = ConfigDict(frozen=True)

    low: Instant | None
    high: Instant

    def starts_within(self, covered: datetime | None) -> bool:
        """Whether nothing lies between what is covered and this window's start."""
        return self.low is None or (covered is not None and self.low <= covered)
