"""What happens to messages: publish, lease, acknowledge, fail; decisions come from `delivery`, the store keeps them.

Everything here runs on one asyncio loop, and no method awaits between reading and writing, so there are no locks.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from local.broker.delivery import (
    Bury,
    Delivery,
    after_failure,
    dead_letter_attributes,
)
from local.broker.errors import InvalidArgumentError
from local.broker.resources import Rules, read_subscription, rules_of
from local.broker.store import Store
from local.broker.wakeups import Wakeups

logger = logging.getLogger(__name__)

_LEASES = "leases"  # cannot be a subscription's name: those start with "projects/"
_ACK_ID = re.compile(r"\d+-[0-9a-f]{16}")


@dataclass(frozen=True)
class NewMessage:
    """A message as its publisher gives it."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str


class Broker:
    """The messages of all topics and subscriptions; `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._wakeups = Wakeups()
        self.closing = False

    def recover(self) -> None:
        """After a start: make due at once what a push had leased when the process before ended.

        Leases of pulled messages stay, since their receivers may still acknowledge.
        """
        for resource in self._store.subscriptions():
            rules = rules_of(read_subscription(resource))
            if rules.push_endpoint:
                self._store.release(rules.name, self._clock())

    def close(self) -> None:
        """Lease no more and wake everyone who waits; leases that exist can still be ended."""
        self.closing = True
        self._wakeups.notify_all()

    def rules(self, subscription: str) -> Rules:
        """Return a subscription's delivery rules.

        Raises:
            NotFoundError: the subscription does not exist.
        """
        return rules_of(read_subscription(self._store.get(subscription)))

    def changed(self, subscription: str) -> None:
        """Wake who waits on a subscription that was changed or deleted."""
        self._wakeups.notify(subscription)

    def publish(self, topic: str, messages: Iterable[NewMessage]) -> list[int]:
        """Keep the messages for every subscription of the topic whose filter they pass, and return their ids.

        Raises:
            NotFoundError: the topic does not exist.
        """
        with self._store.transaction():
            self._store.get(topic)
            ids, subscriptions = self._enqueue(topic, messages)
        self._wakeups.notify(*subscriptions)
        return ids

    def lease(self, rules: Rules, limit: int, seconds: float) -> list[Delivery]:
        """Hand out up to `limit` messages that are due; without an answer they come again after `seconds`."""
        if self.closing or limit < 1:
            return []
        now = self._clock()
        deliveries = self._store.lease(rules.name, now, now + seconds, limit)
        if deliveries:
            self._wakeups.notify(_LEASES)
        return deliveries

    def still_leased(self, subscription: str, ack_ids: Iterable[str]) -> set[str]:
        """Return those of the ack ids that are neither acknowledged, failed nor expired."""
        return self._store.leased_ack_ids(subscription).intersection(ack_ids)

    def acknowledge(self, subscription: str, ack_ids: Iterable[str]) -> None:
        """Remove the messages for good; an ack id whose lease has ended changes nothing.

        Raises:
            InvalidArgumentError: an ack id is malformed; then none is acknowledged.
        """
        checked = _checked(ack_ids)
        with self._store.transaction():
            for ack_id in checked:
                self._store.acknowledge(subscription, ack_id)
        self._wakeups.notify(subscription)

    def extend(self, subscription: str, ack_ids: Iterable[str], seconds: float) -> None:
        """Move the ack deadlines to `seconds` from now; 0 is a nack.

        Raises:
            InvalidArgumentError: an ack id is malformed or `seconds` is not 0 to 600.
        """
        if not 0 <= seconds <= 600:
            raise InvalidArgumentError(f"ack_deadline_seconds must be 0 to 600, not {seconds}.")
        checked = _checked(ack_ids)
        if not seconds:
            self.fail(subscription, checked)
            return
        with self._store.transaction():
            for ack_id in checked:
                self._store.extend(subscription, ack_id, self._clock() + seconds)
        self._wakeups.notify(_LEASES)

    def fail(self, subscription: str, ack_ids: Iterable[str]) -> None:
        """End leases as failures: the messages come again after their backoff or go to the dead-letter topic."""
        deliveries = (self._store.leased(subscription, ack_id) for ack_id in ack_ids)
        self._fail([delivery for delivery in deliveries if delivery])

    async def wait(self, subscription: str, timeout: float | None = None, ready: bool = True) -> None:
        """Return when a message of the subscription may have become due, it changed, or `timeout` seconds passed.

        With `ready` false only a notification counts, for a receiver that has no room for what is due already.
        """
        due = self._store.next_due(subscription) if ready and not self.closing else None
        if due is not None:
            timeout = min(max(0.0, due - self._clock()), timeout if timeout is not None else float("inf"))
        if not self.closing:
            await self._wakeups.wait(subscription, timeout)

    async def end_expired_leases(self) -> None:
        """Fail every lease at its deadline, until cancelled."""
        while True:
            self._fail(self._store.expired(self._clock()))
            deadline = self._store.next_deadline()
            timeout = None if deadline is None else max(0.0, deadline - self._clock())
            await self._wakeups.wait(_LEASES, timeout)

    def _fail(self, deliveries: list[Delivery]) -> None:
        woken: set[str] = set()
        for delivery in deliveries:
            with self._store.transaction():
                woken |= self._fail_one(delivery)
        self._wakeups.notify(*woken)

    def _fail_one(self, delivery: Delivery) -> set[str]:
        rules = self.rules(delivery.subscription)
        failures = delivery.failures + 1
        step = after_failure(failures, rules.retry, rules.dead_letter)
        if isinstance(step, Bury) and not self._store.exists(step.topic):
            logger.error(
                "message %s of %s failed %d times and stays, since its dead-letter topic %s is gone: create it again",
                *(delivery.message.id, rules.name, failures, step.topic),
            )
            step = after_failure(failures, rules.retry, None)
        if isinstance(step, Bury):
            return self._bury(delivery, failures, step.topic)
        self._store.postpone(delivery, failures, self._clock() + step.after)
        return {rules.name}

    def _bury(self, delivery: Delivery, failures: int, topic: str) -> set[str]:
        self._store.acknowledge(delivery.subscription, delivery.ack_id)
        attributes = dead_letter_attributes(delivery, failures)
        message = NewMessage(delivery.message.data, attributes, delivery.message.ordering_key)
        ids, subscriptions = self._enqueue(topic, [message])
        logger.warning(
            "message %s of %s failed %d times and went to %s as %s",
            *(delivery.message.id, delivery.subscription, failures, topic, ids[0]),
        )
        return {delivery.subscription, *subscriptions}

    def _enqueue(self, topic: str, messages: Iterable[NewMessage]) -> tuple[list[int], set[str]]:
        """Keep messages inside a transaction; return their ids and the subscriptions that got any."""
        now = self._clock()
        receivers = [rules_of(read_subscription(it)) for it in self._store.subscriptions(topic)]
        ids: list[int] = []
        reached: set[str] = set()
        for message in messages:
            ids.append(self._store.add_message(int(now * 1e6), message.data, message.attributes, message.ordering_key))
            wanting = [rules for rules in receivers if rules.wants(message.attributes)]
            for rules in wanting:
                self._store.add_delivery(rules.name, ids[-1], message.ordering_key if rules.ordered else "", now)
            if not wanting:
                self._store.forget_message(ids[-1])
            reached.update(rules.name for rules in wanting)
        return ids, reached


def _checked(ack_ids: Iterable[str]) -> list[str]:
    checked = list(ack_ids)
    if not checked:
        raise InvalidArgumentError("No ack ids specified.")
    for ack_id in checked:
        if not _ACK_ID.fullmatch(ack_id):
            raise InvalidArgumentError(f"Invalid ack id (ack_id={ack_id}).")
    return checked
