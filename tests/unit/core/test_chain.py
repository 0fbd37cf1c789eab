"""Windows chain without a gap, in whatever order they come (invariants 1 and 3)."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.core.batch import Batch
from services.core.chain import Covered, covered
from services.core.tables import Mode
from services.core.window import Window

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


def batch(low: int | None, high: int, number: int = 0, *, anew: bool = False) -> Batch:
    return Batch(
        id=f"{number:08}",
        run_id="r",
        table="t",
        mode=Mode.SNAPSHOT if low is None else Mode.INCREMENTAL,
        window=Window(low=None if low is None else at(low), high=at(high)),
        extracted_at=START + timedelta(seconds=number),
        started_at=START,
        anew=anew,
    )


def furthest(start: datetime | None, batches: list[Batch]) -> datetime | None:
    return covered(Covered(start), batches).until


BATCHES = st.builds(
    lambda low, length: batch(low, (low or 0) + length), st.none() | st.integers(0, 30), st.integers(0, 10)
)


def test_a_first_run_covers_everything_up_to_its_high() -> None:
    assert furthest(None, [batch(None, 5)]) == at(5)


def test_nothing_is_covered_by_a_window_that_starts_later() -> None:
    assert furthest(None, [batch(3, 5)]) is None
    assert furthest(at(2), [batch(3, 5)]) == at(2)


def test_a_gap_stops_the_chain() -> None:
    assert furthest(at(0), [batch(0, 2), batch(3, 9)]) == at(2)
    assert furthest(at(0), [batch(3, 9), batch(2, 3), batch(0, 2)]) == at(9)


def test_the_watermark_never_falls() -> None:
    assert furthest(at(9), [batch(0, 2), batch(None, 4)]) == at(9)


def test_it_is_known_which_batch_it_rests_on() -> None:
    start = Covered(at(1), "before")
    assert covered(start, []).batch == "before"
    assert covered(start, [batch(3, 9, 1)]).batch == "before", "it leaves a gap"
    assert covered(start, [batch(1, 5, 1), batch(None, 5, 2), batch(2, 4, 3)]).batch == "00000002"
    assert covered(start, [batch(1, 1, 1)]).batch == max("before", "00000001")


def test_what_begins_anew_covers_less_and_nothing_older_counts() -> None:
    start = Covered(at(9), "before")
    anew = batch(None, 5, 2, anew=True)
    assert covered(start, [batch(9, 12, 1), anew]) == Covered(at(5), anew.id, anew.extracted_at)
    assert covered(start, [batch(5, 7, 3), anew, batch(5, 30, 1)]).until == at(7)
    after = covered(start, [anew])
    assert covered(after, [batch(5, 30, 1)]) == after, "it was read before, and is merged late"
    assert covered(after, [anew]) == after
    again = batch(None, 3, 4, anew=True)
    assert covered(after, [batch(5, 8, 3), again]) == Covered(at(3), again.id, again.extracted_at)


@given(st.none() | st.integers(0, 30), st.lists(BATCHES, max_size=8), st.randoms())
def test_every_hour_up_to_the_result_is_covered(watermark: int | None, batches: list[Batch], random: object) -> None:
    """An independent count, hour by hour: all up to the result are covered, and the next one is not."""
    start = None if watermark is None else at(watermark)
    result = furthest(start, batches)
    random.shuffle(batches)  # type: ignore[attr-defined]
    assert furthest(start, batches) == result
    windows = [batch.window for batch in batches if batch.window]

    def within_any(hour: int) -> bool:
        moment = at(hour)
        within = any((w.low is None or w.low < moment) and moment <= w.high for w in windows)
        return within or (start is not None and moment <= start)

    reached = -1
    while within_any(reached + 1):
        reached += 1
    # Without a watermark and without a first window, nothing is known to be complete.
    known = start is not None or any(w.low is None for w in windows)
    if known:
        assert result == at(reached)
    else:
        assert result is None
