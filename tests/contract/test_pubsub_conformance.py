"""What the pipeline relies on of Pub/Sub, against the local broker and, where installed, Google's emulator.

Every case talks through the official client. A case that Google's emulator is known to fail says so by `google_lacks`;
it runs there all the same, and has to fail, so that the list stays true.
"""

import itertools
import json
import signal
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.pubsub_v1.subscriber.message import Message as StreamedMessage
from google.cloud.storage import Client as StorageClient
from google.pubsub_v1.types import PushConfig, ReceivedMessage, Subscription

from tests.contract.pubsub_endpoint import Push, PushEndpoint
from tests.contract.pubsub_servers import (
    PROJECT,
    BrokerProcess,
    PubSub,
    free_port,
    running_broker,
    running_fake_gcs,
    running_google_emulator,
)

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:The return_immediately flag is deprecated"),  # it keeps the suite quick
]

IMPLEMENTATIONS = {"broker": running_broker, "google": running_google_emulator}
QUICK_RETRY = {"minimum_backoff": timedelta(milliseconds=100), "maximum_backoff": timedelta(milliseconds=400)}


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def pubsub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSub]:
    with IMPLEMENTATIONS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def topic(pubsub: PubSub) -> str:
    return new_topic(pubsub)


@pytest.fixture
def google_lacks(request: pytest.FixtureRequest, pubsub: PubSub) -> Callable[[str], None]:
    def expect_failure(reason: str) -> None:
        if pubsub.name == "google":
            request.applymarker(pytest.mark.xfail(reason=f"Google's emulator 0.8.20: {reason}", strict=True))

    return expect_failure


def only_the_broker(pubsub: PubSub) -> None:
    if pubsub.name != "broker":
        pytest.skip("the local broker's own choice")


def name(kind: str) -> str:
    return f"projects/{PROJECT}/{kind}/x{uuid.uuid4().hex}"


def new_topic(pubsub: PubSub) -> str:
    return str(pubsub.publisher.create_topic(name=name("topics")).name)


def subscribe(pubsub: PubSub, topic: str, **fields: Any) -> str:
    request = {"name": name("subscriptions"), "topic": topic, **fields}
    return str(pubsub.subscriber.create_subscription(request=request).name)


@contextmanager
def pushing(pubsub: PubSub, topic: str, endpoint: PushEndpoint, **fields: Any) -> Iterator[str]:
    """Subscribe the endpoint, and unsubscribe it at the end so that nothing is sent to an endpoint that is gone."""
    fields = {"retry_policy": QUICK_RETRY, **fields}
    subscription = subscribe(pubsub, topic, push_config=PushConfig(push_endpoint=endpoint.url), **fields)
    try:
        yield subscription
    finally:
        pubsub.subscriber.delete_subscription(subscription=subscription)


def publish(pubsub: PubSub, topic: str, *data: str, ordering_key: str = "", **attributes: str) -> list[str]:
    """Publish in this order and return the ids."""
    return [
        pubsub.publisher.publish(topic, it.encode(), ordering_key=ordering_key, **attributes).result(10) for it in data
    ]


def pull(pubsub: PubSub, subscription: str, count: int = 1, timeout: float = 10.0) -> list[ReceivedMessage]:
    """Pull until that many messages came."""
    received: list[ReceivedMessage] = []
    end = time.monotonic() + timeout
    while len(received) < count:
        assert time.monotonic() < end, f"{len(received)} of {count} messages within {timeout} s"
        received += pull_now(pubsub, subscription, count - len(received))
        time.sleep(0 if len(received) == count else 0.02)
    return received


def pull_now(pubsub: PubSub, subscription: str, count: int = 10) -> list[ReceivedMessage]:
    response = pubsub.subscriber.pull(
        subscription=subscription, max_messages=count, return_immediately=True, timeout=10
    )
    return list(response.received_messages)


def acknowledge(pubsub: PubSub, subscription: str, received: list[ReceivedMessage]) -> None:
    pubsub.subscriber.acknowledge(subscription=subscription, ack_ids=[it.ack_id for it in received])


def first_time_what_it_says() -> Callable[[Push], int]:
    """Answer a message with the status that is its data, and with 200 from then on."""
    seen: set[str] = set()

    def answer(push: Push) -> int:
        if push.data in seen:
            return 200
        seen.add(push.data)
        return int(push.data)

    return answer


def texts(received: list[ReceivedMessage]) -> list[str]:
    return [it.message.data.decode() for it in received]


