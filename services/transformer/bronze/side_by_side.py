"""Asks of several tables at a time: most of what bronze does is waiting for BigQuery's answers."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

MOST = 8
"""Asked at a time."""

Given = TypeVar("Given")
Answer = TypeVar("Answer")


def side_by_side(given: Iterable[Given], ask: Callable[[Given], Answer]) -> list[Answer]:
    """Ask of several at a time; the answers in their order. The log's ids go with them.

    Raises:
        Exception: what the first of them raises; the others have been asked.
    """
    with ThreadPoolExecutor(MOST, thread_name_prefix="bronze") as pool:
        asked = [pool.submit(copy_context().run, ask, each) for each in given]
        return [answer.result() for answer in asked]
