"""The extractor's sieve without its engine: fingerprints are made in Python, row by row, which is quick for a few."""

import hashlib
from collections.abc import Callable, Set
from datetime import datetime
from typing import Any

import pyarrow as pa

from services.extractor.planning.again import Again
from services.extractor.reading.sieve import Sieve

_FOUND = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("ahead", pa.bool_())])


class PlainSieve(Sieve):
    """As ``Sieve``: what is recalled, kept and forgotten, and when, is its own code's."""

    _recalled: frozenset[tuple[int, int]] = frozenset()

    def sift(self, read_at: datetime) -> Any:
        """As the real one's."""
        if read_at not in self._counts:
            halves = self._recall()
            if halves is not None:
                self._recalled = frozenset(
                    zip(halves.column("high").to_pylist(), halves.column("low").to_pylist(), strict=True)
                )
            self._counts[read_at] = halves is not None
        return PlainSifting(self._recalled, self.room, drops=self._counts[read_at])


class PlainSifting:
    """As ``Sifting``."""

    def __init__(self, known: Set[tuple[int, int]], room: Callable[[], int], *, drops: bool) -> None:
        self._known, self._room, self._drops = known, room, drops
        self._kept: list[tuple[int, int, bool]] = []
        self.dropped = 0

    def close(self) -> None:
        """As the real one's."""

    @property
    def overflowed(self) -> bool:
        """As the real one's."""
        return len(self._kept) > self._room()

    def news(self, rows: pa.RecordBatch, flags: pa.Array) -> pa.BooleanArray | None:
        """As the real one's."""
        values = zip(*(column.to_pylist() for column in rows.columns[:-1]), strict=True)
        news = []
        for row, flag in zip(values, flags.to_pylist(), strict=True):
            halves = _fingerprint(row)
            if flag & Again.NEXT:
                self._kept.append((*halves, bool(flag & Again.AHEAD)))
            news.append(not (self._drops and flag & Again.LAST and halves in self._known))
        self.dropped += news.count(False)
        return None if all(news) else pa.array(news)

    def found(self) -> pa.Table | None:
        """As the real one's."""
        if self.overflowed:
            return None
        return pa.table(list(map(list, zip(*self._kept, strict=True))) or [[], [], []], schema=_FOUND)


def _fingerprint(row: tuple[Any, ...]) -> tuple[int, int]:
    digest = hashlib.md5(repr(row).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:])
