"""Processes with leases and claims over a store that loses answers, in whatever order: a Hypothesis state machine.

What a process is told is compared with what the store has: nobody is refused by its own write, nobody holds what
another holds, no chunk waits for a claimant that does not know of it.
"""

import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.state.certain import CertainStore
from services.core.state.lease import Lease, acquire, clear_expired
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, Run
from services.core.state.store import Document, DocumentChanged, DocumentExists
from services.extractor.planning.plan import ChunkResult
from services.extractor.reading.work import Claim, Work, share
from tests.unit.core.lossy_store import TRIES, Fate, LossyStore, certain
from tests.unit.extractor.test_plan import plan

LONG = timedelta(hours=1)
NOW = datetime(2026, 11, 22, 17, tzinfo=UTC)
PLAN = plan(list(range(0, 500, 100)))
WORK = "work"

NEVER_KNOWN = [Fate.LOST, *[Fate.REFUSED] * (TRIES - 1)]
"""A write that was done, and whose writer gives up."""


@dataclass(frozen=True)
class By:
    """By which process something is done, and what goes wrong on its way."""

    number: int
    fates: list[Fate]
    meanwhile: int
    """After which of its calls to the store another process does something; 0 for never."""
    takes: bool
    """Whether that takes what it can, or only touches."""


numbers = st.integers(0, 5)
whoever = st.builds(
    By,
    number=numbers,
    fates=st.one_of(st.just(NEVER_KNOWN), st.lists(st.sampled_from(Fate), max_size=2 * TRIES)),
    meanwhile=st.sampled_from([0, 0, 0, 1, 2, 3]),
    takes=st.booleans(),
)


@dataclass
class Process:
    """A process: its store, the leases it thinks it has, the chunks it reads."""

    name: str
    lossy: LossyStore
    store: CertainStore
    task: Lease
    work: Work
    leases: list[Lease] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)


def result(chunk: int) -> ChunkResult:
    return ChunkResult(chunk=chunk, read_at=NOW, oldest_running=1, parts=[])


