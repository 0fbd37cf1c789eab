"""Parts that are outside of the services: every call of one is a call of the scheduler's, and may fail."""

from collections.abc import Callable
from typing import Any

from services.core.errors import TransientError
from tests.simulation.scheduler import Scheduler

_WRITES = frozenset({"create", "update", "delete", "replace", "copy", "publish", "alert"})
"""Methods that can change something outside."""


class Outside:
    """A part as the processes reach it: a call may fail before it is done, or its answer may get lost."""

    def __init__(self, scheduler: Scheduler, name: str, part: object) -> None:
        self._scheduler, self._name, self._part = scheduler, name, part

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call, what, writes = getattr(self._part, method), f"{self._name}.{method}", method in _WRITES

        def called(*given: Any, **named: Any) -> Any:
            return self._scheduler.outside(what, lambda: call(*given, **named), away, given, writes=writes)

        setattr(self, method, called)
        return called


def away(*, lost: bool) -> Exception:
    """The error of a part that does not answer."""
    return TransientError("no answer" if lost else "away")
