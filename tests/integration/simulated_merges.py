"""What the simulation's warehouse makes of the batches that dbt merges: the two are to hold the same versions."""

from typing import Any

from tests.integration.bronze_feed import Batch, Row
from tests.integration.warehouse_fixture import PROJECT
from tests.simulation import warehouse as simulated
from tests.simulation.buckets import MemoryBuckets
from tests.simulation.choices import Choices
from tests.simulation.scheduler import Scheduler
from tests.simulation.statements import batch_rows


class SimulatedMerges:
    """The simulation's rule of a MERGE (tests/simulation), told what dbt is told."""

    def __init__(self, dataset: str) -> None:
        scheduler = Scheduler(Choices())
        self._warehouse = simulated.Warehouse(scheduler, MemoryBuckets(scheduler.now, lambda event: None))
        self._dataset = f"{PROJECT}.{dataset}"

    def hold(self, loaded: Batch, rows: list[Row]) -> Batch:
        """Have a batch's hashed table."""
        self._warehouse.create(loaded["table"], {}, if_absent=False).rows = rows
        return loaded

    def merge(self, bronze: dict[str, Any]) -> None:
        """Merge what dbt was told to, by model."""
        for model, told in bronze.items():
            self._warehouse.create(f"{self._dataset}.{model}_base", {}, if_absent=True)
            batches = tuple(batch_rows(each["rows"]) for each in told["batches"])
            self._warehouse.merge(f"{self._dataset}.{model}", told, batches)

    def by_id(self, model: str) -> dict[int, Row]:
        """A model's base by key, without when it was loaded."""
        rows = self._warehouse.there(f"{self._dataset}.{model}_base").rows
        return {row["id"]: without_loaded_at(row) for row in rows}


def without_loaded_at(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "_loaded_at"}
