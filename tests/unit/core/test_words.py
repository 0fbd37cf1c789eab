"""Times, durations and counts as people write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.core.words import counted, dollars, minute, moment, size, slot_time, span


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


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024**2, "10.0 MiB"),
        (660 * 1024**2, "660 MiB"),
        (1024**4 + 1024**4 // 2, "1.5 TiB"),
        (5 * 1024**6, "5.0 EiB"),
        (5000 * 1024**7, "5,000 ZiB"),
    ],
)
def test_bytes_are_told_in_the_units_that_bigquery_bills_in(number: int, words: str) -> None:
    assert size(number) == words


def test_small_sums_keep_their_digits() -> None:
    assert [dollars(value) for value in (0, 0.00391, 0.5, 1, 1234.5)] == [
        "0.00 USD", "0.0039 USD", "0.5000 USD", "1.00 USD", "1,234.50 USD",
    ]  # fmt: skip


def test_slots_work_for_seconds_or_hours() -> None:
    assert [slot_time(ms) for ms in (0, 940, 59_900, 3_660_000)] == ["0.0 s", "0.9 s", "59.9 s", "1 h 1 min"]
