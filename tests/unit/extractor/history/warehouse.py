"""BigQuery and dbt: temp tables, base and delta of bronze, and the rule by which dbt merges them."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from google.api_core.exceptions import Conflict, NotFound
from google.cloud.bigquery import SchemaField

from services.core.errors import DataError, TransientError
from services.core.parquet import whole_file
from services.core.tables import EXTRACTED_AT, Table
from services.transformer.bronze.batch_rows import ADDED_COLUMNS
from services.transformer.bronze.tables import DEFINITION, DELTA
from services.transformer.dbt_project import NodeResult
from tests.jobs import Jobs
from tests.unit.extractor.history.bucket import DAMAGED, Bucket
from tests.unit.extractor.history.counting import COUNTS

AsNew = tuple[datetime, str]
"""What orders versions in bronze: when the row was read, and the batch."""


_APPENDED = re.compile(
    r'"([^"]+)" as _batch_id, greatest\(coalesce\(_extracted_at, timestamp\("([^"]+)"\).*? from `([^`]+)`'
)
"""Of each SELECT of an INSERT: its batch, when that was begun, and its hashed table."""


@dataclass(frozen=True)
class Held:
    """A row of bronze."""

    n: int
    as_new: AsNew
    deleted: bool


@dataclass
class Warehouse(Jobs):
    """BigQuery and dbt: jobs, temp tables and the merge, as dbt's macro merge_of_versions() has it."""

    bucket: Bucket
    table: Table
    refused: dict[str, str] = field(default_factory=dict)
    """As ``DbtProject.refused``."""
    temp: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    loaded: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """All that was ever loaded, by batch."""
    base: dict[int, Held] = field(default_factory=dict)
    delta: list[tuple[int, Held]] = field(default_factory=list)
    definition: str | None = None
    """Of the view over both; None as long as nothing is made."""
    failing_merges: int = 0

    def __post_init__(self) -> None:
        super().__init__()

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
            rows += whole_file(content).to_pylist()
        keys = [(row["id"], row["_extracted_at"]) for row in rows]
        assert len(keys) == len(set(keys)), "a batch has a key twice, of one moment"
        self.temp[hashed] = self.loaded[manifest.batch_id] = rows
        COUNTS["batches loaded"] += 1
        return SimpleNamespace(output_rows=len(rows), job_id="job")

    @property
    def bronze(self) -> dict[int, Held]:
        """What the view shows: the newest version of every key."""
        shown = dict(self.base)
        for key, version in self.delta:
            if key not in shown or shown[key].as_new < version.as_new:
                shown[key] = version
        return shown

    def list_tables(self, dataset: str, **_: Any) -> list[SimpleNamespace]:
        names = [self.table.bronze_model, *(name.rsplit(".", 1)[-1] for name in self.temp)]
        return [SimpleNamespace(table_id=name) for name in names]

    def get_table(self, table_id: str, **_: Any) -> SimpleNamespace:
        name = table_id.rsplit(".", 1)[-1]
        types = {column.name: column.type.value for column in self.table.columns}
        if table_id in self.temp:
            return _table(table_id, types | {EXTRACTED_AT.name: "TIMESTAMP"}, len(self.temp[table_id]))
        if self.definition is None or not name.startswith(self.table.bronze_model):
            raise NotFound(table_id)  # type: ignore[no-untyped-call]
        if name == self.table.bronze_model:
            return SimpleNamespace(table_type="VIEW", labels={DEFINITION: self.definition})
        return _table(table_id, types | ADDED_COLUMNS, len(self.delta if name.endswith(DELTA) else self.base))

    def query(self, statement: str, job_id: str | None = None, **_: Any) -> Any:
        if statement.startswith("select distinct _batch_id"):
            found = sorted({version.as_new[1] for _, version in self.delta})
            return SimpleNamespace(result=lambda **_: [(batch_id,) for batch_id in found])
        if statement.startswith("delete from"):
            self.delta = [each for each in self.delta if f'"{each[1].as_new[1]}"' not in statement]
            COUNTS["deltas cleared"] += 1
            return SimpleNamespace(result=lambda **_: [])
        if job_id is None:  # how many rows a snapshot would delete: here all may
            return SimpleNamespace(result=lambda **_: [(0, 0)])
        if not statement.startswith("insert into"):
            return self.send(job_id, statement)
        tables = _APPENDED.findall(statement)
        if self.failing_merges or any(table not in self.temp for *_, table in tables):
            self.failing_merges = max(0, self.failing_merges - 1)
            return self.send(job_id, "insert", reason="backendError")
        job = self.send(job_id, "insert", rows=0)
        for batch_id, began, table in tables:
            self.delta += self._versions(table, datetime.fromisoformat(began), batch_id)
            COUNTS["batches appended"] += 1
        return job

    def _versions(self, table: str, began: datetime, batch_id: str) -> list[tuple[int, Held]]:
        return [
            (row["id"], Held(row["n"], (max(row["_extracted_at"], began), batch_id), False)) for row in self.temp[table]
        ]

    def described(self, model: str) -> str:
        return ""

    def parsed(self) -> None:
        return

    def delete_table(self, table_id: str, **_: Any) -> None:
        self.temp.pop(table_id, None)

    def run(self, stage: str, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        def result(status: str) -> list[NodeResult]:
            return [NodeResult(self.table.bronze_model, "model", status, "", 0.0, None, None)]

        if "bronze" not in (variables or {}):
            return result("success")
        table = (variables or {})["bronze"][self.table.bronze_model]
        if table["view"]:
            self.definition = table["definition"]
        if not table["batches"] and not table["delta"]:
            return result("success")
        if self.failing_merges or any(batch["table"] not in self.temp for batch in table["batches"]):
            self.failing_merges = max(0, self.failing_merges - 1)
            return self._sent(table["job_id"], reason="backendError") or result("error")
        if not (attached := self._sent(table["job_id"])):
            self._merge(table)
        return attached or result("success")

    def _sent(self, job_id: str, reason: str | None = None) -> list[NodeResult]:
        """Send a merge's job; what dbt answers when its id was sent before: that job's end for its own."""
        try:
            self.send(job_id, "merge", rows=0, reason=reason)
        except Conflict:
            return [NodeResult(self.table.bronze_model, "model", "success", "", 0.0, None, None)]
        return []

    def _merge(self, table: dict[str, Any]) -> None:
        batches = table["batches"]

        def as_new(told: dict[str, Any]) -> AsNew:
            return datetime.fromisoformat(told["extracted_at"]), told["batch_id"]

        deletes = table["deletes"] == "soft"
        taken = {as_new(batch) for batch in batches if deletes and batch["snapshot"]}
        known = {as_new(table["merged_snapshot"])} if deletes and table["merged_snapshot"] else set()
        snapshots = sorted(taken | known)
        found = [version for batch in batches for version in self._versions(batch["table"], *as_new(batch))]
        if table["delta"]:
            found += self.delta
        if taken:
            found += [(key, held) for key, held in self.base.items() if not held.deleted]
        newest: dict[int, Held] = {}
        for key, version in found:
            if key not in newest or newest[key].as_new < version.as_new:
                newest[key] = version
        for key, version in newest.items():
            gone = next((snapshot for snapshot in snapshots if version.as_new < snapshot), None)
            held = self.base.get(key)
            if held is None or held.as_new < version.as_new or (gone and held.as_new == version.as_new):
                self.base[key] = Held(version.n, gone or version.as_new, gone is not None)
        COUNTS["compactions"] += table["delta"]


def _table(table_id: str, types: dict[str, str], rows: int) -> SimpleNamespace:
    project, dataset, name = table_id.split(".")
    schema = [SchemaField(column, type_) for column, type_ in types.items()]
    named = {"project": project, "dataset_id": dataset, "table_id": name, "table_type": "TABLE"}
    return SimpleNamespace(schema=schema, num_rows=rows, num_bytes=100 * rows, labels={}, **named)
