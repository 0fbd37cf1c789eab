"""Tells rows that bronze has as they are from news, by fingerprints, and makes those that are kept for the next window.

A fingerprint is the MD5 of a row as it lands, without ``_extracted_at``: 128 bits, so of a billion different rows two
are taken for the same with a probability of 1 in 10 to the 21st. What goes into it is a JSON array of the row's values
in order, in which no two different rows are the same text: numbers of fixed width by their bits, decimals and texts as
quoted texts, bytes in base64. An engine in memory makes them, and nothing is done row by row: 0.8 million rows a second
and core (15 columns), of those rows alone that are read again; 16 bytes each are kept.
"""

import hashlib
import io
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.extractor.planning.again import Again

_SLICE_BYTES = 4 * 1024 * 1024
"""Rows that are looked at at a time: the engine holds their texts."""

_ROWS = 65_536
"""Fingerprints that are handed over at a time."""

_EMPTY = "CREATE OR REPLACE TABLE kept (h UHUGEINT, ahead BOOLEAN)"

_HALVES = pa.schema([pa.field("high", pa.uint64(), nullable=False), pa.field("low", pa.uint64(), nullable=False)])


class Sieve:
    """The rows of one batch pass it on their way to landing/; not for several threads at a time."""

    def __init__(self, most: int) -> None:
        """Make an empty one, which lets all rows pass.

        Args:
            most: fingerprints that are kept at most; with more, none are.
        """
        self._most = most
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._knows = False
        self.begin()

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """The engine, which is started for the first row that matters: most batches of small tables have none."""
        if self._engine is None:
            self._engine = duckdb.connect(":memory:", config={"memory_limit": "192MB", "threads": 1})
            self._engine.execute("CREATE TABLE known (h UHUGEINT)")
            self._engine.execute(_EMPTY)
        return self._engine

    def begin(self) -> None:
        """Begin anew with the batch's first row: a read that broke off has left nothing."""
        if self._engine is not None:
            self._engine.execute(_EMPTY)
        self._count = 0
        self.dropped = 0
        """Rows that are no news."""

    def know(self, content: bytes) -> None:
        """Take what the last window has kept.

        Args:
            content: as ``kept`` gives it.

        Raises:
            pa.ArrowException: it is damaged.
        """
        halves = pq.read_table(io.BytesIO(content), schema=_HALVES)
        self._connection.execute("INSERT INTO known SELECT (high::UHUGEINT << 64) | low FROM halves")
        self._knows = halves.num_rows > 0

    def close(self) -> None:
        """Give back its memory."""
        if self._engine is not None:
            self._engine.close()

    @property
    def keeps_any(self) -> bool:
        """Whether any row is one that the next window reads again."""
        return self._count > 0

    @property
    def overflowed(self) -> bool:
        """Whether there were more rows than are kept."""
        return self._count > self._most

    def news(self, rows: pa.RecordBatch, flags: pa.Array) -> pa.BooleanArray | None:
        """Which rows are news; None for all of them.

        Args:
            rows: as they land, ``_extracted_at`` last.
            flags: per row, an ``Again``.
        """
        matters = Again(0)
        if self._knows:
            matters |= Again.LAST
        if not self.overflowed:
            matters |= Again.NEXT
        looked_at = pc.not_equal(pc.bit_wise_and(flags, pa.scalar(matters.value, flags.type)), 0)
        places = pc.indices_nonzero(looked_at)
        if not len(places):
            return None
        self._make(rows.take(places), flags.take(places), places)
        if not self.overflowed:
            self._keep()
        if not self._knows:
            return None
        found = self._connection.execute("SELECT n FROM made WHERE h IN (SELECT h FROM known)").to_arrow_table()
        self.dropped += found.num_rows
        if not found.num_rows:
            return None
        every = pa.arange(0, rows.num_rows).cast(places.type)
        return pc.invert(pc.is_in(every, value_set=found.column("n").combine_chunks()))

    def _make(self, rows: pa.RecordBatch, flags: pa.Array, places: pa.Array) -> None:
        """Fill the engine's table ``made`` with the fingerprints of some rows."""
        values = [_plain(column) for column in rows.columns[:-1]]
        names = [f"c{number}" for number in range(len(values))]
        array = ", ".join(_text(name, value.type) for name, value in zip(names, values, strict=True))
        plain = pa.RecordBatch.from_arrays([*values, places, flags], names=[*names, "n", "flag"])
        self._connection.execute("CREATE OR REPLACE TABLE made (n BIGINT, flag INTEGER, h UHUGEINT)")
        for piece in _slices(plain):  # noqa: B007 - the engine finds it by its name
            self._connection.execute(f"INSERT INTO made SELECT n, flag, md5_number(json_array({array})) FROM piece")  # noqa: S608

    def _keep(self) -> None:
        kept = f"SELECT h, flag & {Again.AHEAD.value} <> 0 FROM made WHERE flag & {Again.NEXT.value} <> 0"  # noqa: S608
        [[count]] = self._connection.execute(f"INSERT INTO kept {kept}").fetchall()
        self._count += int(count)
        if self.overflowed:
            self._connection.execute(_EMPTY)

    def kept(self) -> tuple[bytes, int, int]:
        """The fingerprints of what the next window reads again: a Parquet file, how many, how many ahead of the window.

        None of them where there were too many.
        """
        counting = "SELECT count(*), count(*) FILTER (ahead) FROM kept"
        [[rows, ahead]] = self._connection.execute(counting).fetchall()
        halves = self._connection.execute(
            "SELECT (h >> 64)::UBIGINT AS high, (h & 18446744073709551615::UHUGEINT)::UBIGINT AS low FROM kept"
        )
        content = io.BytesIO()
        with pq.ParquetWriter(content, _HALVES, compression="none", use_dictionary=False) as writer:
            for batch in halves.to_arrow_reader(_ROWS):
                writer.write_batch(batch.cast(_HALVES))
        return content.getvalue(), int(rows), int(ahead)


def checksum(content: bytes) -> str:
    """SHA-256 of what ``Sieve.kept`` gives, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _plain(array: pa.Array) -> pa.Array:
    """A column as numbers, texts or bytes, of which the engine makes the same text everywhere."""
    kind, types = array.type, pa.types
    if types.is_date32(kind):
        return array.view(pa.int32())
    if types.is_timestamp(kind) or types.is_time64(kind) or types.is_float64(kind):
        return array.view(pa.int64())
    if types.is_decimal256(kind):
        return array.cast(pa.string())  # the engine has no such type
    return array


def _text(name: str, kind: pa.DataType) -> str:
    if pa.types.is_binary(kind):
        return f"to_base64({name})"
    return f"{name}::VARCHAR" if pa.types.is_decimal(kind) else name


def _slices(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    step = max(1, int(_SLICE_BYTES * rows.num_rows / max(rows.nbytes, 1)))
    for offset in range(0, rows.num_rows, step):
        yield rows.slice(offset, step)
