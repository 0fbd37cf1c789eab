"""Processes go on one at a time, as their choices say; a schedule that fails is made short."""

from datetime import timedelta

import pytest

from services.core import machine
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.state.lease import holding
from services.core.state.store import DocumentStore
from tests.simulation.choices import Choices, shortened
from tests.simulation.outside import Outside
from tests.simulation.scheduler import Odds, Scheduler
from tests.simulation.store import MemoryStore

LENGTH = timedelta(seconds=30)


def work(scheduler: Scheduler, store: DocumentStore, written: list[int], *, fenced: bool) -> None:
    """Write down a token under a lease; with a fence, only if no later holder has written."""
    try:
        with holding(store, "pen", "a process", LENGTH) as lease:
            for _ in range(3):

                def write() -> None:
                    if not fenced or not written or written[-1] <= lease.token:
                        written.append(lease.token)

                scheduler.outside("write", write)
    except (LeaseBusy, LeaseLost, TransientError):
        return


def played(choices: Choices, *, fenced: bool) -> tuple[Scheduler, list[int]]:
    written: list[int] = []
    scheduler = Scheduler(choices, Odds(freezes=0.05))
    with machine.running_on(scheduler):
        store = Outside(scheduler, "state", MemoryStore())
        for number in range(3):
            scheduler.start(f"process {number}", lambda: work(scheduler, store, written, fenced=fenced))
        while scheduler.step():
            pass
    return scheduler, written


def fails(recorded: list[int]) -> bool:
    _, written = played(Choices(recorded=recorded), fenced=False)
    return written != sorted(written)


def test_a_write_without_a_fence_is_found_and_told_in_few_words() -> None:
    for seed in range(2_000):
        choices = Choices(seed)
        _, written = played(choices, fenced=False)
        if written != sorted(written):
            break
    else:
        pytest.fail("not found")
    made = shortened(choices.made, fails)
    scheduler, _ = played(Choices(recorded=made), fenced=False)
    events = [line for line in scheduler.story if "starts" not in line]
    assert len(events) <= 2, scheduler.story
    assert "stands still" in events[0]
    assert sum(map(bool, made)) <= 6


def test_a_fence_holds_in_every_schedule() -> None:
    freezes = 0
    for seed in range(2_000):
        scheduler, written = played(Choices(seed), fenced=True)
        assert written == sorted(written), scheduler.story
        assert [process.error for process in scheduler.processes] == []
        freezes += any("stands still" in line for line in scheduler.story)
    assert freezes > 200


def test_a_seed_gives_the_same_story_again() -> None:
    for seed in range(20):
        assert played(Choices(seed), fenced=True)[0].story == played(Choices(seed), fenced=True)[0].story
    assert len({tuple(played(Choices(seed), fenced=True)[0].story) for seed in range(20)}) > 10


def test_without_events_each_does_its_work() -> None:
    scheduler, written = played(Choices(), fenced=False)
    assert len(written) == 9
    assert len(set(written)) == 3
    assert scheduler.story == [f"    0.00 process {number} starts" for number in range(3)] + [
        line for line in scheduler.story if "lease-pen" in line
    ]


def test_who_is_killed_reaches_the_outside_no_more() -> None:
    reached: list[str] = []
    scheduler = Scheduler(Choices())

    def process() -> None:
        try:
            scheduler.outside("first", lambda: reached.append("first"))
            scheduler.outside("second", lambda: reached.append("second"))
        finally:
            scheduler.outside("its end", lambda: reached.append("its end"))

    started = scheduler.start("p", process)
    scheduler.step()
    scheduler.step()
    assert reached == ["first"]
    scheduler.kill(started)
    assert not scheduler.step()
    assert reached == ["first"]