class TestTopics:
    def test_a_topic_is_created_found_and_deleted(self, pubsub: PubSub) -> None:
        created = pubsub.publisher.create_topic(request={"name": name("topics"), "labels": {"a": "b"}})
        assert pubsub.publisher.get_topic(topic=created.name) == created
        assert created in list(pubsub.publisher.list_topics(project=f"projects/{PROJECT}"))
        assert created not in list(pubsub.publisher.list_topics(project="projects/another"))
        with pytest.raises(exceptions.AlreadyExists):
            pubsub.publisher.create_topic(name=created.name)
        pubsub.publisher.delete_topic(topic=created.name)
        with pytest.raises(exceptions.NotFound):
            pubsub.publisher.get_topic(topic=created.name)
        with pytest.raises(exceptions.NotFound):
            pubsub.publisher.delete_topic(topic=created.name)

    def test_a_list_comes_in_pages_and_whole(self, pubsub: PubSub) -> None:
        project = f"projects/pages-{uuid.uuid4().hex[:8]}"
        wanted = sorted(f"{project}/topics/topic-{number}" for number in range(5))
        for topic in wanted:
            pubsub.publisher.create_topic(name=topic)
        pages = pubsub.publisher.list_topics(request={"project": project, "page_size": 2}).pages
        found = [[topic.name for topic in page.topics] for page in pages]
        assert sorted(itertools.chain(*found)) == wanted
        assert len(found) > 2

    @pytest.mark.parametrize("last", ["ab", "1abc", "googly", "a b c", "x" * 256])
    def test_a_bad_name_is_refused(self, pubsub: PubSub, last: str) -> None:
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.publisher.create_topic(name=f"projects/{PROJECT}/topics/{last}")

    def test_a_deleted_topic_leaves_its_subscription_what_it_has(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic)
        publish(pubsub, topic, "kept")
        pubsub.publisher.delete_topic(topic=topic)
        assert pubsub.subscriber.get_subscription(subscription=subscription).topic == "_deleted-topic_"
        assert texts(pull(pubsub, subscription)) == ["kept"]

    def test_publishing_to_a_missing_topic_is_refused(self, pubsub: PubSub) -> None:
        with pytest.raises(exceptions.NotFound):
            publish(pubsub, name("topics"), "x")

    def test_an_empty_message_is_refused(self, pubsub: PubSub, topic: str) -> None:
        with pytest.raises(exceptions.InvalidArgument):
            publish(pubsub, topic, "")


