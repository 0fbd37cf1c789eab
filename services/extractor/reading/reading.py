"""Reads a plan and lands its parts: by one statement, or by chunks with several readers; retries what may pass.

An attempt that breaks off is followed by another from the last finished chunk on, after a pause that grows to half a
minute: connections lost, statements cancelled, a server that restarts or fails over, a replica's recovery conflicts.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
import pyarrow as pa
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from services.core.errors import DataError, LeaseLost, TransientError
from services.core.manifest import Part
from services.core.parquet import parquet_parts
from services.core.tables import Table
from services.core.telling import told
from services.extractor.landing import Landing
from services.extractor.planning.plan import ChunkResult, Plan
from services.extractor.reading.diagnosis import cause, counted
from services.extractor.reading.engine import Engine
from services.extractor.reading.failure import EngineFailed, RowsTooWide
from services.extractor.reading.guard import SourceRewritten, check_server, check_storage
from services.extractor.reading.reader import Reader
from services.extractor.reading.sieve import Sieve, Sifting
from services.extractor.reading.work import Claim, Work
from services.extractor.source.database import Source, open_source
from services.extractor.source.errors import translated
from services.extractor.source.session import Sessions, Snapshot

log = structlog.get_logger()


Troubled = Callable[[BaseException], None]
"""Is told why a read broke off, before it is tried again."""


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, psycopg.Error):
        return isinstance(translated(error, ""), TransientError)
    return isinstance(error, TransientError) and not isinstance(error, (SourceRewritten, LeaseLost))


def _otherwise(state: RetryCallState) -> bool:
    """Whether the next attempt reads in another way, by which what broke this one off cannot come again."""
    return state.outcome is not None and isinstance(state.outcome.exception(), RowsTooWide)


def attempts(most: int, troubled: Troubled) -> Retrying:
    """The pauses between attempts: from one second, doubling, at most thirty; ``troubled`` is told of each."""

    def enough(state: RetryCallState) -> bool:
        return stop_after_attempt(most)(state) and not _otherwise(state)

    def pause(state: RetryCallState) -> float:
        return 0 if _otherwise(state) else wait_exponential_jitter(initial=1, max=30)(state)

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0
        if error is not None:
            log.warning("read.again", attempt=state.attempt_number, pause_seconds=round(pause, 1), reason=told(error))
            troubled(error)

    return Retrying(
        retry=retry_if_exception(_may_pass),
        stop=enough,
        wait=pause,
        before_sleep=say,
        reraise=True,
    )


@dataclass
class Read:
    """What reading gave, whatever way it was read."""

    parts: list[Part] = field(default_factory=list)
    unrepresentable: Counter[str] = field(default_factory=Counter)
    known: int = 0
    """Rows that are no news."""
    read_at: dict[int, datetime] = field(default_factory=dict)
    """Per statement, when its rows were read."""

    def add(self, statement: int, read_at: datetime, more: "ChunkResult | Read") -> None:
        """Add what came of a statement, a chunk's or all the catch-up's."""
        self.parts += more.parts
        self.unrepresentable.update(more.unrepresentable)
        self.known += more.known
        self.read_at[statement] = read_at


@dataclass(frozen=True)
class Reading:
    """One batch's reading, given its surroundings."""

    info: str
    """libpq connection string."""
    engine: Engine
    plan: Plan
    landing: Landing
    part_rows: int
    most_attempts: int
    hold: Callable[[], None]
    """Raises LeaseLost when this process may no longer work on the batch."""
    troubled: Troubled
    sieve: Sieve
    """What tells news."""

    def _put(
        self,
        batches: Iterator[pa.RecordBatch],
        name: Callable[[int], str],
    ) -> list[Future[Part]]:
        futures = []
        for piece, (content, rows) in enumerate(parquet_parts(batches, self.part_rows)):
            self.hold()
            futures.append(self.landing.put(name(piece), content, rows))
        return futures

    def chunks(self, work: Work, sessions: Sessions, readers: int) -> int:
        """Read chunks until there is none left to claim; returns how many were read.

        Raises:
            DataError: a value does not fit.
            TransientError: a chunk could not be read in all attempts, or the table was rewritten meanwhile.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(readers, thread_name_prefix="read") as pool:
            started = [pool.submit(copy_context().run, self._chunks, work, sessions, stop) for _ in range(readers)]
            try:
                return sum(future.result() for future in started)
            finally:
                stop.set()  # after an error, or when the process is told to end: no further chunks

    def _chunks(self, work: Work, sessions: Sessions, stop: threading.Event) -> int:
        reader = Reader(self.engine)
        read = 0
        landing: tuple[Claim, ChunkResult, list[Future[Part]], Sifting] | None = None
        try:
            while not stop.is_set() and (claim := work.claim()) is not None:
                now = self._chunk(reader, work, claim, sessions)
                # The parts of one chunk are uploaded while the next is read.
                if landing is not None:
                    self._landed(work, *landing)
                landing = now
                read += 1
            if landing is not None:
                self._landed(work, *landing)
        except BaseException:
            stop.set()
            raise
        finally:
            reader.close()
        return read

    def _chunk(
        self, reader: Reader, work: Work, claim: Claim, sessions: Sessions
    ) -> tuple[Claim, ChunkResult, list[Future[Part]], Sifting]:
        for attempt in attempts(self.most_attempts, self.troubled):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    claim = work.again(claim)
                snapshot = self.snapshot(sessions)
                sifting = self.sieve.sift(snapshot.read_at)
                counts: Counter[str] = Counter()
                statement = self.plan.statement(claim.chunk)
                futures = self._put(
                    self._batches(reader, statement, sessions, snapshot, counts, snapshot.read_at, sifting),
                    lambda piece: self.landing.part_name(claim.chunk, piece, claim.attempt),  # noqa: B023
                )
        result = ChunkResult(
            chunk=claim.chunk,
            read_at=snapshot.read_at,
            oldest_running=snapshot.oldest_running,
            parts=[],
            unrepresentable=dict(+counts),
            known=sifting.dropped,
        )
        return claim, result, futures, sifting

    def _landed(
        self, work: Work, claim: Claim, result: ChunkResult, futures: list[Future[Part]], sifting: Sifting
    ) -> None:
        parts = [future.result() for future in futures]
        work.done(claim, result.model_copy(update={"parts": parts}))
        self.sieve.take(claim.chunk, result.read_at, sifting)

    def _batches(
        self,
        reader: Reader,
        statement: str,
        sessions: Sessions | None,
        snapshot: Snapshot | None,
        counts: Counter[str],
        read_at: datetime,
        sifting: Sifting | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """What a statement gives; what breaks it off is told apart.

        Raises:
            ConfigurationError: the source refuses.
            DataError: a value does not fit.
            TransientError: the source broke off.
        """
        try:
            yield from reader.read(self.plan, statement, snapshot, read_at, counts, sifting)
        except EngineFailed as failed:
            if sessions is not None and snapshot is not None and (found := sessions.check(snapshot)) is not None:
                words = f"{found}: {failed.words}" if failed.passing else found
                raise TransientError(f"table {self.plan.table}: the source broke off: {words}") from None
            raise cause(self.info, self.plan, statement, snapshot, failed) from None
        except DataError as error:
            if error.column in self.plan.checks:
                raise counted(self.info, self.plan, error.column) from None
            raise

    def snapshot(self, sessions: Sessions) -> Snapshot:
        """The session's snapshot.

        Raises:
            SourceRewritten: ranges of pages no longer mean what they meant when the plan was made.
        """
        snapshot = sessions.current()
        check_server(self.plan, snapshot.server)
        check_storage(self.plan, snapshot.storage)
        return snapshot

    def confirm(self, source: Source, table: Table) -> None:
        """After the last chunk: no partition came that some chunks have seen and others not.

        The catalog is no part of a snapshot: a partition that is attached is there at once, for every later statement.

        Raises:
            SourceRewritten: one came, or ranges of pages no longer mean what they meant.
        """
        check_server(self.plan, source.server())
        check_storage(self.plan, source.storage(table))

    def catch_up(self, newer_than: int, sessions: Sessions) -> Read:
        """Search all pages for row versions that an earlier snapshot may not have seen (see ``plan``), and land them.

        Raises:
            DataError: a value does not fit.
            TransientError: it could not be done in all attempts, or the table was rewritten meanwhile.
        """
        log.info("read.catch_up", chunks=len(self.plan.bounds), newer_than=newer_than)
        for attempt in attempts(self.most_attempts, self.troubled):
            with attempt:
                sessions.close()  # the next snapshot is later than all before, in this process and in others
                return self._catch_up(newer_than, sessions, self.snapshot(sessions))
        raise AssertionError  # attempts() ends with a result or the last error

    def _catch_up(self, newer_than: int, sessions: Sessions, snapshot: Snapshot) -> Read:
        reader = Reader(self.engine)
        first = len(self.plan.bounds)
        distinct = int(snapshot.read_at.timestamp() * 1_000_000)  # another snapshot's parts have other names
        read = Read(read_at={first: snapshot.read_at})
        try:
            for chunk in range(first):
                statement = self.plan.statement(chunk, newer_than)
                batches = self._batches(reader, statement, sessions, snapshot, read.unrepresentable, snapshot.read_at)
                futures = self._put(batches, lambda piece: self.landing.part_name(first + chunk, piece, distinct))  # noqa: B023
                read.parts += [future.result() for future in futures]
        finally:
            reader.close()
        return read

    def stream(self, read_at: datetime, begin: Callable[[], None]) -> Read:
        """Read everything by one statement; without news there are no parts, and nothing was written anywhere.

        Args:
            read_at: value of ``_extracted_at``: not later than now.
            begin: called once, before the first part is put.

        Raises:
            DataError: a value does not fit.
            TransientError: it could not be read in all attempts.
        """
        begun = False
        for attempt in attempts(self.most_attempts, self.troubled):
            with attempt:
                number = attempt.retry_state.attempt_number
                counts: Counter[str] = Counter()
                reader = Reader(self.engine)
                sifting = self.sieve.sift(read_at)
                try:
                    batches = self._batches(reader, self.plan.statement(), None, None, counts, read_at, sifting)
                    with self._foreign_tables_locked():
                        first = next(batches, None)
                    if first is None:
                        self.sieve.take(0, read_at, sifting)
                        return Read(known=sifting.dropped, read_at={0: read_at})
                    if not begun:
                        begin()
                        begun = True
                    futures = self._put(
                        itertools.chain([first], batches),
                        lambda piece: self.landing.part_name(piece, 0, number),  # noqa: B023
                    )
                finally:
                    reader.close()
                parts = [future.result() for future in futures]
                self.sieve.take(0, read_at, sifting)
                return Read(parts, counts, sifting.dropped, {0: read_at})
        raise AssertionError  # attempts() ends with a result or the last error

    @contextmanager
    def _foreign_tables_locked(self) -> Iterator[None]:
        """Keep foreign tables locked on their own servers while a reader takes its own locks there."""
        if not self.plan.foreign_tables:
            yield
            return
        with open_source(self.info) as source:
            source.lock_foreign(self.plan.foreign_tables)
            yield
