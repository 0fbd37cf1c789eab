"""Surroundings of a transformer for unit tests: a real state, with dbt, BigQuery and row tests as stand-ins."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from google.api_core.exceptions import Conflict, NotFound, ServiceUnavailable
from google.cloud.bigquery import SchemaField

from services.core.batch import Batch, BatchState
from services.core.labels import job_labels
from services.core.naming import hashed_table
from services.core.state.state import PipelineState
from services.core.tables import Column, ColumnType, Mode, Table, Tables
from services.core.window import Window
from services.transformer.bronze.batch_rows import ADDED_COLUMNS
from services.transformer.bronze.handover import view_definition
from services.transformer.bronze.tables import BASE, DEFINITION, DELTA, BronzeTables, Part
from services.transformer.dbt_project import DbtError, NodeResult
from services.transformer.quality.guard import Guard
from services.transformer.reconcile import Transformer
from tests.jobs import Jobs

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


def table(name: str) -> Table:
    column = Column(name="id", type=ColumnType.INT64, required=True)
    facts: dict[str, Any] = {"source": f"s.{name}", "key": ["id"], "mode": Mode.SNAPSHOT, "bronze_model": name}
    return Table(name=name, columns=[column], deletes="soft", **facts)


GUARDED = "only if all pass"

TABLES = Tables(version=1, tables=[table("a"), table("b")])


class Client(Jobs):
    """The warehouse's tables and jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[str] = []
        self.hashed: set[str] = set()
        self.definitions: dict[str, str] = {}
        """Of the views, by model."""
        self.based: dict[str, int] = {}
        """Bytes of bases, by model; those have a delta, too."""
        self.delta_rows = 0
        self.refused_inserts: str | None = None
        """The reason why an INSERT's job fails."""
        self.bad: set[str] = set()
        """Batches with a row on which a row test fails."""
        self.loses_answers = False
        self.cleared: list[str] = []
        """Deletions from deltas."""
        self.there, self.gone = 0, 0
        """Rows of bronze, and those of them that any snapshot would find gone."""

    def list_tables(self, dataset: str, **_: Any) -> list[SimpleNamespace]:
        models = [table.bronze_model for table in TABLES.tables]
        return [SimpleNamespace(table_id=name) for model in models for name in (model, f"{model}{BASE}")]

    def get_table(self, table_id: str, **_: Any) -> SimpleNamespace:
        project, dataset, name = table_id.split(".")
        named = {"project": project, "dataset_id": dataset, "table_id": name}
        if name in self.definitions:
            return SimpleNamespace(table_type="VIEW", labels={DEFINITION: self.definitions[name]}, **named)
        model = name.removesuffix(BASE).removesuffix(DELTA)
        if name in self.hashed:
            types, rows, size = {"id": "INTEGER", "_extracted_at": "TIMESTAMP"}, 1, 100
        elif model in self.based and model != name:
            of_delta = name.endswith(DELTA)
            types = {"id": "INTEGER"} | ADDED_COLUMNS
            rows, size = (self.delta_rows, 100 * self.delta_rows) if of_delta else (5, self.based[model])
        else:
            raise NotFound(table_id)  # type: ignore[no-untyped-call]
        schema = [SchemaField(column, type_) for column, type_ in types.items()]
        return SimpleNamespace(schema=schema, num_rows=rows, num_bytes=size, table_type="TABLE", labels={}, **named)

    def delete_table(self, table_id: str, **_: Any) -> None:
        self.dropped.append(table_id)

    def query(self, statement: str, job_id: str | None = None, **_: Any) -> Any:
        if statement.startswith("select distinct _batch_id"):
            return SimpleNamespace(result=lambda **_: [("waiting",)])
        if statement.startswith("delete from"):
            self.cleared.append(statement)
            return SimpleNamespace(result=lambda **_: [])
        if job_id is None:
            return SimpleNamespace(result=lambda **_: [(self.there, self.gone)])
        inserts = statement.startswith("insert into")
        failing = GUARDED in statement and any(f'"{batch}" as _batch_id' in statement for batch in self.bad)
        reason = "invalidQuery" if failing else self.refused_inserts
        job = self.send(job_id, statement, rows=1, reason=reason if inserts else None)
        if inserts and self.loses_answers:
            raise ServiceUnavailable("no answer")  # type: ignore[no-untyped-call]
        return job


