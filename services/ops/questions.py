"""Questions asked side by side, each for a limited time: what does not answer is named, and the rest is shown."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from services.core.errors import TransientError

T = TypeVar("T")

PATIENCE_SECONDS = 25.0
"""For an answer. Google's clients repeat their requests for minutes; whoever looks at the status wants to know now."""


class Question(Generic[T]):
    """A question that is asked at once, in a thread that does not keep the process from ending."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._answers: list[T] = []
        self._error: Exception | None = None
        self._ask = ask
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answers.append(self._ask())
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            self._error = error

    def answer(self, seconds: float = PATIENCE_SECONDS) -> T:
        """The answer.

        Raises:
            TransientError: there is none yet.
            Exception: what came instead.
        """
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        if not self._answers:
            raise TransientError(f"no answer within {seconds:.0f} s")
        return self._answers[0]
