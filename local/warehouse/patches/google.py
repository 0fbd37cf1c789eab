"""Google's analyzer in front, and a meter behind (:mod:`local.warehouse.analysis`, :mod:`local.warehouse.meter`).

bqemulator takes statements that BigQuery refuses, gives columns DuckDB's types, and bills nothing. Where Google's SQL
engine is installed, what it refuses is now answered as BigQuery answers it (400 ``invalidQuery``), columns have the
names and types that it finds, and every job says what BigQuery would bill for it: ``totalBytesProcessed``,
``totalBytesBilled``, ``cacheHit``, ``referencedTables``, ``totalSlotMs`` (here the milliseconds that it took).
A clustered table makes an upper bound of it (``totalBytesProcessedAccuracy``); ``leastBytesProcessed`` is the lower.
A dry run reads no row, so no value can make it fail. ``GET /analysis`` tells what was counted.
"""

import functools
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from bqemulator import server
from bqemulator.api.routes import jobs
from bqemulator.catalog.models import TableFieldSchema
from bqemulator.domain.errors import DomainError, InvalidQueryError, UnsupportedFeatureError
from bqemulator.jobs import executor
from bqemulator.jobs.executor import JOB_RESULTS, JOB_SCHEMAS
from bqemulator.scripting.ast import SqlStmt

from local.googlesql.analysis import GoogleSql
from local.googlesql.types import REST_NAMES, name_of
from local.warehouse.analysis.analyzer import NOT_THERE, Analyzed, Analyzer, Counts, Judgement, Refusal, Unchecked
from local.warehouse.analysis.answer import OtherAnswer, with_columns_of
from local.warehouse.analysis.tables import as_table
from local.warehouse.meter.billing import Bill, bill
from local.warehouse.meter.results import Results
from local.warehouse.meter.sizes import Sizes
from local.warehouse.patches.query_errors import query_error
from local.warehouse.patches.replace import replace

_handle = jobs._handle_query_job
_dry_run = jobs._dry_run_response
_dry_run_inserted = jobs._build_dry_run_query_response


def apply(google: GoogleSql) -> Counts:
    """Put the analyzer before the run of a query, and the meter around it; after all other patches.

    Returns:
        What is counted from now on.
    """
    front = _Front(Analyzer(google))
    replace(jobs, "execute_query_job", front.around(vars(jobs)["execute_query_job"]))
    replace(jobs, "_handle_query_job", _with_cache_asked_for)
    replace(jobs, "_dry_run_response", front.dry_run)
    replace(jobs, "_build_dry_run_query_response", front.dry_run_inserted)
    replace(jobs, "_attach_query_metadata", _with_bytes(jobs._attach_query_metadata))
    replace(server, "create_app", _with_counts(vars(server)["create_app"], front.analyzer.counts))
    return front.analyzer.counts


@dataclass(frozen=True)
class Price:
    """What a statement costs."""

    bill: Bill
    cached: bool
    """Whether BigQuery has its answer still, and bills nothing."""


