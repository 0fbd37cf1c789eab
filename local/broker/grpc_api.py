"""The gRPC surface: which method is served by what, and how the broker's errors become gRPC statuses."""

from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from local.broker.errors import BrokerError, UnsupportedError
from local.broker.publisher_api import PublisherApi
from local.broker.subscriber_api import SubscriberApi
from local.broker.wire import types

_MAX_REQUEST_BYTES = 16 * 1024 * 1024  # above Pub/Sub's own limit, so that limit is what a caller meets


class PubSubHandler(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Finds the handler of a method; a method that is left out gets UNIMPLEMENTED with its name."""

    def __init__(self, publisher: PublisherApi, subscriber: SubscriberApi) -> None:
        self._handlers = _publisher_handlers(publisher) | _subscriber_handlers(subscriber)

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of `/package.Service/Method`."""
        method = handler_call_details.method
        return self._handlers.get(method) or _unimplemented(method)


async def start_server(handler: PubSubHandler, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Serve the handler and return the server and its port, a free one for port 0.

    Raises:
        RuntimeError: the address cannot be bound, because another process has it.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
            ("grpc.max_send_message_length", -1),
        ]
    )
    server.add_generic_rpc_handlers((handler,))
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server, bound


def _publisher_handlers(api: PublisherApi) -> dict[str, Any]:
    return {
        f"/google.pubsub.v1.Publisher/{name}": _unary(request, method)
        for name, request, method in (
            ("CreateTopic", types.Topic, api.create_topic),
            ("UpdateTopic", types.UpdateTopicRequest, api.update_topic),
            ("GetTopic", types.GetTopicRequest, api.get_topic),
            ("ListTopics", types.ListTopicsRequest, api.list_topics),
            ("ListTopicSubscriptions", types.ListTopicSubscriptionsRequest, api.list_topic_subscriptions),
            ("DeleteTopic", types.DeleteTopicRequest, api.delete_topic),
            ("Publish", types.PublishRequest, api.publish),
        )
    }


def _subscriber_handlers(api: SubscriberApi) -> dict[str, Any]:
    handlers = {
        f"/google.pubsub.v1.Subscriber/{name}": _unary(request, method)
        for name, request, method in (
            ("CreateSubscription", types.Subscription, api.create_subscription),
            ("UpdateSubscription", types.UpdateSubscriptionRequest, api.update_subscription),
            ("ModifyPushConfig", types.ModifyPushConfigRequest, api.modify_push_config),
            ("GetSubscription", types.GetSubscriptionRequest, api.get_subscription),
            ("ListSubscriptions", types.ListSubscriptionsRequest, api.list_subscriptions),
            ("DeleteSubscription", types.DeleteSubscriptionRequest, api.delete_subscription),
            ("Acknowledge", types.AcknowledgeRequest, api.acknowledge),
            ("ModifyAckDeadline", types.ModifyAckDeadlineRequest, api.modify_ack_deadline),
        )
    }

    async def pull(request: types.PullRequest, context: Any) -> types.PullResponse:
        try:
            return await api.pull(request, context.time_remaining())
        except BrokerError as error:
            await _abort(context, error)

    async def streaming_pull(
        requests: AsyncIterator[types.StreamingPullRequest], context: Any
    ) -> AsyncIterator[types.StreamingPullResponse]:
        try:
            async for response in api.streaming_pull(requests):
                yield response
        except BrokerError as error:
            await _abort(context, error)

    handlers["/google.pubsub.v1.Subscriber/Pull"] = grpc.unary_unary_rpc_method_handler(
        pull, types.PullRequest.deserialize, types.PullResponse.serialize
    )
    handlers["/google.pubsub.v1.Subscriber/StreamingPull"] = grpc.stream_stream_rpc_method_handler(
        streaming_pull, types.StreamingPullRequest.deserialize, types.StreamingPullResponse.serialize
    )
    return handlers


def _unary(request_type: Any, method: Callable[[Any], Any]) -> Any:
    async def call(request: Any, context: Any) -> Any:
        try:
            return method(request)
        except BrokerError as error:
            await _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(call, request_type.deserialize, _serialized)


def _unimplemented(method: str) -> Any:
    async def call(_request: bytes, context: Any) -> None:
        await _abort(context, UnsupportedError(f"{method} is not supported by the local broker."))

    return grpc.unary_unary_rpc_method_handler(call)


async def _abort(context: Any, error: BrokerError) -> NoReturn:
    await context.abort(grpc.StatusCode[error.code], str(error))
    raise AssertionError("abort always raises")


def _serialized(response: Any) -> bytes:
    """Serialize a response; None stands for google.protobuf.Empty, which has no bytes."""
    return b"" if response is None else bytes(type(response).serialize(response))
