"""The machine is asked in one place, and another one can be put in."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_exception_type, wait_fixed

from services.core import machine

SERVICES = Path(machine.__file__).parents[1]
ASKS_ITSELF = re.compile(
    r"datetime\.now\(|\btime\.(?:monotonic|sleep|time)\(|\bsecrets\.|\brandom\.|threading\.Timer\("
)
"""What a module must not ask the real machine."""

OUTSIDE = {
    "core/machine.py": "it is the one place",
    "core/state/sqlite.py": "a file's lock is of this machine",
    "extractor/source/terms.py": "a name for this process's sessions",
    "extractor/source/refusal.py": "libpq's socket is waited for",
    "extractor/progress.py": "what a person sees",
    "loader/files/reader.py": "a process of its own is stopped",
}
"""Modules of the services that the simulation does not run, or that may ask, and why."""


def test_nothing_else_asks_for_the_time_or_waits() -> None:
    asking = {
        str(path.relative_to(SERVICES))
        for path in SERVICES.rglob("*.py")
        if path.relative_to(SERVICES).parts[0] in ("core", "extractor", "loader", "transformer")
        and ASKS_ITSELF.search(path.read_text())
    }
    assert {path for path in asking if "observability" not in path} - OUTSIDE.keys() == set()


class Stopped(machine.RealMachine):
    """A machine whose clock stands still, and on which nothing waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_a_retry_stops_by_the_machines_time() -> None:
    stopped = Stopped()
    with machine.running_on(stopped):
        again = Retrying(
            retry=retry_if_exception_type(KeyError),
            wait=wait_fixed(20),
            stop=machine.stopping_after(60),
            sleep=machine.sleep,
            reraise=True,
        )
        with pytest.raises(KeyError):
            again({}.__getitem__, 0)
    assert stopped.slept == [20, 20, 20]
    assert machine.monotonic() <= time.monotonic()


def test_work_is_repeated_until_its_block_ends_or_it_says_so() -> None:
    done, twice = [], threading.Event()

    def work() -> bool:
        done.append(time.monotonic())
        if len(done) == 2:
            twice.set()
        return len(done) < 2

    with machine.repeating("beat", 0.001, work):
        assert twice.wait(5)
        time.sleep(0.02)
    assert len(done) == 2
    with machine.repeating("beat", 60, work):
        pass
    assert len(done) == 2


def test_several_are_asked_at_once_and_answer_in_order() -> None:
    barrier = threading.Barrier(3, timeout=5)

    def ask(number: int) -> int:
        barrier.wait()
        return number * 10

    assert machine.side_by_side([1, 2, 3], ask, most=3) == [10, 20, 30]


@pytest.mark.parametrize("failing", [0, 2])
def test_the_first_error_is_raised_once_all_have_been_asked(failing: int) -> None:
    asked: list[Any] = []

    def ask(number: int) -> None:
        asked.append(number)
        if number >= failing:
            raise KeyError(number)

    call: Callable[[], object] = lambda: machine.side_by_side([0, 1, 2], ask)  # noqa: E731
    with pytest.raises(KeyError, match=str(failing)):
        call()
    assert sorted(asked) == [0, 1, 2]
