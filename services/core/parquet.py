"""Parquet parts: batches in, finished files of bounded size out."""

import io
import itertools
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

PART_BYTES = 32 * 1024 * 1024
"""A part is closed once it is this large: small enough for a container whose disk is memory."""

_SLICE_BYTES = PART_BYTES // 8


def parquet_parts(batches: Iterable[pa.RecordBatch], most_rows: int) -> Iterator[tuple[io.BytesIO, int]]:
    """Write batches as Parquet files of at most about ``PART_BYTES`` and ``most_rows``; yields (content, rows).

    No batch, no file. Without dictionaries and statistics: BigQuery uses neither when it loads, and they cost a quarter
    of the time and, on keys and amounts, make the files larger (measured; benchmarks/extraction.py).
    """
    sink: io.BytesIO | None = None
    writer: pq.ParquetWriter | None = None
    rows = 0
    for batch in itertools.chain.from_iterable(map(_slices, batches)):
        for piece in _pieces(batch, most_rows, rows):
            if sink is None or writer is None:
                sink, writer = open_part(batch.schema)
            writer.write_batch(piece)
            rows += piece.num_rows
            if rows >= most_rows or sink.tell() >= PART_BYTES:
                writer.close()
                yield sink, rows
                sink, writer, rows = None, None, 0
    if sink is not None and writer is not None:
        writer.close()
        yield sink, rows


def open_part(schema: pa.Schema) -> tuple[io.BytesIO, pq.ParquetWriter]:
    """An empty part and its writer."""
    sink = io.BytesIO()
    return sink, pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False, write_statistics=False)


def empty_part(schema: pa.Schema) -> io.BytesIO:
    """A part without rows: a snapshot of an empty table says that every row is gone."""
    sink, writer = open_part(schema)
    writer.close()
    return sink


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch of wide rows, so that a part is looked at before it is much too large."""
    step = max(1, int(_SLICE_BYTES * batch.num_rows / max(batch.nbytes, 1)))
    for offset in range(0, batch.num_rows, step):
        yield batch.slice(offset, step)


def _pieces(batch: pa.RecordBatch, most_rows: int, filled: int) -> Iterator[pa.RecordBatch]:
    """Cut a batch so that each piece fits in what a part has left."""
    offset = 0
    room = most_rows - filled
    while offset < batch.num_rows:
        piece = batch.slice(offset, room)
        yield piece
        offset += piece.num_rows
        room = most_rows
