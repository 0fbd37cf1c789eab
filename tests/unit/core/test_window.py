"""Windows chain without a gap, in whatever order they come (invariants 1 and 3)."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.core.window import Window, furthest

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


def window(low: int | None, high: int) -> Window:
    return Window(low=None if low is None else at(low), high=at(high))


WINDOWS = st.builds(
    lambda low, length: window(low, (low or 0) + length), st.none() | st.integers(0, 30), st.integers(0, 10)
)


def test_a_first_run_covers_everything_up_to_its_high() -> None:
    assert furthest(None, [window(None, 5)]) == at(5)


def test_nothing_is_covered_by_a_window_that_starts_later() -> None:
    assert furthest(None, [window(3, 5)]) is None
    assert furthest(at(2), [window(3, 5)]) == at(2)


def test_a_gap_stops_the_chain() -> None:
    assert furthest(at(0), [window(0, 2), window(3, 9)]) == at(2)
    assert furthest(at(0), [window(3, 9), window(2, 3), window(0, 2)]) == at(9)


def test_the_watermark_never_falls() -> None:
    assert furthest(at(9), [window(0, 2), window(None, 4)]) == at(9)


@given(st.none() | st.integers(0, 30), st.lists(WINDOWS, max_size=8), st.randoms())
def test_every_hour_up_to_the_result_is_covered(watermark: int | None, windows: list[Window], random: object) -> None:
    """An independent count, hour by hour: all up to the result are covered, and the next one is not."""
    start = None if watermark is None else at(watermark)
    result = furthest(start, windows)
    random.shuffle(windows)  # type: ignore[attr-defined]
    assert furthest(start, windows) == result

    def covered(hour: int) -> bool:
        moment = at(hour)
        within = any((w.low is None or w.low < moment) and moment <= w.high for w in windows)
        return within or (start is not None and moment <= start)

    reached = -1
    while covered(reached + 1):
        reached += 1
    # Without a watermark and without a first window, nothing is known to be complete.
    known = start is not None or any(w.low is None for w in windows)
    if known:
        assert result == at(reached)
    else:
        assert result is None
