"""What BigQuery has of a bronze model: its base, its delta, and the view that people read. docs/bronze.md tells why."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from services.core.tables import Table
from services.core.warehouse import REQUEST_SECONDS, RETRY, standard_types

BASE, DELTA = "_base", "_delta"
"""What the names of the two tables have after the model's."""

DEFINITION = "credix_definition"
"""Label of the view: the fingerprint of how it was defined."""


@dataclass(frozen=True)
class Part:
    """The base or the delta, as BigQuery has it."""

    id: str
    """project.dataset.table."""
    columns: Mapping[str, str]
    """Types by name, those that bronze adds included."""
    rows: int
    size: int
    """Logical bytes."""


@dataclass(frozen=True)
class BronzeTables:
    """What BigQuery has of a bronze model. None is what it said is not there; a refusal is never taken for that."""

    name: str
    """project.dataset.model: what people read."""
    base: Part | None
    delta: Part | None
    definition: str | None
    """Fingerprint of the view; empty when it has none, None when there is no view."""
    adopted: Part | None = None
    """A table under the model's own name, from before there was a delta: it becomes the base."""

    @property
    def held(self) -> Part | None:
        """The base, or what becomes it."""
        return self.base or self.adopted

    def keeps_delta(self, table: Table) -> bool:
        """Whether the table has a delta, or is to have one: it has a key, and its base is no longer small."""
        large = self.held is not None and self.held.size >= table.compaction.min_base
        return bool(table.key) and (self.delta is not None or large)

    @property
    def delta_id(self) -> str:
        """The delta's name."""
        return f"{self.name}{DELTA}"

    @property
    def delta_rows(self) -> int:
        """Rows of the delta."""
        return self.delta.rows if self.delta else 0


def look(client: bigquery.Client, dataset: str, table: Table) -> BronzeTables:
    """Ask BigQuery what there is of a table's bronze model.

    Args:
        client: BigQuery.
        dataset: bronze's, project.dataset.
        table: the declared table.

    Raises:
        GoogleAPICallError: BigQuery does not answer, or refuses.
    """
    name = f"{dataset}.{table.bronze_model}"
    seen = _asked(client, name)
    view = seen is not None and seen.table_type == "VIEW"
    return BronzeTables(
        name=name,
        base=_part(_asked(client, f"{name}{BASE}")),
        delta=_part(_asked(client, f"{name}{DELTA}")) if table.key else None,
        definition=(seen.labels or {}).get(DEFINITION, "") if seen is not None and view else None,
        adopted=None if view else _part(seen),
    )


def _asked(client: bigquery.Client, table_id: str) -> bigquery.Table | None:
    try:
        return client.get_table(table_id, retry=RETRY, timeout=REQUEST_SECONDS)
    except NotFound:
        return None


def _part(found: bigquery.Table | None) -> Part | None:
    if found is None:
        return None
    name = f"{found.project}.{found.dataset_id}.{found.table_id}"
    return Part(name, standard_types(found.schema), int(found.num_rows or 0), int(found.num_bytes or 0))
