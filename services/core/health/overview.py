"""What is seen of the pipeline at one moment: the state, and the objects in landing/ and failed/. Nothing is judged."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.core.batch import Batch, BatchState
from services.core.health.standing import Standing, standings
from services.core.rejection import REASON
from services.core.settings import CoreSettings
from services.core.state.extractions import LastExtractions, all_last_extractions
from services.core.state.lease import LeaseView, leases, look
from services.core.state.quality import Audits, RowTests, audits, row_tests
from services.core.state.state import PipelineState, Run, TableProgress
from services.core.storage import ObjectStore, StoredObject
from services.core.tables import Table, Tables

SPAN = timedelta(days=7)
"""How far back batches and runs are looked at."""

TRANSFORM_LEASE = "transform"


def complete_to(watermark: datetime | None, last: LastExtractions | None) -> datetime | None:
    """Up to where bronze has everything: the watermark, or beyond it, where an extraction found nothing to bring.

    A table that rests is not behind: its runs find nothing, and leave the watermark where it is.
    """
    quiet = last.quiet if last else None
    if quiet is None or not quiet.starts_within(watermark):
        return watermark
    return quiet.high if watermark is None else max(watermark, quiet.high)


@dataclass(frozen=True)
class TableOverview:
    """A declared table as the state has it."""

    table: Table
    watermark: datetime | None
    batches: list[Batch]
    """Begun within the span, or open; of a table that rested so long, all, if they were asked for. Oldest first."""
    extractions: LastExtractions | None
    lease: LeaseView | None
    """On its extraction."""

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def last_batch(self) -> Batch | None:
        """The newest batch."""
        return self.batches[-1] if self.batches else None

    @property
    def on_their_way(self) -> list[Batch]:
        """Batches that are not in bronze yet, and have not failed."""
        return [batch for batch in self.batches if batch.open and batch.state is not BatchState.MERGED]

    @property
    def complete_to(self) -> datetime | None:
        """Up to where bronze has everything."""
        return complete_to(self.watermark, self.extractions)

    def behind(self, now: datetime) -> timedelta | None:
        """Now minus what bronze is complete to; None when it has nothing yet."""
        complete_to = self.complete_to
        return None if complete_to is None else now - complete_to

    def at_work(self, now: datetime) -> bool:
        """Whether somebody extracts the table: a run holds the lease."""
        return _held(self.lease, now)


@dataclass(frozen=True)
class Objects:
    """What lies in the bucket."""

    landed: list[StoredObject]
    failed: list[StoredObject]
    """Without the reasons beside them."""
    reasons: list[StoredObject] = field(default_factory=list)
    """Why they failed, ``<object>.error.json``."""


@dataclass(frozen=True)
class Overview:
    """What is seen of the pipeline."""

    at: datetime
    late_after: timedelta
    """The setting: how far bronze may be behind."""
    tables: list[TableOverview]
    objects: Objects
    left: bool = False
    """Whether silver and gold are behind bronze, and no transformer is at work on them."""
    last_run: Run | None = None
    """The transformer's newest run, if silver and gold are behind bronze."""
    audits: Audits = field(default_factory=Audits)
    row_tests: list[RowTests] = field(default_factory=list)
    """What the row tests of batches found since the newest audit."""

    @property
    def tests(self) -> list[Standing]:
        """How every test stands, the worst first."""
        return standings(self.audits.newest, self.row_tests)


def read_objects(settings: CoreSettings, objects: ObjectStore) -> Objects:
    """Look at landing/ and failed/.

    Raises:
        Exception: the bucket does not answer.
    """
    failed = objects.list(settings.landing_bucket, f"{settings.failed_prefix}/")
    return Objects(
        landed=list(_things(objects.list(settings.landing_bucket, f"{settings.landing_prefix}/"))),
        failed=list(_things(failed)),
        reasons=[stored for stored in failed if stored.name.endswith(REASON)],
    )


def read_overview(
    settings: CoreSettings,
    tables: Tables,
    state: PipelineState,
    objects: Objects,
    now: datetime,
    *,
    rested: bool = True,
) -> Overview:
    """Look at the state, in a number of questions that does not grow with that of the tables.

    Args:
        settings: how late bronze may be.
        tables: the declared ones.
        state: what is looked at.
        objects: what was seen in the bucket.
        now: the time.
        rested: whether tables without a batch within the span are asked for their older ones, each by a question of its
            own. Without that, they are only where one of their batches failed.

    Raises:
        Exception: the state does not answer.
    """
    # Asked before the lease, and again after it: what is due is due while nobody is at it.
    due = state.downstream_due()
    transforming = _held(look(state.store, TRANSFORM_LEASE), now)
    runs = state.runs("transformer", now - SPAN) if due else []
    return Overview(
        at=now,
        late_after=settings.late_after,
        tables=_tables(state, tables, now, rested=rested),
        objects=objects,
        left=bool(due) and not transforming and bool(state.downstream_due()),
        last_run=runs[-1] if runs else None,
        audits=audits(state.store),
        row_tests=row_tests(state.store),
    )


def _tables(state: PipelineState, tables: Tables, now: datetime, *, rested: bool) -> list[TableOverview]:
    """Each table with what the state has of it; all of a kind is asked for at once."""
    batches: dict[str, dict[str, Batch]] = {table.name: {} for table in tables.tables}
    recent = state.batches_since(now - SPAN)
    for batch in (*recent, *state.all_open_batches()):
        batches.get(batch.table, {})[batch.id] = batch
    active = {batch.table for batch in recent}
    failed = {batch.table for batch in state.all_failed_batches()}
    for name in batches.keys() - active:
        if rested or name in failed:
            batches[name] |= {batch.id: batch for batch in state.batches_of_table(name)}
    progress, extractions, held = state.all_progress(), all_last_extractions(state.store), leases(state.store)
    return [
        TableOverview(
            table=table,
            watermark=progress.get(table.name, TableProgress()).watermark,
            batches=[batches[table.name][id_] for id_ in sorted(batches[table.name])],
            extractions=extractions.get(table.name),
            lease=held.get(f"extract-{table.name}"),
        )
        for table in tables.tables
    ]


def _held(lease: LeaseView | None, now: datetime) -> bool:
    return lease is not None and lease.held(now)


def _things(found: Iterable[StoredObject]) -> Iterable[StoredObject]:
    """Objects, without the reasons beside them and without folders that a person has made."""
    return (stored for stored in found if not stored.name.endswith((REASON, "/")))
