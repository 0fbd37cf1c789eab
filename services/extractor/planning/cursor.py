"""The declared cursor against what PostgreSQL says of it; its values at a window's edges. Pure functions and data."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from services.core.errors import ConfigurationError
from services.core.tables import Cursor, Table
from services.extractor.planning.local_time import earlier, earliest_local, latest_local
from services.extractor.source.catalog import SourceRelation, TypeKind
from services.extractor.source.cursor import CursorType
from services.extractor.source.sql import bracketed


class CursorKind(StrEnum):
    """What a cursor's values are."""

    MOMENT = "timestamp with time zone"
    LOCAL_TIME = "timestamp without time zone"
    DAY = "date"


_BY_TYPE = {"timestamptz": CursorKind.MOMENT, "timestamp": CursorKind.LOCAL_TIME, "date": CursorKind.DAY}


@dataclass(frozen=True)
class SettledCursor:
    """A cursor that fits its source."""

    declared: Cursor
    kind: CursorKind = CursorKind.MOMENT
    zone: ZoneInfo | None = None
    """Whose clock or calendar; None for a moment, and for a day of which nobody says where on earth."""
    shown: str = CursorKind.MOMENT.value
    """The expression's type as format_type() writes it."""
    rounding: timedelta = timedelta(0)
    """How far a value can lie below the time that it stands for."""

    @property
    def sql(self) -> str:
        """The expression, in brackets."""
        return bracketed(self.declared.expression)

    @property
    def described(self) -> str:
        """The cursor, for people."""
        whose = f" of {self.zone.key}" if self.zone else ""
        if self.kind is CursorKind.DAY and self.zone is None:
            whose = " of any zone on earth (cursor.time_zone is not declared)"
        rounded = f", rounded to {self.rounding.total_seconds():g} s" if self.rounding else ""
        return f"{self.shown}{whose}{rounded}"

    @property
    def lag(self) -> timedelta:
        """How far a window's end stays behind."""
        return self.declared.lag + self.rounding

    def edge(self, moment: datetime) -> datetime:
        """Where a window may end when everything until a moment is visible: the moment, or the day that it is in.

        A day is its midnight in UTC.
        """
        if self.kind is not CursorKind.DAY:
            return moment.astimezone(UTC)
        return _midnight(earliest_local(moment, self.zone))

    def after(self, low: datetime) -> str:
        """SQL condition of the values that come after a window's low; the lookback is read again."""
        return f"{self.sql} > {self._literal(earlier(low, self.declared.lookback), end=False)}"

    def until(self, high: datetime) -> str:
        """SQL condition of the values until a window's high."""
        return f"{self.sql} <= {self._literal(high, end=True)}"

    def beyond(self, moment: datetime, high: datetime) -> str:
        """SQL condition of the values that are later than a moment, and than a window's high."""
        reached = moment
        if self.kind is CursorKind.DAY:
            reached = _midnight(latest_local(moment, self.zone))
        return f"{self.sql} > {self._literal(max(reached, high), end=True)}"

    def _literal(self, value: datetime, *, end: bool) -> str:
        if self.kind is CursorKind.DAY:
            return f"DATE '{value.astimezone(UTC).date().isoformat()}'"
        if self.kind is CursorKind.MOMENT:
            return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat(sep=' ', timespec='microseconds')}'"
        local = latest_local(value, self.zone) if end else earliest_local(value, self.zone)
        return f"TIMESTAMP '{local.isoformat(sep=' ', timespec='microseconds')}'"


def settle_cursor(table: Table, found: CursorType | None, relation: SourceRelation) -> SettledCursor | None:
    """What the table's cursor is; None for a table without one.

    Raises:
        ConfigurationError: its type is not the declared one, or it cannot be a cursor; says what to declare.
    """
    if table.cursor is None or found is None:
        return None
    cursor = table.cursor
    kind = _BY_TYPE.get(found.name)
    if kind is None or (kind is CursorKind.DAY) != (cursor.type == "date"):
        raise _refused(table, found, f"declared {cursor.type}; {_instead(cursor, found)}")
    if kind is CursorKind.LOCAL_TIME and cursor.time_zone is None:
        raise _refused(
            table,
            found,
            "which says no moment; declare cursor.time_zone, the zone of the clock that it is written by, for example "
            f"America/Sao_Paulo or UTC; or write {bracketed(cursor.expression)} AT TIME ZONE '…'",
        )
    if kind is CursorKind.MOMENT and cursor.time_zone is not None:
        raise _refused(table, found, "which says its moment without a zone; take cursor.time_zone out")
    days_of_utc = kind is CursorKind.DAY and cursor.time_zone in (None, "UTC")
    if found.zoned and not days_of_utc:  # the zone of this pipeline's sessions is UTC
        raise _refused(
            table,
            found,
            "and depends on the session's time zone, because it takes a time with a zone for one without, or the other "
            "way; say which zone: … AT TIME ZONE 'America/Sao_Paulo'",
        )
    time_zone = "UTC" if found.zoned else cursor.time_zone
    rounding = timedelta(0) if kind is CursorKind.DAY else _rounding(found, relation)
    return SettledCursor(cursor, kind, ZoneInfo(time_zone) if time_zone else None, found.shown, rounding)


def _refused(table: Table, found: CursorType, why: str) -> ConfigurationError:
    return ConfigurationError(f"table {table.name}: cursor.expression is {found.shown}, {why}")


def _instead(cursor: Cursor, found: CursorType) -> str:
    """What to declare instead."""
    expression = bracketed(cursor.expression)
    match found.name:
        case "date":
            return "declare type: date, with lookback: P1D and the time_zone whose days they are"
        case "timestamp":
            return "declare type: timestamp, with the time_zone of the clock that it is written by"
        case "timestamptz":
            return f"declare type: timestamp, or a zone's day: ({expression} AT TIME ZONE 'America/Sao_Paulo')::date"
        case "int2" | "int4" | "int8" | "numeric" | "float4" | "float8":
            return (
                "a number does not say when its transaction began, so a window could pass rows that are committed "
                "later. Declare a timestamp that every change sets, or mode: snapshot; if it counts seconds since "
                f"1970, to_timestamp{expression}"
            )
        case "uuid":
            return (
                "a UUID does not grow with every change. Declare a timestamp that every change sets, or mode: "
                "snapshot; where rows are only added and it is of version 7, uuid_extract_timestamp"
                f"{expression} (PostgreSQL 18) with lag: PT1S"
            )
        case "text" | "varchar" | "bpchar":
            return f"a text has no time; declare what it stands for: {expression}::timestamp with cursor.time_zone"
    return "a cursor is a timestamp or a date that every change sets; declare one, or mode: snapshot"


def _rounding(found: CursorType, relation: SourceRelation) -> timedelta:
    """How far a value can lie below its time: a second for timestamptz(0), a millisecond for timestamptz(3).

    PostgreSQL rounds to the nearest, but what writes the column may have cut before. Where an expression has no
    precision of its own (greatest() of different ones), the coarsest of the relation's columns counts.
    """
    modifiers = [found.modifier]
    if found.modifier < 0 and not found.column:
        times = ("timestamptz", "timestamp")
        modifiers += [
            column.modifier
            for column in relation.columns.values()
            if column.kind is TypeKind.BASE and column.type in times
        ]
    digits = [modifier for modifier in modifiers if 0 <= modifier < 6]
    return timedelta(microseconds=10 ** (6 - min(digits))) if digits else timedelta(0)


def _midnight(local: datetime) -> datetime:
    return local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
