"""The stable temp table: the last loaded batch of a table, for people. Never replaced by an older batch."""

from datetime import timedelta

import structlog
from google.api_core.exceptions import NotFound
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from services.core.batch import Batch
from services.core.errors import LeaseBusy
from services.core.state.lease import holding
from services.core.state.state import PipelineState

_LEASE = timedelta(seconds=10)
_WAIT_SECONDS = 30
_REQUEST_SECONDS = 25.0
_RETRY = DEFAULT_RETRY.with_timeout(25.0)
"""Of one request that fails: within a minute it is noted that BigQuery is away (load_job.py)."""

_COPY_SECONDS = 300.0
"""For a copy to end; BigQuery copies without reading."""

log = structlog.get_logger()


def refresh_stable(client: bigquery.Client, state: PipelineState, batch: Batch, hashed: str, stable: str) -> bool:
    """Copy a batch's hashed table over the stable one (a copy job is free); False when a newer batch is there.

    Raises:
        LeaseBusy: another batch of the table was being copied all the time.
    """
    waiting = Retrying(
        retry=retry_if_exception_type(LeaseBusy),
        wait=wait_random(0.2, 1),
        stop=stop_after_delay(_WAIT_SECONDS),
        reraise=True,
    )
    for attempt in waiting:
        with attempt, holding(state.store, f"stable-{batch.table}", batch.id, _LEASE):
            current = state.progress(batch.table).stable_batch
            if current is not None and current >= batch.id:
                return False
            config = bigquery.CopyJobConfig(
                write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
                labels={"credix_stage": "stable", "credix_table": batch.table},
            )
            try:
                job = client.copy_table(hashed, stable, job_config=config, retry=_RETRY, timeout=_REQUEST_SECONDS)
                job.result(retry=_RETRY, timeout=_COPY_SECONDS)
            except NotFound:
                log.info("stable.skipped", reason="the batch was merged and its table dropped meanwhile")
                return False
            state.set_stable_batch(batch.table, batch.id)
            return True
    return False
