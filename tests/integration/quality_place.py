"""A warehouse whose bronze is given, the shipped project on it, and dbt's own word on every test."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery

from services.core.batch import Batch
from services.core.settings import TransformerSettings
from services.core.tables import EXTRACTED_AT, Mode, Table, Tables, load_tables
from services.core.warehouse import temp_table
from services.core.window import Window
from services.transformer.bronze.batch_rows import Loaded, batch_rows, bronze_columns
from services.transformer.dbt_project import DbtProject, NodeResult
from tests.integration.warehouse_fixture import (
    ARROW_TYPES,
    DBT_PROJECT,
    PROJECT,
    REPOSITORY,
    Datasets,
    Warehouse,
    declared_schema,
)

Row = dict[str, Any]

BEGAN = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
LAYERS = ["path:models/silver", "path:models/gold"]


@dataclass
class Place:
    """The project on datasets of its own."""

    warehouse: Warehouse
    client: bigquery.Client
    datasets: Datasets
    tables: Tables
    settings: TransformerSettings
    dbt: DbtProject

    def table(self, name: str) -> Table:
        """A declared table."""
        table = self.tables.get(name)
        assert table is not None
        return table

    def loaded(self, name: str, number: int, rows: list[Row]) -> Loaded:
        """A batch of a table whose rows are in its hashed table; a row has the columns that it names."""
        batch = Batch(
            id=f"20261101T00000000000{number}Z-00000000",
            run_id="r",
            table=name,
            mode=Mode.INCREMENTAL,
            window=Window(low=None, high=BEGAN),
            extracted_at=BEGAN,
            started_at=BEGAN,
        )
        # No column is required: rows as bad as no loader would load them are to be tested, too.
        schema = [bigquery.SchemaField(field.name, field.field_type) for field in declared_schema(name)]
        schema.append(bigquery.SchemaField(EXTRACTED_AT.name, EXTRACTED_AT.type))
        arrow = pa.schema([(field.name, ARROW_TYPES[field.field_type]) for field in schema])
        nothing: Row = dict.fromkeys(field.name for field in schema)
        path = self.warehouse.gcs_root / "lake" / f"{self.datasets.temp}.{name}{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([nothing | row for row in rows], arrow), path)
        id_ = f"{PROJECT}.{self.datasets.temp}.{name}__{number}"
        config = bigquery.LoadJobConfig(source_format="PARQUET", schema=schema, write_disposition="WRITE_TRUNCATE")
        self.client.load_table_from_uri(f"gs://lake/{path.name}", id_, job_config=config).result()
        temp = temp_table(self.client, id_)
        assert temp is not None
        return Loaded(batch, temp)

    def rows(self, name: str, *batches: Loaded) -> str:
        """The batches' rows as bronze has them."""
        table = self.table(name)
        columns = bronze_columns(table, {}, batches)
        return " union all ".join(batch_rows(table, columns, batch) for batch in batches)

    def make_bronze(self, **rows: str) -> None:
        """Let the bronze of tables have just these rows, clustered by nothing."""
        for name, select in rows.items():
            self.client.query(f"create or replace table {self.datasets.bronze}.{name} as {select}").result()

    def build(self, *select: str) -> None:
        """Build silver and gold, or some of their models."""
        built = self.dbt.run("test", ["run", "--select", *(select or LAYERS)])
        assert {result.status for result in built} == {"success"}, built

    def by_dbt(self, *select: str) -> dict[str, NodeResult]:
        """How dbt itself says that every data test ends, or some."""
        chosen = select or ("test_type:data",)
        return {result.name: result for result in self.dbt.run("test", ["test", "--select", *chosen])}

    @contextmanager
    def mutant(self, model: str, old: str, new: str) -> Iterator[None]:
        """Within the block, a model's view has ``new`` where its SQL had ``old``."""
        node = self.dbt.parsed().nodes[f"model.credix.{model}"]
        sound = node.raw_code
        assert sound.count(old) == 1, f"{model} has {sound.count(old)} times: {old}"
        node.raw_code = sound.replace(old, new)
        try:
            self.build(model)
            yield
        finally:
            node.raw_code = sound
            self.build(model)


@contextmanager
def quality_place(warehouse: Warehouse, folder: Path, prefix: str) -> Iterator[Place]:
    """A place, whose variables are the process's until the block ends."""
    datasets = Datasets.named(prefix)
    client = warehouse.client()
    for dataset in vars(datasets).values():
        client.create_dataset(dataset, exists_ok=True)
    environment = datasets.environment() | {
        "GCP_PROJECT": PROJECT,
        "DBT_TARGET": "emulator",
        "BIGQUERY_EMULATOR_HOST": warehouse.endpoint,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        settings = TransformerSettings(
            dbt_project_dir=DBT_PROJECT,
            dbt_target="emulator",
            dbt_target_path=folder / "target",
            dbt_log_path=folder / "logs",
        )  # type: ignore[call-arg]  # the rest is from the environment
        tables = load_tables(REPOSITORY / "config" / "tables.yaml")
        yield Place(warehouse, client, datasets, tables, settings, DbtProject(settings, tables))


def company(number: int, **differs: Any) -> Row:
    """A sound company, but for what differs."""
    return {
        "buyer_tax_id": f"company {number}",
        "share_capital": 100,
        "company_size": "MICRO",
        "company_status": "Ativa",
        "main_cnae": "1",
        "state": "São Paulo",
        "zipcode": "12345678",
        "is_mei": False,
        "updated_at": BEGAN,
    } | differs


def installment(number: int, **differs: Any) -> Row:
    """A sound, paid installment, but for what differs."""
    return {
        "asset_id": f"asset {number}",
        "invoice_id": "i",
        "buyer_tax_id": f"company {number % 3}",
        "original_amount_in_cents": 1_200,
        "expected_amount_in_cents": 1_000,
        "paid_amount_in_cents": 1_000,
        "due_date": dt.date(2026, 3, 1),
        "paid_date": dt.date(2026, 3, 2),
        "invoice_issue_date": dt.date(2026, 1, 1),
    } | differs
