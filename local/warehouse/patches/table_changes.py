"""What is recorded when a table changes.

- bqemulator copies the whole table after every write, for time travel, and leaves ``numRows`` as it was after a DML
  statement. BigQuery copies nothing that a client can see, and ``numRows`` is right. Now the rows are counted instead
  of copied, and ``FOR SYSTEM_TIME AS OF`` is refused (501) instead of reading the present.
- ``ALTER TABLE`` leaves bqemulator's catalog as it was, and may hold one action only, since DuckDB's does. Now its
  actions are executed one after the other, though not all or none, and the catalog knows the columns.
- ``ALTER TABLE … RENAME TO`` renames what DuckDB has, and leaves the catalog with the old name. Now the catalog knows
  the new one, layout and description included; a name that is taken is refused.
- ``tables.patch`` and ``tables.update`` with another schema change only bqemulator's catalog. BigQuery adds new
  nullable columns, with nulls, and refuses everything else. Now both do that (dbt's ``append_new_columns``).
- ``tables.delete`` of a view is an internal error (500), which Google's client repeats for ten minutes. Now the view is
  dropped (dbt makes a table of it).
"""

import functools
from typing import Any

import sqlglot
from bqemulator.api.routes import tables
from bqemulator.catalog import ddl_sync
from bqemulator.catalog.duckdb_repository import DuckDBCatalogRepository
from bqemulator.domain.errors import InvalidQueryError, UnsupportedFeatureError
from bqemulator.jobs import executor
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns
from bqemulator.versioning.snapshots import SnapshotManager
from sqlglot import exp

from local.warehouse.patches.replace import replace

_write_meta = DuckDBCatalogRepository.update_table
_meta_of_request = tables._rest_to_table_meta
_run_single_sql = executor._run_single_sql
_delete_table = tables.delete_table


def apply() -> None:
    """Replace the snapshots' capture and lookup, the run of a statement, a table's new schema, the catalog's update."""
    replace(executor, "_run_single_sql", _run_statement)
    replace(SnapshotManager, "capture", _count_rows)
    replace(SnapshotManager, "resolve_time_travel", _refuse_time_travel)
    replace(tables, "_rest_to_table_meta", _checked_meta_of_request)
    replace(DuckDBCatalogRepository, "update_table", _update_table)
    [route] = [each for each in tables.router.routes if getattr(each, "endpoint", None) is _delete_table]
    replace(route, "endpoint", _delete_table_or_view)


@functools.wraps(_delete_table)
async def _delete_table_or_view(project_id: str, dataset_id: str, table_id: str, ctx: Any) -> Any:
    meta = ctx.catalog.get_table(project_id, dataset_id, table_id)
    if meta is not None and meta.table_type == "VIEW":
        async with ctx.engine.write_lock():
            ctx.engine.execute(f"DROP VIEW IF EXISTS {quoted_table_ref(project_id, dataset_id, table_id)}")
    return await _delete_table(project_id, dataset_id, table_id, ctx)


def _count_rows(self: Any, project_id: str, dataset_id: str, table_id: str, *, kind: str = "AUTO") -> None:
    if kind != "AUTO":
        raise UnsupportedFeatureError("The local warehouse keeps no snapshots.")
    meta = self._catalog.get_table(project_id, dataset_id, table_id)
    if meta is None:
        return
    reference = quoted_table_ref(project_id, dataset_id, table_id)
    (rows,) = self._engine.execute(f"SELECT count(*) FROM {reference}").fetchone()  # noqa: S608  quoted
    changed = {"num_rows": rows, "last_modified_time": self._clock.now()}
    _write_meta(self._catalog, meta.model_copy(update=changed))


def _refuse_time_travel(self: Any, project_id: str, dataset_id: str, table_id: str, target: object) -> None:
    raise UnsupportedFeatureError("FOR SYSTEM_TIME AS OF: the local warehouse keeps no earlier versions of a table.")


def _checked_meta_of_request(
    project_id: str, dataset_id: str, body: dict[str, Any], clock: Any, existing: Any = None
) -> Any:
    meta = _meta_of_request(project_id, dataset_id, body, clock, existing)
    if existing is not None and meta.table_type == "TABLE":
        _check_schema_change(existing, meta)
    return meta


