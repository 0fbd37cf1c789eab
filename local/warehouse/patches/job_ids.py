"""A job id is accepted once.

bqemulator runs a load, copy or query again when its job id comes a second time. BigQuery refuses it with 409
``duplicate``, which is what makes a retried request safe. The same now holds here, for jobs that are done (also failed
ones, also after a restart: jobs are in the database) and for one still under way.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from bqemulator.api.routes import jobs
from bqemulator.domain.errors import AlreadyExistsError

from local.warehouse.patches.replace import replace

_HANDLERS = (
    "_handle_query_job",
    "_handle_load_job_with_async_envelope",
    "execute_copy_job",
    "execute_extract_job",
)
"""What ``jobs.insert`` calls with ``(project_id, job_id, config, …)``, in bqemulator's ``api/routes/jobs.py``."""

_Handler = Callable[..., Awaitable[Any]]


def apply() -> None:
    """Wrap the handlers of ``jobs.insert``; to be applied last, around what other patches put there."""
    under_way: set[tuple[str, str]] = set()
    for name in _HANDLERS:
        replace(jobs, name, _once(getattr(jobs, name), under_way))


def _once(handler: _Handler, under_way: set[tuple[str, str]]) -> _Handler:
    @functools.wraps(handler)
    async def handle(project_id: str, job_id: str, *args: Any, **kwargs: Any) -> Any:
        context = kwargs.get("ctx") or args[-1]
        job = (project_id, job_id)
        if job in under_way or context.catalog.get_job(project_id, job_id) is not None:
            raise AlreadyExistsError(f"Already Exists: Job {project_id}:US.{job_id}")
        under_way.add(job)
        try:
            return await handler(project_id, job_id, *args, **kwargs)
        finally:
            under_way.discard(job)

    return handle
