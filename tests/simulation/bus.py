"""Pub/Sub: events come at least once unless they get lost, in any order, again while nobody has handled them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.scheduler import Process, Scheduler

DEADLINE = 60.0
"""Seconds for which an event's handler may take; then it comes again, whatever the handler still does."""
BACKOFF = 10.0
"""Seconds until an event that was not handled comes again."""
MOST_DELIVERIES = 5
"""After them an event is a dead letter; the sweep brings home what it told of."""


@dataclass
class Subscription:
    """Starts a process with each event."""

    scheduler: Scheduler
    name: str
    handle: Callable[[Any], object]
    """What the process does; an exception says that the event is not handled."""
    start: Callable[..., Process]
    """Starts a process: its name, its work, what is done when it has ended."""

    def publish(self, event: Any) -> None:
        """Take an event."""
        scheduler = self.scheduler
        fate = 0 if scheduler.quiet else scheduler.choices.one_of(4, scheduler.odds.slow)
        if fate == 1:
            scheduler.say(f"an event of {self.name} gets lost: {event}")
            return
        if fate == 2:
            scheduler.say(f"an event of {self.name} comes late: {event}")
            self._later(event, 60.0, 1)
            return
        self.deliver(event)
        if fate == 3:
            scheduler.say(f"an event of {self.name} comes twice: {event}")
            self.deliver(event)

    def deliver(self, event: Any, number: int = 1) -> None:
        """Hand an event to a process."""

        def ended(process: Process) -> None:
            if (process.dead or process.error is not None) and number < MOST_DELIVERIES:
                self._later(event, BACKOFF, number + 1)

        def stood_still(process: Process, seconds: float) -> None:
            if seconds > DEADLINE and number < MOST_DELIVERIES:
                self._later(event, DEADLINE, number + 1)

        self.start(self.name, lambda: self.handle(event), ended).stood_still = stood_still

    def _later(self, event: Any, seconds: float, number: int) -> None:
        def wait() -> None:
            self.scheduler.sleep(seconds)
            self.deliver(event, number)

        self.scheduler.start(f"the bus of {self.name}", wait, sure=True)
