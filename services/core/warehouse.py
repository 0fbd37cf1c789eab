"""BigQuery: the client, and what more than one service does with it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from services.core.batch import Batch
from services.core.naming import hashed_table

REQUEST_SECONDS = 25.0
"""For BigQuery to answer one request; a job's own time is another matter."""

RETRY = DEFAULT_RETRY.with_timeout(25.0)
"""How a request is repeated while BigQuery is away: together with the last one's time, for less than a minute (Google's
default is ten minutes). Then whoever asked notes why it does not go on, and tries again later."""


def bigquery_client(project: str, location: str) -> bigquery.Client:
    """Open BigQuery, or an emulator through ``BIGQUERY_EMULATOR_HOST`` (which asks for no credentials).

    A query that would bill more than ``BIGQUERY_MAX_BYTES_BILLED`` is refused, as dbt's are (dbt/profiles.yml).
    """
    emulated = bool(os.environ.get("BIGQUERY_EMULATOR_HOST"))
    most = os.environ.get("BIGQUERY_MAX_BYTES_BILLED")
    usual = bigquery.QueryJobConfig(maximum_bytes_billed=int(most)) if most else None
    credentials = AnonymousCredentials() if emulated else None  # type: ignore[no-untyped-call]
    return bigquery.Client(project=project, location=location, credentials=credentials, default_query_job_config=usual)


def hashed_table_id(project: str, dataset: str, batch: Batch) -> str:
    """Full id of a batch's own temp table."""
    return f"{project}.{dataset}.{hashed_table(batch.table, batch.id)}"


@dataclass(frozen=True)
class TempTable:
    """A hashed table as BigQuery has it."""

    id: str
    """project.dataset.table."""
    columns: dict[str, str]
    """Types by name, ``_extracted_at`` included, by the names that tables.yaml uses."""
    rows: int
    size: int = 0
    """Logical bytes."""


_STANDARD = {"BOOLEAN": "BOOL", "INTEGER": "INT64", "FLOAT": "FLOAT64"}
"""Standard SQL's names of types for those that the API uses."""


def temp_table(client: bigquery.Client, table_id: str) -> TempTable | None:
    """Look at a hashed table; None only when BigQuery says that there is none (404), never when it refuses to say.

    Raises:
        GoogleAPICallError: BigQuery does not answer, or refuses.
    """
    try:
        table = client.get_table(table_id, retry=RETRY, timeout=REQUEST_SECONDS)
    except NotFound:
        return None
    return TempTable(table_id, standard_types(table.schema), int(table.num_rows or 0), int(table.num_bytes or 0))


def standard_types(schema: Iterable[bigquery.SchemaField]) -> dict[str, str]:
    """Types of columns by name, as Standard SQL and tables.yaml call them."""
    return {field.name: _STANDARD.get(field.field_type, field.field_type) for field in schema}
