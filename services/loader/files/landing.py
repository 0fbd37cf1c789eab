"""A file that somebody dropped into landing/ by hand, written again as the parts of a batch of its own.

Its rows count as read when the file arrived, or at their own ``_extracted_at`` if it has that column, as the parts in
the archive do: a part is brought back by copying it to ``landing/<table>-<anything>.parquet``.
"""

from services.core.batch import Batch
from services.core.errors import DataError
from services.core.faults import fault_point
from services.core.landing import put_part
from services.core.manifest import Manifest, ManifestColumn
from services.core.naming import file_batch_id, part_object
from services.core.settings import LoaderSettings
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import Mode, Table
from services.loader.checks import check_takes_files
from services.loader.files.reader import FileReader


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
        arrived_at=stored.created_at,
        started_at=stored.created_at,
    )


def land_parts(
    objects: ObjectStore, settings: LoaderSettings, table: Table, stored: StoredObject
) -> tuple[Batch, Manifest]:
    """Write a file again as the parts of its batch; the file itself stays. Safe to repeat.

    Returns:
        The batch, and its manifest, which is still to be written.

    Raises:
        DataError: the file cannot become rows of the table; names the column.
        TransientError: the file could not be read for a passing reason.
    """
    _check_size(stored, settings.load_file_bytes)
    check_takes_files(table)
    batch = file_batch(stored, table)
    columns = [ManifestColumn(name=c.name, type=c.type, required=c.required) for c in table.landed_columns]
    parts = []
    with objects.open(stored) as content, FileReader(content, stored, table, settings) as reader:
        for number, (data, rows) in enumerate(reader.parts()):
            name = part_object(settings.landing_prefix, table.name, batch.id, number)
            parts.append(put_part(objects, settings, batch, name, data, rows))
            fault_point("loader.file_part_landed")
    if not parts:
        raise DataError("empty_file", "the file has no rows")
    if reader.earliest is not None:
        # Bronze takes no row for older than its batch.
        batch = batch.model_copy(update={"extracted_at": reader.earliest})
    return batch, batch.manifest(table, columns, parts)


def _check_size(stored: StoredObject, most: int) -> None:
    if stored.size == 0:
        raise DataError("empty_file", "the file has no bytes")
    if stored.size > most:
        raise DataError(
            "file_too_large", f"the file has {stored.size} bytes, LOAD_FILE_BYTES allows {most}; cut it into several"
        )
