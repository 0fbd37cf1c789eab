"""Tells rows that bronze has as they are from news, by fingerprints, and makes those that are kept for the next window.

A fingerprint is the MD5 of a row as it lands, without ``_extracted_at``: 128 bits, so of a billion different rows two
are taken for the same with a probability of 1 in 10 to the 21st. What goes into it is a JSON array of the row's values
in order, in which no two different rows are the same text: numbers of fixed width by their bits, decimals and texts as
quoted texts, bytes in base64. An engine in memory makes them, and nothing is done row by row: 0.8 million rows a second
and core (15 columns), of those rows alone that are read again; 16 bytes each are kept.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.core.parquet import whole_file
from services.extractor.planning.again import Again

_SLICE_BYTES = 4 * 1024 * 1024
"""Rows that are looked at at a time: the engine holds their texts."""

_ROWS = 65_536
"""Fingerprints that are handed over at a time."""

_TOGETHER = 8_192
"""Rows of which fingerprints are made together, where nothing waits for them: asking the engine has its price."""

_EMPTY = "CREATE OR REPLACE TEMP TABLE kept (h UHUGEINT, ahead BOOLEAN)"

_HALVES = pa.schema([pa.field("high", pa.uint64(), nullable=False), pa.field("low", pa.uint64(), nullable=False)])

_FOUND = pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("ahead", pa.bool_())])
"""What is found: halves of fingerprints, and whether their rows are ahead of the window."""

_NOTHING = Again(0)


def _nothing() -> None:
    """Nothing is known of rows that were read before."""


class Sieve:
    """The rows of one batch pass it on their way to landing/, each statement's a ``Sifting``; for several threads."""

    def __init__(self, most: int, recall: Callable[[], pa.Table | None] = _nothing) -> None:
        """Make one.

        Args:
            most: fingerprints that are kept at most; with more, none are.
            recall: gives what the last window has kept, or None when that does not count now. It is called for every
                time at which rows are read, after that time was taken.
        """
        self._most = most
        self._recall = recall
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._known = False
        self._counts: dict[datetime, bool] = {}
        self._kept: dict[int, tuple[datetime, pa.Table | None]] = {}
        self._lock = threading.RLock()

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """A connection to the engine, which is started for the first row that matters: small tables often have none."""
        with self._lock:
            if self._engine is None:
                self._engine = duckdb.connect(":memory:", config={"memory_limit": "192MB", "threads": 1})
                self._engine.execute("CREATE TABLE known (h UHUGEINT)")
            return self._engine.cursor()

    def close(self) -> None:
        """Give back its memory."""
        if self._engine is not None:
            self._engine.close()

    def sift(self, read_at: datetime) -> "Sifting":
        """What the rows of one statement pass, for one thread.

        Args:
            read_at: when they are read.
        """
        with self._lock:
            if read_at not in self._counts:
                halves = self._recall()
                if halves is not None and not self._known:
                    with self._connection() as engine:
                        engine.execute("INSERT INTO known SELECT (high::UHUGEINT << 64) | low FROM halves")
                    self._known = True
                self._counts[read_at] = halves is not None
            return Sifting(self._connection, self.room, drops=self._counts[read_at])

    def room(self) -> int:
        """How many fingerprints there is still room for; less than nothing when there were too many."""
        pieces = [piece for _, piece in list(self._kept.values())]
        if not self._most or any(piece is None for piece in pieces):
            return -1
        return self._most - sum(int(piece.num_rows) for piece in pieces if piece is not None)

    @property
    def overflowed(self) -> bool:
        """Whether there were more rows than are kept."""
        return self._most > 0 and self.room() < 0

    def take(self, statement: int, read_at: datetime, sifting: "Sifting") -> None:
        """Keep what has passed a sifting, when its statement's rows have all landed, instead of what it kept before.

        Args:
            statement: number of the statement.
            read_at: when its rows were read.
            sifting: what they have passed; it ends.
        """
        found = sifting.found()
        sifting.close()
        with self._lock:
            self._kept.pop(statement, None)
            fits = found is not None and found.num_rows <= self.room()
            self._kept[statement] = read_at, found if fits else None

    def kept(self, read_at: Mapping[int, datetime]) -> pa.Table | None:
        """What is kept of a batch: the fingerprints, and whether their rows are ahead of the window.

        Rows of which two versions can have landed are not told apart by it, so it counts only where there are none:
        where all statements have seen the source at one moment. And each must have been read here: what another process
        has read, or this one as another attempt, is another sifting's.

        Args:
            read_at: when the rows of each statement were read that are in the batch.

        Returns:
            None where it does not count.
        """
        found = [self._kept.get(statement) for statement in read_at]
        here = [piece[1] for piece, at in zip(found, read_at.values(), strict=True) if piece and piece[0] == at]
        pieces = [piece for piece in here if piece is not None]
        one_moment = len(set(read_at.values())) == 1
        return pa.concat_tables(pieces) if one_moment and len(pieces) == len(read_at) else None


