"""A Parquet load job is by name, checked, and all or nothing.

bqemulator matches columns by position, turns a ``key=value`` part of the path into a column, converts what does not
fit, empties the table before it reads the first file, keeps the files before a bad one, calls every failure
``invalid``, and reports the table's rows as the job's. BigQuery matches by name, checks the file against the schema,
changes the table once and only when every file is good, answers ``notFound`` for a missing object, and counts the job's
own rows. A table that it makes expires as its dataset says. The same now holds here for Parquet; other formats go
bqemulator's way (the services load nothing else).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from bqemulator.api.routes import jobs, tables, upload
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import JobMeta
from bqemulator.domain.errors import ResourceRef, UnsupportedFeatureError, ValidationError, resource_not_found
from bqemulator.jobs import executor
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns

from local.warehouse.parquet_schema import (
    Field,
    ParquetSchemaError,
    bignumeric_columns,
    check_schema,
    narrowed,
    required_columns,
)
from local.warehouse.patches.replace import replace
from local.warehouse.patches.transaction import transaction

_other_formats = executor.execute_load_job
_other_formats_job = jobs._handle_load_job_with_async_envelope


class _LoadError(Exception):
    """The job ends with this error: BigQuery's reason, its message, and the URI it is about."""

    def __init__(self, reason: str, message: str, location: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.location = location


@dataclass(frozen=True)
class _File:
    uri: str
    path: str
    schema: pa.Schema


def apply() -> None:
    """Take over Parquet in ``jobs.insert`` and in uploads."""
    replace(jobs, "_handle_load_job_with_async_envelope", _insert)
    replace(upload, "execute_load_job", _upload)


async def _insert(project_id: str, job_id: str, config: dict[str, Any], ctx: Any) -> Any:
    run = _run if _is_parquet(config) else _other_formats_job
    return await run(project_id, job_id, config, ctx)


async def _upload(project_id: str, job_id: str, config: dict[str, Any], ctx: Any) -> Any:
    run = _run if _is_parquet(config) else _other_formats
    return await run(project_id, job_id, config, ctx)


def _is_parquet(config: dict[str, Any]) -> bool:
    return bool(config["load"].get("sourceFormat", "CSV").upper() == "PARQUET")


async def _run(project_id: str, job_id: str, config: dict[str, Any], ctx: Any) -> JobMeta:
    """Load, and return the job, done or failed; what BigQuery refuses at once raises bqemulator's DomainError."""
    job = executor._parse_load_job_config(project_id, config)
    _refuse_unsupported(job)
    started = ctx.clock.now()
    error: dict[str, str] | None = None
    statistics: dict[str, str] = {}
    try:
        async with ctx.engine.write_lock():
            statistics = _load(job, ctx)
    except _LoadError as failure:
        error = {"reason": failure.reason, "message": str(failure)}
        if failure.location:
            error["location"] = failure.location
    return _job(project_id, job_id, config, statistics, error, started, ctx.clock.now())


def _job(
    project_id: str,
    job_id: str,
    config: dict[str, Any],
    statistics: dict[str, str],
    error: dict[str, str] | None,
    started: datetime,
    ended: datetime,
) -> JobMeta:
    return JobMeta(
        project_id=project_id,
        job_id=job_id,
        job_type="LOAD",
        state="DONE",
        configuration=config,
        statistics={"load": statistics},
        error_result=error,
        creation_time=started,
        start_time=started,
        end_time=ended,
        etag=generate_etag(project_id, job_id, str(ended)),
    )


def _refuse_unsupported(job: Any) -> None:
    for option in ("hivePartitioningOptions", "schemaUpdateOptions"):
        if job.raw_config.get(option):
            raise UnsupportedFeatureError(f"The local warehouse does not know {option} of a Parquet load job.")
    if not job.source_uris:
        raise ValidationError("A load job needs at least one source URI.")


def _load(job: Any, ctx: Any) -> dict[str, str]:
    """Load every file of ``job`` in one transaction and return the job's statistics.

    Raises:
        _LoadError: an object is missing, a file can't be read or does not fit, or the destination has rows and may not.
    """
    existing = _destination(job, ctx)
    files = [file for uri in job.source_uris for file in _files(uri, ctx)]
    overwrite = existing is None or job.write_disposition == "WRITE_TRUNCATE"
    fields = _fields(job, existing, files, overwrite=overwrite)
    ignore_unknown = bool(job.raw_config.get("ignoreUnknownValues"))

    with transaction(ctx.engine):
        if overwrite:
            columns = ", ".join(f'"{name}" {kind}' for name, kind in bq_schema_to_duckdb_columns(fields))
            ctx.engine.execute(f"CREATE OR REPLACE TABLE {job.target_ref} ({columns})")
        rows = sum(_load_file(file, job.target_ref, fields, ctx, ignore_unknown=ignore_unknown) for file in files)
        if overwrite:
            _register(job, existing, fields, ctx)
    ctx.snapshots.record_change(job.project_id, job.dataset_id, job.table_id)
    size = sum(Path(file.path).stat().st_size for file in files)
    return {"inputFiles": str(len(files)), "inputFileBytes": str(size), "outputRows": str(rows)}


def _destination(job: Any, ctx: Any) -> Any:
    """Return the catalog's entry of the destination, None when it is to be created."""
    if ctx.catalog.get_dataset(job.project_id, job.dataset_id) is None:
        raise resource_not_found(ResourceRef("dataset", job.project_id, job.dataset_id))
    existing = ctx.catalog.get_table(job.project_id, job.dataset_id, job.table_id)
    name = f"{job.project_id}:{job.dataset_id}.{job.table_id}"
    if existing is None and job.create_disposition == "CREATE_NEVER":
        raise _LoadError("notFound", f"Not found: Table {name}")
    if existing is not None and job.write_disposition == "WRITE_EMPTY":
        first_row = ctx.engine.execute(f"SELECT 1 FROM {job.target_ref} LIMIT 1").fetchone()  # noqa: S608  quoted
        if first_row is not None:
            raise _LoadError("duplicate", f"Already Exists: Table {name}")
    return existing


def _files(uri: str, ctx: Any) -> list[_File]:
    """Return the files that ``uri`` names, with their schemas; one ``*`` stands for any characters, as in BigQuery."""
    path = executor._resolve_uri(uri, ctx)
    executor._validate_local_path(path)
    before, star, after = path.partition("*")
    if star:
        start = Path(before if before.endswith("/") else Path(before).parent)
        found = [str(p) for p in start.rglob("*") if str(p).startswith(before) and str(p).endswith(after)]
    else:
        found = [path]
    paths = sorted(candidate for candidate in found if Path(candidate).is_file())
    if not paths:
        raise _LoadError("notFound", f"Not found: URI {uri}", uri)
    return [_File(uri, candidate, _read_schema(candidate, uri)) for candidate in paths]


def _read_schema(path: str, uri: str) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(uri, error) from error


def _unreadable(uri: str, cause: Exception) -> _LoadError:
    return _LoadError("invalid", f"Error while reading data, error message: {cause} File: {uri}", uri)


def _fields(job: Any, existing: Any, files: Sequence[_File], *, overwrite: bool) -> list[dict[str, Any]]:
    """Return the columns to load into: the job's, or the table's, or else the first file's."""
    declared: list[dict[str, Any]] = (job.raw_config.get("schema") or {}).get("fields") or []
    if overwrite:
        return declared or [executor._arrow_field_to_schema_entry(field) for field in files[0].schema]
    kept: list[dict[str, Any]] = [tables._field_to_rest(field) for field in existing.schema_.fields]
    if declared and dict(bq_schema_to_duckdb_columns(declared)) != dict(bq_schema_to_duckdb_columns(kept)):
        name = f"{job.project_id}:{job.dataset_id}.{job.table_id}"
        raise _LoadError("invalid", f"Provided Schema does not match Table {name}.")
    return kept


def _load_file(file: _File, target_ref: str, fields: Sequence[Field], ctx: Any, *, ignore_unknown: bool) -> int:
    """Append one file by name and return its number of rows."""
    try:
        names = check_schema(file.schema, fields, ignore_unknown=ignore_unknown)
        columns = ", ".join(f'"{name}"' for name in names)
        rows = 0
        for source, parameters in _sources(file, names, bignumeric_columns(fields), ctx.engine.connection):
            for name in required_columns(fields):
                counted = f'SELECT count(*) FROM {source} WHERE "{name}" IS NULL'  # noqa: S608  a declared column
                if ctx.engine.execute(counted, parameters).fetchone() != (0,):
                    raise ParquetSchemaError(f"Required field {name} cannot be null")
            insert = f"INSERT INTO {target_ref} ({columns}) SELECT {columns} FROM {source}"  # noqa: S608  declared columns
            rows += ctx.engine.execute(insert, parameters).fetchone()[0]
    except (ParquetSchemaError, duckdb.Error) as error:
        raise _unreadable(file.uri, error) from error
    return rows


def _sources(
    file: _File, names: Sequence[str], bignumerics: Sequence[str], connection: duckdb.DuckDBPyConnection
) -> Iterator[tuple[str, list[str]]]:
    """Yield what the file's rows are selected from, with the parameters: the file, or its batches.

    DuckDB reads decimals of more than 38 digits as DOUBLE, so a file with BIGNUMERIC is read by Arrow.
    """
    if not set(names) & set(bignumerics):
        yield "read_parquet(?, hive_partitioning=false)", [file.path]
        return
    for batch in pq.ParquetFile(file.path).iter_batches():
        connection.register("credix_batch", narrowed(batch, bignumerics))
        try:
            yield "credix_batch", []
        finally:
            connection.unregister("credix_batch")


def _register(job: Any, existing: Any, fields: Sequence[Field], ctx: Any) -> None:
    """Give the catalog the loaded table, with the layout that the job asks for."""
    body = {
        "tableReference": {"tableId": job.table_id},
        "schema": {"fields": list(fields)},
        "timePartitioning": job.raw_config.get("timePartitioning"),
        "clustering": job.raw_config.get("clustering"),
    }
    meta = tables._rest_to_table_meta(job.project_id, job.dataset_id, body, ctx.clock)
    if existing is None:
        lasts = ctx.catalog.get_dataset(job.project_id, job.dataset_id).default_table_expiration_ms
        expires = ctx.clock.now() + timedelta(milliseconds=lasts) if lasts else None
        ctx.catalog.create_table(meta.model_copy(update={"expiration_time": expires}))
    else:
        kept = {"creation_time": existing.creation_time, "description": existing.description, "labels": existing.labels}
        ctx.catalog.update_table(meta.model_copy(update=kept))
