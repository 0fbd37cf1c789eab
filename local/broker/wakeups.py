"""Who waits for what: named events inside one asyncio loop, so nothing polls."""

import asyncio
from contextlib import suppress


class Wakeups:
    """Waiters by name; a notification wakes everyone who waits for the name at that moment."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def notify(self, *names: str) -> None:
        """Wake the waiters of these names."""
        for name in names:
            if event := self._events.pop(name, None):
                event.set()

    def notify_all(self) -> None:
        """Wake every waiter."""
        self.notify(*self._events)

    async def wait(self, name: str, timeout: float | None) -> None:
        """Return when the name is notified or after `timeout` seconds.

        Nothing is lost between a look at the state and this call as long as no `await` stands between them.
        """
        event = self._events.setdefault(name, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()
