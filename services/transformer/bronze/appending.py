"""The INSERT that appends batches to a table's delta: one job for all of them, whole or not at all.

It is sent under an id that the state has noted (services/core/jobs.py), so that it is never sent late. If a process
dies before it notes what it appended, the batches are appended again: the view and the MERGE take the newest version of
a key, whatever number of times it is there.
"""

from collections.abc import Mapping, Sequence

from google.api_core.exceptions import Conflict
from google.cloud import bigquery

from services.core.labels import job_labels
from services.core.tables import Table
from services.core.warehouse import REQUEST_SECONDS, RETRY
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, Loaded, batch_rows, quoted, quoted_table


def insertion(table: Table, delta: str, columns: Mapping[str, str], batches: Sequence[Loaded]) -> str:
    """The INSERT.

    Args:
        table: the declared table.
        delta: its delta, project.dataset.table.
        columns: bronze's, without those that it adds, with their types.
        batches: what is appended; at least one.

    Raises:
        DataError: a batch has a column that bronze's cannot hold.
    """
    names = ", ".join([*map(quoted, columns), *ADDED_COLUMNS])
    rows = "\nunion all\n".join(batch_rows(table, columns, loaded) for loaded in batches)
    return f"insert into {quoted_table(delta)} ({names})\n{rows}"


def send(client: bigquery.Client, table: Table, statement: str, job_id: str) -> None:
    """Send an INSERT under its noted id; how it ends, the job tells (``services.core.jobs.settle``).

    Raises:
        GoogleAPICallError: BigQuery does not answer, or refuses.
    """
    config = bigquery.QueryJobConfig(labels=job_labels("bronze", table.name))
    try:
        client.query(statement, job_config=config, job_id=job_id, retry=RETRY, job_retry=None, timeout=REQUEST_SECONDS)
    except Conflict:
        return  # our own request came twice
