"""One atomic load job per batch, with a client-chosen id: a repeated or lost request never loads twice."""

import itertools
from datetime import timedelta

import structlog
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery.job import LoadJob

from services.core import machine
from services.core.errors import DataError, TransientError
from services.core.faults import fault_point
from services.core.jobs import LASTING_REASONS, await_end
from services.core.labels import job_labels
from services.core.manifest import Manifest
from services.core.naming import load_job_id
from services.core.tables import EXTRACTED_AT, Column, Table
from services.core.warehouse import REQUEST_SECONDS, RETRY

log = structlog.get_logger()


def declared_schema(table: Table, manifest: Manifest) -> list[bigquery.SchemaField]:
    """BigQuery schema of a temp table: the declared columns, those that schema drift added, the time of reading."""
    described = {column.name: column for column in table.landed_columns}
    columns = [
        described.get(c.name) or Column(name=c.name, type=c.type, description=f"Added in the source: {c.source_type}.")
        for c in manifest.columns
    ]
    return [
        bigquery.SchemaField(c.name, c.type.value, "REQUIRED" if c.required else "NULLABLE", description=c.description)
        for c in (*columns, EXTRACTED_AT)
    ]


def _job_config(table: Table, manifest: Manifest) -> bigquery.LoadJobConfig:
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=declared_schema(table, manifest),
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        create_disposition=bigquery.CreateDisposition.CREATE_IF_NEEDED,
        labels=job_labels("load", table.name),
    )
    options = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]
    options.enable_list_inference = True
    config.parquet_options = options
    return config


def _failure(job: LoadJob) -> Exception | None:
    """What a finished job's error means for the batch; None when it succeeded."""
    if job.error_result is None:
        return None
    reason, message = job.error_result.get("reason", ""), job.error_result.get("message", "")
    if reason in LASTING_REASONS:
        return DataError("load_refused", f"BigQuery refused the batch ({reason}): {message}")
    return TransientError(f"load job {job.job_id} failed ({reason}): {message}")


def _started(
    client: bigquery.Client,
    uris: list[str],
    destination: str,
    job_id: str,
    config: bigquery.LoadJobConfig,
    timeout: timedelta,
) -> LoadJob:
    """The job of this id: the one that is there, or a new one."""
    # The client's default is no timeout: a connection that stays open unanswered would hold this thread for ever.
    seconds = min(REQUEST_SECONDS, timeout.total_seconds())
    try:
        found = client.get_job(job_id, location=client.location, retry=RETRY, timeout=seconds)
    except NotFound:
        try:
            return client.load_table_from_uri(
                uris, destination, job_id=job_id, job_config=config, retry=RETRY, timeout=seconds
            )
        except BadRequest as error:
            raise DataError("load_refused", f"BigQuery refused the load job: {error}") from error
        except Conflict:
            found = client.get_job(job_id, location=client.location, retry=RETRY, timeout=seconds)
    if not isinstance(found, LoadJob):
        raise TransientError(f"job {job_id} is a {found.job_type}, not a load")
    return found


def load(
    client: bigquery.Client,
    table: Table,
    manifest: Manifest,
    destination: str,
    landing_bucket: str,
    expiry_days: int,
    timeout: timedelta,
) -> LoadJob:
    """Load a batch's parts into its hashed table, all or nothing, and wait for it.

    A job that failed for a passing reason is followed by the next attempt's id; one that runs already, started by a
    handler whose answer was lost or by a duplicate of the event, is waited for.

    Raises:
        DataError: BigQuery refuses the content, or loaded another number of rows than the manifest says.
        StillRunning: the job did not end in time.
        TransientError: the job failed for a passing reason.
    """
    uris = [f"gs://{landing_bucket}/{part.object_name}" for part in manifest.parts]
    for attempt in itertools.count(1):
        job_id = load_job_id(table.name, manifest.batch_id, attempt)
        job = _started(client, uris, destination, job_id, _job_config(table, manifest), timeout)
        fault_point("loader.load_started")
        known = job.state == "DONE"
        if not known:
            await_end(job, timeout)
        failure = _failure(job)
        if failure is None:
            break
        if isinstance(failure, TransientError) and known:
            continue  # an earlier handler saw it fail; this handler's own try is the next attempt
        raise failure
    fault_point("loader.load_done")
    if job.output_rows != manifest.rows:
        raise DataError("wrong_row_count", f"BigQuery loaded {job.output_rows} rows, the manifest says {manifest.rows}")
    _expire(client, destination, expiry_days)
    return job


def _expire(client: bigquery.Client, destination: str, days: int) -> None:
    """Let BigQuery drop a hashed table that nobody came to merge; the archive still has its rows."""
    try:
        table = client.get_table(destination, retry=RETRY, timeout=REQUEST_SECONDS)
    except NotFound:
        return  # A duplicate of the event: the batch was merged, and its table dropped, meanwhile.
    wanted = machine.now() + timedelta(days=days)
    if table.expires is not None and table.expires <= wanted:
        return  # The dataset's default has seen to it, or an earlier handler of the event.
    table.expires = wanted
    client.update_table(table, ["expires"], retry=RETRY, timeout=REQUEST_SECONDS)
