"""Where a document store under test is; a plain value, so that another process can open the same one."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.core.state.certain import CertainStore
from services.core.state.firestore import FirestoreStore
from services.core.state.sqlite import SqliteStore
from services.core.state.store import DocumentStore


@dataclass(frozen=True)
class Place:
    """``address`` is a file's path for sqlite, host:port of an emulator for firestore."""

    kind: str
    address: str
    namespace: str


def open_store(place: Place) -> DocumentStore:
    """Open the store as ``open_state`` does, in whatever process this is."""
    if place.kind == "sqlite":
        return CertainStore(SqliteStore(Path(place.address)))
    os.environ["FIRESTORE_EMULATOR_HOST"] = place.address
    return CertainStore(FirestoreStore("contract-tests", "(default)", place.namespace))
