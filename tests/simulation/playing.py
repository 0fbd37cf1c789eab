"""Plays schedules: what happens when, by a seed; a failing one is made short, and told in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import get_args
from zoneinfo import ZoneInfo

from services.core import machine
from services.core.batch import BatchState
from services.core.tables import Compaction, Cursor, Mode, OnFailedTests
from tests.simulation.choices import Choices, shortened
from tests.simulation.judging import Judge
from tests.simulation.scheduler import Endless
from tests.simulation.world import Declared, Dropped, World, playing
from tests.unit.extractor.history.cells import Cells

HAPPENINGS = 8
"""Things that happen in a schedule."""
KEYS = 4
SPANS = [timedelta(seconds=seconds) for seconds in (0.0, 0.4, 10.0, 45.0, 400.0)]
HOW = ("now", "now", "clock", "skewed", "future", "null", "undo", "delete", "again")
DROPPED: tuple[Dropped, ...] = get_args(Dropped)
MOST_STEPS = 60
"""That processes do before the next thing happens; or they come to their end."""
PATIENCE = 100_000.0
"""Seconds of the simulation's time within which all has come to rest once nothing befalls it."""


def declared(seed: int) -> Declared:
    """How the table is declared in a schedule, by its seed."""
    random = Random(seed)  # noqa: S311 - reproducible, not secret
    cursor = Cursor(
        expression="greatest(a, b)",
        type="timestamp",
        lag=random.choice([timedelta(0), timedelta(0), timedelta(seconds=30)]),
        lookback=random.choice([timedelta(0), timedelta(minutes=1)]),
        nulls=random.choice(["every_run", "every_run", "snapshot_only"]),
        future=random.choice(["every_run", "every_run", "defer"]),
    )
    compaction = Compaction(
        max_share=random.choice([0.0, 0.5, 1.0]),
        min_base=random.choice([0, 0, 1_000]),
        max_age=random.choice([timedelta(minutes=5), timedelta(days=7)]),
    )
    return Declared(
        cursor,
        Cells("timestamp", ZoneInfo("UTC")),
        random.choice(["keep", "soft"]),
        random.choice(["all", "all", "own", "replica"]),
        random.random() < 0.25,
        compaction,
        random.choice(list(OnFailedTests)),
    )


@dataclass(frozen=True)
class Found:
    """A schedule that failed."""

    seed: int
    made: list[int]
    error: BaseException
    story: list[str]


