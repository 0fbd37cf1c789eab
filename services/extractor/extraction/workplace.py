"""What extractions work with: what all of a process share, and what one table's turn has of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from services.core.batch import Batch
from services.core.settings import ExtractorSettings
from services.core.state.extractions import ExtractionNote
from services.core.state.lease import Lease
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.tables import Table
from services.core.telling import kind_and_words
from services.extractor.fingerprints import recall
from services.extractor.landing import Landing
from services.extractor.planning.plan import Plan
from services.extractor.progress import Progress
from services.extractor.reading.engine import Engine
from services.extractor.reading.reading import Reading, Troubled
from services.extractor.reading.sieve import Sieve
from services.extractor.source.connection import Connections, conninfo
from services.extractor.source.database import Source
from services.extractor.source.session import Sessions
from services.extractor.tasks import Task


@dataclass(frozen=True)
class Turn:
    """A table's turn: what this process holds while it extracts it."""

    lease: Lease
    note: ExtractionNote
    """What the state says of the extraction."""

    def troubled(self, error: BaseException) -> None:
        """Note that a read broke off and is tried again."""
        self.note.troubled(kind_and_words(error))


@dataclass(frozen=True)
class Workplace:
    """What every table's extraction shares."""

    settings: ExtractorSettings
    state: PipelineState
    open_objects: Callable[[], ObjectStore]
    """Opens the bucket, once: its client takes longer to import than all else together, and reading needs none."""
    run_id: str
    task: Task
    task_lease: Lease
    progress: Progress
    engine: Engine
    connections: Connections
    """For small questions: one table after the other asks on the same."""

    @property
    def objects(self) -> ObjectStore:
        """The buckets."""
        return self.open_objects()

    @property
    def patience(self) -> timedelta:
        """How long to wait for a lease: another try of this task may have died with it."""
        return self.settings.extract_lease + timedelta(seconds=5) if self.task.attempt else timedelta(0)

    def landing(self, batch: Batch) -> Landing:
        """Where a batch's parts are uploaded."""
        return Landing(self.open_objects, self.settings, batch, self.progress)

    def sieve(self, plan: Plan) -> Sieve:
        """What tells the news of a plan's rows."""
        most = self.settings.extract_fingerprints if plan.again else 0
        return Sieve(most, lambda: recall(self.settings, self.state, self.objects, plan))

    def reading(self, plan: Plan, landing: Landing, lease: Lease, troubled: Troubled, sieve: Sieve) -> Reading:
        """How a plan is read, under a lease."""
        settings = self.settings
        return Reading(
            info=conninfo(settings),
            engine=self.engine,
            plan=plan,
            landing=landing,
            part_rows=settings.extract_part_rows,
            most_attempts=settings.extract_attempts,
            hold=lease.renew,
            troubled=troubled,
            sieve=sieve,
        )

    def sessions(self, table: Table, plan: Plan, first: Source | None = None) -> Sessions:
        """The session in which chunks are read; ``first`` is a transaction that has locked the table already."""
        info, statement = conninfo(self.settings), plan.statement()
        return Sessions(info, table, statement, lambda now: self.state.take_time(table.name, now), first)