class TestSubscriptions:
    def test_a_subscription_is_created_found_and_deleted(self, pubsub: PubSub, topic: str) -> None:
        wanted = Subscription(
            name=name("subscriptions"),
            topic=topic,
            ack_deadline_seconds=42,
            labels={"a": "b"},
            enable_message_ordering=True,
            retry_policy={"minimum_backoff": timedelta(seconds=2), "maximum_backoff": timedelta(seconds=9)},
            dead_letter_policy={"dead_letter_topic": new_topic(pubsub), "max_delivery_attempts": 7},
        )
        created = pubsub.subscriber.create_subscription(wanted)
        assert pubsub.subscriber.get_subscription(subscription=wanted.name) == created
        for field in ("topic", "ack_deadline_seconds", "labels", "enable_message_ordering"):
            assert getattr(created, field) == getattr(wanted, field)
        assert created.retry_policy == wanted.retry_policy
        assert created.dead_letter_policy == wanted.dead_letter_policy
        assert created in list(pubsub.subscriber.list_subscriptions(project=f"projects/{PROJECT}"))
        assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == [wanted.name]
        with pytest.raises(exceptions.AlreadyExists):
            pubsub.subscriber.create_subscription(wanted)
        pubsub.subscriber.delete_subscription(subscription=wanted.name)
        assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == []
        with pytest.raises(exceptions.NotFound):
            pubsub.subscriber.get_subscription(subscription=wanted.name)
        with pytest.raises(exceptions.NotFound):
            pubsub.subscriber.pull(subscription=wanted.name, max_messages=1, return_immediately=True)

    def test_the_ack_deadline_is_ten_seconds_unless_said(self, pubsub: PubSub, topic: str) -> None:
        subscription = pubsub.subscriber.get_subscription(subscription=subscribe(pubsub, topic))
        assert subscription.ack_deadline_seconds == 10

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"topic": f"projects/{PROJECT}/topics/missing"}, exceptions.NotFound),
            ({"dead_letter_policy": {"dead_letter_topic": f"projects/{PROJECT}/topics/missing"}}, exceptions.NotFound),
            ({"ack_deadline_seconds": 601}, exceptions.InvalidArgument),
            ({"name": f"projects/{PROJECT}/subscriptions/1"}, exceptions.InvalidArgument),
            (
                {"retry_policy": {"minimum_backoff": timedelta(seconds=5), "maximum_backoff": timedelta(seconds=2)}},
                exceptions.InvalidArgument,
            ),
        ],
        ids=["topic", "dead-letter-topic", "ack-deadline", "name", "backoff"],
    )
    def test_a_bad_subscription_is_refused(
        self, pubsub: PubSub, topic: str, fields: dict[str, Any], error: type[Exception]
    ) -> None:
        if "dead_letter_policy" in fields:
            fields = {"dead_letter_policy": {**fields["dead_letter_policy"], "max_delivery_attempts": 5}}
        with pytest.raises(error):
            subscribe(pubsub, **{"topic": topic, **fields})

    @pytest.mark.parametrize("attempts", [4, 101])
    def test_delivery_attempts_are_five_to_a_hundred(self, pubsub: PubSub, topic: str, attempts: int) -> None:
        policy = {"dead_letter_topic": topic, "max_delivery_attempts": attempts}
        with pytest.raises(exceptions.BadRequest):
            subscribe(pubsub, topic, dead_letter_policy=policy)

    def test_an_update_changes_the_fields_of_its_mask_only(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic, ack_deadline_seconds=20)
        update = Subscription(name=subscription, ack_deadline_seconds=30, retry_policy=QUICK_RETRY)
        pubsub.subscriber.update_subscription(subscription=update, update_mask={"paths": ["retry_policy"]})
        found = pubsub.subscriber.get_subscription(subscription=subscription)
        assert (found.ack_deadline_seconds, found.retry_policy) == (20, update.retry_policy)

    @pytest.mark.parametrize("paths", [[], ["filter"], ["nonsense"]])
    def test_a_bad_mask_is_refused(self, pubsub: PubSub, topic: str, paths: list[str]) -> None:
        update = Subscription(name=subscribe(pubsub, topic), filter="attributes:a")
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.subscriber.update_subscription(subscription=update, update_mask={"paths": paths})

    def test_push_is_turned_on_and_off(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic, retry_policy=QUICK_RETRY)
        publish(pubsub, topic, "first")
        with PushEndpoint() as endpoint:
            config = PushConfig(push_endpoint=endpoint.url)
            pubsub.subscriber.modify_push_config(subscription=subscription, push_config=config)
            assert [it.data for it in endpoint.wait(1)] == ["first"]
            pubsub.subscriber.modify_push_config(subscription=subscription, push_config=PushConfig())
            publish(pubsub, topic, "second")
            assert texts(pull(pubsub, subscription)) == ["second"]
            endpoint.stays_at(1, 0.2)