class _Front:
    def __init__(self, analyzer: Analyzer) -> None:
        self.analyzer = analyzer
        self._results = Results()
        self._sizes: Sizes | None = None

    def around(self, execute: Any) -> Any:
        """The run of a query, with the analyzer before it and the meter around it."""

        @functools.wraps(execute)
        async def run(project_id: str, job_id: str, bq_sql: str, query_params: Any, ctx: Any, **options: Any) -> Any:
            judged, price = self._before(bq_sql, project_id, query_params or (), ctx)
            started = time.perf_counter()
            job = await execute(project_id, job_id, bq_sql, query_params, ctx, **options)
            elapsed = time.perf_counter() - started
            if isinstance(judged, Analyzed) and judged.kind == "query":
                self._retype(judged, job_id)
            if isinstance(judged, Analyzed) and judged.kind in ("create_view", "create_table_as_select"):
                self._compare_made(judged, project_id, ctx)
            if isinstance(judged, Unchecked) and judged.reason == NOT_THERE:
                self.analyzer.counts.accepted[" ".join(bq_sql.split())[:200]] += 1
            if price is not None:
                _note(job.statistics, price, elapsed)
            return job

        return run

    async def dry_run(self, *, project_id: str, bq_sql: str, query_params: Any, ctx: Any, **options: Any) -> Any:
        """A dry run: analyzed also where bqemulator looks at its first words only, and with what it would cost.

        bqemulator runs a query to know its columns; the analyzer knows them, so that no row can make it fail.
        """
        judged, price = self._before(bq_sql, project_id, query_params or (), ctx)
        known = isinstance(judged, Analyzed) and judged.kind == "query"
        sql, parameters = ("select 1", None) if known else (bq_sql, query_params)
        asked = {"project_id": project_id, "bq_sql": sql, "query_params": parameters, "ctx": ctx}
        response = await _dry_run(**asked, **options)
        if isinstance(judged, Analyzed) and known:
            response["schema"] = {"fields": [*judged.fields]}
        if price is not None:
            response["totalBytesProcessed"] = str(price.bill.processed)
        return response

    async def dry_run_inserted(self, **asked: Any) -> Any:
        """The same as a job, by ``jobs.insert``."""
        _, price = self._before(asked["bq_sql"], asked["project_id"], asked["query_params"] or (), asked["ctx"])
        response = await _dry_run_inserted(**asked)
        if price is not None:
            processed = str(price.bill.processed)
            response["statistics"]["totalBytesProcessed"] = processed
            response["statistics"]["query"]["totalBytesProcessed"] = processed
        return response

    def _before(self, sql: str, project: str, parameters: Sequence[Any], ctx: Any) -> tuple[Judgement, Price | None]:
        """What the analyzer says, and what the statement will cost; raises what BigQuery would answer."""
        counts = self.analyzer.counts
        started = time.perf_counter()
        judged = self._judge(sql, project, parameters, ctx)
        price = self._price(judged, sql, project, parameters, ctx) if isinstance(judged, Analyzed) else None
        counts.statements += 1
        counts.seconds += time.perf_counter() - started
        if isinstance(judged, Refusal):
            counts.refused += 1
            raise query_error(InvalidQueryError(judged.message, location="query"))
        if isinstance(judged, Unchecked):
            counts.unchecked[judged.reason] += 1
        return judged, price

    def _judge(self, sql: str, project: str, parameters: Sequence[Any], ctx: Any) -> Judgement:
        try:
            script = executor._parse_script_or_raise(sql)
        except DomainError:  # bqemulator says so itself, and in BigQuery's words
            return Unchecked("no statement")
        if len(script.statements) != 1 or not isinstance(script.statements[0], SqlStmt):
            return Unchecked("a script")
        return self.analyzer.judge(sql, project, parameters, ctx.catalog)

    def _price(self, judged: Analyzed, sql: str, project: str, parameters: Sequence[Any], ctx: Any) -> Price:
        metas = {table["id"]: table["meta"] for table in judged.tables if "meta" in table}
        sizes = self._sizes = self._sizes or Sizes(ctx.engine.execute)
        cost = bill(
            judged.reads,
            judged.only_inserts,
            lambda name, columns, bounds: sizes.of(metas[name], columns, bounds),
            lambda name: _clustered_by(metas.get(name)),
            sum("path" in table and "__TABLES__" not in table["path"] for table in judged.tables),
        )
        cached = (
            _cache_asked_for.get()
            and judged.lasting
            and self._results.hit(sql, project, parameters, judged.tables, ctx.clock.now())
        )
        return Price(Bill(tables=cost.tables) if cached else cost, cached)

    def _compare_made(self, judged: Analyzed, project: str, ctx: Any) -> None:
        """Give a view Google's columns; of a table, count the columns that have other types."""
        path = judged.makes if len(judged.makes) == 3 else (project, *judged.makes)
        made = ctx.catalog.get_table(*path)
        if made is None:
            return
        found, expected = as_table(made)["fields"], judged.fields
        for entry, field in zip(found, expected, strict=False):
            if name_of(entry) != name_of(field):
                self.analyzer.counts.differing[f"{name_of(entry)} for {name_of(field)} in a new {made.table_type}"] += 1
        if made.table_type == "VIEW":
            known = {field.name: field for field in made.schema_.fields}
            fields = tuple(_as_field(field, known.get(field["name"])) for field in expected)
            schema = made.schema_.model_copy(update={"fields": fields})
            ctx.catalog.update_table(made.model_copy(update={"schema_": schema}))

    def _retype(self, judged: Analyzed, job_id: str) -> None:
        rows, schema = JOB_RESULTS[job_id], JOB_SCHEMAS[job_id]
        try:
            answer = with_columns_of(judged.fields, rows, schema)
        except OtherAnswer as other:
            self.analyzer.counts.differing[str(other)] += 1
            raise UnsupportedFeatureError(f"The local warehouse answers otherwise than BigQuery: {other}") from other
        for difference in answer.differences:
            self.analyzer.counts.differing[difference] += 1
        JOB_RESULTS[job_id], JOB_SCHEMAS[job_id] = answer.rows, answer.schema


