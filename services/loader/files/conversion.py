"""A Parquet file's rows in the declared types of a table, exactly, a few megabytes at a time.

How much of it is read at once follows from what its metadata says; that this may be a lie is the concern of ``reader``.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.core.arrow import ARROW_TYPES, conform, convertible
from services.core.errors import DataError
from services.core.manifest import ManifestColumn
from services.core.parquet import parquet_parts
from services.core.tables import EXTRACTED_AT, Table

_BATCH_ROWS = 16_384
_BATCH_BYTES = 4 * 1024 * 1024
"""Unpacked bytes that are brought to the declared types at a time; more only where a single row is larger."""

_MOST_BATCH_BYTES = 32 * 1024 * 1024
"""The same, if every value were the longest that its column has."""

_PART_ROWS = 1_000_000

_READ_BYTES = 1024 * 1024
"""Of a column that are read ahead."""

_MOST_FOOTER_BYTES = 16 * 1024 * 1024
"""Of a file's metadata; unpacked they take up to a hundred times as much."""

Source = IO[bytes] | io.RawIOBase

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STAMP = ManifestColumn(name=EXTRACTED_AT.name, type=EXTRACTED_AT.type, required=True)
_DICTIONARIES = {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


class Conversion:
    """One file's way to parts.

    Attributes:
        earliest: the earliest time in the file's ``_extracted_at``, once all parts are made; None without the column.
    """

    def __init__(self, table: Table, arrived_at: datetime, most_bytes: int) -> None:
        """Prepare to read a file.

        Args:
            table: whose rows it has.
            arrived_at: when it arrived; no row may have been read later.
            most_bytes: that all its rows may take, unpacked.
        """
        self._table, self._arrived_at, self._most_bytes = table, arrived_at, most_bytes
        self._columns = [ManifestColumn(name=c.name, type=c.type, required=c.required) for c in table.landed_columns]
        self._bytes = 0
        self.earliest: datetime | None = None

    def parts(self, content: Source, size: int) -> Iterator[tuple[io.BytesIO, int]]:
        """The file's rows as finished Parquet files: content and rows.

        Args:
            content: the file.
            size: its bytes.

        Raises:
            DataError: the file cannot become rows of the table; names the column.
            MemoryError: there is not enough for what it unpacks to.
        """
        with _reading():
            _check_footer(content, size)
            file = _opened(content)
            names = _check_columns(file.schema_arrow, self._columns)
            self._check_unpacked(file)
            pieces = _joined(_unpacked(rows) for rows in _batches(content, file, names))
            yield from parquet_parts(map(self._conformed, pieces), _PART_ROWS)

    def _check_unpacked(self, file: pq.ParquetFile) -> None:
        """What the metadata says of the file's size is within the limit."""
        metadata = file.metadata
        groups = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        fixed = sum(_fixed_width(field.type) or 0 for field in file.schema_arrow)
        self._check_bytes(max(groups, metadata.num_rows * fixed))

    def _check_bytes(self, unpacked: int) -> None:
        if unpacked > self._most_bytes:
            raise DataError(
                "file_too_large",
                f"the file's rows take more than the {self._most_bytes} bytes that LOAD_FILE_UNPACKED_BYTES allows; "
                "cut it into several",
            )

    def _conformed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self._bytes += rows.nbytes
        self._check_bytes(self._bytes)
        for name in rows.schema.names:
            _check_valid(rows.column(name), name)
        ordered = rows.select([column.name for column in self._columns])
        conformed = conform(ordered, self._columns, self._table.name, self._arrived_at)
        if EXTRACTED_AT.name not in rows.schema.names:
            return conformed
        own = conform(rows.select([EXTRACTED_AT.name]), [_STAMP], self._table.name, self._arrived_at).column(0)
        self._note_times(own)
        at = len(self._columns)
        return conformed.set_column(at, conformed.schema.field(at), own)

    def _note_times(self, own: pa.Array) -> None:
        """Note the earliest of some times of reading, which are within BigQuery's years.

        Raises:
            DataError: one is later than the file.
        """
        extremes = pc.min_max(own.view(pa.int64()))
        earliest, latest = (_EPOCH + timedelta(microseconds=extremes[which].as_py()) for which in ("min", "max"))
        if latest > self._arrived_at:
            raise DataError(
                "extracted_in_the_future",
                f"column {EXTRACTED_AT.name} has a time after {self._arrived_at.isoformat()}, when the file arrived: "
                "it would win over all that is read until then; leave the column out, or correct it",
                column=EXTRACTED_AT.name,
            )
        self.earliest = min(earliest, self.earliest or earliest)


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever goes wrong while a file is read is the file's: there is nothing else here."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, (pa.ArrowException, OSError)) else f"{type(error).__name__}: "
        raise DataError("corrupt_parquet", f"the file cannot be read as Parquet: {kind}{error}") from error


def _check_footer(content: Source, size: int) -> None:
    content.seek(max(0, size - 8))
    length = int.from_bytes(content.read(4) or b"", "little")
    if _MOST_FOOTER_BYTES < length < size:
        raise DataError(
            "file_too_large",
            f"the file's metadata has {length} bytes, {_MOST_FOOTER_BYTES} are allowed; write larger row groups",
        )


def _opened(
    content: Source, metadata: pq.FileMetaData | None = None, packed: list[str] | None = None
) -> pq.ParquetFile:
    """Open a file, or open it once more with its metadata and some columns left packed in their dictionaries."""
    file = pq.ParquetFile(
        content,
        metadata=metadata,
        read_dictionary=packed,
        buffer_size=_READ_BYTES,
        page_checksum_verification=True,
        thrift_string_size_limit=_MOST_FOOTER_BYTES,
        thrift_container_size_limit=_MOST_FOOTER_BYTES // 16,
    )
    file.schema_arrow  # noqa: B018 - names that are not UTF-8 are found when they are asked for
    return file


def _fixed_width(type_: pa.DataType) -> int | None:
    """Bytes of a value; None where they differ."""
    try:
        return max(1, int(type_.bit_width) // 8)
    except ValueError:
        return None


def _batches(content: Source, file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The file's rows as they come, as many at a time as fit into a few megabytes."""
    types = [file.schema_arrow.field(name).type for name in names]
    order = [file.schema_arrow.names.index(name) for name in names]
    for group in range(file.metadata.num_row_groups):
        chunks = [file.metadata.row_group(group).column(number) for number in order]
        usual = _width(types, [chunk.total_uncompressed_size / max(chunk.num_values, 1) for chunk in chunks])
        packed = [
            name
            for name, type_, chunk in zip(names, types, chunks, strict=True)
            if _fixed_width(type_) is None and _DICTIONARIES & set(chunk.encodings)
        ]
        longest = _longest(content, file.metadata, group, packed) if packed else {}
        most = _width(types, [longest.get(name, 0) for name in names])
        rows = int(min(_BATCH_ROWS, max(1, min(_BATCH_BYTES / usual, _MOST_BATCH_BYTES / most))))
        yield from file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)


def _width(types: list[pa.DataType], otherwise: Sequence[float]) -> float:
    """Bytes of a row, given those of each value whose type does not tell."""
    return sum(_fixed_width(type_) or other for type_, other in zip(types, otherwise, strict=True)) or 1


def _longest(content: Source, metadata: pq.FileMetaData, group: int, packed: list[str]) -> dict[str, int]:
    """The longest value in the dictionaries of a row group: a page can repeat it any number of times."""
    file = _opened(content, metadata, packed)
    first = next(file.iter_batches(1, row_groups=[group], columns=packed, use_threads=False), None)
    if first is None:
        return {}
    lengths = {name: pc.max(pc.binary_length(first.column(name).dictionary)).as_py() for name in packed}
    return {name: length or 0 for name, length in lengths.items()}


def _unpacked(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Rows without dictionaries, in pieces that are small when unpacked."""
    packed = [number for number, field in enumerate(rows.schema) if pa.types.is_dictionary(field.type)]
    for number in packed:
        _check_valid(rows.column(number), rows.schema.names[number])
    lengths = [pc.binary_length(rows.column(number).dictionary) for number in packed]
    yield from _halved(rows, packed, lengths)


def _halved(rows: pa.RecordBatch, packed: list[int], lengths: list[pa.Array]) -> Iterator[pa.RecordBatch]:
    size = sum(
        pc.sum(of.take(rows.column(number).indices)).as_py() or 0 for number, of in zip(packed, lengths, strict=True)
    )
    if size > _BATCH_BYTES and rows.num_rows > 1:
        half = rows.num_rows // 2
        yield from _halved(rows.slice(0, half), packed, lengths)
        yield from _halved(rows.slice(half), packed, lengths)
        return
    for number in packed:
        rows = rows.set_column(number, rows.schema.names[number], rows.column(number).dictionary_decode())
    if rows.num_rows:
        yield rows


def _joined(pieces: Iterable[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Join pieces that are small: each becomes a row group of the part."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in (piece for some in pieces for piece in some):
        waiting.append(piece)
        rows, size = rows + piece.num_rows, size + piece.nbytes
        if rows >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_batches(waiting)


def _check_valid(array: pa.Array, name: str) -> None:
    """Parquet says that a text is UTF-8, and that an index is in its dictionary; nobody has looked.

    Raises:
        DataError: it is not.
    """
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError("value_does_not_fit", f"column {name} has a value that is not valid", column=name) from error


def _check_columns(schema: pa.Schema, columns: list[ManifestColumn]) -> list[str]:
    """The columns to read of a file.

    Raises:
        DataError: one is missing, there twice, not declared, or of a type that cannot become the declared one exactly.
    """
    declared = {column.name: column.type for column in columns}
    names = list(schema.names)
    if len(names) > 2 * len(declared) + 100:
        raise DataError("unexpected_column", f"the file has {len(names)} columns, tables.yaml {len(declared)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError("duplicate_column", f"the file has column {twice[0]} more than once", column=twice[0])
    if missing := [name for name in declared if name not in names]:
        raise DataError("missing_column", f"the file lacks column {', '.join(missing)}", column=missing[0])
    known = declared | {EXTRACTED_AT.name: EXTRACTED_AT.type}
    if extra := [name for name in names if name not in known]:
        raise DataError(
            "unexpected_column", f"column {', '.join(extra)} is not declared in tables.yaml", column=extra[0]
        )
    for name in names:
        arrived, to = schema.field(name).type, known[name]
        if not convertible(arrived, to):
            raise DataError(
                "wrong_type",
                f"column {name} is {arrived}; {to} takes {ARROW_TYPES[to]}, or what becomes it exactly",
                column=name,
            )
    return names
