"""Events between the services: hints to look at the state, never the truth. Pub/Sub messages in and out."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.cloud.pubsub_v1 import PublisherClient

from services.core.batch import Batch, BatchError
from services.core.errors import DataError

_PUBLISH_SECONDS = 30
"""For Pub/Sub to take a message: within a minute it is noted that it does not."""

_MOST_NAMES = 100
"""Of objects in one alert: a message has a limit, and whoever may land can land any number."""


@dataclass(frozen=True)
class Message:
    """A Pub/Sub message as the push subscription delivers it."""

    id: str
    attributes: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class ObjectFinalized:
    """Cloud Storage's notification that an object is complete.

    Attributes as in https://cloud.google.com/storage/docs/pubsub-notifications#attributes.
    """

    bucket: str
    name: str
    generation: int


def parse_message(body: Any) -> Message:
    """Read the body of a push request, which functions-framework hands over as the CloudEvent's data.

    Raises:
        ValueError: this is no Pub/Sub push body.
    """
    message = body.get("message") if isinstance(body, Mapping) else None
    if not isinstance(message, Mapping):
        raise ValueError("the event has no Pub/Sub message")
    return Message(
        id=str(message.get("messageId") or message.get("message_id") or ""),
        attributes=dict(message.get("attributes") or {}),
        data=base64.b64decode(message.get("data") or ""),
    )


def parse_object_finalized(message: Message) -> ObjectFinalized | None:
    """The object that a notification is about, or None when the message is something else."""
    attributes = message.attributes
    if attributes.get("eventType") != "OBJECT_FINALIZE":
        return None
    try:
        return ObjectFinalized(
            attributes["bucketId"], attributes["objectId"], int(attributes.get("objectGeneration", "0"))
        )
    except (KeyError, ValueError):
        return None


class Publisher:
    """What the services say to others."""

    def __init__(self, project: str, batch_loaded_topic: str, alert_topic: str) -> None:
        self._client = PublisherClient()
        self._loaded = self._client.topic_path(project, batch_loaded_topic)
        self._alert = self._client.topic_path(project, alert_topic)

    def publish(self, batch: Batch) -> str:
        """Announce a loaded batch and wait until Pub/Sub has it; returns the message id."""
        data = json.dumps({"batch_id": batch.id, "table": batch.table, "rows": batch.rows}).encode()
        future = self._client.publish(self._loaded, data, eventType="batch.loaded", batchId=batch.id, table=batch.table)
        return str(future.result(timeout=_PUBLISH_SECONDS))

    def alert(self, error: DataError, objects: list[str]) -> str:
        """Say what was refused, and wait until Pub/Sub has it; returns the message id.

        Args:
            error: the reason.
            objects: names of the objects that go to failed/.
        """
        facts = {
            "code": error.code,
            "message": str(error),
            "table": error.table,
            "batch_id": error.batch_id,
            "column": error.column,
            "objects": objects[:_MOST_NAMES],
            "object_count": len(objects),
        }
        future = self._client.publish(
            self._alert, json.dumps(facts).encode(), eventType="objects.rejected", code=error.code
        )
        return str(future.result(timeout=_PUBLISH_SECONDS))

    def held(self, batch: Batch) -> str:
        """Say that a batch waits for a person, and why; wait until Pub/Sub has it, and return the message id."""
        why = batch.hold or BatchError(code="held", message="")
        facts = {"code": why.code, "message": why.message, "table": batch.table, "batch_id": batch.id}
        future = self._client.publish(
            self._alert, json.dumps(facts).encode(), eventType="batch.held", code=why.code, table=batch.table
        )
        return str(future.result(timeout=_PUBLISH_SECONDS))
