"""What the report says, gathered from the state, the bucket and gold."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from google.cloud import bigquery

from services.core.batch import Batch, BatchState
from services.core.settings import TransformerSettings
from services.core.state.state import PipelineState, Run
from services.core.storage import ObjectStore
from services.core.tables import Tables

SPAN = timedelta(days=7)
"""How far back the report looks."""

MOST_FAILED = 30
"""Failed objects whose reasons are shown; the newest."""

log = structlog.get_logger()


@dataclass(frozen=True)
class TableFacts:
    """How a table is."""

    name: str
    description: str
    watermark: datetime | None
    merged_at: datetime | None
    """When a batch of it was merged last."""
    open_batches: int
    """On their way: extracting, landed or loaded."""
    failed_batches: int
    """Within the span."""

    def lag(self, now: datetime) -> timedelta | None:
        """Now minus the watermark."""
        return now - self.watermark if self.watermark else None


@dataclass(frozen=True)
class FailedObject:
    """An object in failed/, as its error document says."""

    object: str
    code: str
    message: str
    table: str | None
    failed_at: str


@dataclass(frozen=True)
class Share:
    """One group of a whole."""

    name: str
    count: int


@dataclass(frozen=True)
class Facts:
    """Everything on the page."""

    at: datetime
    project: str
    tables: list[TableFacts]
    runs: list[Run]
    """The transformer's, within the span, oldest first; the last is the one that the report is about."""
    batches: list[Batch]
    """Of all tables, within the span, oldest first."""
    failed: list[FailedObject]
    failed_count: int
    """All objects in failed/."""
    rejected: list[Share] | None
    """Rows that silver left out, by reason; None when silver did not answer."""
    tiers: list[Share] | None
    """Companies by payment tier; None when gold did not answer."""

    @property
    def tests(self) -> list[dict[str, Any]]:
        """Test results of the newest run that has some."""
        for run in reversed(self.runs):
            if tests := [node for node in run.details.get("nodes", []) if node["resource_type"] == "test"]:
                return tests
        return []


def collect(
    settings: TransformerSettings,
    tables: Tables,
    state: PipelineState,
    objects: ObjectStore,
    client: bigquery.Client,
    now: datetime,
) -> Facts:
    """Gather the facts.

    Raises:
        Exception: the state or the bucket could not be asked. What silver and gold do not answer is None.
    """
    since = now - SPAN
    per_table = {name: state.batches_of_table(name, since) for name in tables.names()}
    failed, failed_count = _failed(settings, objects)
    project = settings.gcp_project
    return Facts(
        at=now,
        project=project,
        tables=[
            TableFacts(
                name=table.name,
                description=table.description,
                watermark=state.progress(table.name).watermark,
                merged_at=max((b.merged_at for b in per_table[table.name] if b.merged_at), default=None),
                open_batches=sum(b.open and b.state is not BatchState.MERGED for b in per_table[table.name]),
                failed_batches=sum(b.state is BatchState.FAILED for b in per_table[table.name]),
            )
            for table in tables.tables
        ],
        runs=state.runs("transformer", since),
        batches=sorted((b for batches in per_table.values() for b in batches), key=lambda b: b.id),
        failed=failed,
        failed_count=failed_count,
        rejected=_shares(client, f"{project}.{settings.dataset_silver}.installments_rejected", "rejection_reason"),
        tiers=_shares(client, f"{project}.{settings.dataset_gold}.company_payment_summary", "payment_tier"),
    )


def _failed(settings: TransformerSettings, objects: ObjectStore) -> tuple[list[FailedObject], int]:
    stored = objects.list(settings.landing_bucket, f"{settings.failed_prefix}/")
    reasons = sorted((o for o in stored if o.name.endswith(".error.json")), key=lambda o: o.created_at, reverse=True)
    failed = []
    for reason in reasons[:MOST_FAILED]:
        told = json.loads(objects.read(reason.bucket, reason.name) or b"{}")
        failed.append(
            FailedObject(
                object=str(told.get("object", reason.name)),
                code=str(told.get("code", "unknown")),
                message=str(told.get("message", "")),
                table=told.get("table"),
                failed_at=str(told.get("failed_at", "")),
            )
        )
    return failed, len(stored) - len(reasons)


def _shares(client: bigquery.Client, relation: str, column: str) -> list[Share] | None:
    """Rows of a relation by a column, the most first; None when it cannot be asked."""
    query = f"SELECT {column}, count(*) FROM `{relation}` GROUP BY {column} ORDER BY 2 DESC, 1"  # noqa: S608
    labels = bigquery.QueryJobConfig(labels={"credix_stage": "report"})
    try:
        return [Share(str(name), int(count)) for name, count in client.query(query, job_config=labels).result()]
    except Exception:
        log.exception("report.not_answered", relation=relation)
        return None
