"""What a run costs in requests does not grow with the tables that are declared, only with those that have changed."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from services.core.batch import Batch, BatchState
from services.core.naming import hashed_table
from services.core.settings import TransformerSettings
from services.core.state.extractions import ExtractionNote
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.tables import Column, ColumnType, Mode, Table, Tables
from services.core.window import Window
from services.transformer.bronze.tables import BASE
from services.transformer.dbt_project import DbtProject
from services.transformer.reconcile import Transformer
from services.transformer.report.publish import RunReports
from tests.unit.transformer.reconcile_world import Client, Dbt, NoArtifacts, Tests

CHANGED = 3


@dataclass
class Counted:
    """Anything, whose calls are counted."""

    inner: Any
    calls: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return found(*args, **options)

        return call


class Bucket:
    """A bucket in which nothing lies, and that takes a report."""

    def list(self, bucket: str, prefix: str) -> list[Any]:
        return []

    def replace(self, *_: Any, **__: Any) -> None:
        return


def declared(number: int) -> Tables:
    column = Column(name="id", type=ColumnType.INT64, required=True)
    facts: dict[str, Any] = {"columns": [column], "key": ["id"], "mode": Mode.SNAPSHOT}
    tables = [Table(name=f"t{n}", source=f"s.t{n}", bronze_model=f"t{n}", **facts) for n in range(number)]
    return Tables(version=1, tables=tables)


def batch(table: Table, minutes_ago: float, state: BatchState) -> Batch:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    window = Window(low=None, high=at)
    facts: dict[str, Any] = {"open": state is not BatchState.MERGED, "merged_at": at}
    id_ = f"{at:%Y%m%dT%H%M%S%fZ}-00000000"
    return Batch(
        id=id_, run_id="r", table=table.name, mode=Mode.INCREMENTAL, window=window, extracted_at=at, started_at=at,
        state=state, **facts,
    )  # fmt: skip


def requests(folder: Path, number: int, *, rested: timedelta) -> tuple[Counter[str], Counter[str]]:
    """Requests to warehouse and state of a run with three changed tables of so many, its report included."""
    tables, client = declared(number), Client()
    store = SqliteStore(folder / f"{number}.sqlite")
    state = PipelineState(store)
    client.list_tables = lambda *_, **__: [  # type: ignore[method-assign]
        cast(Any, Named(name)) for table in tables.tables for name in (table.bronze_model, table.bronze_model + BASE)
    ]
    for table in tables.tables:
        assert state.create_batch(batch(table, rested.total_seconds() / 60, BatchState.MERGED))
        ExtractionNote.begin(store, table.name, "r").succeeded(quiet=None)
    for table in tables.tables[:CHANGED]:
        loaded = batch(table, 1, BatchState.LOADED)
        assert state.create_batch(loaded)
        client.hashed.add(hashed_table(table.name, loaded.id))
    warehouse, documents = Counted(client), Counted(store)
    watched = PipelineState(cast(Any, documents))
    settings = TransformerSettings()  # type: ignore[call-arg]
    transformer = Transformer(
        settings,
        tables,
        watched,
        cast(Any, warehouse),
        cast(DbtProject, Dbt(client)),
        Tests(client),
        NoArtifacts(),
        RunReports(settings, tables, watched, cast(ObjectStore, Bucket())),
        lambda _: None,
    )
    transformer.reconcile("first")  # silver and gold are due in it, and built
    warehouse.calls.clear()
    documents.calls.clear()
    for table in tables.tables[:CHANGED]:
        loaded = batch(table, 0, BatchState.LOADED)
        assert state.create_batch(loaded)
        client.hashed.add(hashed_table(table.name, loaded.id))
        client.definitions[table.bronze_model] = "other"
    state.note_downstream_built(state.downstream_due() or 0, "as ever")
    [report] = transformer.reconcile("second")
    assert {merge["table"] for merge in report.merges} == {table.name for table in tables.tables[:CHANGED]}
    return warehouse.calls, documents.calls


@dataclass(frozen=True)
class Named:
    table_id: str


@pytest.mark.parametrize("rested", [timedelta(hours=1), timedelta(days=30)], ids=["active", "rested"])
def test_a_run_asks_as_much_of_many_tables_as_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rested: timedelta
) -> None:
    monkeypatch.setenv("GCP_PROJECT", "p")
    few, many = (requests(tmp_path, number, rested=rested) for number in (10, 80))
    assert many == few
    assert few[0]["get_table"] >= CHANGED, "the changed ones are looked at"
