"""Parquet parts: batches in, finished files of bounded size out. Bytes bound everything; rows are one more bound."""

import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

PART_BYTES = 16 * 1024 * 1024
"""A part is closed once it is this large: small enough for a container whose disk is memory."""

GROUP_BYTES = 4 * 1024 * 1024
"""Of a row group before it is packed, which is what a part holds back; one row alone may have more."""


def parquet_parts(batches: Iterable[pa.RecordBatch], most_rows: int) -> Iterator[tuple[io.BytesIO, int]]:
    """Write batches as Parquet files of at most about ``PART_BYTES`` and ``most_rows``; yields (content, rows).

    No batch, no file. Without dictionaries and statistics: BigQuery uses neither when it loads, and they cost a quarter
    of the time and, on keys and amounts, make the files larger (measured; benchmarks/extraction.py).
    """
    part: _Part | None = None
    for batch in batches:
        # Wide rows come a few at a time, so that a part is looked at before it is much too large.
        step = max(1, int(GROUP_BYTES * batch.num_rows / max(batch.nbytes, 1)))
        offset = 0
        while offset < batch.num_rows:
            part = part or _Part(batch.schema)
            piece = batch.slice(offset, min(step, most_rows - part.rows))
            part.add(piece)
            offset += piece.num_rows
            if part.rows >= most_rows or part.full:
                yield part.close()
                part = None
    if part is not None:
        yield part.close()


class _Part:
    """A part that is being written."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._content, self._writer = open_part(schema)
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0

    @property
    def full(self) -> bool:
        return self._content.tell() >= PART_BYTES

    def add(self, piece: pa.RecordBatch) -> None:
        self._held.append(piece)
        self._held_bytes += piece.nbytes
        self.rows += piece.num_rows
        if self._held_bytes >= GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        if self._held:
            group = pa.Table.from_batches(self._held)
            self._writer.write_table(group, row_group_size=group.num_rows)
            self._held, self._held_bytes = [], 0

    def close(self) -> tuple[io.BytesIO, int]:
        self._write()
        self._writer.close()
        return self._content, self.rows


def open_part(schema: pa.Schema) -> tuple[io.BytesIO, pq.ParquetWriter]:
    """An empty part and its writer."""
    sink = io.BytesIO()
    return sink, pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False, write_statistics=False)


def empty_part(schema: pa.Schema) -> io.BytesIO:
    """A part without rows: a snapshot of an empty table says that every row is gone."""
    sink, writer = open_part(schema)
    writer.close()
    return sink


def whole_file(content: bytes) -> pa.Table:
    """All rows of a Parquet file that is small enough for memory.

    pyarrow reads by threads of its own. One that lets go of Python's memory after Python has ended aborts the process,
    and a job whose work is done has failed: 28 of 300 processes did that read a file by ``read_table`` and ended. So
    ruff refuses ``read_table`` in this project, and what is read here lies in pyarrow's own memory.

    Raises:
        pa.ArrowException: it is damaged.
    """
    memory = pa.BufferOutputStream()
    memory.write(content)
    return pq.ParquetFile(pa.BufferReader(memory.getvalue())).read(use_threads=False)
