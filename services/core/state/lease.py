"""Leases: one holder at a time, until it expires; a fencing token tells a late holder from the current one.

A token is the time at which its holder took the lease, in microseconds since 1970, or the last token plus one where
that is more. So tokens go on growing when a lease's document is deleted: whoever noted the last takes the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from tenacity import Retrying, retry_if_exception_type, wait_fixed

from services.core import machine
from services.core.errors import LeaseBusy, LeaseLost, TransientError
from services.core.state.store import Data, Document, DocumentChanged, DocumentExists, DocumentStore

_COLLECTION = "leases"
log = structlog.get_logger()


@dataclass(frozen=True)
class LeaseView:
    """What can be seen of a lease from outside."""

    holder: str | None
    token: int
    expires_at: datetime

    def held(self, now: datetime) -> bool:
        """Whether somebody holds it at this time."""
        return self.holder is not None and self.expires_at > now


def _view(document: Document) -> LeaseView:
    data = document.data
    return LeaseView(data["holder"], data["token"], datetime.fromisoformat(data["expires_at"]))


class Lease:
    """A lease that this process holds.

    ``token`` grows with every change of holder: writes that carry it are refused once a later holder has written.
    """

    def __init__(self, store: DocumentStore, document: Document, length: timedelta) -> None:
        self._store = store
        self._document = document
        self._length = length
        self._lock = machine.lock()
        self.name = document.id
        self.token: int = document.data["token"]
        self.holder: str = document.data["holder"]

    def renew(self) -> None:
        """Prolong the lease from now.

        Raises:
            LeaseLost: another holder has it.
        """
        with self._lock:
            self._write({"expires_at": (machine.now() + self._length).isoformat()})

    def release(self) -> None:
        """Give the lease back; harmless when it was lost. It expires by itself when the state does not answer."""
        with self._lock:
            try:
                self._write({"holder": None})
            except LeaseLost:
                log.warning("lease.lost_before_release", lease=self.name, holder=self.holder, token=self.token)
            except TransientError as error:
                log.warning("lease.not_released", lease=self.name, holder=self.holder, reason=str(error))

    def _write(self, data: Data) -> None:
        """Update the lease, also when a write of this holder whose outcome it never learned came before."""
        while True:
            try:
                self._document = self._store.update(self._document, data)
            except DocumentChanged as error:
                current = self._store.get(_COLLECTION, self.name)
                if current is None or (current.data["holder"], current.data["token"]) != (self.holder, self.token):
                    lease = f"lease {self.name} of {self.holder} (token {self.token})"
                    raise LeaseLost(f"{lease} passed to another, or was removed") from error
                self._document = current
            else:
                return


def leases(store: DocumentStore) -> dict[str, LeaseView]:
    """All leases that were ever held, by name."""
    return {document.id: _view(document) for document in store.query(_COLLECTION, {})}


def clear_expired(store: DocumentStore, name: str, *, forget: bool) -> bool:
    """Take a dead holder's name off its lease; False when it is free, held, or was taken meanwhile.

    Args:
        store: where the lease is kept.
        name: the lease.
        forget: remove it altogether; for leases that are taken under their name no more.
    """
    document = store.get(_COLLECTION, name)
    if document is None:
        return False
    view = _view(document)
    if view.held(machine.now()) or (view.holder is None and not forget):
        return False
    try:
        if forget:
            store.delete(document)
        else:
            store.update(document, {**document.data, "holder": None})
    except DocumentChanged:
        return False
    return True


def look(store: DocumentStore, name: str) -> LeaseView | None:
    """See a lease without touching it; None when nobody ever held it."""
    document = store.get(_COLLECTION, name)
    return _view(document) if document else None


def acquire(store: DocumentStore, name: str, holder: str, length: timedelta) -> Lease:
    """Take a lease that is free or expired.

    Args:
        store: where the lease is kept.
        name: what is leased.
        holder: who takes it, for people and logs.
        length: how long it lasts without a renewal; longer than the clocks' difference between machines.

    Raises:
        LeaseBusy: another holder has it, or was faster.
    """
    document = store.get(_COLLECTION, name)
    now = machine.now()
    token = int(now.timestamp() * 1_000_000)
    data = {"holder": holder, "token": token, "expires_at": (now + length).isoformat()}
    try:
        if document is None:
            return Lease(store, store.create(_COLLECTION, name, data), length)
        view = _view(document)
        if view.held(now):
            raise LeaseBusy(f"lease {name} is held by {view.holder} until {view.expires_at.isoformat()}")
        return Lease(store, store.update(document, {**data, "token": max(view.token + 1, token)}), length)
    except (DocumentExists, DocumentChanged) as error:
        raise LeaseBusy(f"lease {name} was taken by another in this moment") from error


def _acquire_patiently(store: DocumentStore, name: str, holder: str, length: timedelta, patience: timedelta) -> Lease:
    attempts = Retrying(
        retry=retry_if_exception_type(LeaseBusy),
        stop=machine.stopping_after(patience.total_seconds()),
        wait=wait_fixed(0.5),
        sleep=machine.sleep,
        reraise=True,
    )
    return attempts(acquire, store, name, holder, length)


@contextmanager
def holding(
    store: DocumentStore, name: str, holder: str, length: timedelta, patience: timedelta = timedelta(0)
) -> Iterator[Lease]:
    """Hold a lease for a block, renewed in the background every third of its length.

    Args:
        store: where the lease is kept.
        name: what is leased.
        holder: who takes it, for people and logs.
        length: how long it lasts without a renewal.
        patience: how long to wait for another holder; one that is dead is gone when the lease's length has passed.

    Raises:
        LeaseBusy: another holder has it.
    """
    lease = _acquire_patiently(store, name, holder, length, patience)

    def renew() -> bool:
        try:
            lease.renew()
        except LeaseLost:
            log.exception("lease.lost", lease=name, holder=holder)
            return False
        except Exception:
            log.exception("lease.renewal_failed", lease=name, holder=holder)
        return True

    try:
        with machine.repeating(f"lease-{name}", length.total_seconds() / 3, renew):
            yield lease
    finally:
        lease.release()
