"""A transaction on the emulator's connection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def transaction(engine: Any) -> Iterator[None]:
    """Commit what the block executes on bqemulator's ``engine``, or nothing of it when the block raises.

    The block must not await: with :mod:`.one_thread`, that alone keeps other requests out of the transaction.
    """
    engine.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        engine.execute("ROLLBACK")
        raise
    engine.execute("COMMIT")