class TestPull:
    def test_a_message_arrives_whole(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic)
        before = datetime.now(UTC) - timedelta(seconds=1)
        data = bytes(range(256)) * 1000
        id_ = pubsub.publisher.publish(topic, data, empty="", **{"a.b/c": "ä\n\U0001f600"}).result(10)
        [received] = pull(pubsub, subscription)
        assert received.message.data == data
        assert received.message.attributes == {"empty": "", "a.b/c": "ä\n\U0001f600"}
        assert received.message.message_id == id_
        assert before < received.message.publish_time < datetime.now(UTC) + timedelta(seconds=1)
        assert received.delivery_attempt == 0

    def test_a_message_may_be_attributes_alone(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic)
        publish(pubsub, topic, "", a="b")
        [received] = pull(pubsub, subscription)
        assert (received.message.data, dict(received.message.attributes)) == (b"", {"a": "b"})

    def test_ids_are_unique(self, pubsub: PubSub, topic: str) -> None:
        ids = publish(pubsub, topic, *"abcde")  # no subscription keeps them
        subscribe(pubsub, topic)
        ids += publish(pubsub, topic, *"fghij")
        assert len(set(ids)) == 10

    def test_an_acknowledged_message_is_gone(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic, ack_deadline_seconds=1)
        publish(pubsub, topic, "gone", "kept")
        received = pull(pubsub, subscription, 2)
        acknowledge(pubsub, subscription, [it for it in received if it.message.data == b"gone"])
        assert texts(pull(pubsub, subscription)) == ["kept"]  # after its deadline
        assert pull_now(pubsub, subscription) == []

    def test_every_subscription_gets_its_copy(self, pubsub: PubSub, topic: str) -> None:
        first, second, other = (subscribe(pubsub, it) for it in (topic, topic, new_topic(pubsub)))
        publish(pubsub, topic, "copied")
        acknowledge(pubsub, first, pull(pubsub, first))
        assert texts(pull(pubsub, second)) == ["copied"]
        late = subscribe(pubsub, topic)
        assert pull_now(pubsub, late) == []
        assert pull_now(pubsub, other) == []

    def test_a_pull_returns_at_most_what_it_asks_for(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic)
        publish(pubsub, topic, *"abcde")
        first = pull_now(pubsub, subscription, 3)
        assert 1 <= len(first) <= 3
        rest = pull(pubsub, subscription, 5 - len(first))
        assert sorted(texts(first) + texts(rest)) == list("abcde")

    def test_a_pull_waits_for_a_message(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic)
        publishing = threading.Timer(0.5, publish, (pubsub, topic, "awaited"))
        publishing.start()
        start = time.monotonic()
        response = pubsub.subscriber.pull(subscription=subscription, max_messages=5, timeout=8)
        publishing.join()
        assert texts(list(response.received_messages)) == ["awaited"]
        assert 0.4 < time.monotonic() - start < 5

    def test_a_pull_without_a_message_ends_within_its_callers_deadline(self, pubsub: PubSub, topic: str) -> None:
        response = pubsub.subscriber.pull(subscription=subscribe(pubsub, topic), max_messages=5, timeout=1)
        assert not response.received_messages

    def test_a_passed_deadline_brings_the_message_again(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic, ack_deadline_seconds=1)
        publish(pubsub, topic, "again")
        [first] = pull(pubsub, subscription)
        start = time.monotonic()
        [second] = pull(pubsub, subscription)
        assert 0.8 < time.monotonic() - start < 3
        assert second.message.message_id == first.message.message_id
        assert second.ack_id != first.ack_id

    def test_a_deadline_can_be_moved(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic, ack_deadline_seconds=1)
        publish(pubsub, topic, "held")
        [held] = pull(pubsub, subscription)
        modify = pubsub.subscriber.modify_ack_deadline
        modify(subscription=subscription, ack_ids=[held.ack_id], ack_deadline_seconds=60)
        time.sleep(1.4)
        assert pull_now(pubsub, subscription) == []
        modify(subscription=subscription, ack_ids=[held.ack_id], ack_deadline_seconds=0)
        assert texts(pull(pubsub, subscription, timeout=3)) == ["held"]

    @pytest.mark.parametrize("ack_ids", [[], ["nonsense"]], ids=["none", "malformed"])
    def test_bad_ack_ids_are_refused(self, pubsub: PubSub, topic: str, ack_ids: list[str]) -> None:
        with pytest.raises(exceptions.InvalidArgument):
            pubsub.subscriber.acknowledge(subscription=subscribe(pubsub, topic), ack_ids=ack_ids)

    def test_an_ordering_key_keeps_its_order(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic, enable_message_ordering=True)
        for number in range(4):
            publish(pubsub, topic, f"{number}", ordering_key="a")
            publish(pubsub, topic, f"{number}", ordering_key="b")
        arrived: dict[str, list[str]] = {"a": [], "b": []}
        end = time.monotonic() + 10
        while sum(map(len, arrived.values())) < 8:
            assert time.monotonic() < end, arrived
            for received in pull_now(pubsub, subscription, 3):
                arrived[received.message.ordering_key].append(received.message.data.decode())
                acknowledge(pubsub, subscription, [received])
        assert arrived == {"a": list("0123"), "b": list("0123")}

    def test_a_streaming_subscriber_gets_and_acknowledges(self, pubsub: PubSub, topic: str) -> None:
        subscription = subscribe(pubsub, topic)
        publish(pubsub, topic, "before")
        arrived: dict[str, Future[int]] = {"before": Future(), "after": Future()}
        attempts: dict[str, int] = {}

        def receive(message: StreamedMessage) -> None:
            text = message.data.decode()
            attempts[text] = attempts.get(text, 0) + 1
            if text == "after" and attempts[text] == 1:
                message.nack()
            else:
                message.ack()
                arrived[text].set_result(attempts[text])

        stream = pubsub.subscriber.subscribe(subscription, callback=receive)
        assert arrived["before"].result(10) == 1
        publish(pubsub, topic, "after")
        assert arrived["after"].result(10) == 2
        stream.cancel()
        stream.result(10)
        assert pull_now(pubsub, subscription) == []


