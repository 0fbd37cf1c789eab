"""The methods of google.pubsub.v1.Publisher, from request to response."""

from local.broker.broker import Broker, NewMessage
from local.broker.errors import InvalidArgumentError
from local.broker.masks import merge
from local.broker.resources import DELETED_TOPIC, checked_topic, read_subscription, read_topic
from local.broker.store import Store
from local.broker.wire import types

MAX_PUBLISH_BYTES = 10_000_000
"""Pub/Sub's limit for one publish request."""
_PAGE_SIZE = 100
_CHANGEABLE = {"labels", "message_retention_duration", "message_storage_policy", "kms_key_name"}


class PublisherApi:
    """Topics and publishing."""

    def __init__(self, store: Store, broker: Broker) -> None:
        self._store = store
        self._broker = broker

    def create_topic(self, request: types.Topic) -> types.Topic:
        """Create a topic."""
        topic = checked_topic(request)
        self._store.create(topic.name, types.Topic.serialize(topic))
        return topic

    def update_topic(self, request: types.UpdateTopicRequest) -> types.Topic:
        """Change the topic's fields that the mask names; they are kept, and none has an effect here."""
        topic = read_topic(self._store.get(request.topic.name))
        merge(request, request.topic, topic, _CHANGEABLE)
        self._store.replace(topic.name, types.Topic.serialize(checked_topic(topic)))
        return topic

    def get_topic(self, request: types.GetTopicRequest) -> types.Topic:
        """Return a topic."""
        return read_topic(self._store.get(request.topic))

    def list_topics(self, request: types.ListTopicsRequest) -> types.ListTopicsResponse:
        """List a project's topics by name, in pages."""
        limit = request.page_size or _PAGE_SIZE
        found = self._store.resources(f"{request.project}/topics", request.page_token, limit)
        topics = [read_topic(resource) for resource in found]
        return types.ListTopicsResponse(topics=topics, next_page_token=topics[-1].name if len(topics) == limit else "")

    def list_topic_subscriptions(
        self, request: types.ListTopicSubscriptionsRequest
    ) -> types.ListTopicSubscriptionsResponse:
        """List the names of a topic's subscriptions, all at once."""
        self._store.get(request.topic)
        found = [read_subscription(resource) for resource in self._store.subscriptions(request.topic)]
        return types.ListTopicSubscriptionsResponse(subscriptions=[subscription.name for subscription in found])

    def delete_topic(self, request: types.DeleteTopicRequest) -> None:
        """Delete a topic; its subscriptions stay and deliver what they have."""
        with self._store.transaction():
            self._store.delete(request.topic)
            for resource in self._store.subscriptions(request.topic):
                subscription = read_subscription(resource)
                subscription.topic = DELETED_TOPIC
                self._store.replace(subscription.name, types.Subscription.serialize(subscription), DELETED_TOPIC)

    def publish(self, request: types.PublishRequest) -> types.PublishResponse:
        """Publish a batch: all of it is kept before the ids are returned, or nothing is."""
        if not request.messages:
            raise InvalidArgumentError("The request has no messages.")
        if any(not message.data and not message.attributes for message in request.messages):
            raise InvalidArgumentError("Some messages are empty: a message has data or at least one attribute.")
        size = types.PublishRequest.pb(request).ByteSize()
        if size > MAX_PUBLISH_BYTES:
            raise InvalidArgumentError(f"A publish request has at most {MAX_PUBLISH_BYTES} bytes, this one {size}.")
        messages = [NewMessage(it.data, dict(it.attributes), it.ordering_key) for it in request.messages]
        return types.PublishResponse(message_ids=[str(id_) for id_ in self._broker.publish(request.topic, messages)])
