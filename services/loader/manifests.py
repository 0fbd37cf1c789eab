"""Manifests as the loader reads them: how large, of what form, and whether an extraction has announced them."""

from pydantic import ValidationError
from pydantic_core import from_json

from services.core.batch import Batch, BatchState
from services.core.errors import DataError
from services.core.manifest import Manifest, manifest_fingerprint
from services.core.naming import LandedObject, parse_landed
from services.core.tables import Column

MOST_PARTS = 10_000
MOST_BYTES = 15 * 1024**4
"""Of one load job (https://cloud.google.com/bigquery/quotas#load_jobs)."""

MOST_MANIFEST_BYTES = 16 * 1024**2
"""Of a manifest: 10,000 parts and 10,000 columns take 9 MB."""

MOST_MANIFEST_VALUES = 300_000
"""Of a manifest, about, counted by the marks of JSON: 10,000 parts and 10,000 columns take 140,000. In memory a value
takes a hundred times its two bytes."""


class ForeignManifest(DataError):
    """A manifest that is not the one that the extraction of its batch announced; the batch itself goes on."""


def read_manifest(content: bytes, landed: LandedObject, landing_prefix: str) -> Manifest:
    """Read a manifest and check it against its name.

    Raises:
        DataError: it cannot be read, is another batch's, names objects of others, or does not add up.
    """
    manifest = _parsed(content)
    if (manifest.table, manifest.batch_id) != (landed.table, landed.batch_id):
        raise DataError(
            "manifest_invalid",
            f"the manifest is of batch {manifest.batch_id} of {manifest.table}, its name says otherwise",
        )
    _check_names(manifest)
    names = [part.object_name for part in manifest.parts]
    if foreign := [name for name in names if not _is_part(name, landed, landing_prefix)]:
        raise DataError("manifest_invalid", f"the manifest names objects that are no parts of it: {', '.join(foreign)}")
    if len(set(names)) < len(names):
        raise DataError("manifest_invalid", "the manifest names a part twice")
    if manifest.rows != sum(part.rows for part in manifest.parts) or not manifest.parts:
        raise DataError("manifest_invalid", "the manifest's row counts do not add up, or it has no parts")
    if len(manifest.parts) > MOST_PARTS or sum(part.size for part in manifest.parts) > MOST_BYTES:
        raise DataError(
            "batch_too_large",
            f"{len(manifest.parts)} parts; BigQuery loads at most {MOST_PARTS} parts and {MOST_BYTES} bytes at once: "
            "extract a shorter window",
        )
    return manifest


def check_size(size: int) -> None:
    """A manifest is small enough to be read.

    Raises:
        DataError: it is not.
    """
    if size > MOST_MANIFEST_BYTES:
        raise DataError("manifest_invalid", _too_large())


def _too_large() -> str:
    return f"the manifest has more than {MOST_MANIFEST_BYTES} bytes, and was not read; none of the pipeline is so large"


def _parsed(content: bytes) -> Manifest:
    values = sum(map(content.count, (b",", b"[", b"{")))
    if values > MOST_MANIFEST_VALUES:
        raise DataError(
            "manifest_invalid",
            f"the manifest has about {values} values; one of the pipeline has at most {MOST_MANIFEST_VALUES}",
        )
    try:
        document = from_json(content)
        # Before the model looks at them: it notes a mistake for each, and a mistake takes a kilobyte.
        if isinstance(document, dict) and (unknown := sorted(document.keys() - Manifest.model_fields.keys())):
            raise DataError("manifest_invalid", f"the manifest has unknown fields: {', '.join(unknown[:5])}")
        return Manifest.model_validate(document)
    except ValueError as error:
        if not isinstance(error, ValidationError):
            raise DataError("manifest_invalid", f"the manifest cannot be read: {error}") from None
        named = error.errors(include_url=False, include_input=False)[:5]
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in named)
        raise DataError("manifest_invalid", f"the manifest cannot be read: {problems}") from None


def _is_part(name: str, landed: LandedObject, landing_prefix: str) -> bool:
    found = parse_landed(landing_prefix, name)
    return (
        found is not None and not found.is_manifest and (found.table, found.batch_id) == (landed.table, landed.batch_id)
    )


def check_announced(batch: Batch, content: bytes | None) -> None:
    """A manifest is the one that the state expects for its batch: what the state has noted is what counts.

    Args:
        batch: the batch, as the state knew it after the manifest was read.
        content: the manifest; None when it is too large to be one.

    Raises:
        ForeignManifest: it is not, and the extraction, which still runs, will write its own.
        DataError: it is not, and there will be no other.
    """
    if content is not None and manifest_fingerprint(content) == batch.manifest_sha256:
        return
    refusal = ForeignManifest if batch.state is BatchState.EXTRACTING else DataError
    if content is None:
        raise refusal("manifest_invalid", _too_large())
    differing = _differences(batch, content)
    # A batch that an extractor has landed which announced no fingerprint yet: the release before this one.
    if batch.manifest_sha256 is None and batch.state is BatchState.LANDED and not differing:
        return
    what = f"{', '.join(differing)} differ" if differing else "the state knows another, or none yet"
    raise refusal("manifest_invalid", f"the manifest is not the one that the extraction has announced: {what}")


def _differences(batch: Batch, content: bytes) -> list[str]:
    """The fields in which a manifest contradicts what the state has noted of the batch; none if it cannot be read."""
    try:
        says = _parsed(content).model_dump()
    except DataError:
        return []
    noted = batch.model_dump()
    return [field for field in ("run_id", "mode", "window", "extracted_at") if says[field] != noted[field]]


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
