"""The methods of google.pubsub.v1.Subscriber, from request to response."""

import asyncio
from collections.abc import AsyncIterator

from local.broker.broker import Broker
from local.broker.delivery import Delivery
from local.broker.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from local.broker.masks import merge
from local.broker.push import Pusher
from local.broker.resources import Rules, checked_subscription, read_subscription
from local.broker.store import Store
from local.broker.wire import types

PULL_WAIT_SECONDS = 10.0
"""How long an empty Pull waits for a message, at most; less where the caller's own deadline is nearer."""
MAX_STREAM_OUTSTANDING = 1000
"""Messages that one StreamingPull has unacknowledged at once when its client names no limit."""
_ANSWER_MARGIN_SECONDS = 0.2  # so an empty answer still reaches a caller whose deadline is near
_STREAM_BATCH = 100
_PAGE_SIZE = 100
_CHANGEABLE = {
    "ack_deadline_seconds",
    "dead_letter_policy",
    "expiration_policy",
    "labels",
    "message_retention_duration",
    "push_config",
    "retry_policy",
}


class SubscriberApi:
    """Subscriptions, pulling and acknowledging."""

    def __init__(self, store: Store, broker: Broker, pusher: Pusher) -> None:
        self._store = store
        self._broker = broker
        self._pusher = pusher

    def create_subscription(self, request: types.Subscription) -> types.Subscription:
        """Create a subscription; it gets what is published from now on."""
        subscription = checked_subscription(request)
        self._check_topics(subscription)
        self._store.create(subscription.name, types.Subscription.serialize(subscription), subscription.topic)
        self._pusher.ensure(subscription.name)
        return subscription

    def update_subscription(self, request: types.UpdateSubscriptionRequest) -> types.Subscription:
        """Change the subscription's fields that the mask names."""
        subscription = read_subscription(self._store.get(request.subscription.name))
        merge(request, request.subscription, subscription, _CHANGEABLE)
        if "dead_letter_policy" in list(request.update_mask.paths):
            self._check_dead_letter_topic(subscription)
        return self._replace(subscription)

    def modify_push_config(self, request: types.ModifyPushConfigRequest) -> None:
        """Change where a subscription pushes to; an empty config makes it a pull subscription."""
        subscription = read_subscription(self._store.get(request.subscription))
        subscription.push_config = request.push_config
        self._replace(subscription)

    def get_subscription(self, request: types.GetSubscriptionRequest) -> types.Subscription:
        """Return a subscription."""
        return read_subscription(self._store.get(request.subscription))

    def list_subscriptions(self, request: types.ListSubscriptionsRequest) -> types.ListSubscriptionsResponse:
        """List a project's subscriptions by name, in pages."""
        limit = request.page_size or _PAGE_SIZE
        found = self._store.resources(f"{request.project}/subscriptions", request.page_token, limit)
        subscriptions = [read_subscription(resource) for resource in found]
        return types.ListSubscriptionsResponse(
            subscriptions=subscriptions,
            next_page_token=subscriptions[-1].name if len(subscriptions) == limit else "",
        )

    def delete_subscription(self, request: types.DeleteSubscriptionRequest) -> None:
        """Delete a subscription and what it has not delivered."""
        self._store.delete(request.subscription)
        self._broker.changed(request.subscription)

    async def pull(self, request: types.PullRequest, time_remaining: float | None) -> types.PullResponse:
        """Lease what is due; when nothing is, wait a while for the first message unless told to return at once."""
        if request.max_messages < 1:
            raise InvalidArgumentError("max_messages must be at least 1.")
        seconds = PULL_WAIT_SECONDS if time_remaining is None else min(PULL_WAIT_SECONDS, time_remaining)
        end = asyncio.get_running_loop().time() + seconds - _ANSWER_MARGIN_SECONDS
        while True:
            rules = self._pull_rules(request.subscription)
            deliveries = self._broker.lease(rules, request.max_messages, rules.ack_deadline)
            left = end - asyncio.get_running_loop().time()
            if deliveries or request.return_immediately or left <= 0 or self._broker.closing:
                return types.PullResponse(received_messages=[_received(it, rules) for it in deliveries])
            await self._broker.wait(request.subscription, timeout=left)

    async def streaming_pull(
        self, requests: AsyncIterator[types.StreamingPullRequest]
    ) -> AsyncIterator[types.StreamingPullResponse]:
        """Lease what is due as it becomes due, and take acknowledgements and deadlines from the same stream."""
        opening = await anext(requests, None)
        if opening is None:  # the client went away before it said anything
            return
        name, seconds = opening.subscription, opening.stream_ack_deadline_seconds
        if not 0 < seconds <= 600:
            raise InvalidArgumentError(f"stream_ack_deadline_seconds must be 1 to 600, not {seconds}.")
        most = opening.max_outstanding_messages
        most = min(most, MAX_STREAM_OUTSTANDING) if most > 0 else MAX_STREAM_OUTSTANDING
        outstanding: set[str] = set()
        self._apply(name, opening)
        reader = asyncio.create_task(self._read(name, requests))
        try:
            while not reader.done() and not self._broker.closing:
                rules = self._pull_rules(name)
                outstanding = self._broker.still_leased(name, outstanding)
                room = most - len(outstanding)
                deliveries = self._broker.lease(rules, min(room, _STREAM_BATCH), seconds)
                outstanding.update(it.ack_id for it in deliveries)
                if deliveries:
                    yield _stream_response(deliveries, rules)
                else:
                    await self._broker.wait(name, ready=room > 0)
            if self._broker.closing:
                raise UnavailableError("The local broker is shutting down.")
            reader.result()  # raises what was wrong with a request
        finally:
            reader.cancel()

    def acknowledge(self, request: types.AcknowledgeRequest) -> None:
        """Acknowledge messages; those whose lease has ended are delivered again all the same."""
        self._store.get(request.subscription)
        self._broker.acknowledge(request.subscription, request.ack_ids)

    def modify_ack_deadline(self, request: types.ModifyAckDeadlineRequest) -> None:
        """Move ack deadlines; 0 seconds is a nack."""
        self._store.get(request.subscription)
        self._broker.extend(request.subscription, request.ack_ids, request.ack_deadline_seconds)

    async def _read(self, name: str, requests: AsyncIterator[types.StreamingPullRequest]) -> None:
        try:
            async for request in requests:
                self._apply(name, request)
        finally:
            self._broker.changed(name)

    def _apply(self, name: str, request: types.StreamingPullRequest) -> None:
        if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
            raise InvalidArgumentError("modify_deadline_ack_ids and modify_deadline_seconds differ in length.")
        if request.ack_ids:
            self._broker.acknowledge(name, request.ack_ids)
        for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
            self._broker.extend(name, [ack_id], seconds)

    def _replace(self, subscription: types.Subscription) -> types.Subscription:
        checked = checked_subscription(subscription)
        self._store.replace(checked.name, types.Subscription.serialize(checked), checked.topic)
        self._broker.changed(checked.name)
        self._pusher.ensure(checked.name)
        return checked

    def _pull_rules(self, name: str) -> Rules:
        rules = self._broker.rules(name)
        if rules.push_endpoint:
            raise FailedPreconditionError(f"This is a push subscription, it cannot be pulled (resource={name}).")
        return rules

    def _check_topics(self, subscription: types.Subscription) -> None:
        self._store.get(subscription.topic)
        self._check_dead_letter_topic(subscription)

    def _check_dead_letter_topic(self, subscription: types.Subscription) -> None:
        if "dead_letter_policy" in subscription:
            self._store.get(subscription.dead_letter_policy.dead_letter_topic)


def _received(delivery: Delivery, rules: Rules) -> types.ReceivedMessage:
    message = delivery.message
    return types.ReceivedMessage(
        ack_id=delivery.ack_id,
        message=types.PubsubMessage(
            data=message.data,
            attributes=dict(message.attributes),
            message_id=str(message.id),
            publish_time=message.published_at,
            ordering_key=message.ordering_key,
        ),
        delivery_attempt=delivery.attempt if rules.dead_letter else 0,
    )


def _stream_response(deliveries: list[Delivery], rules: Rules) -> types.StreamingPullResponse:
    return types.StreamingPullResponse(
        received_messages=[_received(it, rules) for it in deliveries],
        subscription_properties=types.StreamingPullResponse.SubscriptionProperties(
            message_ordering_enabled=rules.ordered
        ),
    )
