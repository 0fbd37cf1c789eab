"""A local warehouse for each file of tests."""

from collections.abc import Iterator

import pytest
from google.cloud import bigquery

from tests.integration.warehouse_fixture import Warehouse, start_warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with start_warehouse(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture(scope="module")
def client(warehouse: Warehouse) -> bigquery.Client:
    return warehouse.client()
