"""What jobs of the local warehouse bill, as its meter says (docs/emulator.md)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.cloud import bigquery

from local.cycle import Client
from services.core.warehouse import bigquery_client


@dataclass(frozen=True)
class Statement:
    """A statement that was run."""

    stage: str
    """What it was for."""
    processed: int
    """Bytes that it read."""
    billed: int
    """Bytes, with BigQuery's minimum of 10 MB per table and statement."""
    least: int
    """Bytes that it read, if every block of a clustered table is left out that can be."""


@dataclass(frozen=True)
class Billed:
    """The statements of some span, those that read nothing among them."""

    statements: list[Statement] = field(default_factory=list)

    @property
    def processed(self) -> int:
        """Bytes that were read."""
        return sum(each.processed for each in self.statements)

    @property
    def billed(self) -> int:
        """Bytes that are billed."""
        return sum(each.billed for each in self.statements)

    @property
    def least(self) -> int:
        """Bytes that were read, if every block of a clustered table is left out that can be."""
        return sum(each.least for each in self.statements)

    def stages(self) -> list[str]:
        """What was read for, statement by statement."""
        return [each.stage for each in self.statements]

    @property
    def reading(self) -> list[Statement]:
        """The statements that read anything."""
        return [each for each in self.statements if each.processed or each.billed]

    def of(self, *stages: str) -> "Billed":
        """The statements for these purposes alone."""
        return Billed([each for each in self.statements if each.stage in stages])

    def __add__(self, other: "Billed") -> "Billed":
        """Both together."""
        return Billed(self.statements + other.statements)


def billed_since(client: Client, began: datetime) -> Billed:
    """What the jobs billed that began since then."""
    # The last figure is the local warehouse's own: the client has no name for it.
    statements = [
        Statement(
            _stage(job),
            job.total_bytes_processed or 0,
            job.total_bytes_billed or 0,
            int(job._properties["statistics"].get("query", {}).get("leastBytesProcessed", 0)),
        )
        for job in _jobs_since(warehouse(client), began)
    ]
    return Billed(statements)


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
