"""Any values of a type, in batches, from the source to the warehouse and back: exact, or as declared."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.core.errors import DataError
from services.core.tables import ColumnType, Unrepresentable
from tests.integration.postgres_versions import VERSIONS, Server, served
from tests.integration.type_outcomes import NOT_HELD
from tests.integration.type_probe import Probe
from tests.integration.type_reading import ROW, Pipe
from tests.integration.type_strategies import VALUES, Values
from tests.integration.warehouse_fixture import Warehouse

EXAMPLES = int(os.environ.get("CREDIX_TYPE_EXAMPLES", "10"))
"""Batches per type and server."""


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(request.param) as started:
        yield started


@pytest.fixture(scope="module", params=[False, True], ids=["by vectors", "by bytes"])
def pipe(request: pytest.FixtureRequest, server: Server, warehouse_endpoint: Warehouse) -> Iterator[Pipe]:
    opened = Pipe(server, warehouse_endpoint, request.param)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize("values", VALUES, ids=[values.type for values in VALUES])
def test_any_batch_arrives_exactly_or_as_declared(pipe: Pipe, values: Values) -> None:
    source = pipe.create([("c", values.type, [])])

    @settings(max_examples=EXAMPLES, database=None, phases=[Phase.generate, Phase.shrink])
    @given(st.lists(st.none() | values.texts, min_size=1, max_size=20))
    def check(batch: list[str | None]) -> None:
        pipe.connection.execute(f"TRUNCATE {source}".encode())
        pipe.fill(source, [(values.type, batch)])
        printed = pipe.printed(source, "c")
        probes = [Probe("text_", "c", values.type, ColumnType.STRING, Unrepresentable.FAIL, printed)]
        probes += [
            Probe(f"{into}_{policy}", "c", values.type, into, policy, printed)
            for into in values.into
            for policy in Unrepresentable
            if policy is not Unrepresentable.EXACT
        ]
        failing = [p for p in probes if p.policy is Unrepresentable.FAIL and NOT_HELD in p.outcomes]
        arriving = [p for p in probes if p not in failing]
        for together in (
            [p for p in arriving if p.into is not ColumnType.BIGNUMERIC],
            [p for p in arriving if p.into is ColumnType.BIGNUMERIC],
        ):
            if together:
                arrived = pipe.arrive(f"public.{source}", [probe.column for probe in together])
                assert [wrong for probe in together for wrong in probe.wrong(arrived)] == []
        for probe in failing:
            # Among the others, and alone: where one value fails, another one may have slipped through.
            for condition in ("", f"{ROW} = {probe.outcomes.index(NOT_HELD)}"):
                with pytest.raises(DataError) as failed:
                    pipe.arrive(f"public.{source}", [probe.column], condition=condition, load=False)
                assert (failed.value.code, failed.value.column) == ("value_does_not_fit", probe.name)

    check()
