"""What the integration tests run on: real processes, started for them and stopped after them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.warehouse_fixture import dbt, warehouse_endpoint
from tests.processes import throwaway_postgres

__all__ = ["dbt", "postgres_dsn", "warehouse_endpoint"]


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A superuser's connection string of an empty throw-away database."""
    with tempfile.TemporaryDirectory() as folder, throwaway_postgres(Path(folder)) as dsn:
        yield dsn
