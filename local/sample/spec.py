"""What a sample is made from. Everything else follows from these three values."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

CHUNK_ROWS = 60_000
"""Rows generated at a time, each chunk from its own random stream. Changing it changes the data; a multiple of 6."""

INSTALLMENTS_PER_COMPANY = 20
MIN_COMPANIES = 20
MIN_ROWS = 40
"""Below this not every kind of odd row would have its place."""
MAX_ROWS = 1_000_000_000

ODD_SHARE = 0.01
"""Share of the rows that are odd, all kinds together, besides the one of each kind that every sample has."""


def utc_today() -> date:
    """Today in UTC."""
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class SampleSpec:
    """A sample: the same values give the same bytes (with the same numpy).

    Attributes:
        rows: installments, 40 to a thousand million.
        seed: any non-negative number.
        as_of: the day the sample is seen from; nothing but the deliberately odd rows has happened later.

    Raises:
        ValueError: a value is outside its range.
    """

    rows: int = 10_000
    seed: int = 42
    as_of: date = field(default_factory=utc_today)

    def __post_init__(self) -> None:
        if not MIN_ROWS <= self.rows <= MAX_ROWS:
            raise ValueError(f"rows must be {MIN_ROWS} to {MAX_ROWS}, got {self.rows}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if isinstance(self.as_of, datetime) or not 2000 <= self.as_of.year <= 2090:
            raise ValueError(f"as_of must be a date from 2000 to 2090, got {self.as_of!r}")

    @property
    def companies(self) -> int:
        """Number of companies."""
        return max(MIN_COMPANIES, self.rows // INSTALLMENTS_PER_COMPANY)

    @property
    def as_of_day(self) -> int:
        """`as_of` in days since 1970-01-01."""
        return (self.as_of - date(1970, 1, 1)).days

    def random(self, stream: int, chunk: int) -> np.random.Generator:
        """The random numbers of one chunk of one stream, independent of all others."""
        return np.random.default_rng((self.seed, stream, chunk))


def chunks(rows: int) -> Iterator[tuple[int, int, int]]:
    """The chunks that so many rows fall into: number, first row, rows."""
    for chunk, first in enumerate(range(0, rows, CHUNK_ROWS)):
        yield chunk, first, min(CHUNK_ROWS, rows - first)


def sliced(batch: pa.RecordBatch, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most `batch_rows` rows, without copying.

    Raises:
        ValueError: `batch_rows` is not positive.
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be positive, got {batch_rows}")
    for first in range(0, batch.num_rows, batch_rows):
        yield batch.slice(first, batch_rows)