class LostAnswers(RuleBasedStateMachine):
    """The machine."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = SqliteStore(Path(":memory:"))
        share(certain(self.raw), PLAN)
        self.numbers = itertools.count(1)
        self.processes = [self._process() for _ in range(3)]
        self.tokens = [0]

    def teardown(self) -> None:
        self._all_chunks_are_read()
        self.raw.close()

    def _process(self) -> Process:
        name = f"process-{next(self.numbers)}"
        lossy = LossyStore(self.raw)
        store = certain(lossy)
        task = acquire(store, f"task-{name}", name, LONG)
        return Process(name, lossy, store, task, Work(store, PLAN, task))

    def _at(self, by: By, having: str = "name") -> Process:
        able = [process for process in self.processes if getattr(process, having)]
        process = able[by.number % len(able)]
        process.lossy.begin(by.fates)
        if by.meanwhile:
            process.lossy.then(self._take if by.takes else self._touch, by.meanwhile)
        return process

    def _touch(self) -> None:
        """Write to everything, and change nothing."""
        store = certain(self.raw)
        for document in [*store.query("leases", {}), *store.query("chunks", {})]:
            store.update(document, {})

    def _take(self) -> None:
        """The lease expires, and a passer-by takes it."""
        self.time_passes()
        self.tokens.append(acquire(certain(self.raw), WORK, "passer-by", LONG).token)

    def _seen(self, collection: str, id: str) -> Document | None:
        return self.raw.get(collection, id)

    # leases

    @rule(by=whoever, long=st.sampled_from([True, True, False]))
    def a_lease_is_taken(self, by: By, long: bool) -> None:
        process = self._at(by)
        holder = f"{process.name}-{next(self.numbers)}"
        try:
            lease = acquire(process.store, WORK, holder, LONG if long else -LONG)
        except LeaseBusy:
            now = self._seen("leases", WORK)
            assert now is None or now.data["holder"] != holder, "refused by its own write"
        except TransientError:
            pass  # whether it has the lease it does not know; nobody has it after its time
        else:
            now = self._seen("leases", WORK)
            assert now is not None
            assert lease.holder == holder
            assert lease.token not in self.tokens, "a token that was given before"
            if now.data["holder"] == holder:
                assert now.data["token"] == lease.token > max(self.tokens), "a token that does not grow"
            else:
                assert now.data["token"] > lease.token, "it had it, and a passer-by has it now"
            self.tokens.append(lease.token)
            process.leases.append(lease)

    @precondition(lambda self: any(process.leases for process in self.processes))
    @rule(by=whoever, which=numbers, releases=st.sampled_from([False, False, True]))
    def a_lease_is_renewed_or_released(self, by: By, which: int, releases: bool) -> None:
        process = self._at(by, "leases")
        lease = process.leases[-1 - which % min(2, len(process.leases))]
        try:
            if releases:
                process.leases.remove(lease)
                lease.release()
            else:
                lease.renew()
        except LeaseLost:
            now = self._seen("leases", WORK)
            assert now is None or not _has(lease, now), "lost what it has"
            process.leases.remove(lease)
        except TransientError:
            pass
        else:
            now = self._seen("leases", WORK)
            if not releases:
                assert now is not None
                assert _has(lease, now) or now.data["token"] > lease.token, "renewed what it does not have"

    @precondition(lambda self: self.tokens[1:])
    @rule()
    def time_passes(self) -> None:
        """Whatever is leased expires."""
        if (now := self._seen("leases", WORK)) is not None:
            self.raw.update(now, {"expires_at": (datetime.now(UTC) - LONG).isoformat()})

    @precondition(lambda self: self.tokens[1:])
    @rule(forget=st.booleans())
    def the_lease_is_cleared(self, forget: bool) -> None:
        clear_expired(certain(self.raw), WORK, forget=forget)

    @precondition(lambda self: self.tokens[1:])
    @rule()
    def the_leases_document_is_deleted(self) -> None:
        if (now := self._seen("leases", WORK)) is not None:
            self.raw.delete(now)

    @precondition(lambda self: any(process.lossy.late for process in self.processes))
    @rule()
    def writes_come_late(self) -> None:
        for process in self.processes:
            while process.lossy.late:
                with suppress(DocumentExists, DocumentChanged):
                    process.lossy.late.pop(0)()

    @invariant()
    def at_most_one_holds_it(self) -> None:
        now = self._seen("leases", WORK)
        holders = [lease for process in self.processes for lease in process.leases if now and _has(lease, now)]
        assert len(holders) <= 1

    # chunks

    @rule(by=whoever)
    def a_chunk_is_claimed(self, by: By) -> None:
        process = self._at(by)
        try:
            claim = process.work.claim()
        except TransientError:
            self._dies(process)  # so does the reading, and its lease with it
            return
        if claim is not None:
            assert claim.chunk not in {mine.chunk for mine in process.claims}
            process.claims.append(claim)

    @precondition(lambda self: any(process.claims for process in self.processes))
    @rule(by=whoever, done=st.booleans())
    def a_chunk_is_read(self, by: By, done: bool) -> None:
        process = self._at(by, "claims")
        claim = process.claims.pop(0)
        before = self._seen("chunks", claim.document.id)
        assert before is not None
        try:
            if done:
                process.work.done(claim, result(claim.chunk))
            else:
                claim = process.work.again(claim)
                process.claims.append(claim)
        except DocumentChanged:
            assert before.data["token"] != process.task.token, "refused what is its own"
        except TransientError:
            self._dies(process)

    @rule(number=numbers)
    def a_process_dies(self, number: int) -> None:
        self._dies(self.processes[number % len(self.processes)])

    def _dies(self, process: Process) -> None:
        """Its lease expires, and another process comes."""
        lease = self._seen("leases", process.task.name)
        assert lease is not None
        self.raw.update(lease, {"expires_at": (datetime.now(UTC) - LONG).isoformat()})
        self.processes[self.processes.index(process)] = self._process()

    @invariant()
    def no_chunk_waits_for_a_claimant_that_does_not_know(self) -> None:
        for process in self.processes:
            reads = {claim.chunk for claim in process.claims}
            for chunk in self.raw.query("chunks", {"token": process.task.token}):
                assert chunk.data["result"] is not None or chunk.data["chunk"] in reads

    def _all_chunks_are_read(self) -> None:
        """When nothing goes wrong any more: by whoever is left."""
        for process in self.processes:
            process.lossy.begin([])
        while True:
            busy = False
            for process in self.processes:
                while (claim := process.claims.pop() if process.claims else process.work.claim()) is not None:
                    process.work.done(claim, result(claim.chunk))
                    busy = True
            if not busy:
                break
        assert [found.chunk for found in self.processes[0].work.results()] == list(range(len(PLAN.bounds)))

    # other notes

    @rule(by=whoever)
    def a_run_is_noted(self, by: By) -> None:
        process = self._at(by)
        run = Run(id=f"{next(self.numbers)}", service="sweep", started_at=NOW, finished_at=NOW, outcome="succeeded")
        try:
            PipelineState(process.store).add_run(run)
        except TransientError:
            return
        assert self._seen("runs", run.id) is not None

    @rule(by=whoever)
    def bronze_changes_and_is_followed(self, by: By) -> None:
        state = PipelineState(self._at(by).store)
        try:
            state.note_downstream_due()
            due = state.downstream_due()
            assert due is not None, "somebody else has built what has only just changed"
            state.note_downstream_built(due, "d")
        except TransientError:
            return
        assert PipelineState(certain(self.raw)).downstream_due() is None


def _has(lease: Lease, document: Document) -> bool:
    return (document.data["holder"], document.data["token"]) == (lease.holder, lease.token)


TestLostAnswers = LostAnswers.TestCase
TestLostAnswers.settings = settings(max_examples=150, stateful_step_count=50)
