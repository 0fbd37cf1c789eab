"""A Parquet file that somebody dropped into landing/ by hand: checked, and written again as a batch of its own.

Its rows count as read when the file arrived, or at their own ``_extracted_at`` if it has that column, as the parts in
the archive do: a part is brought back by copying it to ``landing/<table>-<anything>.parquet``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from requests import RequestException

from services.core.arrow import ARROW_TYPES, conform, convertible
from services.core.batch import Batch
from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.landing import put_manifest, put_part
from services.core.manifest import Manifest, ManifestColumn
from services.core.naming import file_batch_id, part_object
from services.core.parquet import parquet_parts
from services.core.settings import LoaderSettings
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import EXTRACTED_AT, Mode, Table

_BATCH_ROWS = 16_384
_PART_ROWS = 1_000_000


def file_batch(stored: StoredObject, table: Table) -> Batch:
    """The batch that a file becomes; the same whenever it is asked for."""
    id_ = file_batch_id(stored.bucket, stored.name, stored.generation, stored.created_at)
    return Batch(
        id=id_,
        run_id=id_,
        table=table.name,
        source=f"gs://{stored.bucket}/{stored.name}#{stored.generation}",
        mode=Mode.INCREMENTAL,
        window=None,
        extracted_at=stored.created_at,
        started_at=stored.created_at,
    )


def land_file(objects: ObjectStore, settings: LoaderSettings, table: Table, stored: StoredObject) -> Manifest:
    """Write a file again as the parts and the manifest of its batch; the file itself stays. Safe to repeat.

    Raises:
        DataError: the file cannot become rows of the table; names the column.
    """
    _check_size(stored, settings.load_file_bytes)
    if not table.key:
        raise DataError("table_without_key", "a table without a key takes whole snapshots only; run the extractor")
    if masked := [column.name for column in table.columns if column.mask is not None]:
        raise DataError(
            "masked_column",
            f"column {masked[0]} is masked inside PostgreSQL, and a file would bring it in clear; run the extractor",
            column=masked[0],
        )
    batch = file_batch(stored, table)
    columns = [ManifestColumn(name=c.name, type=c.type, required=c.required) for c in table.landed_columns]
    parts = []
    with objects.open(stored) as content:
        file = _opened(content)
        names = _check_columns(file.schema_arrow, columns)
        if EXTRACTED_AT.name in names:
            # Bronze takes no row for older than its batch.
            batch = batch.model_copy(update={"extracted_at": _earliest(file, batch.extracted_at)})
        for number, (data, rows) in enumerate(parquet_parts(_rows(file, names, columns, batch), _PART_ROWS)):
            name = part_object(settings.landing_prefix, table.name, batch.id, number)
            parts.append(put_part(objects, settings, batch, name, data, rows))
            fault_point("loader.file_part_landed")
    if not parts:
        raise DataError("empty_file", "the file has no rows")
    manifest = put_manifest(objects, settings, table, batch, columns, parts)
    fault_point("loader.file_landed")
    return manifest


def _check_size(stored: StoredObject, most: int) -> None:
    if stored.size == 0:
        raise DataError("empty_file", "the file has no bytes")
    if stored.size > most:
        raise DataError(
            "file_too_large", f"the file has {stored.size} bytes, LOAD_FILE_BYTES allows {most}; cut it into several"
        )


@contextmanager
def _reading() -> Iterator[None]:
    """Tell a file that is no Parquet from a bucket that does not answer."""
    try:
        yield
    except RequestException:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError("corrupt_parquet", f"the file cannot be read as Parquet: {error}") from error


def _opened(content: BinaryIO) -> pq.ParquetFile:
    with _reading():
        file = pq.ParquetFile(content, page_checksum_verification=True)
        file.schema_arrow  # noqa: B018 - names that are not UTF-8 are found when they are asked for
        return file


def _earliest(file: pq.ParquetFile, otherwise: datetime) -> datetime:
    """The earliest time in the column of the times of reading; nulls are refused later."""
    with _reading():
        found = [
            rows.column(0).cast(ARROW_TYPES[EXTRACTED_AT.type], safe=False).drop_null()
            for rows in file.iter_batches(_BATCH_ROWS, columns=[EXTRACTED_AT.name])
        ]
        times = [pc.min(each).as_py() for each in found if len(each)]
    return min(times, default=otherwise)


def _rows(
    file: pq.ParquetFile, names: list[str], columns: list[ManifestColumn], batch: Batch
) -> Iterator[pa.RecordBatch]:
    """The file's rows in the columns' declared types, exactly."""
    with _reading():
        for rows in file.iter_batches(_BATCH_ROWS, columns=names):
            if rows.num_rows:
                yield _conformed(rows, columns, batch)


def _conformed(rows: pa.RecordBatch, columns: list[ManifestColumn], batch: Batch) -> pa.RecordBatch:
    for name in rows.schema.names:
        _check_text(rows.column(name), name)
    ordered = rows.select([column.name for column in columns])
    conformed = conform(ordered, columns, batch.table, batch.extracted_at)
    if EXTRACTED_AT.name not in rows.schema.names:
        return conformed
    stamp = ManifestColumn(name=EXTRACTED_AT.name, type=EXTRACTED_AT.type, required=True)
    own = conform(rows.select([EXTRACTED_AT.name]), [stamp], batch.table, batch.extracted_at).column(0)
    return conformed.set_column(len(columns), conformed.schema.field(len(columns)), own)


def _check_text(array: pa.Array, name: str) -> None:
    """Parquet says that a text is UTF-8; nobody has looked.

    Raises:
        DataError: it is not.
    """
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(
            "value_does_not_fit", f"column {name} has a value that is not valid: {error}", column=name
        ) from error


def _check_columns(schema: pa.Schema, columns: list[ManifestColumn]) -> list[str]:
    """The columns to read of a file.

    Raises:
        DataError: one is missing, there twice, not declared, or of a type that cannot become the declared one exactly.
    """
    declared = {column.name: column.type for column in columns}
    names = list(schema.names)
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
