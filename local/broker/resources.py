"""Topics and subscriptions: what a request may ask for, Pub/Sub's defaults, and the rules a delivery follows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from local.broker import filters
from local.broker.delivery import DeadLetterPolicy, RetryPolicy
from local.broker.errors import InvalidArgumentError, UnsupportedError
from local.broker.wire import types

DELETED_TOPIC = "_deleted-topic_"
"""A subscription's topic after the topic is gone."""

_NAME = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_DEFAULT_ACK_DEADLINE_SECONDS = 10
_MAX_ACK_DEADLINE_SECONDS = 600
_UNSUPPORTED_FIELDS = (
    "bigquery_config",
    "cloud_storage_config",
    "bigtable_config",
    "enable_exactly_once_delivery",
    "message_transforms",
    "retain_acked_messages",
)


@dataclass(frozen=True)
class Rules:
    """How a subscription delivers; times in seconds."""

    name: str
    ack_deadline: float
    ordered: bool
    push_endpoint: str
    filter: filters.Filter | None
    retry: RetryPolicy | None
    dead_letter: DeadLetterPolicy | None

    def wants(self, attributes: Mapping[str, str]) -> bool:
        """Tell whether a message with these attributes passes the subscription's filter."""
        return self.filter is None or filters.matches(self.filter, attributes)


def read_topic(resource: bytes) -> types.Topic:
    """Read a topic as the store keeps it."""
    topic: types.Topic = types.Topic.deserialize(resource)
    return topic


def read_subscription(resource: bytes) -> types.Subscription:
    """Read a subscription as the store keeps it."""
    subscription: types.Subscription = types.Subscription.deserialize(resource)
    return subscription


def checked_topic(topic: types.Topic) -> types.Topic:
    """Return the topic as it is kept.

    Raises:
        InvalidArgumentError: its name is malformed.
        UnsupportedError: it asks for what the broker leaves out.
    """
    _check_name("topics", topic.name)
    for field in ("schema_settings", "ingestion_data_source_settings", "message_transforms"):
        if field in topic:
            raise UnsupportedError(f"Topic.{field} is not supported by the local broker (resource={topic.name}).")
    return topic


def checked_subscription(subscription: types.Subscription) -> types.Subscription:
    """Return the subscription as it is kept, with Pub/Sub's defaults filled in.

    Ack deadlines below Pub/Sub's 10 seconds are accepted, as Google's emulator does, so that tests need not wait.

    Raises:
        InvalidArgumentError: a field has a value that Pub/Sub refuses.
        UnsupportedError: it asks for what the broker leaves out.
    """
    _check_name("subscriptions", subscription.name)
    for field in _UNSUPPORTED_FIELDS:
        if field in subscription and getattr(subscription, field):
            raise UnsupportedError(
                f"Subscription.{field} is not supported by the local broker (resource={subscription.name})."
            )
    if "no_wrapper" in subscription.push_config:
        raise UnsupportedError("PushConfig.no_wrapper is not supported by the local broker: pushes are wrapped.")
    if not subscription.ack_deadline_seconds:
        subscription.ack_deadline_seconds = _DEFAULT_ACK_DEADLINE_SECONDS
    if not 0 < subscription.ack_deadline_seconds <= _MAX_ACK_DEADLINE_SECONDS:
        raise InvalidArgumentError(f"ack_deadline_seconds must be 1 to 600, not {subscription.ack_deadline_seconds}.")
    endpoint = subscription.push_config.push_endpoint
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InvalidArgumentError(f"Invalid push endpoint given (endpoint={endpoint}).")
    if "dead_letter_policy" in subscription and not subscription.dead_letter_policy.max_delivery_attempts:
        subscription.dead_letter_policy.max_delivery_attempts = DeadLetterPolicy.max_delivery_attempts
    if "message_retention_duration" not in subscription:
        subscription.message_retention_duration = timedelta(days=7)
    rules_of(subscription)
    return subscription


def rules_of(subscription: types.Subscription) -> Rules:
    """Read the delivery rules of a subscription.

    Raises:
        InvalidArgumentError: its filter, retry policy or dead-letter policy is invalid.
    """
    try:
        filter_ = filters.parse(subscription.filter) if subscription.filter else None
    except filters.FilterError as error:
        raise InvalidArgumentError(f"Invalid filter {subscription.filter!r}: {error}.") from error
    return Rules(
        name=subscription.name,
        ack_deadline=float(subscription.ack_deadline_seconds),
        ordered=subscription.enable_message_ordering,
        push_endpoint=subscription.push_config.push_endpoint,
        filter=filter_,
        retry=_retry_policy(subscription.retry_policy) if "retry_policy" in subscription else None,
        dead_letter=_dead_letter_policy(subscription.dead_letter_policy)
        if "dead_letter_policy" in subscription
        else None,
    )


def _retry_policy(policy: types.RetryPolicy) -> RetryPolicy:
    minimum, maximum = RetryPolicy.minimum_backoff, RetryPolicy.maximum_backoff
    if "minimum_backoff" in policy:
        minimum = _seconds(policy.minimum_backoff)
    if "maximum_backoff" in policy:
        maximum = _seconds(policy.maximum_backoff)
    if not 0 <= minimum <= maximum <= RetryPolicy.maximum_backoff:
        raise InvalidArgumentError(
            f"Invalid retry policy: 0 s <= minimum_backoff ({minimum} s) <= maximum_backoff ({maximum} s) <= 600 s."
        )
    return RetryPolicy(minimum, maximum)


def _dead_letter_policy(policy: types.DeadLetterPolicy) -> DeadLetterPolicy:
    if not 5 <= policy.max_delivery_attempts <= 100:
        raise InvalidArgumentError(f"max_delivery_attempts must be 5 to 100, not {policy.max_delivery_attempts}.")
    return DeadLetterPolicy(policy.dead_letter_topic, policy.max_delivery_attempts)


def _seconds(duration: object) -> float:
    """Read a Duration as proto-plus hands it out: a timedelta."""
    if not isinstance(duration, timedelta):
        raise TypeError(f"expected a timedelta, not {duration!r}")
    return duration.total_seconds()


def _check_name(kind: str, name: str) -> None:
    found = _NAME.fullmatch(name)
    if not found or found[1] != kind:
        raise InvalidArgumentError(f"Invalid [{kind}] name: (name={name}).")
