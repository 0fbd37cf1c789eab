"""One change of a stack at a time, over processes: an advisory lock on a file in its home.

The kernel drops the lock when its holder ends, however it ends, and a component never inherits it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from local.stack.errors import StackBusyError


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock; wait up to `timeout` seconds for another holder.

    Raises:
        StackBusyError: another process still holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = Retrying(
        stop=stop_after_delay(timeout), wait=wait_fixed(0.1), retry=retry_if_result(lambda held: held is None)
    )
    try:
        descriptor = waiting(_try_lock, path)
    except RetryError as error:
        raise StackBusyError(
            f"another process has been starting or stopping this stack for {timeout:.0f} s (it holds {path}); "
            "wait for it to finish, or end it, then try again"
        ) from error
    assert descriptor is not None  # noqa: S101 - retried until it is not
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Return an open, locked descriptor, or None when another holder has it or has just removed the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed the file, with all data, after this process had opened it.
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
