"""Processes of which one goes on at a time, until its next call outside; what happens then, the choices decide.

A process is a greenlet: it cannot tell that it is stopped in the middle of a call. Before a call outside it may be
frozen while time passes for the others, or killed; the call may fail before it is done, or its answer may get lost
after it. A process that was killed reaches the outside no more, whatever its code still tries.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from greenlet import GreenletExit, getcurrent, greenlet

from services.core.machine import Answer, Given
from tests.simulation.choices import Choices

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP = 0.01
"""Seconds that a call takes."""

MOST_CALLS = 30_000
"""Calls of a schedule. One that needs more does not come to rest."""

FREEZES = (1.0, 20.0, 90.0, 1_000.0)
"""Seconds for which a process may stand still: shorter than a lease, and longer."""


class Dead(GreenletExit):
    """The process was killed."""


class Endless(BaseException):
    """A process goes on and on; raised past every handler of its code."""


@dataclass(frozen=True)
class Odds:
    """How likely what is eventful is, before a call."""

    other: float = 0.2
    """Another process goes on."""
    fails: float = 0.01
    freezes: float = 0.003
    dies: float = 0.003
    writes: float = 6.0
    """So many times as often before a call that can change something outside."""
    slow: float = 0.05
    """A job waits before it runs; an event comes late; a list is one of a moment ago."""


@dataclass
class Process:
    """A process, or one of its threads."""

    name: str
    skew: float
    """Seconds by which its machine's clock is ahead."""
    sure: bool = False
    """Whether nothing befalls it."""
    green: Any = None
    calls: str = ""
    """What it is about to call."""
    about: tuple[Any, ...] = ()
    """What that call is given."""
    writes: bool = False
    """Whether that call can change something outside."""
    fails: Callable[..., Exception] | None = None
    """Gives the error of that call if it fails; None if it cannot."""
    wakes: float = 0.0
    """When it goes on, in seconds since the beginning."""
    dead: bool = False
    error: BaseException | None = None
    """What it ended with."""
    then: Callable[["Process"], object] = lambda process: None
    """Called once it has ended."""
    stood_still: Callable[["Process", float], object] = lambda process, seconds: None
    """Called when it begins to stand still, for so many seconds."""
    threads: list["Process"] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether it does no more."""
        return bool(self.green.dead)

    @property
    def next_call(self) -> str:
        """What it is about to call, in words."""
        words = [f"{each.collection}/{each.id}" if hasattr(each, "collection") else each for each in self.about[:2]]
        text = [word.rsplit("/", 1)[-1] for word in words if isinstance(word, str) and word]
        return " ".join([self.calls, *text])


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
        self._calls = 0
        self._hub = getcurrent()
        self._tokens = 0
        self._verdict: Exception | None = None
        self._lost = False

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        work: Callable[[], object],
        skew: float = 0.0,
        *,
        sure: bool = False,
        then: Callable[[Process], object] = lambda process: None,
    ) -> Process:
        """Start a process; it does nothing yet.

        Args:
            name: for the story.
            work: what it does.
            skew: seconds by which its machine's clock is ahead.
            sure: whether nothing befalls it, as nothing befalls Google's own.
            then: called once it has ended.
        """
        process = Process(name, skew, sure, wakes=self.time, then=then)

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
        if not sure:
            self.say(f"{name} starts")
        return process

    def say(self, what: str) -> None:
        """Tell what happens, in the story."""
        self.story.append(f"{self.time:8.2f} {what}")

    def kill(self, process: Process) -> None:
        """Kill a process with all its threads."""
        self.say(f"{process.name} is killed before {process.next_call or 'it begins'}")
        for each in (process, *process.threads):
            each.dead = True
        for each in (*process.threads, process):
            if not each.ended:
                each.green.throw(Dead)

    def outside(
        self,
        what: str,
        call: Callable[[], Answer],
        fails: Callable[..., Exception] | None = None,
        about: tuple[Any, ...] = (),
        *,
        writes: bool = False,
    ) -> Answer:
        """Called by a process: a call outside.

        Args:
            what: what it is, in a word.
            call: does it.
            fails: gives the error with which it may fail, given whether it was done (``lost``); None if it cannot.
            about: what it is given.
            writes: whether it can change something outside.
        """
        process = self._current()
        if process is None:
            return call()
        self._calls += 1
        if self._calls > MOST_CALLS:
            raise Endless(f"{process.name} comes to no end, before {what}")
        if self.quiet and not process.dead:
            self.time += STEP
            return call()
        process.calls, process.about, process.writes, process.fails = what, about, writes, fails
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
        for process in [process for process in self.processes if process.ended]:
            self.processes.remove(process)
            process.then(process)
        if not self.processes:
            return False
        soonest = min(process.wakes for process in self.processes)
        if soonest > self.time:
            self.time = soonest
        ready = [process for process in self.processes if process.wakes <= self.time]
        odds = self.odds
        process = ready[0 if self.quiet else self.choices.one_of(len(ready), odds.other)]
        self.time += STEP
        if not (self.quiet or process.sure) and process.calls and self._troubled(process):
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
        often = odds.writes if process.writes else 1.0
        if choices.happens(odds.dies * often):
            self.kill(process)
            return True
        if choices.happens(odds.freezes * often):
            seconds = FREEZES[choices.one_of(len(FREEZES), 0.7)]
            self.say(f"{process.name} stands still for {seconds:g} s before {process.next_call}")
            for each in (process, *process.threads):
                each.wakes = max(each.wakes, self.time) + seconds
            process.stood_still(process, seconds)
            return True
        if process.fails is not None and choices.happens(odds.fails * often):
            self._lost = choices.happens(0.5)
            self._verdict = process.fails(lost=self._lost)
            how = "is done, and its answer is lost" if self._lost else "fails"
            self.say(f"{process.name}: {process.next_call} {how}: {self._verdict}")
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
        process.calls, process.about, process.writes, process.fails = "it wakes", (), False, None
        process.wakes = self.time + seconds
        self._wait(process)

    def token_hex(self, size: int) -> str:
        """Another one each time."""
        self._tokens += 1
        return f"{self._tokens:0{2 * size}x}"

    def lock(self) -> AbstractContextManager[Any]:
        """A lock: who waits for it lets the others go on."""
        return _Lock(self)

    def local(self) -> Any:
        """An object whose attributes each thread of a process has for itself."""
        return _Local()

    @contextmanager
    def repeating(self, name: str, seconds: float, work: Callable[[], bool]) -> Iterator[None]:
        """Within a block, work is repeated by a thread of the process; what it is at in the end is waited for."""
        process, stopped, at_work = self._current(), False, False

        def repeat() -> None:
            nonlocal at_work
            while True:
                self.sleep(seconds)
                if stopped:
                    return
                at_work = True
                try:
                    if not work():
                        return
                finally:
                    at_work = False

        if process is None:
            yield
            return
        thread = self.start(f"{process.name}'s {name}", repeat, process.skew)
        process.threads.append(thread)
        try:
            yield
        finally:
            stopped = True
            while at_work and not process.dead:
                self.sleep(STEP)
            process.threads.remove(thread)
            thread.dead = True  # the next step ends it

    def side_by_side(
        self, given: Iterable[Given], ask: Callable[[Given], Answer], most: int, name: str
    ) -> list[Answer]:
        """Ask one after the other: between any two calls others go on all the same."""
        return [ask(each) for each in given]


class _Lock:
    """Held by one thread at a time; the others sleep a step, and look again."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._held = scheduler, False

    def __enter__(self) -> None:
        while self._held:
            self._scheduler.sleep(STEP)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class _Local:
    """Attributes by greenlet."""

    def __init__(self) -> None:
        object.__setattr__(self, "_by_thread", WeakKeyDictionary())

    def __getattr__(self, name: str) -> Any:
        try:
            return self._by_thread[getcurrent()][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._by_thread.setdefault(getcurrent(), {})[name] = value
