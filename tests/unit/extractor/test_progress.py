"""Progress is told in lines of the log, and telling it never fails an extraction."""

import structlog

from services.core import machine
from services.extractor.progress import LOG_SECONDS, LoggedProgress
from tests.simulation.choices import Choices
from tests.simulation.scheduler import Scheduler


def told(rows: int, estimated: int, seconds: float) -> list[dict[str, object]]:
    """What is logged when a part with so many rows lands after so many seconds."""
    scheduler, progress = Scheduler(Choices()), LoggedProgress()
    with structlog.testing.capture_logs() as logs, machine.running_on(scheduler):
        progress.started("t", estimated)
        scheduler.time += seconds
        progress.landed("t", rows, 1_000)
    return [dict(line) for line in logs]


def test_rows_their_speed_and_the_time_left() -> None:
    [line] = told(2_000, 6_000, 20.0)
    assert (line["rows"], line["rows_per_second"], line["seconds_left"]) == (2_000, 100, 40)


def test_nothing_is_told_too_often() -> None:
    assert told(2_000, 6_000, LOG_SECONDS - 1.0) == []


def test_a_table_that_was_emptied_has_no_speed_however_long_it_took() -> None:
    [line] = told(0, 6_000, 1_000.0)
    assert (line["rows"], line["rows_per_second"], line["seconds_left"]) == (0, 0, None)


def test_more_rows_than_the_planner_estimated_leave_nothing() -> None:
    [line] = told(6_000, -1, 20.0)
    assert line["seconds_left"] == 0
