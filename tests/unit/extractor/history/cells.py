"""How an application writes moments into the source's cursor columns, and what of them its tables.yaml says."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import pyarrow as pa

from services.core.tables import ColumnType
from services.extractor.source.catalog import SourceColumn
from services.extractor.source.cursor import CursorType

Kind = Literal["timestamp", "rounded", "naive", "date"]
Cell = datetime | date | None

START = {
    "timestamp": datetime(2026, 11, 22, 12, tzinfo=UTC),
    "rounded": datetime(2026, 11, 22, 12, tzinfo=UTC),
    "naive": datetime(2026, 11, 1, 5, 50, tzinfo=UTC),
    "date": datetime(2026, 11, 22, 12, tzinfo=UTC),
}
"""When a history begins. With naive times it is ten minutes before New York's clocks go back."""

_TYPES = {"timestamp": "timestamptz", "rounded": "timestamptz", "naive": "timestamp", "date": "date"}
_ARROW = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "rounded": pa.timestamp("us", tz="UTC"),
    "naive": pa.timestamp("us"),
    "date": pa.date32(),
}
_LANDED = {
    "timestamp": ColumnType.TIMESTAMP,
    "rounded": ColumnType.TIMESTAMP,
    "naive": ColumnType.DATETIME,
    "date": ColumnType.DATE,
}


@dataclass(frozen=True)
class Cells:
    """The application's way of writing moments."""

    kind: Kind
    zone: ZoneInfo
    """Where it is: whose clock it reads, whose day it is."""

    @property
    def rounding(self) -> timedelta:
        """How far a cell can lie from its moment."""
        return timedelta(seconds=1) if self.kind == "rounded" else timedelta(0)

    @property
    def arrow(self) -> pa.DataType:
        """The column's type in Arrow."""
        return _ARROW[self.kind]

    @property
    def landed(self) -> ColumnType:
        """The column's type in BigQuery."""
        return _LANDED[self.kind]

    def column(self, name: str) -> SourceColumn:
        """The column as the catalog has it."""
        return SourceColumn(name, _TYPES[self.kind], self._modifier)

    @property
    def cursor_type(self) -> CursorType:
        """What PostgreSQL says of greatest(a, b)."""
        return CursorType(_TYPES[self.kind], _TYPES[self.kind], self._modifier, column=False, zoned=False)

    @property
    def _modifier(self) -> int:
        return 0 if self.kind == "rounded" else -1

    def cell(self, moment: datetime | None) -> Cell:
        """What is written for a moment."""
        if moment is None or self.kind == "timestamp":
            return moment
        if self.kind == "rounded":
            # An application cuts off what is below a second, or PostgreSQL rounds it.
            half = timedelta(0) if moment.microsecond % 2 else timedelta(seconds=0.5)
            return (moment + half).replace(microsecond=0)
        shown = moment.astimezone(self.zone).replace(tzinfo=None)
        return shown.date() if self.kind == "date" else shown

    def place(self, moment: datetime) -> datetime:
        """A moment where windows have it: itself, or its day's midnight in UTC."""
        if self.kind != "date":
            return moment
        day = moment.astimezone(self.zone).date()
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
