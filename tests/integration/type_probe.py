"""One type declared in one way, and whether what arrived is what had to arrive."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from services.core.tables import Column, ColumnType, Unrepresentable
from tests.integration.type_outcomes import NOT_HELD, arriving, same
from tests.integration.type_reading import Arrived


@dataclass(frozen=True)
class Probe:
    """One type, declared in one way."""

    name: str
    """Column where it lands."""
    source: str
    """Column in the source's table of all values."""
    type: str
    """PostgreSQL's type, as a column is declared."""
    into: ColumnType
    policy: Unrepresentable
    printed: list[str | None]
    """What psql prints of the values."""

    @cached_property
    def outcomes(self) -> list[Any]:
        """What must arrive of each value; NOT_HELD where the policy decides."""
        return [arriving(text, self.into, self.type) for text in self.printed]

    @property
    def column(self) -> Column:
        return Column(name=self.name, source_column=self.source, type=self.into, on_unrepresentable=self.policy)

    def wrong(self, arrived: Arrived, *, without: bool = False) -> list[str]:
        """What arrived as it must not.

        Args:
            arrived: all rows.
            without: the rows whose value cannot be held were left out of the source.
        """
        found = []
        texts = self.policy is Unrepresentable.STRING and self.into is not ColumnType.STRING
        for row, (printed, outcome) in enumerate(zip(self.printed, self.outcomes, strict=True)):
            expected = None if outcome is NOT_HELD else outcome
            if not same(arrived.rows[row][self.name], expected):
                found.append(f"{self}: {printed!r} arrived as {arrived.rows[row][self.name]!r}, not {expected!r}")
            if texts and arrived.rows[row][f"{self.name}_text"] != (printed if outcome is NOT_HELD else None):
                found.append(f"{self}: text of {printed!r} is {arrived.rows[row][f'{self.name}_text']!r}")
        count = 0 if without else self.outcomes.count(NOT_HELD)
        if arrived.unrepresentable[self.name] != count:
            found.append(f"{self}: counted {arrived.unrepresentable[self.name]}, not {count}")
        return [text if len(text) < 1_000 else f"{text[:1_000]}…" for text in found]

    def __str__(self) -> str:
        return f"{self.type} as {self.into} under {self.policy}"
