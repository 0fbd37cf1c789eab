"""Jobs that can be sent late and still do no harm: their id is noted in the state before they are sent.

A process that stands still just before it sends a statement, and goes on after its lease has passed to another, would
write over what the other has written since. So such a statement has a job id of its own, which is noted under the
fencing token before the job is sent. Whoever works next *settles* the noted job: waits for it, or makes its id void, by
a job of that id that does nothing. BigQuery takes a job id once
(https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid), so what is sent late is refused with 409.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery.job import CopyJob, LoadJob, QueryJob

from services.core import machine
from services.core.errors import TransientError
from services.core.labels import job_labels
from services.core.naming import new_batch_id
from services.core.warehouse import REQUEST_SECONDS, RETRY

VOID = "SELECT 'void: this job was not sent in time, and must not run any more'"
"""The statement that takes the place of a job which was never sent. It reads no table and costs nothing."""

LASTING_REASONS = frozenset({"invalid", "invalidQuery", "badRequest"})
"""Reasons of a failed job that its content causes; any other may pass, or is for a person
(https://cloud.google.com/bigquery/docs/error-messages)."""

_POLL_SECONDS = (0.2, 5.0)
"""Pauses between two looks at a job that runs: the first, and the longest."""

log = structlog.get_logger()


class StillRunning(TransientError):
    """A job takes long. Nothing is wrong with it: whoever comes next waits on."""


@dataclass(frozen=True)
class Settled:
    """How a noted job ended. It does not run now, and never will again."""

    job_id: str
    sent: bool
    """False when it was never sent, and its id is void."""
    reason: str | None = None
    """BigQuery's reason when it failed."""
    message: str = ""
    rows: int | None = None
    """Rows that a DML statement changed."""

    @property
    def done(self) -> bool:
        """Whether it did its work."""
        return self.sent and self.reason is None

    @property
    def lasting(self) -> bool:
        """Whether it failed by its content, so that the same statement fails again."""
        return self.reason in LASTING_REASONS


def new_job_id(what: str, table: str) -> str:
    """An id for a job on a table: unique, sortable by time; letters, digits, dashes and underscores only."""
    return f"credix-{what}-{table}-{new_batch_id(machine.now())}"


def settle(client: bigquery.Client, job_id: str, wait: timedelta) -> Settled:
    """Make sure that a noted job has ended, or will never run.

    Args:
        client: BigQuery.
        job_id: its id.
        wait: the longest wait for one that runs.

    Raises:
        TransientError: it still runs.
        GoogleAPICallError: BigQuery does not answer.
    """
    try:
        job = client.get_job(job_id, location=client.location, retry=RETRY, timeout=REQUEST_SECONDS)
    except NotFound:
        config = bigquery.QueryJobConfig(labels=job_labels("void"))
        try:
            job = client.query(
                VOID, job_config=config, job_id=job_id, retry=RETRY, job_retry=None, timeout=REQUEST_SECONDS
            )
            log.warning("job.void", job_id=job_id, reason="it was noted and not sent; sent late, it is refused")
        except Conflict:  # sent in this moment, or our own request came twice
            job = client.get_job(job_id, location=client.location, retry=RETRY, timeout=REQUEST_SECONDS)
    if not isinstance(job, QueryJob | CopyJob | LoadJob):
        raise TransientError(f"job {job_id} is no query, copy or load: {type(job).__name__}")
    await_end(job, wait)
    if isinstance(job, QueryJob) and job.query == VOID:
        return Settled(job_id, sent=False, message="it was never sent")
    error = job.error_result or {}
    return Settled(
        job_id,
        sent=True,
        reason=error.get("reason", "unknown") if error else None,
        message=error.get("message", ""),
        rows=job.num_dml_affected_rows if isinstance(job, QueryJob) else None,
    )


def take_turn(
    client: bigquery.Client,
    job_id: str,
    noted: Callable[[], str | None],
    note: Callable[[str, str | None], bool],
    wait: timedelta,
) -> Settled | None:
    """Note a job that is about to be sent, after the one that was noted before has ended.

    Args:
        client: BigQuery.
        job_id: the job.
        noted: the job that is noted now, or None.
        note: notes a job after another, which must still be the noted one; False when it is not.
        wait: the longest wait for the job before.

    Returns:
        How the job before ended; None when there was none.

    Raises:
        TransientError: the job before still runs.
        LeaseLost: a later holder is at it.
    """
    while True:
        before = noted()
        ended = settle(client, before, wait) if before is not None else None
        if note(job_id, before):
            return ended


def await_end(job: QueryJob | CopyJob | LoadJob, wait: timedelta) -> None:
    """Wait for a job's end, good or bad.

    By ``done()`` and not by ``result()``, which waits two minutes for an answer to each look.

    Raises:
        StillRunning: it has not ended in time.
        GoogleAPICallError: BigQuery does not answer; the job goes on.
    """
    deadline = machine.monotonic() + wait.total_seconds()
    pause, longest = _POLL_SECONDS
    while not job.done(retry=RETRY, timeout=min(REQUEST_SECONDS, wait.total_seconds())):
        if machine.monotonic() + pause > deadline:
            raise StillRunning(f"job {job.job_id} has not ended after {wait.total_seconds():.0f} s")
        machine.sleep(pause)
        pause = min(pause * 1.5, longest)