@dataclass
class Dbt:
    """Merges as it is told to, and remembers what it was asked."""

    client: Client
    failing: set[str] = field(default_factory=set)
    """Models that fail, with and without batches, before any statement is sent."""
    poisoned: dict[str, str | None] = field(default_factory=dict)
    """Batches that make the merge of their model fail: with this reason of the job, or before it is sent."""
    breaking: set[str] = field(default_factory=set)
    """Batches that make dbt end without results."""
    refused: dict[str, str] = field(default_factory=dict)
    runs: list[list[str]] = field(default_factory=list)
    variables: list[dict[str, Any]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)
    """What each was run for, and for whom."""
    during: Callable[[], None] = lambda: None
    defined: str = "as ever"
    """How silver and gold are defined."""

    def parsed(self) -> None:
        return

    def described(self, model: str) -> str:
        return model

    def definition(self) -> str:
        return self.defined

    def run(self, stage: str, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        self.runs.append(arguments)
        self.stages.append((stage, job_labels(stage).get("credix_run", "")))
        self.variables.append(variables or {})
        self.during()
        names = ["gold"] if "--selector" in arguments else arguments[2:]
        tables = (variables or {}).get("bronze", {})
        if any(batch["batch_id"] in self.breaking for table in tables.values() for batch in table["batches"]):
            raise DbtError("dbt ended without results")
        return [self._result(name, tables.get(name, {"batches": []})) for name in names]

    def _result(self, name: str, table: dict[str, Any]) -> NodeResult:
        if table.get("view") and name not in self.failing:
            self.client.definitions[name] = table["definition"]
        poison = [self.poisoned[id_] for each in table["batches"] if (id_ := each["batch_id"]) in self.poisoned]
        bad = name in self.failing or bool(poison)
        if table.get("guard") and not poison and name not in self.failing:
            poison = ["invalidQuery" for each in table["batches"] if each["batch_id"] in self.client.bad]
            bad = bad or bool(poison)
        if (table["batches"] or table.get("delta")) and name not in self.failing and (not poison or poison[0]):
            statement = f"merge {GUARDED}" if table.get("guard") else "merge"
            try:
                self.client.send(table["job_id"], statement, rows=1, reason=poison[0] if poison else None)
            except Conflict:
                bad = False  # dbt attaches to the job that has the id, and takes its end for its own
        return NodeResult(name, "model", "error" if bad else "success", "why", 0.1, 1, None)

    def merged(self) -> list[dict[str, list[str]]]:
        """The batches of every bronze run, by model."""
        return [
            {name: [each["batch_id"] for each in table["batches"]] for name, table in variables["bronze"].items()}
            for variables in self.variables
            if "bronze" in variables
        ]


@dataclass
class Tests:
    """Row tests: what they are asked, and how they end."""

    __test__ = False  # pytest takes a class of this name for tests
    client: Client
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    cut: bool = False
    """Whether such a statement's error is cut short."""
    fused: bool = True
    """Whether a statement can ask all of them and take rows in, too."""

    @property
    def tells(self) -> bool:
        """Whether the error of such a statement is the tests'."""
        return bool(self.client.bad) and not self.cut

    def results(self, client: Any, table: Table, rows: str) -> list[NodeResult]:
        if self.error is not None:
            raise self.error
        self.asked.append(rows)
        failures = sum(f'"{batch}" as _batch_id' in rows for batch in self.client.bad)
        return [NodeResult(f"not_null_{table.name}", "test", "fail" if failures else "pass", "", 0.1, None, failures)]

    def guard(self, table: Table) -> Guard | None:
        if self.error is not None:
            raise self.error
        return Guard("", f" {GUARDED}") if self.fused else None

    def told(self, table: Table, error: str | None, seconds: float) -> list[NodeResult] | None:
        status, failures = ("pass", 0) if error is None else ("fail", 1)
        result = NodeResult(f"not_null_{table.name}", "test", status, "", seconds, None, failures)
        return [result] if error is None or self.tells else None


class NoArtifacts:
    """Keeps nothing."""

    def keep(self, run_id: str, stage: str) -> None:
        return


class NoReports:
    """Publishes nothing."""

    def publish(self, run_id: str) -> None:
        return


@dataclass
class World:
    transformer: Transformer
    state: PipelineState
    dbt: Dbt
    client: Client
    alerts: list[str]
    tests: "Tests"

    def loaded(self, name: str, low: int | None, high: int, mode: Mode = Mode.INCREMENTAL) -> str:
        batch = Batch(
            id=f"20261122T17{high:04}000000Z-00000000",
            run_id="r",
            table=name,
            mode=mode,
            window=Window(low=None if low is None else at(low), high=at(high)),
            extracted_at=at(high),
            started_at=at(high),
            state=BatchState.LOADED,
        )
        assert self.state.create_batch(batch)
        self.client.hashed.add(hashed_table(name, batch.id))
        return batch.id

    def state_of(self, batch_id: str) -> BatchState:
        batch = self.state.batch(batch_id)
        assert batch is not None
        return batch.state


MIB = 1024 * 1024


def large(world: World, name: str) -> None:
    """Give a table a base that is not small, with delta and view."""
    world.client.based[name] = 100 * MIB
    declared = world.transformer.tables.get(name)
    assert declared is not None
    columns = {"id": "INT64"} | ADDED_COLUMNS
    base, delta = Part("b", columns, 5, 100 * MIB), Part("d", columns, 0, 0)
    found = BronzeTables(f"p.business_case_bronze.{name}", base, delta, None)
    world.client.definitions[name] = view_definition(declared, found, name, [])


def merged(world: World) -> list[str]:
    """The MERGEs that were sent."""
    return [job.query for job in world.client.sent.values() if job.query.startswith("merge")]


def appended(world: World) -> list[str]:
    """The INSERTs that were sent."""
    return [job.query for job in world.client.sent.values() if job.query.startswith("insert into")]
