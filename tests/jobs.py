"""BigQuery's jobs as a stand-in for tests without a warehouse: an id is taken once, and a job's end can be asked."""

from types import SimpleNamespace
from typing import Any, cast

from google.api_core.exceptions import Conflict, NotFound
from google.cloud.bigquery.job import QueryJob


class Jobs:
    """The part of BigQuery's client that ``services.core.jobs`` and ``services.core.cost`` use."""

    location = "US"

    def __init__(self) -> None:
        self.sent: dict[str, QueryJob] = {}
        self.listed: list[Any] = []
        """What is listed: the jobs that a test says, as whoever sends one through here sets no labels."""

    def get_job(self, job_id: str, **_: Any) -> QueryJob:
        if job_id not in self.sent:
            raise NotFound(f"Not found: Job {job_id}")  # type: ignore[no-untyped-call]
        return self.sent[job_id]

    def list_jobs(self, **_: Any) -> list[Any]:
        return self.listed

    def query(self, statement: str, job_id: str, **_: Any) -> QueryJob:
        return self.send(job_id, statement)

    def send(self, job_id: str, statement: str, rows: int | None = None, reason: str | None = None) -> QueryJob:
        """Send a job, which ends at once; raises Conflict when its id was sent before."""
        if job_id in self.sent:
            raise Conflict(f"Already Exists: Job {job_id}")  # type: ignore[no-untyped-call]
        status: dict[str, Any] = {"state": "DONE"}
        if reason is not None:
            status["errorResult"] = {"reason": reason, "message": f"why {reason}"}
        resource = {
            "jobReference": {"projectId": "p", "jobId": job_id, "location": "US"},
            "configuration": {"query": {"query": statement}},
            "status": status,
            "statistics": {"query": {} if rows is None else {"numDmlAffectedRows": str(rows)}},
        }
        self.sent[job_id] = QueryJob.from_api_repr(resource, cast(Any, SimpleNamespace(project="p", location="US")))
        return self.sent[job_id]
