"""What the broker decides about one delivery: backoff, dead letters, acknowledgement, envelope."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from local.broker.delivery import (
    Bury,
    DeadLetterPolicy,
    Delivery,
    Message,
    Retry,
    RetryPolicy,
    acknowledges,
    after_failure,
    backoff,
    dead_letter_attributes,
    push_envelope,
)

PUBLISHED = datetime(2026, 11, 22, 9, 8, 7, 654321, UTC)
MESSAGE = Message(1_700_000_000_000_000, int(PUBLISHED.timestamp()) * 1_000_000 + 654_321, b"\xffdata", {"k": "v"}, "")
DELIVERY = Delivery("projects/p/subscriptions/s", MESSAGE, "ack", failures=2)

seconds = st.floats(0, 600)


def test_backoff_doubles_from_the_minimum_to_the_maximum() -> None:
    policy = RetryPolicy(minimum_backoff=10, maximum_backoff=60)
    assert [backoff(policy, failures) for failures in range(1, 6)] == [10, 20, 40, 60, 60]


def test_a_policy_without_values_has_pubsubs() -> None:
    assert backoff(RetryPolicy(), 1) == 10
    assert backoff(RetryPolicy(), 10**9) == 600


def test_without_a_policy_the_retry_is_soon() -> None:
    assert 0 < backoff(None, 1) == backoff(None, 1000) <= 0.1


@given(seconds, seconds, st.integers(1, 10_000))
def test_backoff_stays_within_the_policy_and_never_shrinks(minimum: float, maximum: float, failures: int) -> None:
    assume(minimum <= maximum)
    policy = RetryPolicy(minimum, maximum)
    pauses = [backoff(policy, count) for count in range(failures, failures + 4)]
    assert all(minimum <= pause <= maximum for pause in pauses)
    assert all(before <= after for before, after in pairwise(pauses))


def test_a_message_is_buried_after_its_last_attempt_and_not_before() -> None:
    policy = DeadLetterPolicy("projects/p/topics/dead", max_delivery_attempts=5)
    assert after_failure(4, RetryPolicy(1, 60), policy) == Retry(8)
    assert after_failure(5, RetryPolicy(1, 60), policy) == Bury("projects/p/topics/dead")
    assert after_failure(6, RetryPolicy(1, 60), policy) == Bury("projects/p/topics/dead")


def test_without_a_dead_letter_policy_it_is_tried_for_ever() -> None:
    assert after_failure(1000, RetryPolicy(1, 60), None) == Retry(60)


def test_only_pubsubs_statuses_acknowledge() -> None:
    assert {status for status in range(100, 600) if acknowledges(status)} == {102, 200, 201, 202, 204}


def test_the_attempt_counts_failures_from_one() -> None:
    assert replace(DELIVERY, failures=0).attempt == 1
    assert DELIVERY.attempt == 3


def test_the_forwarded_message_says_where_it_comes_from() -> None:
    assert dead_letter_attributes(DELIVERY, deliveries=3) == {
        "k": "v",
        "CloudPubSubDeadLetterSourceDeliveryCount": "3",
        "CloudPubSubDeadLetterSourceSubscription": "s",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-11-22T09:08:07.654+00:00",
    }


def test_a_message_buried_twice_names_its_last_source() -> None:
    buried = replace(MESSAGE, attributes=dead_letter_attributes(DELIVERY, deliveries=3))
    again = Delivery("projects/p/subscriptions/of-the-dead", buried, "ack", failures=4)
    attributes = dead_letter_attributes(again, deliveries=5)
    assert attributes["CloudPubSubDeadLetterSourceSubscription"] == "of-the-dead"
    assert attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert len(attributes) == 5


def test_the_envelope_is_the_wrapped_one() -> None:
    assert push_envelope(DELIVERY, with_attempt=False) == {
        "message": {
            "attributes": {"k": "v"},
            "data": "/2RhdGE=",
            "messageId": "1700000000000000",
            "message_id": "1700000000000000",
            "publishTime": "2026-11-22T09:08:07.654Z",
            "publish_time": "2026-11-22T09:08:07.654Z",
        },
        "subscription": "projects/p/subscriptions/s",
    }


def test_the_envelope_has_attempt_and_ordering_key_where_they_apply() -> None:
    envelope = push_envelope(replace(DELIVERY, message=replace(MESSAGE, ordering_key="key")), with_attempt=True)
    assert envelope["deliveryAttempt"] == 3
    assert envelope["message"]["orderingKey"] == "key"


@given(st.binary(max_size=50), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_the_envelope_carries_any_message(data: bytes, attributes: dict[str, str]) -> None:
    assume(all(text.isprintable() for pair in attributes.items() for text in pair))
    delivery = replace(DELIVERY, message=replace(MESSAGE, data=data, attributes=attributes))
    message = json.loads(json.dumps(push_envelope(delivery, with_attempt=True)))["message"]
    assert (base64.b64decode(message["data"]), message["attributes"]) == (data, attributes)


@pytest.mark.parametrize("microseconds", [0, 999, 1_000, 999_999])
def test_publish_time_is_kept_to_the_microsecond(microseconds: int) -> None:
    message = replace(MESSAGE, published=1_795_000_000_000_000 + microseconds)
    assert message.published_at == datetime.fromtimestamp(1_795_000_000, UTC).replace(microsecond=microseconds)
