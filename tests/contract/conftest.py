"""Where the contract tests' document stores are."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack.emulators import emulators_available
from services.core.state.certain import CertainStore
from services.core.state.store import DocumentStore
from tests.contract.lossy_firestore import LossyFirestore, lossy_firestore
from tests.contract.store_place import Place, open_store
from tests.processes import firestore
from tests.simulation.store import MemoryStore

SHARED = ("sqlite", "firestore", "lossy firestore")
"""Stores that several processes can open."""


@pytest.fixture(params=SHARED)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a store is that another process can open, too."""
    return _place(request, tmp_path)


@pytest.fixture(params=[*SHARED, "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DocumentStore]:
    """Any store."""
    memory = request.param == "memory"
    opened = CertainStore(MemoryStore()) if memory else open_store(_place(request, tmp_path))
    yield opened
    opened.close()


def _place(request: pytest.FixtureRequest, folder: Path) -> Place:
    if request.param == "sqlite":
        return Place("sqlite", str(folder / "state.sqlite"), "")
    namespace = f"n{uuid.uuid4().hex[:12]}"
    if request.param == "firestore":
        return Place("firestore", request.getfixturevalue("firestore_emulator"), namespace)
    address, _ = request.getfixturevalue("lossy")
    return Place("firestore", address, namespace)


@pytest.fixture
def lossy(firestore_emulator: str) -> Iterator[tuple[str, LossyFirestore]]:
    """Google's emulator behind a proxy that loses answers."""
    with lossy_firestore(firestore_emulator, seed=12) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    reason = emulators_available()
    if reason is not None:
        pytest.skip(reason)
    with firestore(tmp_path_factory.mktemp("firestore")) as address:
        yield address
