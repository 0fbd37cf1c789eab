"""The stable temp table: the last loaded batch of a table, for people. Never replaced by an older batch."""

from datetime import timedelta

import structlog
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery
from tenacity import Retrying, retry_if_exception_type, wait_random

from services.core import machine
from services.core.batch import Batch
from services.core.errors import LeaseBusy, LeaseLost
from services.core.faults import fault_point
from services.core.jobs import take_turn
from services.core.labels import job_labels
from services.core.naming import batch_of_stable_job, stable_job_id
from services.core.state.lease import holding
from services.core.state.state import PipelineState
from services.core.warehouse import REQUEST_SECONDS, RETRY

_LEASE = timedelta(seconds=10)
_WAIT_SECONDS = 30
_COPY_TIME = timedelta(minutes=5)
"""For a copy to end; BigQuery copies without reading."""

log = structlog.get_logger()


def refresh_stable(client: bigquery.Client, state: PipelineState, batch: Batch, hashed: str, stable: str) -> bool:
    """Copy a batch's hashed table over the stable one (a copy job is free); False when a newer batch is there.

    Raises:
        LeaseBusy: another batch of the table was being copied all the time.
        LeaseLost: this process stood still, and another has copied a batch meanwhile.
    """
    waiting = Retrying(
        retry=retry_if_exception_type(LeaseBusy),
        wait=wait_random(0.2, 1),
        stop=machine.stopping_after(_WAIT_SECONDS),
        sleep=machine.sleep,
        reraise=True,
    )
    for attempt in waiting:
        with attempt, holding(state.store, f"stable-{batch.table}", batch.id, _LEASE) as lease:
            return _copy(client, state, batch, hashed, stable, lease.token)
    return False


def _copy(
    client: bigquery.Client, state: PipelineState, batch: Batch, hashed: str, stable: str, token: int
) -> bool:  # fmt: skip
    if _overtaken(state, batch):
        return False
    job_id = stable_job_id(batch.table, batch.id)
    before = take_turn(
        client,
        job_id,
        lambda: state.progress(batch.table).stable_job,
        lambda new, after: state.note_stable_job(batch.table, new, token, after),
        _COPY_TIME,
    )
    if before is not None and before.done:
        # Whoever sent it may have died before this note, and its batch may be newer than this one.
        state.set_stable_batch(batch.table, batch_of_stable_job(before.job_id))
        if _overtaken(state, batch):
            return False
    fault_point("loader.stable_noted")
    config = bigquery.CopyJobConfig(
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        labels=job_labels("stable", batch.table),
    )
    try:
        job = client.copy_table(hashed, stable, job_id=job_id, job_config=config, retry=RETRY, timeout=REQUEST_SECONDS)
        job.result(retry=RETRY, timeout=_COPY_TIME.total_seconds())
    except Conflict as error:
        raise LeaseLost(f"job {job_id} came too late: another process copies table {batch.table} now") from error
    except NotFound:
        log.info("stable.skipped", reason="the batch was merged and its table dropped meanwhile")
        return False
    fault_point("loader.stable_copied")
    state.set_stable_batch(batch.table, batch.id)
    return True


def _overtaken(state: PipelineState, batch: Batch) -> bool:
    current = state.progress(batch.table).stable_batch
    return current is not None and current >= batch.id