class Play:
    """A schedule."""

    def __init__(self, seed: int, choices: Choices) -> None:
        self.world = World(choices, declared(seed))
        self.judge = Judge(self.world)
        self._choices = choices
        self._thorough = Random(seed).random() < 0.25  # noqa: S311

    def run(self) -> None:
        """Let it happen, checking all the time.

        Raises:
            Exception: something that must not be.
        """
        world = self.world
        with machine.running_on(world.scheduler):
            world.database.catch_up()
            for key in range(KEYS - 1):
                self._changed(key, "now", SPANS[0])
            for _ in range(HAPPENINGS):
                self._something_happens()
                self._go_on(self._choices.one_of(MOST_STEPS, 0.6))
            self._settle()

    # --- what happens -------------------------------------------------------------------------------------------------

    def _go_on(self, steps: int) -> None:
        """Let the processes do some steps; without a number, all that they have to do."""
        scheduler = self.world.scheduler
        count = 0
        while scheduler.step():
            self.judge.check()
            count += 1
            if steps and count >= steps:
                return
        self.judge.check()

    def _something_happens(self) -> None:
        world, one_of = self.world, self._choices.one_of
        world.database.catch_up()
        match one_of(16, 0.8):
            case 0 | 1 | 2:
                self._changed(one_of(KEYS), HOW[one_of(len(HOW))], SPANS[one_of(len(SPANS))])
                world.extractor(Mode.INCREMENTAL)
            case 3 | 4:
                self._changed(one_of(KEYS), HOW[one_of(len(HOW))], SPANS[one_of(len(SPANS))])
            case 5:
                transaction = world.database.begin(own=one_of(4) == 1, hidden=False)
                world.database.write(transaction, one_of(KEYS), "now", SPANS[0])
                world.scheduler.say("a transaction writes, and stays open")
            case 6:
                self._transaction_ends(one_of(2) == 0)
            case 7:
                world.extractor(Mode.SNAPSHOT)
            case 8:
                world.sweep()
            case 9:
                world.reconcile()
            case 10:
                world.maintain()
            case 11:
                self._delivered_again(one_of(8))
            case 12:
                self._time_passes((60.0, 1_000.0, 86_400.0, 8 * 86_400.0)[one_of(4)])
            case 13:
                self._people(one_of(3))
            case 14:
                self._emptied()
            case 15:
                world.drop(DROPPED[one_of(len(DROPPED))])

    def _changed(self, key: int, how: str, by: timedelta) -> None:
        database = self.world.database
        transaction = database.begin()
        database.write(transaction, key, how, by)
        if transaction.writes:
            version = transaction.writes[key]
            what = "is deleted" if version.deleted else f"has n = {version.n}"
            self.world.scheduler.say(f"row {key} {what}, by a clock that is {how}")
        database.end(transaction, commit=True)
        self._replayed()

    def _emptied(self) -> None:
        """All rows are deleted, by one transaction."""
        database = self.world.database
        transaction = database.begin()
        for key in range(KEYS):
            database.write(transaction, key, "delete", SPANS[0])
        database.end(transaction, commit=True)
        self.world.scheduler.say("all rows are deleted")
        self._replayed()

    def _replayed(self) -> None:
        database = self.world.database
        if database.replica:
            database.replayed = max(database.replayed, len(database.commits) - self._choices.one_of(2, 0.3))

    def _transaction_ends(self, commit: bool) -> None:
        database = self.world.database
        if database.open:
            database.end(database.open[0], commit=commit)
            self.world.scheduler.say(f"the transaction {'commits' if commit else 'rolls back'}")
            self._replayed()

    def _delivered_again(self, which: int) -> None:
        world = self.world
        if which % 2 and world.manifests:
            world.landings.deliver(world.manifests[-1 - which % len(world.manifests)])
        else:
            world.loaded.deliver("again")

    def _time_passes(self, seconds: float) -> None:
        """Whoever is at work stands still for so long: nobody's clock is quicker than another's."""
        self.world.scheduler.say(f"{seconds:g} s pass")
        self.world.scheduler.time += seconds

    def _people(self, which: int) -> None:
        if which == 2:
            self.world.raise_lag(SPANS[3])
        else:
            self.world.decide_about_held(let_go=which == 0)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Nothing befalls anybody any more: what is promised comes home, by schedules alone."""
        world, judge = self.world, self.judge
        scheduler = world.scheduler
        scheduler.quiet = True
        scheduler.say("from here on nothing befalls anybody")
        began = scheduler.time
        self._go_on(0)
        for transaction in list(world.database.open):
            world.database.end(transaction, commit=True)
        world.database.replayed = len(world.database.commits)
        self._scheduled(Mode.INCREMENTAL)
        if self._waits():
            self._scheduled(Mode.INCREMENTAL)
        judge.all_is_home()
        if self._thorough:
            self._scheduled(Mode.SNAPSHOT)
            judge.equals_the_source()
            world.scheduler.time += 86_400
            world.maintain()
            self._go_on(0)
        judge.nothing_is_left()
        assert scheduler.time - began < PATIENCE + 90_000, "it took too long to come to rest"

    def _waits(self) -> bool:
        """Whether something came to no end that schedules bring to one, or is late by design."""
        world = self.world
        failed_late = [b for b in world.state.all_failed_batches() if b.window is not None]
        return bool(failed_late or world.state.all_open_batches())

    def _scheduled(self, mode: Mode) -> None:
        """What schedules do, once each: sweep, extraction, reconcile. What is held, a person lets go."""
        world = self.world
        world.scheduler.time += 1_200.0  # longer than the sweep's grace
        world.database.catch_up()
        self._past_the_future()
        world.sweep()
        self._go_on(0)
        world.extractor(mode)
        self._go_on(0)
        world.reconcile()
        self._go_on(0)
        if world.state.batches_in(BatchState.HELD):
            world.decide_about_held(let_go=True)
            world.reconcile()
            self._go_on(0)

    def _past_the_future(self) -> None:
        """Time passes until what was ahead of it is not any more, and what commits now is replayed."""
        world = self.world
        latest = max((v.moment for v in world.database.current().values() if v.moment), default=world.database.now)
        world.scheduler.time += max((latest - world.database.now).total_seconds(), 0.0) + 300.0
        world.database.catch_up()
        world.database.commits.append((world.database.now, []))
        world.database.replayed = len(world.database.commits)


def play(seed: int, recorded: Sequence[int] | None = None) -> Found | None:
    """Play a seed's schedule, or one that was recorded of it; what it fails with."""
    choices = Choices(seed if recorded is None else None, recorded or ())
    with playing(seed):
        it = Play(seed, choices)
        try:
            it.run()
        except (Exception, Endless) as error:  # noqa: BLE001 - any is a find
            return Found(seed, choices.made, error, it.world.scheduler.story)
    return None


def told_shortly(found: Found, most: int = 1_500) -> Found:
    """The same failure, by the shortest schedule that is found in so many tries."""

    def fails(made: list[int]) -> bool:
        again = play(found.seed, made)
        return again is not None and _alike(again.error, found.error)

    short = play(found.seed, shortened(found.made, fails, most))
    return short if short is not None else found


def _alike(one: BaseException, other: BaseException) -> bool:
    return type(one) is type(other) and str(one)[:25] == str(other)[:25]
