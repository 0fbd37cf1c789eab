"""What the benchmarks run on: a PostgreSQL with the sample, a bucket, the extractor's environment."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from benchmarks.measure import Measured, measure
from local.sample.seeding import COMPANIES, INSTALLMENTS, SCHEMA, seed
from local.sample.spec import SampleSpec
from local.stack.emulators import storage, storage_binary
from local.stack.home import Home
from local.stack.ports import HOST, choose_ports
from services.core.state.sqlite import SqliteStore
from services.core.state.state import TableProgress
from services.core.tables import load_tables
from tests.processes import WITHOUT_PANDAS, process, throwaway_postgres

REPOSITORY = Path(__file__).parents[1]
SOURCES = {"installments": f"{SCHEMA}.{INSTALLMENTS}", "cnpj_ws": f"{SCHEMA}.{COMPANIES}"}


@dataclass(frozen=True)
class Stage:
    """A running PostgreSQL and bucket."""

    dsn: str
    folder: Path
    bucket: str

    @property
    def url(self) -> str:
        """The database as a URL."""
        facts = conninfo_to_dict(self.dsn)
        password = quote(str(facts["password"]), safe="")
        return f"postgresql://{facts['user']}:{password}@{facts['host']}:{facts['port']}/{facts['dbname']}"

    def seed(self, rows: int) -> None:
        """Make the tables hold the sample of so many installments, vacuumed as a table at rest is."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            seed(connection, SampleSpec(rows=rows))
            for name in SOURCES.values():
                connection.execute(f"VACUUM ANALYZE {name}".encode())
            connection.execute("CHECKPOINT")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement; its rows, if it has any."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def environment(self, state: str) -> dict[str, str]:
        """The extractor's settings, with a state of that name."""
        facts = conninfo_to_dict(self.dsn)
        return {
            "GCP_PROJECT": "benchmark",
            "TABLES_FILE": str(REPOSITORY / "config" / "tables.yaml"),
            "STATE_BACKEND": "sqlite",
            "STATE_SQLITE_PATH": str(self.folder / f"{state}.sqlite"),
            "STORAGE_EMULATOR_HOST": self.bucket,
            "POSTGRES_HOST": str(facts["host"]),
            "POSTGRES_PORT": str(facts["port"]),
            "POSTGRES_DB": str(facts["dbname"]),
            "POSTGRES_USER": str(facts["user"]),
            "POSTGRES_PASSWORD": str(facts["password"]),
        }

    def image(self) -> dict[str, str]:
        """What makes this environment's Python like the image's."""
        folder = self.folder / "image"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(WITHOUT_PANDAS)
        return {"PYTHONPATH": str(folder)}

    def extract(self, table: str, state: str, *arguments: str, module: str = "services.extractor") -> Measured:
        """Run the extractor as a job would."""
        command = [sys.executable, "-m", module, "--table", table, *arguments]
        return measure(command, self.environment(state) | self.image())

    def watermark(self, table: str, state: str, days_ago: int) -> None:
        """Put a table's watermark some days back, in a new state of that name, as if the rest were merged."""
        store = SqliteStore(self.folder / f"{state}.sqlite")
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        progress = TableProgress(watermark=midnight - timedelta(days=days_ago))
        store.create("tables", table, progress.model_dump(mode="json"))
        store.close()

    @property
    def landed(self) -> Path:
        """Where the bucket's objects are, as files of the same names."""
        return self.folder / "stack" / "storage" / "data_lake_credix"

    def clear(self) -> None:
        """Empty the bucket: on many machines the disk is what a benchmark fills first."""
        for landed in self.landed.iterdir():
            if landed.is_dir():
                shutil.rmtree(landed)
            else:
                landed.unlink()

    def select(self, table: str) -> str:
        """The SELECT of a table's declared columns."""
        declared = load_tables(REPOSITORY / "config" / "tables.yaml").get(table)
        assert declared is not None  # noqa: S101 - the repository's own table
        return f"SELECT {', '.join(column.name for column in declared.columns)} FROM {SOURCES[table]}"

    def copy(self, select: str) -> Measured:
        """What the server can do: COPY of a SELECT in binary format to nowhere."""
        sink = f"COPY ({select}) TO STDOUT (FORMAT binary)"
        return measure(["sh", "-c", 'psql "$1" -qc "$2" > /dev/null', "sh", self.dsn, sink])


@contextmanager
def stage() -> Iterator[Stage]:
    """A throw-away PostgreSQL and bucket, for a block."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as name:
        folder = Path(name)
        folder.chmod(0o755)
        home = Home.at(folder / "stack")
        home.make()
        port = choose_ports(["storage"])["storage"]
        for bucket in ("data_lake_credix", "data_lake_credix_archive"):
            (home.storage / bucket).mkdir(parents=True, exist_ok=True)
        # No object is below this prefix: nobody is told, and there is no bus here.
        quiet = storage(storage_binary(), home, port, bus_port=port, bucket="none", prefix="none", topic="none")
        with throwaway_postgres(folder) as dsn, process(quiet):
            yield Stage(dsn, folder, f"http://{HOST}:{port}")
