"""Decisions about one delivery, as pure functions: when to try again, when to give up, what is sent.

Sources: https://cloud.google.com/pubsub/docs/handling-failures (retry policy, dead-letter topics) and
https://cloud.google.com/pubsub/docs/push (envelope, acknowledging status codes).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

ACKNOWLEDGING_STATUSES = frozenset({102, 200, 201, 202, 204})
IMMEDIATE_RETRY_SECONDS = 0.1
"""Pause before a redelivery where the subscription has no retry policy; keeps a failing handler from a hot loop."""


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds of the exponential backoff, in seconds; the defaults are Pub/Sub's."""

    minimum_backoff: float = 10.0
    maximum_backoff: float = 600.0


@dataclass(frozen=True)
class DeadLetterPolicy:
    """Where a message goes after `max_delivery_attempts` deliveries that failed."""

    topic: str
    max_delivery_attempts: int = 5


@dataclass(frozen=True)
class Message:
    """A published message; `published` is microseconds since the epoch (UTC), `id` grows with every message."""

    id: int
    published: int
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str

    @property
    def published_at(self) -> datetime:
        """The publish time in UTC."""
        seconds, microseconds = divmod(self.published, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


@dataclass(frozen=True)
class Delivery:
    """A message leased to one receiver of one subscription; `failures` counts its nacks and passed deadlines."""

    subscription: str
    message: Message
    ack_id: str
    failures: int

    @property
    def attempt(self) -> int:
        """Pub/Sub's delivery attempt: 1 + nacks + passed ack deadlines."""
        return self.failures + 1


@dataclass(frozen=True)
class Retry:
    """Deliver again after this many seconds."""

    after: float


@dataclass(frozen=True)
class Bury:
    """Forward to this dead-letter topic and remove from the subscription."""

    topic: str


def backoff(policy: RetryPolicy | None, failures: int) -> float:
    """Seconds until the next delivery after so many failures (1 or more): doubles from the minimum to the maximum."""
    if policy is None:
        return IMMEDIATE_RETRY_SECONDS
    doublings = min(failures - 1, 64)
    return min(policy.minimum_backoff * 2.0**doublings, policy.maximum_backoff)


def after_failure(failures: int, retry: RetryPolicy | None, dead_letter: DeadLetterPolicy | None) -> Retry | Bury:
    """Decide what follows a delivery that failed; `failures` includes it."""
    if dead_letter and failures >= dead_letter.max_delivery_attempts:
        return Bury(dead_letter.topic)
    return Retry(backoff(retry, failures))


def acknowledges(status: int) -> bool:
    """Tell whether an HTTP status of a push endpoint acknowledges the message."""
    return status in ACKNOWLEDGING_STATUSES


def dead_letter_attributes(delivery: Delivery, deliveries: int) -> dict[str, str]:
    """Give the attributes of the forwarded message: its own and the four that Pub/Sub adds."""
    _, project, _, subscription = delivery.subscription.split("/")
    return {
        **delivery.message.attributes,
        "CloudPubSubDeadLetterSourceDeliveryCount": str(deliveries),
        "CloudPubSubDeadLetterSourceSubscription": subscription,
        "CloudPubSubDeadLetterSourceSubscriptionProject": project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": delivery.message.published_at.isoformat(timespec="milliseconds"),
    }


def push_envelope(delivery: Delivery, with_attempt: bool) -> dict[str, Any]:
    """Build the JSON body of a wrapped push; `deliveryAttempt` is there only with a dead-letter policy."""
    message = delivery.message
    published = message.published_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body: dict[str, Any] = {
        "message": {
            "attributes": dict(message.attributes),
            "data": base64.b64encode(message.data).decode(),
            "messageId": str(message.id),
            "message_id": str(message.id),
            "publishTime": published,
            "publish_time": published,
        },
        "subscription": delivery.subscription,
    }
    if message.ordering_key:
        body["message"]["orderingKey"] = message.ordering_key
    if with_attempt:
        body["deliveryAttempt"] = delivery.attempt
    return body
