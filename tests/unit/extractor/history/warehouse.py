"""BigQuery and dbt: temp tables, and the rule by which dbt merges them into bronze."""

import io
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq

from services.core.errors import DataError, TransientError
from services.core.tables import Table
from services.transformer.dbt_project import NodeResult
from tests.unit.extractor.history.bucket import DAMAGED, Bucket
from tests.unit.extractor.history.counting import COUNTS

AsNew = tuple[datetime, str]
"""What orders versions in bronze: when the row was read, and the batch."""


@dataclass(frozen=True)
class Held:
    """A row of bronze."""

    n: int
    as_new: AsNew
    deleted: bool


@dataclass
class Warehouse:
    """BigQuery and dbt: temp tables and the merge, as dbt's macro newest_versions() has it."""

    bucket: Bucket
    table: Table
    temp: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    loaded: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """All that was ever loaded, by batch."""
    bronze: dict[int, Held] = field(default_factory=dict)
    failing_merges: int = 0

    def load(self, manifest: Any, hashed: str, bucket: str) -> SimpleNamespace:
        if manifest.batch_id in self.loaded:  # the job is known by its id, and is not done again
            return SimpleNamespace(output_rows=manifest.rows, job_id="job")
        rows = []
        for part in manifest.parts:
            content = self.bucket.read(bucket, part.object_name)
            if content is None:
                raise TransientError("the job found no such object")
            if content == DAMAGED:
                raise DataError("load_refused", "no Parquet")
            rows += pq.read_table(io.BytesIO(content)).to_pylist()
        keys = [row["id"] for row in rows]
        assert len(keys) == len(set(keys)), "a batch that was read by one statement has a key twice"
        self.temp[hashed] = self.loaded[manifest.batch_id] = rows
        COUNTS["batches loaded"] += 1
        return SimpleNamespace(output_rows=len(rows), job_id="job")

    def list_tables(self, dataset: str) -> list[SimpleNamespace]:
        names = [self.table.bronze_model, *(name.rsplit(".", 1)[-1] for name in self.temp)]
        return [SimpleNamespace(table_id=name) for name in names]

    def delete_table(self, table_id: str, not_found_ok: bool) -> None:
        self.temp.pop(table_id, None)

    def run(self, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        def result(status: str) -> list[NodeResult]:
            return [NodeResult(self.table.bronze_model, "model", status, "", 0.0, None, None)]

        if arguments[0] != "run":
            return result("success")
        batches = (variables or {})["batches"].get(self.table.bronze_model, [])
        if self.failing_merges or any(batch["table"] not in self.temp for batch in batches):
            self.failing_merges = max(0, self.failing_merges - 1)
            return result("error")
        self._merge(batches)
        return result("success")

    def _merge(self, batches: list[dict[str, Any]]) -> None:
        def as_new(told: dict[str, Any]) -> AsNew:
            return datetime.fromisoformat(told["extracted_at"]), told["batch_id"]

        deleting = [batch for batch in batches if batch["deletes"] == "soft"]
        taken = {as_new(batch) for batch in deleting if batch["snapshot"]}
        known = {as_new(batch["merged_snapshot"]) for batch in deleting if batch["merged_snapshot"]}
        snapshots = sorted(taken | known)
        found = [
            (row["id"], Held(row["n"], (max(row["_extracted_at"], as_new(batch)[0]), batch["batch_id"]), False))
            for batch in batches
            for row in self.temp[batch["table"]]
        ]
        if taken:
            found += [(key, held) for key, held in self.bronze.items() if not held.deleted]
        newest: dict[int, Held] = {}
        for key, version in found:
            if key not in newest or newest[key].as_new < version.as_new:
                newest[key] = version
        for key, version in newest.items():
            gone = next((snapshot for snapshot in snapshots if version.as_new < snapshot), None)
            held = self.bronze.get(key)
            if held is None or held.as_new < version.as_new or (gone and held.as_new == version.as_new):
                self.bronze[key] = Held(version.n, gone or version.as_new, gone is not None)
