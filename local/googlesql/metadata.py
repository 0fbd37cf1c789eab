"""The views in which BigQuery tells of itself, with the columns that its reference names.

https://cloud.google.com/bigquery/docs/information-schema-intro
"""

import re
from typing import Any

from local.googlesql.names import pieces

_TEXT, _NUMBER, _FLAG, _TIME, _DAY = "STRING", "INT64", "BOOL", "TIMESTAMP", "DATE"


def _columns(**types: str) -> list[dict[str, Any]]:
    return [{"name": name, "type": type_} for name, type_ in types.items()]


def _record(name: str, mode: str, **types: str) -> dict[str, Any]:
    return {"name": name, "type": "RECORD", "mode": mode, "fields": _columns(**types)}


_JOBS = [
    *_columns(
        creation_time=_TIME, project_id=_TEXT, project_number=_NUMBER, user_email=_TEXT, job_id=_TEXT, job_type=_TEXT,
        statement_type=_TEXT, priority=_TEXT, start_time=_TIME, end_time=_TIME, query=_TEXT, state=_TEXT,
        reservation_id=_TEXT, total_bytes_processed=_NUMBER, total_slot_ms=_NUMBER, cache_hit=_FLAG,
        total_bytes_billed=_NUMBER, parent_job_id=_TEXT,
    ),
    _record("labels", "REPEATED", key=_TEXT, value=_TEXT),
    _record("error_result", "NULLABLE", reason=_TEXT, location=_TEXT, debug_info=_TEXT, message=_TEXT),
    _record("destination_table", "NULLABLE", project_id=_TEXT, dataset_id=_TEXT, table_id=_TEXT),
    _record("referenced_tables", "REPEATED", project_id=_TEXT, dataset_id=_TEXT, table_id=_TEXT),
]  # fmt: skip

INFORMATION_SCHEMA: dict[str, list[dict[str, Any]]] = {
    "TABLES": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, table_type=_TEXT, managed_table_type=_TEXT,
        is_insertable_into=_TEXT, is_fine_grained_mutations_enabled=_TEXT, is_typed=_TEXT,
        is_change_history_enabled=_TEXT, creation_time=_TIME, base_table_catalog=_TEXT, base_table_schema=_TEXT,
        base_table_name=_TEXT, snapshot_time_ms=_TIME, replica_source_catalog=_TEXT, replica_source_schema=_TEXT,
        replica_source_name=_TEXT, replication_status=_TEXT, replication_error=_TEXT, ddl=_TEXT,
        default_collation_name=_TEXT, upsert_stream_apply_watermark=_TIME,
    ),
    "COLUMNS": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, column_name=_TEXT, ordinal_position=_NUMBER,
        is_nullable=_TEXT, data_type=_TEXT, is_generated=_TEXT, generation_expression=_TEXT, is_stored=_TEXT,
        is_hidden=_TEXT, is_updatable=_TEXT, is_system_defined=_TEXT, is_partitioning_column=_TEXT,
        clustering_ordinal_position=_NUMBER, collation_name=_TEXT, column_default=_TEXT, rounding_mode=_TEXT,
        data_policies=_TEXT, policy_tags=_TEXT,
    ),
    "COLUMN_FIELD_PATHS": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, column_name=_TEXT, field_path=_TEXT,
        data_type=_TEXT, description=_TEXT, collation_name=_TEXT, rounding_mode=_TEXT, policy_tags=_TEXT,
    ),
    "TABLE_OPTIONS": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, option_name=_TEXT, option_type=_TEXT,
        option_value=_TEXT,
    ),
    "VIEWS": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, view_definition=_TEXT, check_option=_TEXT,
        use_standard_sql=_TEXT,
    ),
    "MATERIALIZED_VIEWS": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, last_refresh_time=_TIME, refresh_watermark=_TIME,
        last_refresh_status=_TEXT,
    ),
    "PARTITIONS": _columns(
        table_catalog=_TEXT, table_schema=_TEXT, table_name=_TEXT, partition_id=_TEXT, total_rows=_NUMBER,
        total_logical_bytes=_NUMBER, total_billable_bytes=_NUMBER, last_modified_time=_TIME, storage_tier=_TEXT,
    ),
    "SCHEMATA": _columns(
        catalog_name=_TEXT, schema_name=_TEXT, schema_owner=_TEXT, creation_time=_TIME, last_modified_time=_TIME,
        location=_TEXT, ddl=_TEXT, default_collation_name=_TEXT,
    ),
    "ROUTINES": _columns(
        specific_catalog=_TEXT, specific_schema=_TEXT, specific_name=_TEXT, routine_catalog=_TEXT, routine_schema=_TEXT,
        routine_name=_TEXT, routine_type=_TEXT, data_type=_TEXT, routine_body=_TEXT, routine_definition=_TEXT,
        created=_TIME, last_altered=_TIME, ddl=_TEXT,
    ),
    "JOBS": _JOBS,
    "JOBS_BY_PROJECT": _JOBS,
}  # fmt: skip
"""The columns of each view, in the reference's order."""

TABLES_OF_DATASET = _columns(
    project_id=_TEXT, dataset_id=_TEXT, table_id=_TEXT, creation_time=_NUMBER, last_modified_time=_NUMBER,
    row_count=_NUMBER, size_bytes=_NUMBER, type=_NUMBER,
)  # fmt: skip
"""``dataset.__TABLES__``."""

_PREFIX = r"((?:(?:`[^`]+`|[\w-]+)\.)*)"
_VIEW = re.compile(_PREFIX + r"`?INFORMATION_SCHEMA`?\.`?(\w+)`?", re.IGNORECASE)
_TABLES = re.compile(_PREFIX + r"`?__TABLES__`?")


def metadata_views(sql: str) -> list[dict[str, Any]]:
    """The views of metadata that a statement names, as tables for the catalog: ``path`` and ``fields``."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    text = "".join(part for opaque, part in pieces(sql) if not opaque)
    for prefix, view in _VIEW.findall(text):
        if view.upper() in INFORMATION_SCHEMA:
            found[*_path(prefix), "INFORMATION_SCHEMA", view] = INFORMATION_SCHEMA[view.upper()]
    for prefix in _TABLES.findall(text):
        found[*_path(prefix), "__TABLES__"] = TABLES_OF_DATASET
    return [{"path": list(path), "fields": fields} for path, fields in found.items()]


def _path(prefix: str) -> list[str]:
    return [name for name in prefix.replace("`", "").split(".") if name]
