"""BigQuery: the client, and what more than one service does with it."""

import os

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from services.core.batch import Batch
from services.core.naming import hashed_table


def bigquery_client(project: str, location: str) -> bigquery.Client:
    """Open BigQuery, or an emulator through ``BIGQUERY_EMULATOR_HOST`` (which asks for no credentials)."""
    emulated = bool(os.environ.get("BIGQUERY_EMULATOR_HOST"))
    credentials = AnonymousCredentials() if emulated else None  # type: ignore[no-untyped-call]
    return bigquery.Client(project=project, location=location, credentials=credentials)


def hashed_table_id(project: str, dataset: str, batch: Batch) -> str:
    """Full id of a batch's own temp table."""
    return f"{project}.{dataset}.{hashed_table(batch.table, batch.id)}"
