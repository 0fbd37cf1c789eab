"""What jobs of the local warehouse bill, as its meter says (docs/emulator.md)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.cloud import bigquery

from local.cycle import Client
from services.core.warehouse import bigquery_client


@dataclass
class Billed:
    """Bytes and statements of some span."""

    statements: list[tuple[str, int]] = field(default_factory=list)
    """What each was for, and the bytes that it processed."""
    billed: int = 0
    """Bytes, with BigQuery's minimum of 10 MB per table and statement."""
    least: int = 0
    """Bytes processed, if every block of a clustered table is left out that can be."""

    @property
    def processed(self) -> int:
        """Bytes that were read."""
        return sum(size for _, size in self.statements)

    def by_stage(self) -> dict[str, int]:
        """Bytes that were read, by what for."""
        found: dict[str, int] = {}
        for stage, size in self.statements:
            found[stage] = found.get(stage, 0) + size
        return found

    def __add__(self, other: "Billed") -> "Billed":
        """Both together."""
        return Billed(self.statements + other.statements, self.billed + other.billed, self.least + other.least)


def billed_since(client: Client, began: datetime) -> Billed:
    """What the jobs billed that began since then."""
    found = Billed()
    for job in _jobs_since(warehouse(client), began):
        found.statements.append((_stage(job), job.total_bytes_processed or 0))
        found.billed += job.total_bytes_billed or 0
        # Of the local warehouse's own: the client has no name for it.
        found.least += int(job._properties["statistics"].get("query", {}).get("leastBytesProcessed", 0))
    return found


def size_of_bronze(client: Client, model: str) -> int:
    """Logical bytes of what people see of a bronze model."""
    table = f"{client.variables['GCP_PROJECT']}.{client.variables['DATASET_BRONZE']}.{model}"
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    return int(warehouse(client).query(f"select * from `{table}`", config).total_bytes_processed or 0)


def warehouse(client: Client) -> bigquery.Client:
    """The stack's warehouse."""
    return bigquery_client(client.variables["GCP_PROJECT"], "US")


def now() -> datetime:
    """The time from which on jobs are looked at."""
    return datetime.now(UTC)


def _jobs_since(client: bigquery.Client, began: datetime) -> Iterator[bigquery.QueryJob]:
    for job in client.list_jobs(min_creation_time=began, all_users=True):
        if isinstance(job, bigquery.QueryJob) and job.created and job.created >= began:
            yield job


def _stage(job: bigquery.QueryJob) -> str:
    """What a job was for, by its labels."""
    if job.labels.get("credix_kind") in ("test", "unit_test"):
        return "tests"
    if job.labels.get("credix_layer") in ("silver", "gold"):
        return "silver and gold"
    return job.labels.get("credix_stage") or "other"