class Sifting:
    """What the rows of one statement pass; not for several threads at a time."""

    def __init__(
        self, connect: Callable[[], duckdb.DuckDBPyConnection], room: Callable[[], int], *, drops: bool
    ) -> None:
        """Begin with the statement's first row.

        Args:
            connect: gives a connection to the engine that knows what was kept.
            room: how many fingerprints there is room for.
            drops: whether rows that are known are no news.
        """
        self._connect, self._room, self._drops = connect, room, drops
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._count = 0
        self._held: list[tuple[pa.RecordBatch, pa.Array]] = []
        self._held_rows = self._held_bytes = 0
        self.dropped = 0
        """Rows that are no news."""

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._cursor is None:
            self._cursor = self._connect()
            self._cursor.execute(_EMPTY)
        return self._cursor

    def close(self) -> None:
        """Give back its memory."""
        if self._cursor is not None:
            self._cursor.close()

    @property
    def overflowed(self) -> bool:
        """Whether there were more rows than there is room for."""
        return self._count + self._held_rows > self._room()

    def news(self, rows: pa.RecordBatch, flags: pa.Array) -> pa.BooleanArray | None:
        """Which rows are news; None for all of them.

        Args:
            rows: as they land, ``_extracted_at`` last.
            flags: per row, an ``Again``.
        """
        keeps = not self.overflowed
        matters = (Again.LAST if self._drops else _NOTHING) | (Again.NEXT if keeps else _NOTHING)
        looked_at = pc.not_equal(pc.bit_wise_and(flags, pa.scalar(matters.value, flags.type)), 0)
        places = pc.indices_nonzero(looked_at)
        if not len(places):
            return None
        if not self._drops:
            self._hold(rows.take(places), flags.take(places))
            return None
        self._make(rows.take(places), flags.take(places), places)
        if keeps:
            self._keep()
        found = self._connection.execute(
            "SELECT n FROM made WHERE flag & ? <> 0 AND h IN (SELECT h FROM known)", [Again.LAST.value]
        ).to_arrow_table()
        self.dropped += found.num_rows
        if not found.num_rows:
            return None
        every = pa.arange(0, rows.num_rows).cast(places.type)
        return pc.invert(pc.is_in(every, value_set=found.column("n").combine_chunks()))

    def _hold(self, rows: pa.RecordBatch, flags: pa.Array) -> None:
        """Hold rows back whose fingerprints are to be kept, until there are some."""
        self._held.append((rows, flags))
        self._held_rows += rows.num_rows
        self._held_bytes += rows.nbytes
        if self._held_rows >= _TOGETHER or self._held_bytes >= _SLICE_BYTES:
            self._keep_held()

    def _keep_held(self) -> None:
        held, self._held = self._held, []
        self._held_rows = self._held_bytes = 0
        if held:
            rows = pa.concat_batches([rows for rows, _ in held])
            self._make(rows, pa.concat_arrays([flags for _, flags in held]), pa.array(range(rows.num_rows), pa.int64()))
            self._keep()

    def _make(self, rows: pa.RecordBatch, flags: pa.Array, places: pa.Array) -> None:
        """Fill the engine's table ``made`` with the fingerprints of some rows."""
        values = [_plain(column) for column in rows.columns[:-1]]
        names = [f"c{number}" for number in range(len(values))]
        array = ", ".join(_text(name, value.type) for name, value in zip(names, values, strict=True))
        plain = pa.RecordBatch.from_arrays([*values, places, flags], names=[*names, "n", "flag"])
        self._connection.execute("CREATE OR REPLACE TEMP TABLE made (n BIGINT, flag INTEGER, h UHUGEINT)")
        for piece in _slices(plain):  # noqa: B007 - the engine finds it by its name
            self._connection.execute(f"INSERT INTO made SELECT n, flag, md5_number(json_array({array})) FROM piece")  # noqa: S608

    def _keep(self) -> None:
        kept = f"SELECT h, flag & {Again.AHEAD.value} <> 0 FROM made WHERE flag & {Again.NEXT.value} <> 0"  # noqa: S608
        [[count]] = self._connection.execute(f"INSERT INTO kept {kept}").fetchall()
        self._count += int(count)
        if self.overflowed:
            self._connection.execute(_EMPTY)

    def found(self) -> pa.Table | None:
        """The fingerprints of what the next window reads again, and which of their rows are ahead of the window.

        None where there were too many.
        """
        if self.overflowed:
            return None
        self._keep_held()
        if self._cursor is None:
            return _FOUND.empty_table()
        return self._cursor.execute(
            "SELECT (h >> 64)::UBIGINT AS high, (h & 18446744073709551615::UHUGEINT)::UBIGINT AS low, ahead FROM kept"
        ).to_arrow_table()


def written(kept: pa.Table) -> bytes:
    """What ``Sieve.kept`` gives, as a Parquet file."""
    content = io.BytesIO()
    with pq.ParquetWriter(content, _HALVES, compression="none", use_dictionary=False) as writer:
        writer.write_table(kept.select(_HALVES.names).cast(_HALVES), row_group_size=_ROWS)
    return content.getvalue()


def recalled(content: bytes) -> pa.Table:
    """What the next window's sieve recalls of what was written.

    Raises:
        pa.ArrowException: it is damaged.
    """
    return whole_file(content).cast(_HALVES)


def checksum(content: bytes) -> str:
    """SHA-256 of what ``written`` gives, in hexadecimal digits."""
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
