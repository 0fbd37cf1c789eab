"""Jobs are listed as BigQuery lists them, and keep the labels that they were sent with.

bqemulator keeps nothing of a query's configuration but its text, and its list knows neither times nor pages: whatever
is asked, it gives the newest hundred jobs, dry runs among them. BigQuery lists the jobs that have no parent, or those
of one parent, newest first, between two times, page by page
(https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list). The same now holds here.
"""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from bqemulator.api.routes import jobs
from bqemulator.catalog.models import JobMeta
from fastapi import Query, Request
from fastapi.routing import APIRoute

from local.warehouse.patches.replace import replace

_EVERY = 10**9

_query = jobs.query


def apply() -> None:
    """Wrap what runs a query, and put another list in the list's place."""
    replace(jobs, "_handle_query_job", _labelled(jobs._handle_query_job))
    _reroute("POST", "/projects/{project_id}/queries", query)
    _reroute("GET", "/projects/{project_id}/jobs", list_jobs)


def _reroute(method: str, path: str, to: Callable[..., Any]) -> None:
    """Let another function answer requests: FastAPI has the first, whatever its module calls by that name now."""
    routes = [
        route
        for route in jobs.router.routes
        if isinstance(route, APIRoute) and route.path == f"{jobs.router.prefix}{path}" and route.methods == {method}
    ]
    if len(routes) != 1:
        raise RuntimeError(f"bqemulator has {len(routes)} routes for {method} {path}, not one")
    jobs.router.routes.remove(routes[0])
    jobs.router.add_api_route(path, to, methods=[method])


async def query(project_id: str, request: Request, ctx: jobs._Ctx, caller: jobs._Caller) -> dict[str, Any]:
    """Answer ``jobs.query``, whose labels are not in a configuration."""
    answer: dict[str, Any] = await _query(project_id, request, ctx, caller)
    labels = (await request.json()).get("labels")
    job = ctx.catalog.get_job(project_id, answer["jobReference"]["jobId"])
    if labels and job is not None:
        ctx.catalog.upsert_job(job.model_copy(update={"configuration": {**job.configuration, "labels": labels}}))
    return answer


def _labelled(handler: Any) -> Any:
    @functools.wraps(handler)
    async def handle(project_id: str, job_id: str, config: dict[str, Any], **kwargs: Any) -> Any:
        job = await handler(project_id, job_id, config, **kwargs)
        if not isinstance(job, JobMeta):
            return job  # a dry run
        sent = {name: value for name, value in config.items() if name not in job.configuration}
        return job.model_copy(update={"configuration": {**job.configuration, **sent}})

    return handle


def list_jobs(
    project_id: str,
    ctx: jobs._Ctx,
    max_results: Annotated[int, Query(alias="maxResults", ge=1)] = 50,
    page_token: Annotated[str, Query(alias="pageToken")] = "",
    min_creation_time: Annotated[int, Query(alias="minCreationTime")] = 0,
    max_creation_time: Annotated[int | None, Query(alias="maxCreationTime")] = None,
    state_filter: Annotated[list[str] | None, Query(alias="stateFilter")] = None,
    parent_job_id: Annotated[str | None, Query(alias="parentJobId")] = None,
    projection: Annotated[Literal["full", "minimal", "FULL", "MINIMAL"], Query()] = "minimal",
) -> dict[str, Any]:
    """Answer ``jobs.list``."""
    states = {state.upper() for state in state_filter or []}
    found = [
        job
        for job in ctx.catalog.list_jobs(project_id, max_results=_EVERY)
        if (job.statistics or {}).get("parentJobId") == parent_job_id
        and not job.configuration.get("dryRun")
        and (not states or job.state in states)
        and min_creation_time <= _created(job)
        and (max_creation_time is None or _created(job) <= max_creation_time)
    ]
    found.sort(key=_place, reverse=True)
    rest = [job for job in found if not page_token or _token(job) < page_token]
    page = rest[:max_results]
    full = projection.lower() == "full"
    more = {"nextPageToken": _token(page[-1])} if len(rest) > len(page) else {}
    return {"kind": "bigquery#jobList", "jobs": [_listed(project_id, job, full=full) for job in page], **more}


def _created(job: JobMeta) -> int:
    """When a job was created, in milliseconds."""
    created = job.creation_time if job.creation_time.tzinfo else job.creation_time.replace(tzinfo=UTC)
    return int((created - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def _place(job: JobMeta) -> tuple[int, str]:
    return _created(job), job.job_id


def _token(job: JobMeta) -> str:
    """Where a page ends; tokens sort as the jobs do."""
    return f"{_created(job):020d} {job.job_id}"


def _listed(project_id: str, job: JobMeta, *, full: bool) -> dict[str, Any]:
    answer = jobs._build_job_response(project_id, job.job_id, job, job.configuration)
    answer["state"] = job.state
    if job.error_result:
        answer["errorResult"] = job.error_result
    if not full:
        del answer["configuration"]
    return answer
