"""The MERGE of a bronze model runs under the job id that the state has noted (services/core/jobs.py).

dbt gives every statement a random job id. The macro ``merge_statement`` writes the noted id in a comment before the
MERGE; here dbt's BigQuery connection takes it from there. When the id exists already, dbt waits for that job and takes
its end for its own (``_submit_or_attach``): the transformer asks the job itself what it was.
"""

import re
from typing import Any

from dbt.adapters.bigquery.connections import BigQueryConnectionManager

_NAMED = re.compile(r"\s*(?:/\* \{.*?\} \*/\s*)?/\* job: (?P<id>[A-Za-z0-9_-]+) \*/")
"""After the query comment, which dbt puts before the statement; nothing from outside can stand there."""

_send = BigQueryConnectionManager._query_and_results


def job_of(statement: str) -> str | None:
    """The job id that a statement asks for, or None."""
    found = _NAMED.match(statement)
    return found["id"] if found else None


def name_jobs() -> None:
    """Let dbt send statements that ask for a job id under it. Safe to repeat."""
    BigQueryConnectionManager._query_and_results = _send_named  # type: ignore[method-assign]


def _send_named(
    self: Any, conn: Any, sql: str, job_params: dict[str, Any], job_id: str, limit: int | None = None
) -> Any:
    return _send(self, conn, sql, job_params, job_of(sql) or job_id, limit=limit)
