"""What a run's jobs cost, asked of BigQuery: its list of jobs, which is free, and complete.

dbt itself tells only of the statement of each model; the list also has what macros, tests and dbt's look at the catalog
sent. An account may list the jobs that it sent without any permission
(https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list), so what another service sent is not in it: the
loader's loads and copies, which BigQuery does not bill.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import structlog
from google.cloud import bigquery
from google.cloud.bigquery.job import QueryJob
from google.cloud.bigquery.retry import DEFAULT_RETRY

from services.core.cost.run_cost import JobCost, RunCost, run_cost
from services.core.labels import run_label
from services.core.telling import kind_and_words

_RETRY = DEFAULT_RETRY.with_timeout(10.0)
_REQUEST_SECONDS = 10.0
"""Short: what a run cost is good to know, and nobody waits long for it."""

_CLOCKS = timedelta(minutes=10)
"""How far this machine's clock may be before BigQuery's."""

_PAGE = 1_000

log = structlog.get_logger()


def read_cost(client: bigquery.Client, run_id: str, since: datetime) -> RunCost:
    """Sum what the jobs of a run cost. Raises nothing: what cannot be read is unknown, and says why.

    Args:
        client: BigQuery.
        run_id: the run.
        since: when it began.
    """
    try:
        return run_cost(costs_of(listed_jobs(client, since), run_id))
    except Exception as error:
        log.exception("cost.not_read", run_id=run_id)
        return RunCost(unknown=f"BigQuery's list of jobs could not be read: {kind_and_words(error)}")


def listed_jobs(client: bigquery.Client, since: datetime) -> Iterator[Any]:
    """The jobs that this account has sent; of a script its own job, which has the sum of its statements.

    Args:
        client: BigQuery.
        since: when the first of them was sent, by this machine's clock.

    Raises:
        GoogleAPICallError: BigQuery does not answer.
    """
    jobs = client.list_jobs(min_creation_time=since - _CLOCKS, page_size=_PAGE, retry=_RETRY, timeout=_REQUEST_SECONDS)
    return (job for job in jobs if job.parent_job_id is None)


def costs_of(jobs: Iterable[Any], run_id: str) -> list[JobCost]:
    """What those jobs cost that are a run's."""
    wanted = run_label(run_id)
    return [cost_of(job) for job in jobs if (job.labels or {}).get("credix_run") == wanted]


def cost_of(job: Any) -> JobCost:
    """What one job cost: loads, copies and queries that ended with an error are not billed.

    (https://cloud.google.com/bigquery/pricing, free operations and on-demand queries.)
    """
    labels = dict(job.labels or {})
    if not isinstance(job, QueryJob):
        return JobCost(labels, billed=0, processed=0, slot_ms=0)
    nothing = None if job.error_result is None else 0
    billed, processed = job.total_bytes_billed, job.total_bytes_processed
    return JobCost(
        labels,
        billed=nothing if billed is None else billed,
        processed=nothing if processed is None else processed,
        slot_ms=job.slot_millis or 0,
    )
