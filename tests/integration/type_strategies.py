"""For each type, any value that it can have, as a text that PostgreSQL reads."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from services.core.tables import ColumnType

Texts = st.SearchStrategy[str]


@dataclass(frozen=True)
class Values:
    """A type, a strategy for its values, and what it is declared as besides STRING."""

    type: str
    texts: Texts
    into: tuple[ColumnType, ...] = ()


def _integers(bits: int) -> Texts:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


_EDGES = [sign * (10**power + more) for power in (9, 28, 29, 37, 38) for more in (-1, 0, 1) for sign in (-1, 1)]
_WRAPPING = [sign * 2**power for power in (63, 64, 127, 128, 255, 256) for sign in (-1, 1)]
"""Where the integers inside a decimal overflow."""

_NUMERICS = st.one_of(
    st.builds(
        "{}e{}".format,
        st.integers(-(10**45), 10**45) | st.sampled_from([*_EDGES, *_WRAPPING]),
        st.integers(-50, 40) | st.sampled_from([-38, -9, 0]),
    ),
    st.builds("{}.{}".format, st.integers(-(10**29), 10**29), st.text("0123456789", min_size=1, max_size=12)),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
)


def _decimals(precision: int, scale: int) -> Texts:
    """Of a numeric with so many digits."""
    values = st.integers(-(10**precision) + 1, 10**precision - 1).map(lambda unscaled: f"{unscaled}e{-scale}")
    return values | st.just("NaN")


def _money(cents: int) -> str:
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02}"


_YEARS = st.integers(-4712, 294275) | st.integers(1, 9999) | st.sampled_from([-1, 0, 1, 9999, 10000])
_MICROSECONDS = st.integers(0, 86_400_000_000 - 1) | st.sampled_from([0, 86_399_999_999])


def _clock(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def _dated(year: int, month: int, day: int, rest: str) -> str:
    """A date, and what follows it; year 0 is 1 BC."""
    return f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}{rest}{'' if year > 0 else ' BC'}"


_MONTHS, _DAYS = st.integers(1, 12), st.integers(1, 28)
_INFINITIES = st.sampled_from(["infinity", "-infinity"])
_DATES = st.builds(
    _dated, st.integers(-4711, 5_874_896) | _YEARS.filter(lambda y: y > -4712), _MONTHS, _DAYS, st.just("")
)
_INSTANTS = st.builds(
    _dated, _YEARS.filter(lambda y: y > -4712), _MONTHS, _DAYS, _MICROSECONDS.map(lambda t: f" {_clock(t)}")
)
_ZONES = st.builds(
    "{}{:02}:{:02}".format, st.sampled_from(["+", "-"]), st.integers(0, 15), st.sampled_from([0, 15, 30, 45, 59])
)


def _zoned(text: str, zone: str) -> str:
    return f"{text.removesuffix(' BC')}{zone}{' BC' if text.endswith(' BC') else ''}"


_INTERVALS = st.builds(
    "{} mons {} days {} microseconds".format,
    st.integers(-(2**31) + 1, 2**31 - 2),
    st.integers(-(2**31) + 1, 2**31 - 2),
    st.integers(-(10**18), 10**18),
)

_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50) | st.text(
    "'\"\\\n\r\t,{}() %$:;-é😀"
)
# jsonb holds no NUL, not even escaped, and no half of a surrogate pair.
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=8,
)


def _array(elements: Iterable[str | None]) -> str:
    """An array as PostgreSQL reads it."""

    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    return "{" + ",".join("NULL" if element is None else quoted(element) for element in elements) + "}"


def _arrays(elements: Texts) -> Texts:
    return st.lists(st.none() | elements, max_size=6).map(_array)


def _floats(width: Any) -> Texts:
    return st.floats(width=width).map(repr)


NUMERIC, BIGNUMERIC = ColumnType.NUMERIC, ColumnType.BIGNUMERIC

VALUES = [
    Values("bigint", _integers(64), (ColumnType.INT64, NUMERIC)),
    Values("numeric", _NUMERICS, (NUMERIC, BIGNUMERIC)),
    Values("numeric(38,9)", _decimals(38, 9), (NUMERIC, BIGNUMERIC)),
    Values("numeric(38,0)", _decimals(38, 0), (NUMERIC, BIGNUMERIC)),
    Values("numeric(50,30)", _decimals(50, 30), (NUMERIC, BIGNUMERIC)),
    Values("money", st.integers(-(2**63), 2**63 - 1).map(_money), (NUMERIC,)),
    Values("real", _floats(32), (ColumnType.FLOAT64,)),
    Values("double precision", _floats(64), (ColumnType.FLOAT64,)),
    Values("date", _DATES | _INFINITIES, (ColumnType.DATE,)),
    Values("timestamp", _INSTANTS | _INFINITIES, (ColumnType.DATETIME,)),
    Values("timestamptz", st.builds(_zoned, _INSTANTS, _ZONES) | _INFINITIES, (ColumnType.TIMESTAMP,)),
    Values("time", _MICROSECONDS.map(_clock) | st.just("24:00:00"), (ColumnType.TIME,)),
    Values("timetz", st.builds("{}{}".format, _MICROSECONDS.map(_clock), _ZONES)),
    Values("interval", _INTERVALS),
    Values("text", _TEXTS),
    Values("bytea", st.binary(max_size=100).map(lambda value: f"\\x{value.hex()}"), (ColumnType.BYTES,)),
    Values("json", _JSON.map(lambda value: json.dumps(value, ensure_ascii=False))),
    Values("jsonb", _JSON.map(lambda value: json.dumps(value, ensure_ascii=False))),
    Values("text[]", _arrays(_TEXTS)),
    Values("numeric[]", _arrays(_NUMERICS)),
    Values("timestamptz[]", _arrays(_INSTANTS)),
]
