"""What must hold of a batch's table and parts before it is loaded; each check names what is wrong and what to do."""

from collections.abc import Iterable
from datetime import datetime

from services.core.errors import DataError
from services.core.manifest import Manifest, Part
from services.core.naming import batch_time
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import SchemaDrift, Table, Tables


def check_takes_files(table: Table) -> None:
    """A table takes rows that no extraction has announced: a file, or a manifest of nobody.

    Raises:
        DataError: it does not.
    """
    if not table.key:
        raise DataError("table_without_key", "a table without a key takes whole snapshots only; run the extractor")
    if masked := [column.name for column in table.columns if column.mask is not None]:
        raise DataError(
            "masked_column",
            f"column {masked[0]} is masked inside PostgreSQL, and this would bring it in clear; run the extractor",
            column=masked[0],
        )


def check_unannounced(manifest: Manifest, table: Table, arrived_at: datetime) -> None:
    """A batch that no extraction announced can be taken like a file.

    Raises:
        DataError: it cannot.
    """
    check_takes_files(table)
    began = batch_time(manifest.batch_id)
    if began is None or began > arrived_at:
        raise DataError(
            "manifest_invalid",
            f"the batch's id says that it began after its manifest arrived ({arrived_at.isoformat()}), "
            "and no extraction has announced it",
        )
    if added := [column.name for column in manifest.added_columns(table)]:
        raise DataError(
            "unexpected_column",
            f"no extraction has announced the batch, and column {', '.join(added)} is not declared in tables.yaml",
            column=added[0],
        )


def check_table(manifest: Manifest, tables: Tables, tables_file: str) -> Table:
    """The table of a manifest, whose columns are the declared ones.

    Raises:
        DataError: it is not declared, or its columns differ.
    """
    table = tables.get(manifest.table)
    if table is None:
        raise DataError("unknown_table", f"table {manifest.table} is not declared in {tables_file}")
    written = {column.name: column.type for column in manifest.columns}
    declared = {column.name: column.type for column in table.landed_columns}
    # Columns beyond the declared ones are welcome where the table evolves.
    compared = declared.keys() if table.schema_drift is SchemaDrift.EVOLVE else written.keys() | declared.keys()
    if differing := sorted(name for name in compared if written.get(name) != declared.get(name)):
        raise DataError(
            "schema_changed",
            f"columns differ between the batch and tables.yaml: {', '.join(differing)}; extract the table again",
            column=differing[0],
        )
    return table


def check_parts(manifest: Manifest, objects: ObjectStore, bucket: str) -> None:
    """Every part is there as it was written.

    Raises:
        DataError: one is missing, or is not what the manifest says.
    """
    for part in manifest.parts:
        found = objects.stat(bucket, part.object_name)
        if found is None:
            raise DataError("part_missing", f"{part.object_name} is not in the bucket", object_name=part.object_name)
        if error := part_error(part, found):
            raise error


def part_error(part: Part, found: StoredObject) -> DataError | None:
    """What is wrong with an object under a part's name: it has other content than the manifest says."""
    if (found.size, found.crc32c) == (part.size, part.crc32c):
        return None
    return DataError(
        "part_changed",
        f"{part.object_name} is not what was written as this part: {found.size} bytes, crc32c {found.crc32c}; "
        f"the manifest says {part.size} bytes, {part.crc32c}",
        object_name=part.object_name,
    )


def changed_since(manifest: Manifest, found: Iterable[StoredObject]) -> list[tuple[StoredObject, DataError]]:
    """The objects of a loaded batch that somebody wrote over since it was loaded, each with what is wrong with it.

    Bronze has what the manifest says; the archive is to have nothing else under a part's name.
    """
    parts = {part.object_name: part for part in manifest.parts}
    compared = [(stored, part_error(parts[stored.name], stored)) for stored in found if stored.name in parts]
    return [(stored, error) for stored, error in compared if error is not None]
