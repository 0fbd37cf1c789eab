"""Every expression of emulator_edges.yaml, by the local warehouse and by Google's evaluator; docs/emulator.md tells."""

from collections.abc import Iterator

import pytest

from local.googlesql.compiled import EngineMissing, compile_once
from tests.integration.warehouse_fixture import start_warehouse

try:
    compile_once()
except EngineMissing as missing:
    pytest.skip(f"nothing to compare with: {missing}", allow_module_level=True)

from local.googlesql.analysis import GoogleSql
from tests.integration.emulator_edges import DOCUMENT, Difference, differences, edges, table, written


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Difference]]:
    """What differs without the analyzer in front, which would mend or refuse some of it."""
    with start_warehouse(tmp_path_factory.mktemp("edges"), "--analyzer=off") as warehouse:
        yield differences(GoogleSql(), warehouse.client(), edges())


def test_every_difference_is_known_and_told(found: list[Difference]) -> None:
    document = DOCUMENT.read_text()
    assert document == written(document, table(found)), "run python -m tests.integration.emulator_edges"


def test_what_differs_here_is_an_error_and_no_other_value(found: list[Difference]) -> None:
    bignumeric = [each for each in found if "bignumeric" in each.edge.sql]
    assert bignumeric != []
    assert [each.edge.sql for each in bignumeric if each.emulator.type is not None] == []
