"""Events that were given up after all attempts: looked at, not taken away."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.types import ReceivedMessage
from pydantic import BaseModel

_MOST = 100
"""Of one subscription; more are not counted."""

_SECONDS = 5.0
_PULL_SECONDS = 1.5


class DeadLetters(BaseModel):
    """What a dead-letter subscription holds."""

    subscription: str
    messages: int
    """At least so many: Pub/Sub shows some at a time, at most 100."""
    objects: list[str]
    """Objects or batches that they are about."""
    error: str | None = None
    """Why it could not be looked at."""


def dead_letters(project: str, subscriptions: list[str]) -> list[DeadLetters]:
    """Look at dead-letter subscriptions; every message is given back at once."""
    if not subscriptions:
        return []
    with SubscriberClient() as client, ThreadPoolExecutor(len(subscriptions)) as pool:
        return list(pool.map(lambda name: _look(client, project, name), subscriptions))


def _pulled(client: SubscriberClient, path: str) -> Sequence[ReceivedMessage]:
    """What comes within a moment: on a good day nothing does, and a pull waits."""
    try:
        return client.pull(subscription=path, max_messages=_MOST, timeout=_PULL_SECONDS, retry=None).received_messages  # type: ignore[no-any-return]
    except DeadlineExceeded:
        return []


def _look(client: SubscriberClient, project: str, name: str) -> DeadLetters:
    path = client.subscription_path(project, name)
    try:
        pulled = _pulled(client, path)
        if pulled:
            ids = [received.ack_id for received in pulled]
            client.modify_ack_deadline(subscription=path, ack_ids=ids, ack_deadline_seconds=0, timeout=_SECONDS)
    except GoogleAPICallError as error:
        return DeadLetters(subscription=name, messages=0, objects=[], error=str(error))
    attributes = [received.message.attributes for received in pulled]
    about = sorted({a.get("objectId") or a.get("batchId") or "?" for a in attributes})
    return DeadLetters(subscription=name, messages=len(pulled), objects=about)
