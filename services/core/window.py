"""A window of a cursor, in UTC; a date is its midnight."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Window(BaseModel):
    """The half-open interval (low, high] of a cursor; low None is everything up to high, null cursors included."""

    model_config = ConfigDict(frozen=True)

    low: AwareDatetime | None
    high: AwareDatetime

    def starts_within(self, covered: datetime | None) -> bool:
        """Whether nothing lies between what is covered and this window's start."""
        return self.low is None or (covered is not None and self.low <= covered)
