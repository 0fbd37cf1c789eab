"""A query that fails is an error.

bqemulator answers ``jobs.query`` with 200, no rows and a list of errors when the query fails, and Google's client takes
that for an empty result. BigQuery answers with the error's own status (400 ``invalidQuery``, 404 ``notFound``, …). The
same now holds here. A job made by ``jobs.insert`` still ends with the error in its status, as in BigQuery. What a
function of the other patches refuses is told in its own words, without the lines of Python's traceback.
"""

import re
from typing import Any

from bqemulator.api.routes import jobs
from bqemulator.domain.errors import DomainError
from bqemulator.jobs import executor
from bqemulator.jobs.error_mapper import translate_runtime_error

from local.warehouse.patches.replace import replace

_IN_PYTHON = re.compile(r"Python exception occurred while executing the UDF: \w+: ([^\n]*)")
_translate_error = translate_runtime_error
_execute_inserted = jobs._execute_query_or_failed_meta


class _QueryError(DomainError):
    """A failed query's error, as a type that ``jobs.query`` does not turn into an empty result."""

    cause: Any


def query_error(cause: DomainError) -> _QueryError:
    """Return ``cause`` with its status and reason, which bqemulator keeps per class."""
    per_class = {name: getattr(cause, name) for name in ("http_status", "bq_reason", "grpc_status_name")}
    kind = type(f"Query{type(cause).__name__}", (_QueryError,), per_class)
    error: _QueryError = kind(cause.message, details=cause.details, location=cause.location)
    error.cause = cause
    return error


def apply() -> None:
    """Wrap the execution of a query for ``jobs.query``, and for ``jobs.insert`` undo that."""
    replace(jobs, "execute_query_job", _raise)
    replace(jobs, "_execute_query_or_failed_meta", _end_with_error)
    replace(executor, "translate_runtime_error", _translate)


def _translate(error: Any, **kwargs: Any) -> Any:
    refused = _IN_PYTHON.search(str(error))
    return _translate_error(type(error)(refused[1]) if refused else error, **kwargs)


async def _raise(*args: Any, **kwargs: Any) -> Any:
    try:
        return await executor.execute_query_job(*args, **kwargs)
    except jobs._SQL_EXECUTION_DOMAIN_ERRORS as cause:
        raise query_error(cause) from cause


async def _end_with_error(*, project_id: str, job_id: str, config: dict[str, Any], ctx: Any, **kwargs: Any) -> Any:
    try:
        return await _execute_inserted(project_id=project_id, job_id=job_id, config=config, ctx=ctx, **kwargs)
    except _QueryError as error:
        return jobs._failed_job_meta(
            project_id=project_id,
            job_id=job_id,
            job_type="QUERY",
            config=config,
            error_result=jobs._domain_error_to_error_result(error.cause),
            now=ctx.clock.now(),
        )
