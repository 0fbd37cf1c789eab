"""What must hold of a batch before it is loaded; each check names what is wrong and what to do."""

from pydantic import ValidationError

from services.core.errors import DataError
from services.core.manifest import Manifest
from services.core.naming import LandedObject, batch_objects_prefix
from services.core.storage import ObjectStore
from services.core.tables import Column, SchemaDrift, Table, Tables

MOST_PARTS = 10_000
MOST_BYTES = 15 * 1024**4
"""Of one load job (https://cloud.google.com/bigquery/quotas#load_jobs)."""


def read_manifest(content: bytes, landed: LandedObject, landing_prefix: str) -> Manifest:
    """Read a manifest and check it against its name.

    Raises:
        DataError: it cannot be read, is another batch's, names objects of others, or does not add up.
    """
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:5])
        raise DataError("manifest_invalid", f"the manifest cannot be read: {problems}") from error
    if (manifest.table, manifest.batch_id) != (landed.table, landed.batch_id):
        raise DataError(
            "manifest_invalid",
            f"the manifest is of batch {manifest.batch_id} of {manifest.table}, its name says otherwise",
        )
    _check_names(manifest)
    prefix = batch_objects_prefix(landing_prefix, landed.table, landed.batch_id)
    names = [part.object_name for part in manifest.parts]
    if foreign := [name for name in names if not name.startswith(prefix)]:
        raise DataError("manifest_invalid", f"the manifest names objects of others: {', '.join(foreign)}")
    if len(set(names)) < len(names):
        raise DataError("manifest_invalid", "the manifest names a part twice")
    if manifest.rows != sum(part.rows for part in manifest.parts) or not manifest.parts:
        raise DataError("manifest_invalid", "the manifest's row counts do not add up, or it has no parts")
    if len(manifest.parts) > MOST_PARTS or sum(part.size for part in manifest.parts) > MOST_BYTES:
        raise DataError(
            "batch_too_large",
            f"{len(manifest.parts)} parts; BigQuery loads at most {MOST_PARTS} parts and {MOST_BYTES} bytes at once: "
            "raise EXTRACT_PART_ROWS, or extract a shorter window",
        )
    return manifest


def _check_names(manifest: Manifest) -> None:
    """Column names are BigQuery's, which do not differ in case alone."""
    seen: set[str] = set()
    for column in manifest.columns:
        try:
            Column(name=column.name, type=column.type)
        except ValidationError as error:
            raise DataError(
                "manifest_invalid", f"column {column.name!r} has no name that BigQuery takes", column=column.name
            ) from error
        if column.name.lower() in seen:
            raise DataError("manifest_invalid", f"the manifest has column {column.name} twice", column=column.name)
        seen.add(column.name.lower())


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
        if (found.size, found.crc32c) != (part.size, part.crc32c):
            raise DataError(
                "part_changed",
                f"{part.object_name} is not what the extractor wrote: {found.size} bytes, crc32c {found.crc32c}; "
                f"the manifest says {part.size} bytes, {part.crc32c}",
                object_name=part.object_name,
            )
