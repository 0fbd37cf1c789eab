"""What a process asks of the machine that it runs on: the time, waiting, chance, and doing several things at once.

The services ask for these here and nowhere else (a test of the code says so). So a simulation can put another machine
in (:func:`running_on`): the services' own code then runs in the simulation's time, nothing waits, and a seed decides.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from tenacity import RetryCallState

Given = TypeVar("Given")
Answer = TypeVar("Answer")


class Machine(Protocol):
    """A machine."""

    def now(self) -> datetime:
        """The time of its clock, UTC; other machines' clocks differ from it."""

    def monotonic(self) -> float:
        """Seconds since some moment; they never go back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def token_hex(self, size: int) -> str:
        """So many bytes by chance, in hexadecimal digits."""

    def lock(self) -> AbstractContextManager[Any]:
        """A lock that one thread of a process has at a time, also while it calls the outside."""

    def local(self) -> Any:
        """An object whose attributes each thread has for itself."""

    def repeating(self, name: str, seconds: float, work: Callable[[], bool]) -> AbstractContextManager[None]:
        """Within a block, do some work again and again in the background.

        Args:
            name: what it is, for logs.
            seconds: the pause before each time.
            work: what is done; False ends it.
        """

    def side_by_side(
        self, given: Iterable[Given], ask: Callable[[Given], Answer], most: int, name: str
    ) -> list[Answer]:
        """Ask of several at a time; the answers in their order. The log's ids go with them.

        Args:
            given: what is asked about.
            ask: asks about one.
            most: asked at a time.
            name: what it is, for logs.

        Raises:
            Exception: what the first of them raises; the others have been asked.
        """


class RealMachine:
    """The machine that Python runs on."""

    def now(self) -> datetime:
        """The time of its clock, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since it started."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def token_hex(self, size: int) -> str:
        """So many bytes by chance, in hexadecimal digits."""
        return secrets.token_hex(size)

    def lock(self) -> AbstractContextManager[Any]:
        """A lock that one thread has at a time."""
        return threading.Lock()

    def local(self) -> Any:
        """An object whose attributes each thread has for itself."""
        return threading.local()

    @contextmanager
    def repeating(self, name: str, seconds: float, work: Callable[[], bool]) -> Iterator[None]:
        """Within a block, do some work again and again in a thread of its own."""
        stop = threading.Event()

        def repeat() -> None:
            while not stop.wait(seconds):
                if not work():
                    return

        thread = threading.Thread(target=repeat, name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def side_by_side(
        self, given: Iterable[Given], ask: Callable[[Given], Answer], most: int, name: str
    ) -> list[Answer]:
        """Ask of several at a time, each in a thread."""
        with ThreadPoolExecutor(most, thread_name_prefix=name) as pool:
            asked = [pool.submit(copy_context().run, ask, each) for each in given]
            return [answer.result() for answer in asked]


_machine: Machine = RealMachine()


@contextmanager
def running_on(machine: Machine) -> Iterator[None]:
    """Within the block, this process runs on another machine."""
    global _machine
    before, _machine = _machine, machine
    try:
        yield
    finally:
        _machine = before


def now() -> datetime:
    """The time of this machine's clock, UTC."""
    return _machine.now()


def monotonic() -> float:
    """Seconds since some moment; they never go back."""
    return _machine.monotonic()


def sleep(seconds: float) -> None:
    """Wait."""
    _machine.sleep(seconds)


def token_hex(size: int) -> str:
    """So many bytes by chance, in hexadecimal digits."""
    return _machine.token_hex(size)


def lock() -> AbstractContextManager[Any]:
    """A lock that one thread of this process has at a time, also while it calls the outside."""
    return _machine.lock()


def local() -> Any:
    """An object whose attributes each thread has for itself."""
    return _machine.local()


def repeating(name: str, seconds: float, work: Callable[[], bool]) -> AbstractContextManager[None]:
    """Within a block, do some work in the background every so many seconds; when it returns False, no more."""
    return _machine.repeating(name, seconds, work)


def side_by_side(
    given: Iterable[Given], ask: Callable[[Given], Answer], *, most: int = 8, name: str = "asks"
) -> list[Answer]:
    """Ask of several at a time; the answers in their order. The log's ids go with them.

    Args:
        given: what is asked about.
        ask: asks about one.
        most: asked at a time.
        name: what it is, for logs.

    Raises:
        Exception: what the first of them raises; the others have been asked.
    """
    return _machine.side_by_side(given, ask, most, name)


class stopping_after:  # noqa: N801 - named as tenacity's own
    """A stop of tenacity: after so many seconds of waiting, by the machine's time.

    Its own ``stop_after_delay`` asks the real clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, state: RetryCallState) -> bool:
        """Whether it has waited for long enough."""
        return state.idle_for >= self._seconds
