"""Carry out steps that depend on one another, as many at a time as their dependencies allow."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

from local.stack.errors import StepCancelledError


@dataclass(frozen=True)
class Progress:
    """Something a user may want to see.

    Attributes:
        name: a component's name, or what is done (`initdb`, `database`, `resources`).
        state: what happened to it.
        seconds: how long it took, for `ready` and `failed`.
    """

    name: str
    state: Literal["starting", "ready", "failed", "running", "stopping", "stopped", "waiting"]
    seconds: float = 0.0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Step:
    """Something to do once.

    Attributes:
        name: unique among the steps.
        action: does it, and ends early when the event it is given is set.
        needs: names of steps that must be done before; names that no step has are taken for done.
    """

    name: str
    action: Callable[[threading.Event], None]
    needs: frozenset[str] = frozenset()


def run_steps(steps: Sequence[Step], on_progress: OnProgress) -> None:
    """Do all steps. Returns, or raises, only when no step is at work any more.

    Raises:
        BaseException: whatever the first failing step raised, or what interrupted this thread (KeyboardInterrupt).
    """
    by_name = {step.name: step for step in steps}
    order = TopologicalSorter({step.name: step.needs & by_name.keys() for step in steps})
    order.prepare()
    cancel = threading.Event()
    running: dict[Future[None], tuple[Step, float]] = {}
    with ThreadPoolExecutor(max_workers=len(steps) or 1, thread_name_prefix="step") as threads:
        try:
            while order.is_active():
                for name in order.get_ready():
                    on_progress(Progress(name, "starting"))
                    running[threads.submit(by_name[name].action, cancel)] = (by_name[name], time.monotonic())
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step, began = running.pop(future)
                    _report(future, step.name, time.monotonic() - began, on_progress)
                    order.done(step.name)
        except BaseException:
            cancel.set()  # and leaving the `with` waits for the steps at work
            raise


def _report(future: Future[None], name: str, seconds: float, on_progress: OnProgress) -> None:
    error = future.exception()
    if error is not None and not isinstance(error, StepCancelledError):
        on_progress(Progress(name, "failed", seconds))
    if error is not None:
        raise error
    on_progress(Progress(name, "ready", seconds))
