"""What a seed decides: a schedule is a list of small numbers, of which 0 is always the uneventful one.

So a shorter list, or one with smaller numbers, is a simpler story; after its end nothing eventful happens any more.
"""

import random
from collections.abc import Callable, Sequence


class Choices:
    """Decisions, by a seed or as they were recorded."""

    def __init__(self, seed: int | None = None, recorded: Sequence[int] = ()) -> None:
        """Begin.

        Args:
            seed: decides what is not recorded; None decides for the uneventful.
            recorded: the first decisions.
        """
        self._random = random.Random(seed) if seed is not None else None  # noqa: S311 - no secret
        self._recorded = list(recorded)
        self.made: list[int] = []
        """All decisions so far."""

    def one_of(self, number: int, eventful: float = 0.5) -> int:
        """Decide for one of ``number`` things; the first is the uneventful one.

        Args:
            number: of how many.
            eventful: how likely another than the first is.
        """
        place = len(self.made)
        if place < len(self._recorded):
            chosen = min(self._recorded[place], number - 1)
        elif self._random is None or number == 1 or self._random.random() >= eventful:
            chosen = 0
        else:
            chosen = 1 + int(self._random.random() * (number - 1))
        self.made.append(chosen)
        return chosen

    def happens(self, likely: float) -> bool:
        """Decide whether something happens that need not."""
        return self.one_of(2, likely) == 1


def shortened(made: Sequence[int], fails: Callable[[list[int]], bool], most: int = 2_000) -> list[int]:
    """The shortest schedule that can be found which still fails, by leaving decisions out and making others smaller.

    Args:
        made: the decisions of a failing schedule.
        fails: whether a schedule fails, in the same way.
        most: schedules that are tried.
    """
    best = _without_end(list(made))
    tried = 0
    size = max(len(best) // 2, 1)
    while size and tried < most:
        place, smaller = len(best), False
        while place > 0 and tried < most:
            begin = max(place - size, 0)
            for candidate in (best[:begin] + best[place:], best[:begin] + [0] * (place - begin) + best[place:]):
                candidate = _without_end(candidate)
                if _simpler(candidate, best):
                    tried += 1
                    if fails(candidate):
                        best, smaller = candidate, True
                        break
            place = min(begin, len(best))
        if not smaller or size > 1:
            size //= 2
    return best


def _without_end(made: list[int]) -> list[int]:
    while made and made[-1] == 0:
        made = made[:-1]
    return made


def _simpler(one: list[int], other: list[int]) -> bool:
    return (len(one), sum(map(bool, one)), sum(one)) < (len(other), sum(map(bool, other)), sum(other))
