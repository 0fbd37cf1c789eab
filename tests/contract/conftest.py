"""Where the contract tests' document stores are."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack.emulators import emulators_available
from tests.contract.lossy_firestore import LossyFirestore, lossy_firestore
from tests.contract.store_place import Place
from tests.processes import firestore


@pytest.fixture(params=["sqlite", "firestore", "lossy firestore"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield Place("sqlite", str(tmp_path / "state.sqlite"), "")
        return
    namespace = f"n{uuid.uuid4().hex[:12]}"
    if request.param == "firestore":
        yield Place("firestore", request.getfixturevalue("firestore_emulator"), namespace)
    else:
        address, _ = request.getfixturevalue("lossy")
        yield Place("firestore", address, namespace)


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
