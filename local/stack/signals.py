"""End in order when a signal comes: what was started must be stopped, whichever signal it is."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise SystemExit here, as SIGINT raises KeyboardInterrupt, so that `finally` runs.

    A handler that the program has set itself stays. Does nothing outside the main thread, which alone gets signals.
    """
    with _handlers({number: _exit for number in _ENDING if _is_default(number)}):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore the signals that end a program: stopping what was started takes seconds and must not be cut short."""
    with _handlers(dict.fromkeys(_ENDING, signal.SIG_IGN)):
        yield


@contextmanager
def _handlers(handlers: dict[signal.Signals, object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_default(number: signal.Signals) -> bool:
    return number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)