class TestPush:
    def test_the_envelope_is_pubsubs(self, pubsub: PubSub, topic: str) -> None:
        with PushEndpoint() as endpoint, pushing(pubsub, topic, endpoint) as subscription:
            [id_] = publish(pubsub, topic, "ä", one="1", two="ü")
            [push] = endpoint.wait(1)
        published = datetime.fromisoformat(push.body["message"]["publishTime"])
        assert push.body == {
            "message": {
                "attributes": {"one": "1", "two": "ü"},
                "data": "w6Q=",
                "messageId": id_,
                "message_id": id_,
                "publishTime": push.body["message"]["publish_time"],
                "publish_time": push.body["message"]["publishTime"],
            },
            "subscription": subscription,
        }
        assert abs(datetime.now(UTC) - published) < timedelta(seconds=10)
        assert push.content_type == "application/json"

    def test_the_envelope_has_the_ordering_key(
        self, pubsub: PubSub, topic: str, google_lacks: Callable[[str], None]
    ) -> None:
        google_lacks("no orderingKey in the push body")
        with PushEndpoint() as endpoint, pushing(pubsub, topic, endpoint):
            publish(pubsub, topic, "x", ordering_key="key")
            [push] = endpoint.wait(1)
        assert push.body["message"]["orderingKey"] == "key"

    def test_a_success_acknowledges(self, pubsub: PubSub, topic: str) -> None:
        with PushEndpoint(lambda push: int(push.data)) as endpoint, pushing(pubsub, topic, endpoint):
            publish(pubsub, topic, "200", "201", "202", "204")
            endpoint.wait(4)
            endpoint.stays_at(4)

    def test_any_other_status_brings_the_message_again(self, pubsub: PubSub, topic: str) -> None:
        statuses = ["301", "400", "404", "429", "500", "503"]
        with PushEndpoint(first_time_what_it_says()) as endpoint, pushing(pubsub, topic, endpoint):
            ids = publish(pubsub, topic, *statuses)
            pushes = endpoint.wait(12)
            assert sorted(it.data for it in pushes) == sorted(statuses * 2)
            assert {it.body["message"]["messageId"] for it in pushes} == set(ids)
            endpoint.stays_at(12)

    def test_not_even_every_success_acknowledges(
        self, pubsub: PubSub, topic: str, google_lacks: Callable[[str], None]
    ) -> None:
        google_lacks("takes every 2xx for an acknowledgement")
        with PushEndpoint(first_time_what_it_says()) as endpoint, pushing(pubsub, topic, endpoint):
            publish(pubsub, topic, "203")
            endpoint.wait(2, timeout=3)

    def test_retries_back_off_within_the_policy(
        self, pubsub: PubSub, topic: str, google_lacks: Callable[[str], None]
    ) -> None:
        google_lacks("retries at a pace of whole seconds")
        policy = {"minimum_backoff": timedelta(milliseconds=200), "maximum_backoff": timedelta(milliseconds=900)}
        statuses = iter([500, 500, 500, 500, 200])
        with (
            PushEndpoint(lambda _push: next(statuses)) as endpoint,
            pushing(pubsub, topic, endpoint, retry_policy=policy),
        ):
            publish(pubsub, topic, "x")
            pushes = endpoint.wait(5, timeout=4)
        gaps = [after.at - before.at for before, after in pairwise(pushes)]
        for gap, planned in zip(gaps, [0.2, 0.4, 0.8, 0.9], strict=True):
            assert planned - 0.01 < gap < planned + 0.5, gaps

    def test_a_handler_past_the_ack_deadline_is_called_again(self, pubsub: PubSub, topic: str) -> None:
        calls, ended = threading.Semaphore(2), threading.Event()

        def answer(_push: Push) -> int:
            calls.acquire()
            if not calls.acquire(blocking=False):  # the second call answers at once
                return 200
            ended.wait(8)
            return 200

        with PushEndpoint(answer) as endpoint, pushing(pubsub, topic, endpoint, ack_deadline_seconds=1):
            publish(pubsub, topic, "slow")
            calls.release()
            first, second = endpoint.wait(2)[:2]
            assert not ended.is_set()
            ended.set()
        assert 0.9 < second.at - first.at < 1.9

    def test_a_slow_handler_blocks_no_other_message(self, pubsub: PubSub, topic: str) -> None:
        release = threading.Event()

        def answer(push: Push) -> int:
            if push.data == "slow":
                release.wait(10)
            return 200

        with PushEndpoint(answer) as endpoint, pushing(pubsub, topic, endpoint, ack_deadline_seconds=20):
            publish(pubsub, topic, "slow")
            endpoint.wait(1)
            publish(pubsub, topic, *"abcdef")
            pushes = endpoint.wait(7, timeout=5)
            release.set()
            assert sorted(it.data for it in pushes) == [*"abcdef", "slow"]
            endpoint.stays_at(7)

    def test_an_endpoint_that_comes_up_late_gets_its_messages(self, pubsub: PubSub, topic: str) -> None:
        later = PushEndpoint()
        with pushing(pubsub, topic, later):
            later._server.server_close()
            publish(pubsub, topic, "patient")
            time.sleep(0.5)
            with PushEndpoint(port=later._server.server_port) as endpoint:
                assert [it.data for it in endpoint.wait(1)] == ["patient"]

    def test_an_ordering_key_is_pushed_in_order_one_at_a_time(self, pubsub: PubSub, topic: str) -> None:
        failed = threading.Event()

        def answer(push: Push) -> int:
            if push.data == "1" and not failed.is_set():
                failed.set()
                return 500
            time.sleep(0.05)
            return 200

        with PushEndpoint(answer) as endpoint, pushing(pubsub, topic, endpoint, enable_message_ordering=True):
            publish(pubsub, topic, *"0123", ordering_key="key")
            pushes = endpoint.wait(5)
        assert [it.data for it in pushes] == [*"01123"]
        assert all(after.at - before.at > 0.04 for before, after in pairwise(pushes))


