"""What is written in a table's delta: an INSERT appends batches, a DELETE takes out what the base has.

The INSERT is one job for all batches, whole or not at all.

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
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, Loaded, batch_rows, quoted, quoted_table, text_literal


def columns_of(columns: Mapping[str, str]) -> str:
    """The delta's columns, quoted, in the order in which a batch's rows have them."""
    return ", ".join([*map(quoted, columns), *ADDED_COLUMNS])


def rows_of(table: Table, columns: Mapping[str, str], batches: Sequence[Loaded]) -> str:
    """A SELECT of the rows of all batches.

    Args:
        table: the declared table.
        columns: bronze's, without those that it adds, with their types.
        batches: at least one.

    Raises:
        DataError: a batch has a column that bronze's cannot hold.
    """
    return "\nunion all\n".join(batch_rows(table, columns, loaded) for loaded in batches)


def insertion(delta: str, columns: Mapping[str, str], rows: str) -> str:
    """The INSERT.

    Args:
        delta: the table's delta, project.dataset.table.
        columns: bronze's, without those that it adds.
        rows: a SELECT of the rows.
    """
    return f"insert into {quoted_table(delta)} ({columns_of(columns)})\n{rows}"


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


def waiting_batches(client: bigquery.Client, table: Table, delta: str) -> list[str]:
    """The batches of which the delta has rows.

    Raises:
        GoogleAPICallError: BigQuery does not answer, or refuses.
    """
    question = f"select distinct _batch_id from {quoted_table(delta)}"  # noqa: S608 - the name is checked
    return [str(row[0]) for row in _done(client, table, question)]


def clear(client: bigquery.Client, table: Table, delta: str, batches: Sequence[str]) -> None:
    """Delete batches from the delta. Only once a MERGE has brought them into the base: then it may be late, or twice.

    Raises:
        GoogleAPICallError: BigQuery does not answer, or refuses.
    """
    if batches:
        ids = ", ".join(map(text_literal, batches))
        _done(client, table, f"delete from {quoted_table(delta)} where _batch_id in ({ids})")  # noqa: S608


def _done(client: bigquery.Client, table: Table, statement: str) -> list[bigquery.Row]:
    config = bigquery.QueryJobConfig(labels=job_labels("bronze", table.name))
    job = client.query(statement, job_config=config, retry=RETRY, timeout=REQUEST_SECONDS)
    return list(job.result(retry=RETRY))
