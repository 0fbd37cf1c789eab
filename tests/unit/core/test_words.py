"""Times, durations and counts as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.core.words import counted, minute, moment, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (18_240, "5 h 4 min"),
        (18_240.9, "5 h 4 min"),
        (90_000, "1 d 1 h"),
        (86_400 + 300, "1 d"),
        (3600 + 59, "1 h"),
        (-5, "0 s"),
    ],
)
def test_a_duration_has_its_two_greatest_units(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_times_are_utc_and_nothing_is_a_dash() -> None:
    at = datetime(2026, 11, 23, 1, 20, 5, tzinfo=timezone(timedelta(hours=3)))
    assert (moment(at), minute(at)) == ("2026-11-22 22:20:05", "2026-11-22 22:20")
    assert (moment(None), minute(None), span(None)) == ("–", "–", "–")
    assert moment(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 00:00:00"


def test_a_number_has_its_noun() -> None:
    assert counted(1, "batch", "batches") == "1 batch"
    assert counted(4_844_529, "row") == "4,844,529 rows"
