"""Processes that wait before every call to the outside, so that they can be stopped, overtaken, or killed there."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

LEASE = timedelta(hours=1)
AT_WORK: ContextVar["Stepwise"] = ContextVar("AT_WORK")
"""The source as the process of this thread asks it."""


class Killed(BaseException):
    """The process is gone; nothing that it does reaches the outside any more."""


class Process:
    """A process that waits before every call to the outside until it is told to go on."""

    def __init__(self, kind: str, work: Callable[["Process"], object]) -> None:
        self.kind = kind
        self.before = "its first step"
        self.ended = False
        self.execution: str | None = None
        """Of an extractor."""
        self.error: BaseException | None = None
        self._work, self._dead = work, False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def _run(self) -> None:
        try:
            self._work(self)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - looked at by the history
            self.error = error
        self.ended = True
        self._stopped.release()

    def outside(self, what: str, call: Callable[[], Any]) -> Any:
        """Called by the process itself."""
        if not self._dead:
            self.before = what
            self._stopped.release()
            self._go.acquire()
        if self._dead:
            raise Killed
        return call()

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            if not self.ended:
                self._go.release()
                self._stopped.acquire()

    def finish(self) -> None:
        while not self.ended:
            self.advance(1)

    def kill(self) -> None:
        self._dead = True
        self._go.release()
        self._thread.join()


class Stepwise:
    """Something outside of a process: every call is one step."""

    def __init__(self, process: Process, name: str, inner: object) -> None:
        self._process, self._name, self._inner = process, name, inner

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._inner, method)
        return lambda *args, **named: self._process.outside(
            f"{self._name}.{method} {subject(*args)}".strip(), lambda: call(*args, **named)
        )


def subject(*args: object) -> str:
    """What a call is about, in a word."""
    words = [getattr(arg, "collection", arg) for arg in args]
    text = [word for word in words if isinstance(word, str)]
    for end, word in ((".manifest.json", "manifest"), (".parquet", "part"), (".error.json", "reason")):
        if any(name.endswith(end) for name in text):
            return word
    return text[0] if text and text[0].isalpha() else ""


class Inline:
    """An executor that works at once, so that a process is at one place at a time."""

    def __init__(self, *_: object, **__: object) -> None:
        return

    def submit(self, call: Callable[..., Any], *args: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except BaseException as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future

    def shutdown(self, **_: object) -> None:
        return

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None:
        return


class Wall(datetime):
    """The machines' clock, by which leases expire."""

    shown: ClassVar[datetime] = datetime(2026, 11, 22, 12, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.shown
