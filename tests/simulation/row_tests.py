"""The row tests of the simulated table: one, on which every fifth version of a row fails."""

import re
from typing import Any

from services.core import machine
from services.core.tables import Table
from services.transformer.dbt_project import NodeResult
from services.transformer.quality.guard import Guard
from tests.simulation.client import Client, SimulatedQuery
from tests.simulation.statements import FAILING, GUARD, batch_rows, is_bad

_TEST = "n_is_good"


class RowTests:
    """As the transformer's, in one process."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def results(self, client: Any, table: Table, rows: str) -> list[NodeResult]:
        """As the real one's: one statement."""
        warehouse = self._client.warehouse
        asked = [batch_rows(select) for select in rows.split("\nunion all\n")]
        bad: list[int] = []

        def work() -> int:
            bad[:] = [row["n"] for row in warehouse.rows_of(asked) if is_bad(row)]
            return 0

        id_ = f"tests-{machine.token_hex(4)}"
        job = self._client.ask("row tests", lambda: warehouse.send(id_, "query", "tests", work), id_, writes=True)
        SimulatedQuery(self._client, job).result()
        return [_result(len(bad))]

    def guard(self, table: Table) -> Guard:
        """As the real one's."""
        return Guard(f"{GUARD}(", ")")

    def told(self, table: Table, error: str | None, seconds: float) -> list[NodeResult] | None:
        """As the real one's."""
        if error is None:
            return [_result(0)]
        found = re.search(rf"{FAILING}: (\d+)", error)
        return [_result(int(found[1]))] if found else None


def _result(failures: int) -> NodeResult:
    return NodeResult(_TEST, "test", "fail" if failures else "pass", "", 0.0, None, failures)
