"""What ``tables.get`` tells of a table or view beside its columns.

- bqemulator's ``numBytes`` is 0 for every table. Now it is the logical bytes of its rows, as BigQuery counts them
  (:mod:`local.warehouse.meter.sizes`); counted when somebody asks, once for each state of the table.
- When a table expires, as its dataset or its load said, is kept and not told. Now it is told; and what a request that
  makes or changes a table says of it is taken, where it was dropped.
- The ``OPTIONS`` of a ``CREATE VIEW`` are dropped. Now description and labels are kept, as those of a table are.
- A view that is named with an alias of several words (AS `bronze row`) is put into the statement as a subquery whose
  alias is not quoted, a syntax error. Now it is quoted.
"""

import functools
from datetime import UTC, datetime
from typing import Any

import sqlglot
from bqemulator.api.routes import tables
from bqemulator.catalog import ddl_sync
from bqemulator.catalog.duckdb_repository import DuckDBCatalogRepository
from bqemulator.jobs import executor
from bqemulator.sql.rewriter.row_access_filter import _Rewriter
from sqlglot import exp

from local.warehouse.meter.sizes import Sizes
from local.warehouse.patches.replace import replace


def apply() -> None:
    """Replace what answers of a table, and what registers a view that SQL has made."""
    known: dict[str, Sizes] = {}
    replace(DuckDBCatalogRepository, "__init__", _noting_engine(DuckDBCatalogRepository.__init__, known))
    replace(tables, "_table_to_rest", _with_bytes(tables._table_to_rest, known))
    replace(tables, "_rest_to_table_meta", _with_expiration(tables._rest_to_table_meta))
    replace(executor, "sync_created_view", _register)
    replace(_Rewriter, "_expand_view", _quoting(_Rewriter._expand_view))


def _noting_engine(begin: Any, known: dict[str, Sizes]) -> Any:
    @functools.wraps(begin)
    def noted(self: Any, engine: Any, **options: Any) -> None:
        begin(self, engine, **options)
        known["of the catalog"] = Sizes(engine.execute)

    return noted


def _with_bytes(to_rest: Any, known: dict[str, Sizes]) -> Any:
    @functools.wraps(to_rest)
    def told(table: Any) -> dict[str, Any]:
        body: dict[str, Any] = to_rest(table)
        if table.table_type == "TABLE":
            size = str(known["of the catalog"].of(table))
            body |= dict.fromkeys(("numBytes", "numActiveLogicalBytes", "numTotalLogicalBytes"), size)
            if table.expiration_time is not None:
                body["expirationTime"] = str(int(table.expiration_time.timestamp() * 1000))
        return body

    return told


def _with_expiration(to_meta: Any) -> Any:
    @functools.wraps(to_meta)
    def made(project_id: str, dataset_id: str, body: dict[str, Any], clock: Any, existing: Any = None) -> Any:
        meta = to_meta(project_id, dataset_id, body, clock, existing)
        if "expirationTime" not in body:
            return meta.model_copy(update={"expiration_time": existing.expiration_time}) if existing else meta
        milliseconds = body["expirationTime"]
        at = None if milliseconds is None else datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
        return meta.model_copy(update={"expiration_time": at})

    return made


def _quoting(expand: Any) -> Any:
    @functools.wraps(expand)
    def expanded(self: Any, node: Any, **view: Any) -> bool:
        parent, name, index = node.parent, node.arg_key, node.index
        done: bool = expand(self, node, **view)
        if done and parent is not None:
            subquery = parent.args[name] if index is None else parent.args[name][index]
            subquery.args["alias"].this.set("quoted", True)
        return done

    return expanded


def _register(bq_sql: str, project_id: str, ctx: Any) -> None:
    ddl_sync.sync_created_view(bq_sql, project_id, ctx)
    target, _ = ddl_sync._detect_plain_create_view(bq_sql)
    path = ddl_sync._split_target(target, project_id) if target is not None else ()
    made = ctx.catalog.get_table(*path) if path and all(path) else None
    properties = sqlglot.parse_one(bq_sql, read="bigquery").args.get("properties") if made is not None else None
    if made is None or properties is None:
        return
    told = {"description": ddl_sync._ddl_table_options(properties).description, "labels": _labels(properties)}
    ctx.catalog.update_table(made.model_copy(update={name: value for name, value in told.items() if value}))


def _labels(properties: exp.Properties) -> dict[str, str]:
    """The labels among a statement's options: ``[("key", "value"), …]``."""
    given = next((each.args["value"] for each in properties.expressions if each.name.lower() == "labels"), None)
    pairs = given.expressions if given is not None else []
    return {pair.expressions[0].name: pair.expressions[1].name for pair in pairs}
