"""Where the contract tests' document stores are."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store_place import Place


@pytest.fixture(params=["sqlite", "firestore"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield Place("sqlite", str(tmp_path / "state.sqlite"), "")
        return
    address = request.getfixturevalue("firestore_emulator")
    yield Place("firestore", address, f"n{uuid.uuid4().hex[:12]}")
