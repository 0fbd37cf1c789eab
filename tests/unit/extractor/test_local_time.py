"""What clocks that are set back show, at a window's edges: nothing later is earlier, nothing earlier is later."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from services.extractor.planning.local_time import earlier, earliest_local, latest_local

NEW_YORK = ZoneInfo("America/New_York")
ZONES = [ZoneInfo(name) for name in (
    "UTC", "America/Sao_Paulo", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca",
    "Asia/Kathmandu", "Pacific/Kwajalein", "Pacific/Apia", "America/Juneau", "Antarctica/Troll", "Europe/Dublin",
)]  # fmt: skip
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
SPANS = st.one_of(
    st.timedeltas(timedelta(microseconds=1), timedelta(hours=3)),
    st.timedeltas(timedelta(microseconds=1), timedelta(days=400)),
)
FALL_BACK = datetime(2026, 11, 1, 6, tzinfo=UTC)
"""Two o'clock of New York, which becomes one o'clock."""


def shown(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


@given(MOMENTS, SPANS, st.sampled_from(ZONES))
@example(FALL_BACK - timedelta(microseconds=1), timedelta(microseconds=1), NEW_YORK)
@example(FALL_BACK - timedelta(minutes=1), timedelta(minutes=1), NEW_YORK)
@example(datetime(2018, 2, 18, 1, 59, tzinfo=UTC), timedelta(minutes=1), ZoneInfo("America/Sao_Paulo"))
@example(datetime(1993, 8, 20, tzinfo=UTC), timedelta(days=2), ZoneInfo("Pacific/Kwajalein"))
def test_no_clock_shows_for_a_later_moment_what_comes_before_the_edge(
    edge: datetime, span: timedelta, zone: ZoneInfo
) -> None:
    later = edge + span
    for whose in (zone, None):
        assert shown(later, zone) > earliest_local(edge, whose)
        assert shown(edge, zone) <= latest_local(later, whose)
        assert shown(edge, zone) <= latest_local(edge, whose)


def test_an_edge_is_widened_only_where_clocks_go_back() -> None:
    summer, winter = datetime(2026, 7, 1, 12, tzinfo=UTC), datetime(2026, 12, 1, 12, tzinfo=UTC)
    for moment in (summer, winter):
        assert earliest_local(moment, NEW_YORK) == latest_local(moment, NEW_YORK) == shown(moment, NEW_YORK)
    before = FALL_BACK - timedelta(minutes=10)
    assert earliest_local(before, NEW_YORK) == shown(before, NEW_YORK) - timedelta(hours=1)
    assert latest_local(FALL_BACK, NEW_YORK) == shown(FALL_BACK, NEW_YORK) + timedelta(hours=1)
    forward = datetime(2026, 3, 8, 7, tzinfo=UTC)
    assert earliest_local(forward, NEW_YORK) == latest_local(forward, NEW_YORK) == shown(forward, NEW_YORK)


def test_an_unknown_zone_is_any() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert earliest_local(noon, None) == datetime(2026, 11, 22, 0)
    assert latest_local(noon, None) == datetime(2026, 11, 23, 2)


def test_the_first_and_the_last_times_have_neighbours() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert earlier(first, timedelta(days=1)) == first
    assert earlier(last, timedelta(days=-1)) == last
    for zone in (NEW_YORK, None):
        assert earliest_local(first, zone) == first.replace(tzinfo=None)
    assert latest_local(last, None) == last.replace(tzinfo=None)
