"""A copy job replaces its destination whole, or does nothing.

bqemulator copies rows by position into a destination that exists, keeps its old schema and row count, has emptied it
when the copy then fails, takes only the first of several sources, and appends when no disposition is given. In BigQuery
a copy job is atomic, WRITE_TRUNCATE takes over the schema, and the default is WRITE_EMPTY, refused with 409
``duplicate`` when the destination has rows. The same now holds here, and several sources are refused (501).
"""

from typing import Any

from bqemulator.api.routes import jobs
from bqemulator.catalog.etag import generate_etag
from bqemulator.domain.errors import (
    AlreadyExistsError,
    InvalidQueryError,
    ResourceRef,
    UnsupportedFeatureError,
    resource_not_found,
)
from bqemulator.jobs import executor
from bqemulator.storage.sql_identifiers import quoted_table_ref

from local.warehouse.patches.replace import replace
from local.warehouse.patches.transaction import transaction

_execute_copy_job = executor.execute_copy_job


def apply() -> None:
    """Replace the copy itself, and what the job's configuration means."""
    replace(executor, "_copy_table_into_destination", _copy)
    replace(jobs, "execute_copy_job", _run)


async def _run(project_id: str, job_id: str, config: dict[str, Any], ctx: Any) -> Any:
    copy = config["copy"]
    if len(copy.get("sourceTables") or []) > 1:
        raise UnsupportedFeatureError("The local warehouse copies one source table per job.")
    configured = copy | {"writeDisposition": copy.get("writeDisposition") or "WRITE_EMPTY"}
    return await _execute_copy_job(project_id, job_id, config | {"copy": configured}, ctx)


async def _copy(
    *,
    src_proj: str,
    src_ds: str,
    src_table_id: str,
    dst_proj: str,
    dst_ds: str,
    dst_table_id: str,
    write_disposition: str,
    create_if_needed: bool,
    ctx: Any,
) -> None:
    source = ctx.catalog.get_table(src_proj, src_ds, src_table_id)
    if source is None:
        raise resource_not_found(ResourceRef("table", src_proj, src_ds, src_table_id))
    if ctx.catalog.get_dataset(dst_proj, dst_ds) is None:
        raise resource_not_found(ResourceRef("dataset", dst_proj, dst_ds))
    source_ref = quoted_table_ref(src_proj, src_ds, src_table_id)
    target_ref = quoted_table_ref(dst_proj, dst_ds, dst_table_id)

    async with ctx.engine.write_lock():
        target = ctx.catalog.get_table(dst_proj, dst_ds, dst_table_id)
        if target is None and not create_if_needed:
            raise resource_not_found(ResourceRef("table", dst_proj, dst_ds, dst_table_id))
        if target is not None and write_disposition == "WRITE_EMPTY" and _has_rows(ctx, target_ref):
            raise AlreadyExistsError(f"Already Exists: Table {dst_proj}:{dst_ds}.{dst_table_id}")
        with transaction(ctx.engine):
            if target is not None and write_disposition == "WRITE_APPEND":
                if _shape(source) != _shape(target):
                    raise InvalidQueryError(f"Provided Schema does not match Table {dst_proj}:{dst_ds}.{dst_table_id}")
                ctx.engine.execute(f"INSERT INTO {target_ref} BY NAME SELECT * FROM {source_ref}")  # noqa: S608
            else:
                ctx.engine.execute(f"CREATE OR REPLACE TABLE {target_ref} AS SELECT * FROM {source_ref}")  # noqa: S608
                _register(source, target, (dst_proj, dst_ds, dst_table_id), ctx)
        ctx.snapshots.record_change(dst_proj, dst_ds, dst_table_id)


def _has_rows(ctx: Any, reference: str) -> bool:
    return ctx.engine.execute(f"SELECT 1 FROM {reference} LIMIT 1").fetchone() is not None  # noqa: S608  quoted


def _shape(table: Any) -> dict[str, str]:
    return {field.name: field.type for field in table.schema_.fields}


def _register(source: Any, target: Any, name: tuple[str, str, str], ctx: Any) -> None:
    """Give the catalog the destination as a copy of ``source``; its rows are counted by ``record_change``."""
    project_id, dataset_id, table_id = name
    now = ctx.clock.now()
    meta = source.model_copy(
        update={
            "project_id": project_id,
            "dataset_id": dataset_id,
            "table_id": table_id,
            "creation_time": now if target is None else target.creation_time,
            "last_modified_time": now,
            "etag": generate_etag(project_id, dataset_id, table_id, "TABLE", str(now)),
        }
    )
    if target is None:
        ctx.catalog.create_table(meta)
    else:
        ctx.catalog.update_table(meta)