class TestDeadLetters:
    def test_after_its_attempts_a_push_goes_to_the_dead_letter_topic(self, pubsub: PubSub, topic: str) -> None:
        graveyard = new_topic(pubsub)
        buried = subscribe(pubsub, graveyard)
        policy = {"dead_letter_topic": graveyard, "max_delivery_attempts": 5}
        with (
            PushEndpoint(lambda _push: 500) as endpoint,
            pushing(pubsub, topic, endpoint, dead_letter_policy=policy, retry_policy=None) as subscription,
        ):
            before = datetime.now(UTC)
            [id_] = publish(pubsub, topic, "poison", kept="yes")
            [received] = pull(pubsub, buried, timeout=20)
            endpoint.stays_at(5)
        attributes = dict(received.message.attributes)
        published = datetime.fromisoformat(attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime"))
        assert abs(published - before) < timedelta(seconds=2)
        assert attributes == {
            "kept": "yes",
            "CloudPubSubDeadLetterSourceDeliveryCount": "5",
            "CloudPubSubDeadLetterSourceSubscription": subscription.rpartition("/")[2],
            "CloudPubSubDeadLetterSourceSubscriptionProject": PROJECT,
        }
        assert received.message.data == b"poison"
        acknowledge(pubsub, buried, [received])
        assert pull_now(pubsub, buried) == []
        if pubsub.name == "broker":  # Google's emulator leaves deliveryAttempt out of the push body
            assert [it.body["deliveryAttempt"] for it in endpoint.pushes] == [1, 2, 3, 4, 5]
            assert received.message.message_id > id_

    def test_after_its_attempts_a_pulled_message_goes_to_the_dead_letter_topic(
        self, pubsub: PubSub, topic: str
    ) -> None:
        graveyard = new_topic(pubsub)
        buried = subscribe(pubsub, graveyard)
        policy = {"dead_letter_topic": graveyard, "max_delivery_attempts": 5}
        subscription = subscribe(pubsub, topic, dead_letter_policy=policy)
        publish(pubsub, topic, "poison")
        for attempt in range(1, 6):
            [received] = pull(pubsub, subscription)
            assert received.delivery_attempt == attempt
            pubsub.subscriber.modify_ack_deadline(
                subscription=subscription, ack_ids=[received.ack_id], ack_deadline_seconds=0
            )
        assert pull_now(pubsub, subscription) == []
        assert texts(pull(pubsub, buried)) == ["poison"]


class TestFilters:
    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            ("attributes:b", "b ab"),
            ('attributes.a = "1"', "a ab"),
            ('attributes.a != "1"', "none b"),
            ('hasPrefix(attributes.b, "xy")', "b ab"),
            ('attributes.a = "1" AND attributes:b', "ab"),
            ('attributes.a = "1" OR attributes:b', "a b ab"),
            ("NOT attributes:a AND -attributes:b", "none"),
            ('attributes:a AND (attributes.b = "no" OR NOT attributes:b)', "a"),
        ],
    )
    def test_only_what_matches_is_delivered(
        self, pubsub: PubSub, topic: str, expression: str, wanted: str, google_lacks: Callable[[str], None]
    ) -> None:
        google_lacks("filters are accepted and ignored")
        subscription = subscribe(pubsub, topic, filter=expression)
        publish(pubsub, topic, "none", c="3")
        publish(pubsub, topic, "a", a="1")
        publish(pubsub, topic, "b", b="xyz")
        publish(pubsub, topic, "ab", a="1", b="xyz")
        assert texts(pull(pubsub, subscription, len(wanted.split()))) == wanted.split()
        assert pull_now(pubsub, subscription) == []

    @pytest.mark.parametrize(
        "expression",
        ["a = 1", 'attributes.a = "1" AND attributes:b OR attributes:c', 'attributes.k = "' + "x" * 256 + '"'],
        ids=["syntax", "and-or", "length"],
    )
    def test_a_bad_filter_is_refused(
        self, pubsub: PubSub, topic: str, expression: str, google_lacks: Callable[[str], None]
    ) -> None:
        google_lacks("filters are accepted and ignored")
        with pytest.raises(exceptions.InvalidArgument):
            subscribe(pubsub, topic, filter=expression)


