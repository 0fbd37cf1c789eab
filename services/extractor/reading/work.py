"""The chunks of a plan as work that several tasks share, kept in the state: who reads which, and what came of it.

A chunk is claimed by creating its document; a claim is void once its claimant's lease is no longer held under the same
token, so a task that died leaves nothing behind that another could not take over, and a task that is tried again does
not read what its first try has finished.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from services.core import machine
from services.core.state.lease import Lease, look
from services.core.state.state import CHUNKS, PLANS
from services.core.state.store import Data, Document, DocumentChanged, DocumentExists, DocumentStore
from services.extractor.planning.plan import ChunkResult, Plan


@dataclass(frozen=True)
class Claim:
    """A chunk that this process reads now."""

    chunk: int
    attempt: int
    """1 for the first claim of the chunk by anybody; in the names of its parts."""
    document: Document


def share(store: DocumentStore, plan: Plan) -> None:
    """Let other tasks of the execution see the plan."""
    store.create(PLANS, plan.batch_id, plan.model_dump(mode="json"))


def shared_plan(store: DocumentStore, batch_id: str) -> Plan | None:
    """The plan of a batch, or None."""
    document = store.get(PLANS, batch_id)
    return Plan.model_validate(document.data) if document else None


def shared_plans(store: DocumentStore, execution: str) -> list[Plan]:
    """The plans of an execution's batches that are being read."""
    return [Plan.model_validate(document.data) for document in store.query(PLANS, {"execution": execution})]


class Work:
    """The chunks of one plan, as this process sees them; its methods can be called from several threads."""

    def __init__(self, store: DocumentStore, plan: Plan, claimant: Lease) -> None:
        """Join the work.

        Args:
            store: the state's documents.
            plan: what is to be read, in chunks.
            claimant: lease that this process holds as long as it works.
        """
        self._store, self._plan = store, plan
        self._name, self._token = claimant.name, claimant.token
        self._lock = threading.Lock()
        self._next = 0

    def _id(self, chunk: int) -> str:
        return f"{self._plan.batch_id}-{chunk:05}"

    def claim(self) -> Claim | None:
        """The next chunk that nobody reads; None when there is none now."""
        while True:
            with self._lock:
                chunk, self._next = self._next, self._next + 1
            if chunk >= len(self._plan.bounds):
                return self._take_over()
            data = {"batch": self._plan.batch_id, "chunk": chunk, "attempt": 1, **self._mine(), "result": None}
            try:
                document = self._store.create(CHUNKS, self._id(chunk), data)
            except DocumentExists:
                continue
            if self._store.get(PLANS, self._plan.batch_id) is None:
                # The batch has ended, well or badly, and its chunks were forgotten: this one was not there to be.
                self._store.delete(document)
                return None
            return Claim(chunk, 1, document)

    def _mine(self) -> dict[str, str | int]:
        return {"lease": self._name, "token": self._token}

    def _take_over(self) -> Claim | None:
        """A chunk whose claimant is gone."""
        for document in self._documents():
            if document.data["result"] is not None or self._alive(document):
                continue
            attempt = document.data["attempt"] + 1
            try:
                taken = self._store.update(document, {**document.data, **self._mine(), "attempt": attempt})
            except DocumentChanged:
                continue
            return Claim(document.data["chunk"], attempt, taken)
        return None

    def _alive(self, document: Document) -> bool:
        name, token = document.data["lease"], document.data["token"]
        if (name, token) == (self._name, self._token):
            return True
        lease = look(self._store, name)
        return lease is not None and lease.token == token and lease.held(machine.now())

    def again(self, claim: Claim) -> Claim:
        """The claim for another attempt of this process, whose parts have other names.

        Raises:
            DocumentChanged: another process took the chunk over.
        """
        written = self._change(claim, lambda data: {**data, "attempt": data["attempt"] + 1})
        return Claim(claim.chunk, written.data["attempt"], written)

    def done(self, claim: Claim, result: ChunkResult) -> None:
        """Note what came of a chunk.

        Raises:
            DocumentChanged: another process took the chunk over.
        """
        found = result.model_dump(mode="json")
        self._change(claim, lambda data: {**data, "result": found})

    def _change(self, claim: Claim, change: Callable[[Data], Data]) -> Document:
        """Write under a claim, also when a write whose outcome this process never learned came before."""
        document = claim.document
        while True:
            try:
                return self._store.update(document, change(document.data))
            except DocumentChanged:
                current = self._store.get(CHUNKS, document.id)
                if current is None or (current.data["lease"], current.data["token"]) != (self._name, self._token):
                    raise
                document = current

    def _documents(self) -> list[Document]:
        return self._store.query(CHUNKS, {"batch": self._plan.batch_id})

    def results(self) -> list[ChunkResult]:
        """What came of the chunks that are done, in order."""
        found = (document.data["result"] for document in self._documents())
        return [ChunkResult.model_validate(result) for result in found if result is not None]
