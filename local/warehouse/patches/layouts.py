"""How a table is partitioned and clustered is known when SQL has made it.

bqemulator keeps of ``PARTITION BY`` a column's name only, nothing of a function; of ranges and ``CLUSTER BY`` nothing,
in SQL or in a request; ``CREATE TABLE IF NOT EXISTS`` of a table that is there replaces what is known of it. The
``tables.get`` of BigQuery tells all of it. Now this does, too.
"""

import functools
from typing import Any

import sqlglot
from bqemulator.api.routes import tables
from bqemulator.catalog import ddl_sync
from bqemulator.catalog.models import Clustering, RangePartitioning, TimePartitioning
from bqemulator.jobs import executor
from sqlglot import exp

from local.warehouse.patches.replace import replace

_TRUNCATED = (exp.TimestampTrunc, exp.DatetimeTrunc, exp.DateTrunc)


def apply() -> None:
    """Replace what registers a table that SQL has made, and what a request and an answer say of ranges."""
    replace(executor, "sync_created_table", _register)
    replace(tables, "_table_to_rest", _with_ranges(tables._table_to_rest))
    replace(tables, "_rest_to_table_meta", _from_request(tables._rest_to_table_meta))


def _with_ranges(to_rest: Any) -> Any:
    @functools.wraps(to_rest)
    def told(table: Any) -> dict[str, Any]:
        body: dict[str, Any] = to_rest(table)
        if ranges := table.range_partitioning:
            bounds = {name: str(getattr(ranges, name)) for name in ("start", "end", "interval")}
            body["rangePartitioning"] = {"field": ranges.field, "range": bounds}
        return body

    return told


def _from_request(of_request: Any) -> Any:
    @functools.wraps(of_request)
    def made(project_id: str, dataset_id: str, body: dict[str, Any], clock: Any, existing: Any = None) -> Any:
        table = of_request(project_id, dataset_id, body, clock, existing)
        if asked := body.get("rangePartitioning"):
            bounds = {name: int(value) for name, value in asked["range"].items()}
            return table.model_copy(update={"range_partitioning": RangePartitioning(field=asked["field"], **bounds)})
        return table.model_copy(update={"range_partitioning": existing.range_partitioning}) if existing else table

    return made


def _register(bq_sql: str, project_id: str, ctx: Any) -> None:
    target = ddl_sync._detect_plain_create_table(bq_sql)
    path = ddl_sync._split_target(target, project_id) if target is not None else None
    before = ctx.catalog.get_table(*path) if path and all(path) else None
    ddl_sync.sync_created_table(bq_sql, project_id, ctx)
    made = ctx.catalog.get_table(*path) if path and all(path) else None
    if path is None or made is None:
        return
    statement = sqlglot.parse_one(bq_sql, read="bigquery")
    if before is not None and statement.args.get("exists"):
        names = ("time_partitioning", "range_partitioning", "clustering", "description", "labels", "creation_time")
        ctx.catalog.update_table(made.model_copy(update={name: getattr(before, name) for name in names}))
    elif layout := layout_of(statement, made):
        ctx.catalog.update_table(made.model_copy(update=layout))


def layout_of(statement: exp.Expr, table: Any) -> dict[str, Any]:
    """What a CREATE TABLE says of partitions and clusters, as bqemulator's record has it.

    Args:
        statement: the parsed statement.
        table: what is known of the table, with its options.
    """
    properties = statement.args.get("properties")
    found: dict[str, Any] = {}
    for each in properties.expressions if properties else ():
        if isinstance(each, exp.PartitionedByProperty):
            found |= _partitioning(each.this, table.time_partitioning or TimePartitioning())
        elif isinstance(each, exp.ClusterProperty | exp.Cluster):
            found["clustering"] = Clustering(fields=tuple(column.name for column in each.expressions))
    return found


def _partitioning(by: exp.Expr, options: TimePartitioning) -> dict[str, Any]:
    if isinstance(by, exp.RangeBucket):
        bounds = by.expression
        start, end, step = (int(bounds.args[name].sql()) for name in ("start", "end", "step"))
        return {
            "range_partitioning": RangePartitioning(field=by.this.name, start=start, end=end, interval=step),
            "time_partitioning": None,
        }
    unit = by.args["unit"].name.upper() if isinstance(by, _TRUNCATED) else "DAY"
    column = by.this.name if isinstance(by, (*_TRUNCATED, exp.Date)) else by.name
    if column.upper() in ("_PARTITIONDATE", "_PARTITIONTIME"):
        return {"time_partitioning": options.model_copy(update={"type": unit, "field": None})}
    return {"time_partitioning": options.model_copy(update={"type": unit, "field": column})}