class TestFakeGcsServer:
    def test_its_notification_is_pushed_complete(self, pubsub: PubSub, topic: str, tmp_path: Path) -> None:
        with (
            PushEndpoint() as endpoint,
            pushing(pubsub, topic, endpoint),
            running_fake_gcs(tmp_path, pubsub, topic.rpartition("/")[2]) as url,
        ):
            client = StorageClient(PROJECT, AnonymousCredentials(), client_options={"api_endpoint": url})  # type: ignore[no-untyped-call]
            blob = client.create_bucket("landing-zone").blob("landing/orders/manifest ä.json")
            blob.upload_from_string(b"{}", content_type="application/json")
            [push] = endpoint.wait(1)
        attributes = push.body["message"]["attributes"]
        assert attributes["eventType"] == "OBJECT_FINALIZE"
        assert attributes["payloadFormat"] == "JSON_API_V1"
        assert attributes["bucketId"] == "landing-zone"
        assert attributes["objectId"] == "landing/orders/manifest ä.json"
        assert attributes["objectGeneration"] == str(blob.generation)
        resource = json.loads(push.data)
        assert (resource["bucket"], resource["name"], resource["size"]) == ("landing-zone", blob.name, "2")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of the test's own, to be stopped and started."""
    process = BrokerProcess(tmp_path / "broker.sqlite3", free_port())
    process.start()
    yield process
    process.stop(signal.SIGKILL)


class TestBrokerAlone:
    """Where the broker decides for itself: its limits and what it refuses."""

    def test_no_more_requests_are_open_than_the_broker_says(self, pubsub: PubSub, topic: str) -> None:
        only_the_broker(pubsub)
        release = threading.Event()
        with (
            PushEndpoint(lambda _push: 200 if release.wait(10) else 500) as endpoint,
            pushing(pubsub, topic, endpoint, ack_deadline_seconds=20),
        ):
            publish(pubsub, topic, *(str(number) for number in range(20)))
            endpoint.wait(16)
            endpoint.stays_at(16)
            release.set()
            endpoint.wait(20)

    def test_a_message_stays_while_its_dead_letter_topic_is_gone(self, pubsub: PubSub, topic: str) -> None:
        only_the_broker(pubsub)
        graveyard = new_topic(pubsub)
        policy = {"dead_letter_topic": graveyard, "max_delivery_attempts": 5}
        attempts, again = itertools.count(1), threading.Event()

        def answer(_push: Push) -> int:
            if next(attempts) == 7:
                again.wait(10)
            return 500

        with (
            PushEndpoint(answer) as endpoint,
            pushing(pubsub, topic, endpoint, dead_letter_policy=policy, retry_policy=None),
        ):
            pubsub.publisher.delete_topic(topic=graveyard)
            publish(pubsub, topic, "kept")
            endpoint.wait(7)
            pubsub.publisher.create_topic(name=graveyard)
            buried = subscribe(pubsub, graveyard)
            again.set()
            assert texts(pull(pubsub, buried)) == ["kept"]
            endpoint.stays_at(7)

    def test_what_it_leaves_out_is_refused_by_name(self, pubsub: PubSub, topic: str) -> None:
        only_the_broker(pubsub)
        refused: dict[str, dict[str, Any]] = {
            "enable_exactly_once_delivery": {"enable_exactly_once_delivery": True},
            "retain_acked_messages": {"retain_acked_messages": True},
            "bigquery_config": {"bigquery_config": {"table": "a.b.c"}},
            "no_wrapper": {"push_config": {"push_endpoint": "http://127.0.0.1:1/", "no_wrapper": {}}},
        }
        for field, fields in refused.items():
            with pytest.raises(exceptions.MethodNotImplemented, match=field):
                subscribe(pubsub, topic, **fields)
        with pytest.raises(exceptions.MethodNotImplemented, match="CreateSnapshot"):
            pubsub.subscriber.create_snapshot(name=name("snapshots"), subscription=subscribe(pubsub, topic))


