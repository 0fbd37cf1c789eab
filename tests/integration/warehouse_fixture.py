"""The local warehouse, and dbt on it: ``pytest_plugins = ["tests.integration.warehouse_fixture"]``."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dbt.artifacts.schemas.run import RunExecutionResult, RunResult
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from local.project_check.bronze_project import Model, write_bronze_project
from services.core.batch import Batch
from services.core.tables import BRONZE_COLUMNS, EXTRACTED_AT, Column, ColumnType, Compaction, Mode, Table, load_tables
from services.core.warehouse import TempTable
from services.transformer.bronze.batch_rows import Loaded, bronze_columns
from services.transformer.bronze.delta import clear, insertion, rows_of, waiting_batches
from services.transformer.bronze.handover import handed_over
from services.transformer.bronze.tables import BASE, DELTA, look

PROJECT = "credix-test"
REPOSITORY = Path(__file__).parents[2]
DBT_PROJECT = REPOSITORY / "dbt"
EXTENSIONS_HOME = Path(tempfile.gettempdir()) / "credix-warehouse-home"
"""Shared by every emulator of every test run: the DuckDB extensions are 60 MB."""
START_SECONDS = 60.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Warehouse:
    """A running emulator."""

    endpoint: str
    """The value of BIGQUERY_EMULATOR_HOST, with ``http://``."""
    gcs_root: Path
    process: subprocess.Popen[bytes]

    def client(self) -> bigquery.Client:
        """Return Google's own client, pointed here and nowhere else."""
        return bigquery.Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=self.endpoint),
        )


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def start_warehouse(folder: Path, *options: str) -> Iterator[Warehouse]:
    """Run ``python -m local.warehouse`` with further ``options`` on the data in ``folder`` until the block ends."""
    port = free_port()
    gcs_root = folder / "gcs"
    arguments = {
        "--rest-port": port,
        "--grpc-port": free_port(),
        "--data-dir": folder / "data",
        "--gcs-root": gcs_root,
        "--home": EXTENSIONS_HOME,
        "--project": PROJECT,
    }
    command = [sys.executable, "-m", "local.warehouse", *(str(part) for pair in arguments.items() for part in pair)]
    command += options
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "warehouse.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output, env=dict(os.environ))
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_until_ready(f"{endpoint}/readyz", process, log)
        yield Warehouse(endpoint, gcs_root, process)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  http on 127.0.0.1
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"The warehouse did not become ready at {url}:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def warehouse_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """One emulator for the whole session; tests keep apart by dataset names."""
    with start_warehouse(tmp_path_factory.mktemp("warehouse")) as warehouse:
        yield warehouse


@dataclass(frozen=True)
class Datasets:
    """Names of one set of datasets."""

    temp: str
    bronze: str
    silver: str
    gold: str

    @classmethod
    def named(cls, prefix: str) -> "Datasets":
        """Return the four datasets ``<prefix>_temp`` to ``<prefix>_gold``."""
        return cls(*(f"{prefix}_{layer}" for layer in ("temp", "bronze", "silver", "gold")))

    def environment(self) -> dict[str, str]:
        """Return the variables by which services and dbt know them."""
        return {f"DATASET_{name.upper()}": value for name, value in vars(self).items()}


class Dbt:
    """dbt in this process on the local warehouse, parsed once."""

    def __init__(
        self,
        warehouse: Warehouse,
        datasets: Datasets,
        folder: Path,
        models: dict[str, "BronzeModel"],
        project: Path = DBT_PROJECT,
    ) -> None:
        self.warehouse = warehouse
        self.datasets = datasets
        self.models = models
        """The bronze models' declared tables, which the transformer hands to dbt."""
        self.client = warehouse.client()
        self._target = folder / "target"
        self._paths = [
            f"--project-dir={project}",
            f"--profiles-dir={DBT_PROJECT}",
            f"--target-path={self._target}",
        ]
        self._paths += [f"--log-path={folder / 'logs'}"]
        for dataset in vars(datasets).values():
            self.client.create_dataset(dataset, exists_ok=True)
        parsed = self._invoke(dbtRunner(), ["parse", "--no-partial-parse"]).result
        assert isinstance(parsed, Manifest)
        self.manifest = parsed
        """Read by every run: a changed ``raw_code`` is what the next run executes."""
        self.told: dict[str, Any] = {}
        """The variable ``bronze`` of the last run."""

    def run(self, *arguments: str, **variables: Any) -> dict[str, str]:
        """Run dbt and return the status of every node by name.

        Raises:
            AssertionError: a node failed, or dbt itself.
        """
        return {name: str(result.status) for name, result in self._results(arguments, variables, check=True).items()}

    def results(self, *arguments: str, **variables: Any) -> dict[str, RunResult]:
        """Run dbt and return the result of every node by name, whether it succeeded or not."""
        return self._results(arguments, variables, check=False)

    def _results(self, arguments: Sequence[str], variables: dict[str, Any], *, check: bool) -> dict[str, RunResult]:
        command = [*arguments, "--quiet", "--no-write-json"]
        handed = {"bronze": self.handed_over(variables.pop("batches", {})), **variables}
        self.told = handed["bronze"]
        deltas = {name: self._waiting(name) for name, told in handed["bronze"].items() if told.get("delta")}
        result = self._invoke(dbtRunner(manifest=self.manifest), command, check=check, vars=handed).result
        for each in result.results if isinstance(result, RunExecutionResult) else ():
            if each.node.name in deltas and str(each.status) == "success":
                self.clear(each.node.name, deltas[each.node.name])
        assert isinstance(result, RunExecutionResult)
        return {result.node.name: result for result in result.results}

    def handed_over(self, batches: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        """Return the variable ``bronze`` for every model, with some batches of some, as the transformer makes it.

        A batch names its extra columns; ``deletes`` and ``merged_snapshot`` are its table's, the same in all batches.
        What waits in the delta is merged with them.
        """
        variable: dict[str, Any] = {}
        for name, model in self.models.items():
            mine = batches.get(name, [])
            table = declared_table(name, model, mine)
            found = look(self.client, f"{PROJECT}.{self.datasets.bronze}", table)
            loaded = [loaded_batch(each, model) for each in mine]
            job_id = f"credix-merge-{name}-{secrets.token_hex(8)}"
            told = handed_over(table, found, "", None, job_id, loaded, delta=found.delta_rows > 0)
            variable[name] = told | {"merged_snapshot": mine[0].get("merged_snapshot") if mine else None}
        return variable

    def _waiting(self, model: str) -> list[str]:
        table = declared_table(model, self.models[model], [])
        return waiting_batches(self.client, table, f"{PROJECT}.{self.datasets.bronze}.{model}{DELTA}")

    def clear(self, model: str, before: list[str]) -> None:
        """Take out of a model's delta what was merged, as the transformer does."""
        table = declared_table(model, self.models[model], [])
        clear(self.client, table, f"{PROJECT}.{self.datasets.bronze}.{model}{DELTA}", before)

    def append(self, model: str, *batches: dict[str, Any]) -> None:
        """Append batches to a model's delta, as the transformer does; its tables have to be there."""
        table = declared_table(model, self.models[model], list(batches))
        found = look(self.client, f"{PROJECT}.{self.datasets.bronze}", table)
        assert found.base is not None
        loaded = [loaded_batch(each, self.models[model]) for each in batches]
        columns = bronze_columns(table, found.base.columns, loaded)
        self.client.query_and_wait(insertion(found.delta_id, columns, rows_of(table, columns, loaded)))

    def drop_bronze(self, *models: str) -> None:
        """Drop the tables and views of bronze models."""
        for model in models:
            for name in (model, f"{model}{BASE}", f"{model}{DELTA}"):
                self.client.delete_table(f"{PROJECT}.{self.datasets.bronze}.{name}", not_found_ok=True)

    def listed(self, *arguments: str) -> list[str]:
        """Return what ``dbt list`` prints."""
        result = self._invoke(dbtRunner(manifest=self.manifest), ["list", "--quiet", *arguments]).result
        assert isinstance(result, list)
        return [str(line) for line in result]

    def _invoke(
        self, runner: dbtRunner, command: list[str], *, check: bool = True, **parameters: Any
    ) -> dbtRunnerResult:
        environment = self.datasets.environment() | {
            "GCP_PROJECT": PROJECT,
            "DBT_TARGET": "emulator",
            "BIGQUERY_EMULATOR_HOST": self.warehouse.endpoint,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            # In a thread of its own: dbt inspects its whole stack 16 times per call, and pytest's stack is deep.
            with ThreadPoolExecutor(1) as pool:
                result = pool.submit(runner.invoke, [*command, *self._paths], **parameters).result()
        nodes = getattr(result.result, "results", [])
        failed = [f"{node.node.name}: {node.message}" for node in nodes if node.status in ("error", "fail")]
        assert result.success or not check, f"dbt {' '.join(command)}: {result.exception or failed}"
        return result

    def load(self, name: str, rows: list[dict[str, Any]], schema: list[bigquery.SchemaField]) -> str:
        """Load rows into a new table of the temp dataset, as the loader does, and return project.dataset.table.

        ``_extracted_at``, the column that every batch ends with, is null in rows that do not name it.
        """
        schema = [*schema, bigquery.SchemaField(EXTRACTED_AT.name, EXTRACTED_AT.type)]
        arrow = pa.schema([(field.name, ARROW_TYPES[field.field_type]) for field in schema])
        path = self.warehouse.gcs_root / "lake" / f"{self.datasets.temp}.{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, arrow), path)
        config = bigquery.LoadJobConfig(
            source_format="PARQUET", schema=schema, write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE
        )
        table = f"{PROJECT}.{self.datasets.temp}.{name}"
        self.client.load_table_from_uri(f"gs://lake/{path.name}", table, job_config=config).result()
        return table

    def executed(self, model: str) -> str:
        """Return the statement that a model's last run executed."""
        [path] = self._target.glob(f"run/*/models/**/{model}.sql")
        return path.read_text()

    def rows(self, dataset: str, table: str) -> list[dict[str, Any]]:
        """Return all rows of a table or view."""
        query = f"SELECT * FROM `{PROJECT}.{dataset}.{table}`"
        return [dict(row) for row in self.client.query_and_wait(query)]


@dataclass(frozen=True)
class BronzeModel:
    """A bronze model made for a test."""

    columns: list[bigquery.SchemaField]
    """The declared ones."""
    key: list[str]
    """Empty for a table that a snapshot replaces whole."""
    partition_by: dict[str, Any] | None = None
    """As in a model's config."""
    compaction: Compaction = field(default_factory=Compaction)


def declared_table(name: str, model: BronzeModel, batches: list[dict[str, Any]]) -> Table:
    """The table that tables.yaml would declare for a bronze model, with what batches say of it."""
    deletes: Literal["keep", "soft"] = "soft" if any(each.get("deletes") == "soft" for each in batches) else "keep"
    return Table(
        name=name[:40],
        source="oltp.a_table",
        key=model.key,
        mode=Mode.SNAPSHOT,
        deletes=deletes if model.key else "keep",
        deleted_at=next((each["deleted_at"] for each in batches if each.get("deleted_at")), None),
        bronze_model=name,
        compaction=model.compaction,
        columns=[
            Column(name=c.name, type=ColumnType(c.field_type), required=c.name in model.key) for c in model.columns
        ],
    )


def loaded_batch(entry: dict[str, Any], model: BronzeModel) -> Loaded:
    """A batch as the state and BigQuery have it, from what a test says of it."""
    extracted_at = datetime.fromisoformat(entry["extracted_at"])
    arrived = entry.get("latest")
    batch = Batch(
        id=entry["batch_id"],
        run_id="r",
        table="t",
        source=entry["source"],
        mode=Mode.SNAPSHOT if entry["snapshot"] else Mode.INCREMENTAL,
        window=None,
        extracted_at=extracted_at,
        started_at=extracted_at,
        arrived_at=datetime.fromisoformat(arrived) if arrived else None,
    )
    columns = {column.name: column.field_type for column in model.columns}
    columns |= {column["name"]: column["data_type"] for column in entry["columns"]}
    columns = {name: type_ for name, type_ in columns.items() if name not in entry.get("lacks", ())}
    return Loaded(batch, TempTable(entry["table"], columns | {EXTRACTED_AT.name: "TIMESTAMP"}, 1))


def bronze_project(warehouse: Warehouse, folder: Path, name: str, models: dict[str, BronzeModel]) -> Dbt:
    """Make a project of this one's settings and macros with other bronze models, on datasets named for it."""
    written = [
        Model(model, {column.name: column.field_type for column in [*made.columns, *ADDED]}, made.partition_by)
        for model, made in models.items()
    ]
    write_bronze_project(DBT_PROJECT, folder, written)
    return Dbt(warehouse, Datasets.named(name), folder, models, folder)


ADDED = [
    bigquery.SchemaField(name, "STRING" if name in ("_source_table", "_batch_id") else "TIMESTAMP")
    for name in BRONZE_COLUMNS
]
"""The columns that bronze adds, as every bronze model declares them."""

ARROW_TYPES = {
    "STRING": pa.string(),
    "INT64": pa.int64(),
    "NUMERIC": pa.decimal128(18, 2),
    "BOOL": pa.bool_(),
    "FLOAT64": pa.float64(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "TIME": pa.time64("us"),
    "BIGNUMERIC": pa.decimal256(76, 38),
}
"""What the extractor writes for a declared BigQuery type."""


def declared_schema(table: str) -> list[bigquery.SchemaField]:
    """Return the columns that config/tables.yaml declares for a table, as the loader loads them."""
    declared = load_tables(REPOSITORY / "config" / "tables.yaml").get(table)
    assert declared is not None, table
    return [
        bigquery.SchemaField(column.name, column.type, mode="REQUIRED" if column.required else "NULLABLE")
        for column in declared.columns
    ]


def shipped_models() -> dict[str, BronzeModel]:
    """Return the bronze models of config/tables.yaml."""
    tables = load_tables(REPOSITORY / "config" / "tables.yaml").tables
    return {table.bronze_model: BronzeModel(declared_schema(table.name), table.key) for table in tables}


@pytest.fixture(scope="session")
def dbt(warehouse_endpoint: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """The project on datasets of its own."""
    return Dbt(warehouse_endpoint, Datasets.named("dbt"), tmp_path_factory.mktemp("dbt"), shipped_models())
