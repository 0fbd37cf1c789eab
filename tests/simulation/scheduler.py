"""Processes of which one goes on at a time, until its next call outside; what happens then, the choices decide.

A process is a greenlet: it cannot tell that it is stopped in the middle of a call. Before a call outside it may be
frozen while time passes for the others, or killed; the call may fail before it is done, or its answer may get lost
after it. A process that was killed reaches the outside no more, whatever its code still tries.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from services.core.machine import Answer, Given
from tests.simulation.choices import Choices

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP = 0.01
"""Seconds that a call takes."""

FREEZES = (1.0, 20.0, 90.0, 1_000.0)
"""Seconds for which a process may stand still: shorter than a lease, and longer."""


class Dead(GreenletExit):
    """The process was killed."""


@dataclass(frozen=True)
class Odds:
    """How likely what is eventful is, before a call."""

    other: float = 0.2
    """Another process goes on."""
    fails: float = 0.02
    freezes: float = 0.01
    dies: float = 0.01


@dataclass
class Process:
    """A process, or one of its threads."""

    name: str
    skew: float
    """Seconds by which its machine's clock is ahead."""
    green: Any = None
    calls: str = ""
    """What it is about to call."""
    fails: Callable[[], Exception] | None = None
    """The error of that call if it fails; None if it cannot."""
    wakes: float = 0.0
    """When it goes on, in seconds since the beginning."""
    dead: bool = False
    error: BaseException | None = None
    """What it ended with."""
    threads: list["Process"] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether it does no more."""
        return bool(self.green.dead)


class Scheduler:
    """Lets processes go on; it is the machine that they all run on."""

    def __init__(self, choices: Choices, odds: Odds = Odds()) -> None:
        """Begin.

        Args:
            choices: decides.
            odds: how likely what is eventful is.
        """
        self.choices, self.odds = choices, odds
        self.time = 0.0
        """Seconds since the beginning."""
        self.processes: list[Process] = []
        self.story: list[str] = []
        """Who did what when."""
        self.quiet = False
        """Whether nothing eventful happens any more."""
        self._hub = getcurrent()
        self._tokens = 0
        self._verdict: Exception | None = None
        self._lost = False

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self, name: str, work: Callable[[], object], skew: float = 0.0) -> Process:
        """Start a process; it does nothing yet."""
        process = Process(name, skew, wakes=self.time)

        def run() -> None:
            try:
                work()
            except Dead:
                pass
            except BaseException as error:  # noqa: BLE001 - whoever started it looks at it
                process.error = error

        process.green = greenlet(run, self._hub)
        process.green.process = process
        self.processes.append(process)
        self.story.append(f"{self.time:8.2f} {name} starts")
        return process

    def kill(self, process: Process) -> None:
        """Kill a process with all its threads."""
        self.story.append(f"{self.time:8.2f} {process.name} is killed before {process.calls or 'it begins'}")
        for each in (process, *process.threads):
            each.dead = True
        for each in (*process.threads, process):
            if not each.ended:
                each.green.throw(Dead)

    def outside(self, what: str, call: Callable[[], Answer], fails: Callable[[], Exception] | None = None) -> Answer:
        """Called by a process: a call outside.

        Args:
            what: what it is, in a word.
            call: does it.
            fails: gives the error with which it may fail; None if it cannot.
        """
        process = self._current()
        if process is None:
            return call()
        process.calls, process.fails = what, fails
        self._wait(process)
        verdict, lost = self._verdict, self._lost
        self._verdict, self._lost = None, False
        if verdict is not None and not lost:
            raise verdict
        answer = call()
        if verdict is not None:
            raise verdict
        return answer

    def _wait(self, process: Process) -> None:
        if process.dead:
            raise Dead
        self._hub.switch()
        if process.dead:
            raise Dead

    @staticmethod
    def _current() -> Process | None:
        return getattr(getcurrent(), "process", None)

    # --- what happens -------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let one thing happen; False when all processes have ended."""
        for process in self.processes:
            if process.dead and not process.ended:
                process.green.throw(Dead)
        self.processes = [process for process in self.processes if not process.ended]
        if not self.processes:
            return False
        soonest = min(process.wakes for process in self.processes)
        if soonest > self.time:
            self.time = soonest
        ready = [process for process in self.processes if process.wakes <= self.time]
        odds = self.odds
        process = ready[0 if self.quiet else self.choices.one_of(len(ready), odds.other)]
        self.time += STEP
        if not self.quiet and process.calls and self._troubled(process):
            return True
        process.green.switch()
        if process.wakes <= self.time and not process.ended:
            # Whoever has just gone on stays first: without another decision it goes on.
            self.processes.remove(process)
            self.processes.insert(0, process)
        return True

    def _troubled(self, process: Process) -> bool:
        """Decide whether something befalls a process before its call; True if it does not go on now."""
        odds, choices = self.odds, self.choices
        if choices.happens(odds.dies):
            self.kill(process)
            return True
        if choices.happens(odds.freezes):
            seconds = FREEZES[choices.one_of(len(FREEZES), 0.7)]
            self.story.append(f"{self.time:8.2f} {process.name} stands still for {seconds:g} s before {process.calls}")
            for each in (process, *process.threads):
                each.wakes = max(each.wakes, self.time) + seconds
            return True
        if process.fails is not None and choices.happens(odds.fails):
            self._verdict, self._lost = process.fails(), choices.happens(0.5)
            how = "is done, and its answer is lost" if self._lost else "fails"
            self.story.append(f"{self.time:8.2f} {process.name}: {process.calls} {how}")
        return False

    # --- the machine --------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time of the clock of the machine that asks."""
        process = self._current()
        return BEGIN + timedelta(seconds=self.time + (process.skew if process else 0.0))

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """Wait."""
        process = self._current()
        if process is None:
            self.time += seconds
            return
        process.calls, process.fails = "it wakes", None
        process.wakes = self.time + seconds
        self._wait(process)

    def token_hex(self, size: int) -> str:
        """Another one each time."""
        self._tokens += 1
        return f"{self._tokens:0{2 * size}x}"

    @contextmanager
    def repeating(self, name: str, seconds: float, work: Callable[[], bool]) -> Iterator[None]:
        """Within a block, work is repeated by a thread of the process."""
        process, stopped = self._current(), False

        def repeat() -> None:
            while True:
                self.sleep(seconds)
                if stopped or not work():
                    return

        if process is None:
            yield
            return
        thread = self.start(f"{process.name}'s {name}", repeat, process.skew)
        process.threads.append(thread)
        try:
            yield
        finally:
            stopped = True
            process.threads.remove(thread)
            thread.dead = True  # the next step ends it

    def side_by_side(
        self, given: Iterable[Given], ask: Callable[[Given], Answer], most: int, name: str
    ) -> list[Answer]:
        """Ask one after the other: between any two calls others go on all the same."""
        return [ask(each) for each in given]
