"""Invents histories: what is declared, and what happens, all choices independent of one another.

Hypothesis gives one number for each history. Left to its own choices, one by one, it repeats itself so much that it
missed mistakes which this way are found in every tenth history.
"""

from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Literal
from zoneinfo import ZoneInfo

from services.core.tables import Cursor, Mode
from tests.unit.extractor.history.cells import Cells, Kind

STEPS = 50
KEYS = 5
MOST_STEPS = 40
"""That a process does at a time; with a few less than these it comes to its end."""
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Scale:
    """How long things take, and what is declared because of it."""

    spans: list[timedelta]
    lags: list[timedelta]
    lookbacks: list[timedelta]
    safety: timedelta
    """EXTRACT_SAFETY_LAG."""


_SECONDS = Scale(
    spans=[timedelta(0), TICK, *(timedelta(seconds=s) for s in (0.4, 1, 10, 30, 45, 100, 400))],
    lags=[timedelta(0), timedelta(0), timedelta(seconds=30)],
    lookbacks=[timedelta(0), timedelta(0), timedelta(minutes=1)],
    safety=timedelta(minutes=2),
)
_HOURS = Scale(
    spans=[timedelta(0), TICK, *(timedelta(hours=h) for h in (0.001, 1, 3, 12, 24, 48, 100))],
    lags=[timedelta(0), timedelta(0), timedelta(hours=3)],
    lookbacks=[timedelta(days=1), timedelta(days=1), timedelta(days=2)],
    safety=timedelta(hours=30),
)
SCALES: dict[Kind, Scale] = {"timestamp": _SECONDS, "rounded": _SECONDS, "naive": _SECONDS, "date": _HOURS}

BUSINESS = {
    **dict.fromkeys(("begin", "change", "commit"), 4),
    "write": 2,
    **dict.fromkeys(("replay", "prepare", "message", "next of a message"), 2),
    "attach": 1,
    **dict.fromkeys(("lag raised", "message over", "clock set back", "roll back", "savepoint"), 1),
}
PIPELINE = {
    "cycle": 7,
    "extraction": 2,
    **dict.fromkeys(("extractor", "notification", "transformer", "going on"), 2),
    **dict.fromkeys(("leases expire", "damage", "broken read", "failing merge"), 1),
    **dict.fromkeys(("session lost", "task tried again"), 1),
}

PAUSE = [0, 0, 1, 2, 3, 3, 3, 4, 4, 4, 5, 6, 7, 8]
"""Mostly short: what is still within the safety lag is what matters."""
NULLS: list[Literal["every_run", "snapshot_only", "fail"]]
NULLS = [*["every_run"] * 6, *["snapshot_only"] * 3, "fail"]  # type: ignore[list-item]
FUTURE: list[Literal["every_run", "defer", "fail"]]
FUTURE = [*["every_run"] * 6, *["defer"] * 3, "fail"]  # type: ignore[list-item]
HOW = ["now", "now", "now", "clock", "skewed", "skewed", "future", "null", "keep", "undo", "delete", "again", "again"]
WHAT = [what for what, weight in (BUSINESS | PIPELINE).items() for _ in range(weight)]
ZONES = ["UTC", "America/Sao_Paulo", "Pacific/Honolulu", "Pacific/Auckland"]


@dataclass(frozen=True)
class Happening:
    """Something that happens; the numbers choose among what there is."""

    what: str
    which: int
    key: int
    how: str
    by: int
    pause: int
    mode: Mode
    steps: int


@dataclass(frozen=True)
class Declared:
    """The table's cursor and policies, how the application writes, and what the role sees of open transactions."""

    cursor: Cursor
    cells: Cells
    deletes: Literal["keep", "soft"]
    sight: str
    by_pages: bool
    """Whether it is read by chunks."""


def invented(kind: Kind, seed: int) -> tuple[Declared, list[Happening]]:
    """A history."""
    random = Random(seed)  # noqa: S311 - reproducible, not secret
    scale = SCALES[kind]
    zone = "America/New_York" if kind == "naive" else random.choice(ZONES) if kind == "date" else "UTC"
    said = kind == "naive" or (kind == "date" and random.random() < 0.7)
    cursor = Cursor(
        expression="greatest(a, b)",
        type="date" if kind == "date" else "timestamp",
        time_zone=zone if said else None,
        lag=random.choice(scale.lags),
        lookback=random.choice(scale.lookbacks),
        nulls=random.choice(NULLS),
        future=random.choice(FUTURE),
    )
    declared = Declared(
        cursor,
        Cells(kind, ZoneInfo(zone)),
        random.choice(["keep", "soft"]),
        random.choice(["all", "all", "own", "own", "replica"]),
        random.random() < 0.5,
    )
    return declared, [
        Happening(
            what=random.choice(WHAT),
            which=random.randrange(100),
            key=random.randrange(KEYS),
            how=random.choice(HOW),
            by=random.randrange(9),
            pause=random.choice(PAUSE),
            mode=random.choice([*[Mode.INCREMENTAL] * 4, Mode.SNAPSHOT]),
            steps=random.randrange(MOST_STEPS),
        )
        for _ in range(STEPS)
    ]
