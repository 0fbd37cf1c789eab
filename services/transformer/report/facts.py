"""What the report says, gathered from the state and the bucket: it asks the warehouse nothing."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.core.batch import Batch, BatchState
from services.core.health.attention import Attention, attention
from services.core.health.overview import SPAN, TableOverview, read_objects, read_overview
from services.core.health.standing import Standing
from services.core.settings import TransformerSettings
from services.core.state.quality import Audit, Group
from services.core.state.state import PipelineState, Run
from services.core.storage import ObjectStore
from services.core.tables import Tables
from services.transformer.report.reasons import FailedObject, read_reasons


@dataclass(frozen=True)
class TableFacts:
    """How a table is."""

    name: str
    description: str
    complete_to: datetime | None
    """Up to where bronze has everything."""
    merged_at: datetime | None
    """When a batch of it was merged last."""
    open_batches: int
    """On their way: extracting, landed, loaded or held."""
    failed_batches: int
    """Within the span."""

    def lag(self, now: datetime) -> timedelta | None:
        """Now minus what bronze is complete to."""
        return now - self.complete_to if self.complete_to else None


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
    audit: Audit | None = None
    """The newest; the figures of the business are its."""
    tests: list[Standing] = field(default_factory=list)
    """How every test stands, the worst first."""
    needs: list[Attention] = field(default_factory=list)
    """What needs a person, the worst first."""
    usd_per_tib: float = 6.25
    """Price of a TiB that queries bill."""
    late_after: timedelta = timedelta(hours=26)
    """How far bronze may be behind, and how old a report may be before it says that it no longer counts."""

    def figure(self, name: str) -> list[Group] | None:
        """Groups that the newest audit has counted; None when it has not."""
        return self.audit.figures.get(name) if self.audit else None


def collect(
    settings: TransformerSettings,
    tables: Tables,
    state: PipelineState,
    objects: ObjectStore,
    now: datetime,
) -> Facts:
    """Gather the facts.

    Raises:
        Exception: the state or the bucket could not be asked.
    """
    since = now - SPAN
    found = read_objects(settings, objects)
    overview = read_overview(settings, tables, state, found, now, rested=False)
    return Facts(
        at=now,
        project=settings.gcp_project,
        tables=[_table(table, since) for table in overview.tables],
        runs=state.runs("transformer", since),
        batches=sorted((b for table in overview.tables for b in _recent(table, since)), key=lambda b: b.id),
        failed=read_reasons(objects, found.reasons),
        failed_count=len(found.failed),
        audit=overview.audits.newest,
        tests=overview.tests,
        needs=attention(overview, settings),
        usd_per_tib=settings.bigquery_usd_per_tib,
        late_after=settings.late_after,
    )


def _recent(table: TableOverview, since: datetime) -> list[Batch]:
    """Batches within the span, and older ones that are still on their way."""
    return [batch for batch in table.batches if batch.started_at >= since or batch in table.on_their_way]


def _table(table: TableOverview, since: datetime) -> TableFacts:
    batches = _recent(table, since)
    return TableFacts(
        name=table.name,
        description=table.table.description,
        complete_to=table.complete_to,
        merged_at=max((batch.merged_at for batch in batches if batch.merged_at), default=None),
        open_batches=len(table.on_their_way),
        failed_batches=sum(batch.state is BatchState.FAILED for batch in batches),
    )