class TestBrokerRestart:
    """It loses nothing when it ends; Google's emulator keeps nothing, so there is nothing to compare."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["clean", "killed"])
    def test_what_is_not_acknowledged_comes_again(self, broker: BrokerProcess, number: signal.Signals) -> None:
        pubsub = connected(broker)
        topic = new_topic(pubsub)
        subscription = subscribe(pubsub, topic, ack_deadline_seconds=600)
        ids = publish(pubsub, topic, "acknowledged", "leased", "waiting", colour="red")
        acknowledged, leased = pull(pubsub, subscription, 2)
        acknowledge(pubsub, subscription, [acknowledged])
        broker.stop(number)
        broker.start()

        pubsub = connected(broker)
        assert texts(pull_now(pubsub, subscription)) == ["waiting"]
        pubsub.subscriber.modify_ack_deadline(  # a lease outlives the restart, and so does its ack id
            subscription=subscription, ack_ids=[leased.ack_id], ack_deadline_seconds=0
        )
        [again] = pull(pubsub, subscription)
        assert (again.message.data, again.message.message_id) == (b"leased", ids[1])
        assert dict(again.message.attributes) == {"colour": "red"}
        assert publish(pubsub, topic, "new")[0] > max(ids)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["clean", "killed"])
    def test_a_push_that_was_cut_off_is_sent_again(self, broker: BrokerProcess, number: signal.Signals) -> None:
        pubsub = connected(broker)
        topic = new_topic(pubsub)
        release = threading.Event()
        with (
            PushEndpoint(lambda push: 200 if push.data == "quick" or release.wait(20) else 500) as endpoint,
            pushing(pubsub, topic, endpoint, ack_deadline_seconds=600),
        ):
            publish(pubsub, topic, "quick", "slow")
            endpoint.wait(2)
            endpoint.stays_at(2, 0.2)  # and "quick" is acknowledged by then
            broker.stop(number)
            release.set()
            broker.start()
            assert sorted(it.data for it in endpoint.wait(3)) == ["quick", "slow", "slow"]
            endpoint.stays_at(3)

    def test_a_clean_end_waits_for_the_answer_of_an_open_push(self, broker: BrokerProcess) -> None:
        pubsub = connected(broker)
        topic = new_topic(pubsub)

        def answer(_push: Push) -> int:
            time.sleep(0.4)
            return 200

        with PushEndpoint(answer) as endpoint, pushing(pubsub, topic, endpoint):
            publish(pubsub, topic, "finished")
            endpoint.wait(1)
            assert broker.stop() == 0
            broker.start()
            endpoint.stays_at(1)

    def test_a_retry_waits_out_its_backoff_over_a_restart(self, broker: BrokerProcess) -> None:
        pubsub = connected(broker)
        topic = new_topic(pubsub)
        policy = {"minimum_backoff": timedelta(seconds=2), "maximum_backoff": timedelta(seconds=2)}
        statuses = iter([500, 200])
        with (
            PushEndpoint(lambda _push: next(statuses)) as endpoint,
            pushing(pubsub, topic, endpoint, retry_policy=policy),
        ):
            publish(pubsub, topic, "x")
            endpoint.wait(1)
            endpoint.stays_at(1, 0.2)
            broker.stop(signal.SIGKILL)
            broker.start()
            first, second = endpoint.wait(2)
        assert 1.9 < second.at - first.at < 3

    def test_the_file_forgets_what_is_acknowledged(self, broker: BrokerProcess) -> None:
        pubsub = connected(broker)
        topic = new_topic(pubsub)
        first, second = subscribe(pubsub, topic), subscribe(pubsub, topic)
        publish(pubsub, topic, *(str(number) for number in range(20)))
        publish(pubsub, new_topic(pubsub), "for nobody")
        acknowledge(pubsub, first, pull(pubsub, first, 20))
        acknowledge(pubsub, second, pull(pubsub, second, 19))
        publish(pubsub, topic, "deleted with its subscription")
        pubsub.subscriber.delete_subscription(subscription=first)
        assert broker.stop() == 0
        with closing(sqlite3.connect(broker.database)) as db:
            assert db.execute("SELECT count(*) FROM messages").fetchone() == (2,)
            assert db.execute("SELECT count(*) FROM deliveries").fetchone() == (2,)

    def test_ids_do_not_come_again_with_a_new_file(self, broker: BrokerProcess) -> None:
        pubsub = connected(broker)
        before = publish(pubsub, new_topic(pubsub), *"abc")
        broker.stop()
        broker.database.unlink()
        broker.start()
        pubsub = connected(broker)
        after = publish(pubsub, new_topic(pubsub), *"abc")
        assert before + after == sorted({*before, *after})

    def test_a_second_broker_on_the_port_says_so(self, broker: BrokerProcess, tmp_path: Path) -> None:
        second = BrokerProcess(tmp_path / "second.sqlite3", broker.port)
        ended = subprocess.run(second.command, capture_output=True, text=True, timeout=20, check=False)
        assert ended.returncode == 1
        assert f"cannot listen on 127.0.0.1:{broker.port}" in ended.stderr


def connected(broker: BrokerProcess) -> PubSub:
    return PubSub("broker", f"127.0.0.1:{broker.port}")
