"""What the integration tests run on: real processes, started for them and stopped after them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.extractor_harness import Bench, Place, Server, own_server, place_on
from tests.integration.postgres_versions import VERSIONS
from tests.integration.warehouse_fixture import dbt, warehouse_endpoint
from tests.processes import throwaway_postgres

__all__ = ["dbt", "postgres_dsn", "warehouse_endpoint"]


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A superuser's connection string of an empty throw-away database."""
    with tempfile.TemporaryDirectory() as folder, throwaway_postgres(Path(folder)) as dsn:
        yield dsn


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the module's own, of each version; a module that needs other settings has its own fixture."""
    with own_server(tmp_path_factory.mktemp("server"), request.param) as started:
        yield started


@pytest.fixture(scope="module")
def place(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """What the extractor's tests of a module share: the server, a bucket."""
    with place_on(server.dsn, tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture
def bench(place: Place, tmp_path: Path) -> Iterator[Bench]:
    """What one test of the extractor works on."""
    with place.bench(tmp_path) as bench:
        yield bench
