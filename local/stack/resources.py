"""Which buckets, datasets, topics and subscriptions the pipeline needs, as values. `provision` creates them.

Terraform creates the same on Google Cloud; the names agree.
"""

from dataclasses import dataclass
from datetime import timedelta

from services.core.settings import LoaderSettings, TransformerSettings

LANDING_TOPIC = "credix-landing"
"""Topic of the landing bucket's notifications."""

LOADER_SUBSCRIPTION = "credix-loader"
TRANSFORMER_SUBSCRIPTION = "credix-transformer"


class ResourceSettings(LoaderSettings, TransformerSettings):
    """Everything that names a resource."""


@dataclass(frozen=True)
class Dataset:
    """A dataset; its tables expire after `expiration`, or never."""

    name: str
    expiration: timedelta | None = None


@dataclass(frozen=True)
class Delivery:
    """How a message that was not acknowledged comes again.

    Attributes:
        ack_deadline: how long a handler may take.
        minimum_backoff: pause before the second attempt; grows to `maximum_backoff`.
        maximum_attempts: after so many a message is dead-lettered; 5 to 100.
    """

    ack_deadline: timedelta = timedelta(seconds=600)
    minimum_backoff: timedelta = timedelta(seconds=1)
    maximum_backoff: timedelta = timedelta(seconds=60)
    maximum_attempts: int = 20


@dataclass(frozen=True)
class PushSubscription:
    """A subscription that posts a topic's messages to a service."""

    name: str
    topic: str
    endpoint: str
    dead_letter_topic: str


@dataclass(frozen=True)
class PullSubscription:
    """A subscription that keeps a topic's messages until somebody fetches them."""

    name: str
    topic: str


@dataclass(frozen=True)
class Resources:
    """All resources of one environment."""

    project: str
    location: str
    buckets: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    topics: tuple[str, ...]
    pull: tuple[PullSubscription, ...]
    push: tuple[PushSubscription, ...]
    delivery: Delivery


def dead_letter(topic: str) -> str:
    """Return the name of a topic's dead-letter topic, and of the subscription that keeps its messages."""
    return f"{topic}-dead-letter"


def plan_resources(
    settings: ResourceSettings, loader_url: str, transformer_url: str, delivery: Delivery | None = None
) -> Resources:
    """Return what the pipeline needs.

    Args:
        settings: names of buckets, datasets and topics.
        loader_url: where `credix-loader` posts landing events.
        transformer_url: where `credix-transformer` posts loaded batches.
        delivery: retry policy; by default the one of local stacks (Google Cloud's backoff is 10 to 600 s).
    """
    loaded_topic = settings.batch_loaded_topic
    topics = (LANDING_TOPIC, loaded_topic)
    return Resources(
        project=settings.gcp_project,
        location=settings.bigquery_location,
        buckets=(
            settings.landing_bucket,
            settings.archive_bucket,
            settings.report_bucket,
            settings.artifact_bucket,
        ),
        datasets=(
            Dataset(settings.dataset_temp, timedelta(days=settings.temp_table_days)),
            Dataset(settings.dataset_bronze),
            Dataset(settings.dataset_silver),
            Dataset(settings.dataset_gold),
            Dataset(settings.dataset_elementary),
            # Elementary makes it itself, if it may make datasets: the services may not.
            Dataset(f"{settings.dataset_elementary}__tests"),
        ),
        topics=(*topics, *map(dead_letter, topics), settings.alert_topic),
        pull=(
            *(PullSubscription(dead_letter(topic), dead_letter(topic)) for topic in topics),
            PullSubscription(settings.alert_topic, settings.alert_topic),
        ),
        push=(
            PushSubscription(LOADER_SUBSCRIPTION, LANDING_TOPIC, loader_url, dead_letter(LANDING_TOPIC)),
            PushSubscription(TRANSFORMER_SUBSCRIPTION, loaded_topic, transformer_url, dead_letter(loaded_topic)),
        ),
        delivery=delivery or Delivery(),
    )
