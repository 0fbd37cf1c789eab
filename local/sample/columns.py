"""From numpy to Arrow columns: texts by index, dates, instants and money, with nulls."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MONEY = pa.decimal128(18, 2)
INSTANT = pa.timestamp("us", tz="UTC")


def texts(choices: Sequence[str | None], picks: Ints) -> pa.Array:
    """The picked texts."""
    return pa.array(choices, pa.string()).take(pa.array(picks))


def dates(days: Ints, null: Bools) -> pa.Array:
    """Dates from days since 1970-01-01."""
    return pa.array(days.astype(np.int32), mask=null).cast(pa.date32())


def instants(microseconds: Ints, null: Bools) -> pa.Array:
    """UTC timestamps from microseconds since 1970-01-01."""
    return pa.array(microseconds, mask=null).cast(INSTANT)


def integers(values: Ints, null: Bools) -> pa.Array:
    """Whole numbers."""
    return pa.array(values, mask=null)


def money(cents: Ints, null: Bools) -> pa.Array:
    """numeric(18,2) from cents, exactly."""
    words = np.stack([cents, cents >> 63], axis=1)  # 128 bits, little end first, sign extended
    validity = pa.array(~null).buffers()[1]
    return pa.Array.from_buffers(MONEY, len(cents), [validity, pa.py_buffer(words)])


def replaced(values: pa.Array, where: Bools, by: pa.Array | pa.Scalar) -> pa.Array:
    """The values, with those `where` is true taken from `by`."""
    return pc.if_else(pa.array(where), by, values)


def weighted(generator: np.random.Generator, weights: Sequence[int], rows: int) -> Ints:
    """Indexes drawn with the given weights."""
    edges = np.cumsum(weights)
    return np.searchsorted(edges, generator.integers(0, edges[-1], rows), side="right").astype(np.int64)


def odd_rows(generator: np.random.Generator, share: float, kinds: int, rows: int) -> Ints:
    """0 for an ordinary row; 1 to `kinds`, with equal chance, for a `share` of the rows."""
    return np.where(generator.random(rows) < share, generator.integers(1, kinds + 1, rows), 0)


def is_any(odd: Ints, *kinds: IntEnum) -> Bools:
    """Which rows are odd in one of these ways."""
    return np.isin(odd, kinds)