_cache_asked_for: ContextVar[bool] = ContextVar("cache_asked_for", default=True)


@functools.wraps(_handle)
async def _with_cache_asked_for(project_id: str, job_id: str, config: dict[str, Any], **options: Any) -> Any:
    """``jobs.insert``, whose configuration says whether an answer from the cache will do."""
    query = config["query"]
    token = _cache_asked_for.set(query.get("useQueryCache", True) and not query.get("destinationTable"))
    try:
        return await _handle(project_id, job_id, config, **options)
    finally:
        _cache_asked_for.reset(token)


def _as_field(field: dict[str, Any], known: Any) -> Any:
    """Google's column as bqemulator's record has it, with the description that was known."""
    made = TableFieldSchema(
        name=field["name"],
        type=REST_NAMES.get(field["type"], field["type"]),
        mode=field.get("mode", "NULLABLE"),
        fields=tuple(_as_field(inner, None) for inner in field.get("fields", ())),
    )
    return made.model_copy(update={"description": known.description}) if known else made


def _clustered_by(meta: Any) -> str | None:
    return meta.clustering.fields[0] if meta is not None and meta.clustering else None


def _note(statistics: dict[str, Any], price: Price, seconds: float) -> None:
    """Add to a job's statistics what its statement cost."""
    cost, slots = price.bill, str(max(1, round(seconds * 1000)))
    exact = cost.processed == cost.processed_least
    statistics |= {"totalBytesProcessed": str(cost.processed), "totalSlotMs": slots}
    statistics.setdefault("query", {}).update(
        totalBytesProcessed=str(cost.processed),
        totalBytesBilled=str(cost.billed),
        totalBytesProcessedAccuracy="PRECISE" if exact else "UPPER_BOUND",
        leastBytesProcessed=str(cost.processed_least),
        cacheHit=price.cached,
        totalSlotMs=slots,
        referencedTables=[_reference(name) for name in cost.tables],
    )


def _reference(name: str) -> dict[str, str]:
    return dict(zip(("projectId", "datasetId", "tableId"), name.split("."), strict=True))


def _with_bytes(attach: Any) -> Any:
    """``jobs.query``'s answer, which has some of the job's statistics at its top."""

    @functools.wraps(attach)
    def attached(response: dict[str, Any], job: Any) -> None:
        attach(response, job)
        query = (job.statistics or {}).get("query", {})
        response |= {name: query[name] for name in ("totalBytesProcessed", "totalBytesBilled") if name in query}

    return attached


def _with_counts(create_app: Any, counts: Counts) -> Any:
    @functools.wraps(create_app)
    def created(context: Any) -> Any:
        app = create_app(context)
        app.add_api_route("/analysis", counts.as_json, methods=["GET"])
        return app

    return created
