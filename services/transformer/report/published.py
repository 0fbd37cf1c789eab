"""What the newest report says, noted in the state: whether another one would say anything else."""

from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.core.health.attention import Attention
from services.core.state.quality import Audit
from services.core.state.store import DocumentChanged, DocumentExists, DocumentStore

_PLACE = ("pipeline", "report")


class Published(BaseModel):
    """The newest report."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    needs: list[str]
    """What needs a person, by cause and subject."""
    audit: str | None = None
    """The audit whose figures it has."""

    @classmethod
    def of(cls, at: datetime, needs: list[Attention], audit: Audit | None) -> "Published":
        """A report on these needs, with the figures of an audit."""
        told = sorted(f"{need.cause} {need.about} {need.count}" for need in needs)
        return cls(at=at, needs=told, audit=audit.id if audit else None)

    def differs(self, before: "Published | None", most: timedelta) -> bool:
        """Whether it says something else than the one before, or that one is older than ``most``."""
        if before is None or self.at - before.at > most:
            return True
        return (self.needs, self.audit) != (before.needs, before.audit)


def published(store: DocumentStore) -> Published | None:
    """The newest report; None before the first."""
    document = store.get(*_PLACE)
    return Published.model_validate(document.data) if document else None


def note_published(store: DocumentStore, newest: Published) -> None:
    """Note a report; another that was published in this moment may be noted instead."""
    data = newest.model_dump(mode="json")
    document = store.get(*_PLACE)
    try:
        if document is None:
            store.create(*_PLACE, data)
        else:
            store.update(document, data)
    except (DocumentExists, DocumentChanged):
        return
