"""What dbt's jobs in BigQuery are told besides their SQL: the id of a MERGE, and the run that sends them.

**Ids.** The MERGE of a bronze model runs under the job id that the state has noted (services/core/jobs.py). dbt gives
every statement a random job id. The macro ``merge_statement`` writes the noted id in a comment before the MERGE; here
dbt's BigQuery connection takes it from there. When the id exists already, dbt waits for that job and takes its end for
its own (``_submit_or_attach``): the transformer asks the job itself what it was.

**Labels.** dbt makes a job's labels of the comment that it puts before the SQL (dbt/macros/query_comment.sql). The run
is a label only: BigQuery answers a query from its cache, for nothing, when its text is that of an earlier one, comment
included (https://cloud.google.com/bigquery/docs/cached-results).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dbt.adapters.bigquery.connections import BigQueryConnectionManager

_NAMED = re.compile(r"\s*(?:/\* \{.*?\} \*/\s*)?/\* job: (?P<id>[A-Za-z0-9_-]+) \*/")
"""After the query comment, which dbt puts before the statement; nothing from outside can stand there."""

_send = BigQueryConnectionManager._query_and_results

_labels: dict[str, str] = {}
"""Labels of all jobs that dbt sends now. Not of a context: dbt sends them from threads of its own."""


def job_of(statement: str) -> str | None:
    """The job id that a statement asks for, or None."""
    found = _NAMED.match(statement)
    return found["id"] if found else None


def tell_jobs() -> None:
    """Let dbt send statements that ask for a job id under it, and all with the labels of the time. Safe to repeat."""
    BigQueryConnectionManager._query_and_results = _send_told  # type: ignore[method-assign]


@contextmanager
def labelled(labels: dict[str, str]) -> Iterator[None]:
    """Give all jobs that dbt sends within the block these labels, too. dbt runs once at a time in a process."""
    _labels.update(labels)
    try:
        yield
    finally:
        _labels.clear()


def _send_told(
    self: Any, conn: Any, sql: str, job_params: dict[str, Any], job_id: str, limit: int | None = None
) -> Any:
    told = {**job_params, "labels": {**job_params.get("labels", {}), **_labels}}
    return _send(self, conn, sql, told, job_of(sql) or job_id, limit=limit)