def _check_schema_change(before: Any, after: Any) -> None:
    """Raise InvalidQueryError when a column is missing, has another type, or is new and REQUIRED."""
    refusal = f"Provided Schema does not match Table {after.project_id}:{after.dataset_id}.{after.table_id}."
    old, new = _columns(before), _columns(after)
    for name, duckdb_type in old.items():
        if name not in new:
            raise InvalidQueryError(f"{refusal} Field {name} is missing in new schema")
        if new[name] != duckdb_type:
            raise InvalidQueryError(f"{refusal} Field {name} has changed type")
    for field in after.schema_.fields:
        if field.name not in old and field.mode == "REQUIRED":
            raise InvalidQueryError(f"{refusal} Cannot add required fields (field: {field.name})")


def _update_table(self: Any, table: Any) -> Any:
    existing = self.get_table(table.project_id, table.dataset_id, table.table_id)
    if existing is not None and table.table_type == "TABLE":
        reference = quoted_table_ref(table.project_id, table.dataset_id, table.table_id)
        for name, duckdb_type in _columns(table).items() - _columns(existing).items():
            # A column that SQL has added or changed already is there; only the catalog learns of it here.
            self._engine.execute(f'ALTER TABLE {reference} ADD COLUMN IF NOT EXISTS "{name}" {duckdb_type}')
    return _write_meta(self, table)


def _columns(table: Any) -> dict[str, str]:
    """Return the DuckDB type of each column, by name."""
    return dict(bq_schema_to_duckdb_columns([tables._field_to_rest(field) for field in table.schema_.fields]))


async def _run_statement(project_id: str, bq_sql: str, query_params: Any, ctx: Any, *, caller: Any) -> Any:
    alter = _altered_table(bq_sql)
    if isinstance(alter, exp.Alter) and isinstance(alter.args["actions"][0], exp.AlterRename):
        return await _rename(alter, project_id, bq_sql, query_params, ctx, caller=caller)
    if alter is None:
        return await _run_single_sql(project_id, bq_sql, query_params, ctx, caller=caller)
    result = None
    for action in alter.args["actions"]:
        one = alter.copy()
        one.set("actions", [action.copy()])
        result = await _run_single_sql(project_id, one.sql("bigquery"), query_params, ctx, caller=caller)
    _refresh_schema(*ddl_sync._split_target(alter.this, project_id), ctx)
    return result


async def _rename(alter: Any, project_id: str, bq_sql: str, query_params: Any, ctx: Any, *, caller: Any) -> Any:
    path = ddl_sync._split_target(alter.this, project_id)
    renamed = (*path[:2], alter.args["actions"][0].this.name)
    meta = ctx.catalog.get_table(*path)
    if meta is not None and meta.table_type != "TABLE":
        raise InvalidQueryError(f"ALTER TABLE RENAME TO is not supported for {meta.table_type}: {'.'.join(path)}.")
    if ctx.catalog.get_table(*renamed) is not None:
        raise InvalidQueryError(f"Already Exists: Table {renamed[0]}:{renamed[1]}.{renamed[2]}")
    result = await _run_single_sql(project_id, bq_sql, query_params, ctx, caller=caller)
    if meta is not None:
        ctx.catalog.delete_table(*path)
        ctx.catalog.create_table(meta.model_copy(update={"table_id": renamed[2]}))
    return result


def _altered_table(bq_sql: str) -> Any:
    """Return the parsed statement when it renames a table, or changes its columns, and nothing else; else None."""
    if "ALTER TABLE" not in bq_sql.upper():
        return None
    statement = sqlglot.parse_one(bq_sql, read="bigquery")
    column_actions = (exp.ColumnDef, exp.AlterColumn, exp.Drop, exp.AlterRename)
    if isinstance(statement, exp.Alter) and all(isinstance(a, column_actions) for a in statement.args["actions"]):
        return statement
    return None


def _refresh_schema(project_id: str, dataset_id: str, table_id: str, ctx: Any) -> None:
    """Give the catalog the columns that the table has now, keeping the descriptions of those that it knew."""
    meta = ctx.catalog.get_table(project_id, dataset_id, table_id)
    known = {field.name: field for field in meta.schema_.fields}
    schema = ddl_sync._introspect_schema(project_id, dataset_id, table_id, ctx)
    fields = tuple(
        known[field.name] if field.name in known and known[field.name].type == field.type else field
        for field in schema.fields
    )
    _write_meta(ctx.catalog, meta.model_copy(update={"schema_": schema.model_copy(update={"fields": fields})}))
