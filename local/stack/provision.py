"""Create on emulators what Terraform creates on Google Cloud: buckets, datasets, topics and subscriptions.

As a command, for docker compose: `python -m local.stack.provision --loader-url URL --transformer-url URL`, configured
like a service, by environment variables. It refuses to run unless all three emulator variables are set, so it never
touches a real project. It may run again: what exists stays, and a subscription is brought to what is asked.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc
import requests
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import AlreadyExists, Conflict, GoogleAPICallError, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import DeadLetterPolicy, PushConfig, RetryPolicy, Subscription

from local.stack.errors import StackError
from local.stack.resources import (
    Dataset,
    Delivery,
    PushSubscription,
    Resources,
    ResourceSettings,
    plan_resources,
)
from services.core.errors import ConfigurationError
from services.core.settings import read_settings

CALL_SECONDS = 20.0
"""How long one call may take, its retries included: an emulator on this machine or network."""

_CHANGEABLE = FieldMask(paths=["push_config", "ack_deadline_seconds", "retry_policy", "dead_letter_policy"])


@dataclass(frozen=True)
class Endpoints:
    """Where the emulators are.

    Attributes:
        storage: URL of the bucket emulator.
        bigquery: URL of the warehouse emulator.
        pubsub: host:port of the bus.
    """

    storage: str
    bigquery: str
    pubsub: str

    @classmethod
    def from_environment(cls) -> "Endpoints":
        """Return what the emulator variables say.

        Raises:
            ConfigurationError: one is not set.
        """
        names = ("STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise ConfigurationError(
                f"{', '.join(missing)} not set: resources of a real project are Terraform's, not this command's"
            )
        return cls(*(os.environ[name] for name in names))


def provision(resources: Resources, endpoints: Endpoints, *, bus_only: bool = False) -> None:
    """Create the resources that are missing and bring the subscriptions to what is asked.

    Args:
        resources: what is to be there.
        endpoints: where.
        bus_only: only topics and subscriptions.

    Raises:
        StackError: an emulator refused; names the resource.
    """
    if not bus_only:
        _create_buckets(resources, endpoints.storage)
        _create_datasets(resources, endpoints.bigquery)
    _create_topics_and_subscriptions(resources, endpoints.pubsub)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after saying what is wrong."""
    default = Delivery()
    parser = argparse.ArgumentParser(prog="python -m local.stack.provision", description=__doc__)
    parser.add_argument("--loader-url", required=True, help="where landing events are pushed to")
    parser.add_argument("--transformer-url", required=True, help="where loaded batches are pushed to")
    parser.add_argument("--ack-deadline", type=_seconds, default=default.ack_deadline, metavar="SECONDS")
    parser.add_argument("--minimum-backoff", type=_seconds, default=default.minimum_backoff, metavar="SECONDS")
    parser.add_argument("--maximum-backoff", type=_seconds, default=default.maximum_backoff, metavar="SECONDS")
    parser.add_argument("--maximum-attempts", type=int, default=default.maximum_attempts, metavar="N")
    given = parser.parse_args(arguments)
    delivery = Delivery(
        ack_deadline=given.ack_deadline,
        minimum_backoff=given.minimum_backoff,
        maximum_backoff=given.maximum_backoff,
        maximum_attempts=given.maximum_attempts,
    )
    try:
        settings = read_settings(ResourceSettings)
        provision(
            plan_resources(settings, given.loader_url, given.transformer_url, delivery), Endpoints.from_environment()
        )
    except (ConfigurationError, StackError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _create_buckets(resources: Resources, url: str) -> None:
    client = StorageClient(
        project=resources.project,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=url),
    )
    for bucket in resources.buckets:
        with _creating(f"bucket {bucket}"):
            client.create_bucket(bucket, location=resources.location, timeout=CALL_SECONDS)


def _create_datasets(resources: Resources, url: str) -> None:
    client = bigquery.Client(
        project=resources.project,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=url),
        location=resources.location,
    )
    for dataset in resources.datasets:
        with _creating(f"dataset {dataset.name}"):
            client.create_dataset(_dataset(resources, dataset), exists_ok=True, timeout=CALL_SECONDS)


def _dataset(resources: Resources, dataset: Dataset) -> bigquery.Dataset:
    made = bigquery.Dataset(f"{resources.project}.{dataset.name}")
    made.location = resources.location
    if dataset.expiration:
        made.default_table_expiration_ms = int(dataset.expiration / timedelta(milliseconds=1))
    return made


def _create_topics_and_subscriptions(resources: Resources, address: str) -> None:
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        # With a transport of their own the clients do not look at PUBSUB_EMULATOR_HOST.
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for topic in resources.topics:
            with _creating(f"topic {topic}"):
                publisher.create_topic(name=publisher.topic_path(resources.project, topic), timeout=CALL_SECONDS)
        for pull in resources.pull:
            with _creating(f"subscription {pull.name}"):
                subscriber.create_subscription(
                    name=subscriber.subscription_path(resources.project, pull.name),
                    topic=publisher.topic_path(resources.project, pull.topic),
                    timeout=CALL_SECONDS,
                )
        for push in resources.push:
            wanted = _push_subscription(resources, push)
            with _creating(f"subscription {push.name}"):
                try:
                    subscriber.create_subscription(request=wanted, timeout=CALL_SECONDS)
                except AlreadyExists:
                    subscriber.update_subscription(subscription=wanted, update_mask=_CHANGEABLE, timeout=CALL_SECONDS)


def _push_subscription(resources: Resources, push: PushSubscription) -> Subscription:
    delivery = resources.delivery
    return Subscription(
        name=SubscriberClient.subscription_path(resources.project, push.name),
        topic=PublisherClient.topic_path(resources.project, push.topic),
        push_config=PushConfig(push_endpoint=push.endpoint),
        ack_deadline_seconds=int(delivery.ack_deadline.total_seconds()),
        retry_policy=RetryPolicy(minimum_backoff=delivery.minimum_backoff, maximum_backoff=delivery.maximum_backoff),
        dead_letter_policy=DeadLetterPolicy(
            dead_letter_topic=PublisherClient.topic_path(resources.project, push.dead_letter_topic),
            max_delivery_attempts=delivery.maximum_attempts,
        ),
    )


@contextmanager
def _creating(what: str) -> Iterator[None]:
    """Turn an emulator's refusal into an error that names the resource; that it exists already is no refusal."""
    try:
        yield
    except Conflict:  # AlreadyExists is one
        return
    except (GoogleAPICallError, RetryError, requests.ConnectionError) as error:
        raise StackError(f"{what} could not be created: {error}") from error


def _seconds(text: str) -> timedelta:
    return timedelta(seconds=float(text))


if __name__ == "__main__":
    sys.exit(main())
