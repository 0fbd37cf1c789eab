"""The extractor as the process that it is, with a source, a bucket and a state; and a look at what it left.

A *place* is a database and a bucket server, made once for a module. A *bench* is what one test works on: an empty
schema ``src``, an empty bucket, a new state. Reads are stopped at a chosen row by a *gate*, not by the clock: a column
of the table has a type whose cast to text takes a shared advisory lock at every hundredth id, and the test holds that
lock as long as it likes.
"""

import json
import os
import pty
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from local.stack import emulators, postgres
from local.stack.home import Home
from local.stack.options import PROJECT, PYTHON, REPOSITORY
from local.stack.ports import HOST, choose_ports
from local.stack.postgres_programs import Binaries, find_binaries, run_as, server_user
from local.stack.process import ProcessId, find, kill, spawn, stop
from local.stack.readiness import wait_until_ready
from services.core.batch import Batch, Step
from services.core.manifest import Manifest
from services.core.naming import mirrored
from services.core.settings import CoreSettings
from services.core.state.lease import look
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import EXTRACTED_AT, load_tables
from services.extractor.source.terms import APPLICATION
from tests.integration.postgres_versions import binaries_of
from tests.processes import WITHOUT_PANDAS, process

ROLE, PASSWORD = "extractor", "a-password-that-nobody-prints"
SCHEMA = "src"
GATE = "gate"
"""Column of a gated table."""
LANDING = str(CoreSettings.model_fields["landing_prefix"].default)
FAILED = str(CoreSettings.model_fields["failed_prefix"].default)
ROWS_PER_PAGE = 7
"""Of a table that ``Database.paged_table`` makes."""
WAIT = 60.0
"""Seconds that anything may take before a test gives up on it: the machine's cores are shared."""

Connection = psycopg.Connection[tuple[Any, ...]]
Row = dict[str, Any]
Key = tuple[Any, ...]


def wait_until(what: str, condition: Callable[[], Any], seconds: float = WAIT) -> Any:
    """The first true answer of a condition."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return answer


class Server:
    """A PostgreSQL server that a test may crash and start again."""

    def __init__(self, cluster: postgres.Cluster, binaries: Binaries, log: Path, settings: Mapping[str, str]) -> None:
        self.cluster, self.binaries = cluster, binaries
        self.log = log
        self._settings = settings
        self._process: ProcessId | None = None
        self.listen_on(choose_ports(["postgres"])["postgres"])

    def listen_on(self, port: int) -> None:
        """From its next start on."""
        self.port = port
        planned = postgres.component(self.cluster, self.binaries, port, self.log)
        more = [f"--{name}={value}" for name, value in self._settings.items()]  # of equal options, the last one counts
        self._component = planned.model_copy(update={"argv": (*planned.argv, *more)})

    @property
    def dsn(self) -> str:
        """A superuser's connection string."""
        password = self.cluster.superuser_password.get_secret_value()
        return make_conninfo(host=HOST, port=self.port, dbname="postgres", user=postgres.SUPERUSER, password=password)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._process = spawn(self._component)
        wait_until_ready(self._component, self._process, threading.Event())

    def crash(self) -> None:
        """End it without a checkpoint (an "immediate" shutdown): the next start recovers from the log."""
        assert self._process is not None
        running = find(self._process)
        assert running is not None
        running.send_signal(signal.SIGQUIT)
        wait_until("the server's end", lambda: self._process is None or find(self._process) is None)

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None:
            stop(self._process, self._component.stop_signal, self._component.stop_seconds)
            kill(self._process)
            self._process = None

    def remove(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.cluster.folder, ignore_errors=True)

    @contextmanager
    def replica(self, folder: Path, **settings: str) -> Iterator["Server"]:
        """A streaming replica of this server, started."""
        user = self.cluster.user
        passwords = {"superuser_password": self.cluster.superuser_password, "password": self.cluster.password}
        cluster = postgres.Cluster(folder=postgres.cluster_folder(folder / "replica", user), user=user, **passwords)
        backup = ["--pgdata", str(cluster.data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        command = [str(self.binaries.folder / "pg_basebackup"), "--dbname", self.dsn, *backup]
        done = run_as(user, command, cwd=cluster.folder)
        assert done.returncode == 0, done.stderr
        replica = Server(cluster, self.binaries, folder / "replica.log", settings)
        try:
            replica.start()
            yield replica
        finally:
            replica.remove()


@contextmanager
def own_server(folder: Path, version: int | None = None, **settings: str) -> Iterator[Server]:
    """A started server of the test's own, with more settings than the local stack's; skips if there is no such version.

    Args:
        folder: where it may keep its files.
        version: PostgreSQL's major version; None for the local stack's.
        settings: of the server.
    """
    user = server_user()
    binaries = find_binaries(user) if version is None else binaries_of(version)
    if binaries is None:
        pytest.skip(f"no PostgreSQL {version} on this machine")
    cluster = postgres.new_cluster(folder / "postgres", user)
    postgres.initialise(cluster, binaries)
    server = Server(cluster, binaries, folder / "postgres.log", settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@dataclass(frozen=True)
class Database:
    """The source, as its administrator sees it."""

    dsn: str

    def connect(self, *, autocommit: bool = True, **parameters: str) -> Connection:
        """A connection; a superuser's unless the parameters say otherwise."""
        return psycopg.connect(make_conninfo(self.dsn, **parameters), autocommit=autocommit)

    def run(self, *statements: str) -> None:
        """Execute statements, each in a transaction of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.connect() as connection:
            return connection.execute(query).fetchall()

    def value(self, query: str) -> Any:
        """The one value of a query."""
        [(value,)] = self.rows(query)
        return value

    def paged_table(self, name: str = "big", rows: int = 3_500, *, gated: bool = False) -> None:
        """A table of seven rows a page, ids from 1 in the order of the pages, that only a VACUUM of the test cleans."""
        self.run(
            f"CREATE TABLE {SCHEMA}.{name} (id bigint PRIMARY KEY, v int NOT NULL DEFAULT 0,"
            " changed_at timestamptz DEFAULT clock_timestamp(), pad text NOT NULL DEFAULT repeat('x', 1000))"
            " WITH (autovacuum_enabled = false)",
            f"INSERT INTO {SCHEMA}.{name} SELECT g FROM generate_series(1, {rows}) g",
            f"ANALYZE {SCHEMA}.{name}",
            f"GRANT SELECT ON {SCHEMA}.{name} TO {ROLE}",
        )
        assert self.value(f"SELECT max((ctid::text::point)[1]) FROM {SCHEMA}.{name}") == ROWS_PER_PAGE
        if gated:
            self.gate_table(name)

    def gate_function(self) -> None:
        """Make the function that waits for a gate: at an id."""
        self.run(
            # The extractor's own lock_timeout is for locks on tables.
            f"CREATE OR REPLACE FUNCTION {SCHEMA}.wait(bigint) RETURNS void LANGUAGE plpgsql SET lock_timeout = 0 AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock_shared($1); END $$",
        )

    def gate_table(self, name: str) -> None:
        """Let the extractor's reads of the table pass a gate at every hundredth id."""
        if self.value(f"SELECT to_regtype('{SCHEMA}.gated')::text") is None:
            self.gate_function()
            self.run(
                f"CREATE TYPE {SCHEMA}.gated AS (id bigint)",
                f"CREATE FUNCTION {SCHEMA}.gate(bigint) RETURNS void LANGUAGE plpgsql AS"
                f" $$ BEGIN IF $1 % 100 = 0 THEN PERFORM {SCHEMA}.wait($1); END IF; END $$",
                f"CREATE FUNCTION {SCHEMA}.gate_text({SCHEMA}.gated) RETURNS text LANGUAGE plpgsql AS"
                f" $$ BEGIN PERFORM {SCHEMA}.gate($1.id); RETURN ''; END $$",
                f"CREATE CAST ({SCHEMA}.gated AS text) WITH FUNCTION {SCHEMA}.gate_text({SCHEMA}.gated)",
            )
        row = f"ROW(id)::{SCHEMA}.gated"
        self.run(f"ALTER TABLE {SCHEMA}.{name} ADD {GATE} {SCHEMA}.gated GENERATED ALWAYS AS ({row}) STORED")

    def has_gate(self, relation: str) -> bool:
        """Whether a relation, or what a view reads, has a gate."""
        query = "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
        with self.connect() as connection:
            return connection.execute(query, [relation, GATE]).fetchone() == (1,)

    @contextmanager
    def gate(self, *ids: int) -> Iterator["Gate"]:
        """Close the gate at these ids for a block."""
        assert all(id % 100 == 0 for id in ids), "only every hundredth id is a gate"
        with ExitStack() as stack:
            gates = {id: stack.enter_context(self.connect()) for id in ids}
            for id, connection in gates.items():
                connection.execute("SELECT pg_advisory_lock(%s)", [id])
            yield Gate(self, gates)

    def waiting(self) -> int:
        """How many of the extractor's connections stand before a gate."""
        return int(
            self.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' AND "
                f"application_name = '{APPLICATION}' AND datname = current_database()"
            )
        )

    def disconnect_extractors(self) -> int:
        """Terminate every connection of the extractor; how many there were."""
        found = self.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE application_name = '{APPLICATION}' AND datname = current_database()"
        )
        return len(found)


@dataclass(frozen=True)
class Gate:
    """Closed at some ids, until it is opened or the block ends."""

    database: Database
    connections: Mapping[int, Connection]

    def wait(self, readers: int = 1) -> None:
        """Wait until so many of the extractor's connections stand before it."""
        wait_until(f"{readers} reader(s) at the gate", lambda: self.database.waiting() >= readers)

    def open(self, *ids: int) -> None:
        """Open it at these ids, or at all."""
        for id in ids or self.connections:
            self.connections[id].close()


@dataclass(frozen=True)
class Finished:
    """An extractor that has ended."""

    exit_code: int
    stdout: str
    stderr: str
    log: list[Row]

    @property
    def report(self) -> list[Row]:
        """The summary's tables."""
        tables: list[Row] = json.loads(self.stdout)["tables"]
        return tables

    def outcome(self, table: str | None = None) -> Row:
        """What became of a table; without a name, of the only one."""
        [found] = [entry for entry in self.report if table in (None, entry["table"])]
        return found

    def events(self, name: str) -> list[Row]:
        """The log's lines of one event."""
        return [line for line in self.log if line.get("message") == name]


class Running:
    """An extractor that was started; its output is collected while it runs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._stdout: list[str] = []
        self._stderr: list[str] = []
        self.log: list[Row] = []
        self._readers = [
            threading.Thread(target=self._collect_stdout, daemon=True),
            threading.Thread(target=self._collect_stderr, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _collect_stdout(self) -> None:
        assert self.process.stdout is not None
        self._stdout += self.process.stdout

    def _collect_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._stderr.append(line)
            if line.startswith("{"):
                self.log.append(json.loads(line))

    def wait_for(self, event: str, count: int = 1) -> Row:
        """Wait until the log has so many lines of an event; the last of them."""

        def found() -> Row | None:
            lines = [line for line in self.log if line.get("message") == event]
            assert len(lines) >= count or self.process.poll() is None, "".join(self._stderr)
            return lines[count - 1] if len(lines) >= count else None

        line: Row = wait_until(f"{count} × {event}", found)
        return line

    def kill(self) -> None:
        """SIGKILL, as when the machine is gone."""
        self.process.kill()
        self.finish()

    def terminate(self) -> None:
        """SIGTERM, as when Cloud Run cancels the execution."""
        self.process.terminate()

    def finish(self, seconds: float = WAIT) -> Finished:
        """Wait for its end."""
        try:
            exit_code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not end within {seconds} s:\n{''.join(self._stderr)}") from None
        for reader in self._readers:
            reader.join()
        return Finished(exit_code, "".join(self._stdout), "".join(self._stderr), self.log)


@dataclass
class Landed:
    """One landed batch: its manifest and the rows of exactly the parts that it names."""

    manifest: Manifest
    parts: list[pa.Table]

    @property
    def table(self) -> pa.Table:
        """All rows."""
        return pa.concat_tables(self.parts)

    def rows(self) -> list[Row]:
        """All rows, the time of reading among the columns; not the gate."""
        table = self.table
        rows: list[Row] = (table.drop([GATE]) if GATE in table.column_names else table).to_pylist()
        return rows


def newest(landed: Iterable[Landed], *key: str) -> dict[Key, Row]:
    """The newest version per key by ``_extracted_at``, without it: what bronze makes of the batches.

    Of two different versions, one has to be newer: bronze could take either.
    """
    found: dict[Key, Row] = {}
    for row in (row for batch in landed for row in batch.rows()):
        at = tuple(row[name] for name in key)
        other = found.setdefault(at, row)
        assert other == row or other[EXTRACTED_AT.name] != row[EXTRACTED_AT.name], f"two versions of {at} at once"
        if other[EXTRACTED_AT.name] < row[EXTRACTED_AT.name]:
            found[at] = row
    return {at: {n: v for n, v in row.items() if n != EXTRACTED_AT.name} for at, row in found.items()}


def doubled(landed: Landed, *key: str) -> dict[Key, int]:
    """Keys that come more than once in a batch, with how often."""
    counts = Counter(tuple(row[name] for name in key) for row in landed.rows())
    return {at: count for at, count in counts.items() if count > 1}


Columns = Mapping[str, str | Mapping[str, Any]]
PAGED: Columns = {"id": "INT64", "v": "INT64"}
"""Columns of ``Database.paged_table`` that are worth comparing."""
CURSOR = {"expression": "changed_at", "type": "timestamp"}


def declared(name: str, columns: Columns = PAGED, *, key: Sequence[str] = ("id",), **more: Any) -> Row:
    """An entry of tables.yaml: a snapshot of ``src.<name>`` unless it says otherwise."""
    fields = [{"name": n, **({"type": c} if isinstance(c, str) else c)} for n, c in columns.items()]
    for column in fields:
        column.setdefault("required", column["name"] in key)
    entry = {"name": name, "source": f"{SCHEMA}.{name}", "key": list(key), "bronze_model": name, "columns": fields}
    return {**entry, "mode": "snapshot", **more}


def incremental(name: str, columns: Columns = PAGED, cursor: Row = CURSOR, **more: Any) -> Row:
    """An entry of tables.yaml: windows of ``src.<name>``."""
    return declared(name, columns, mode="incremental", cursor=cursor, **more)


@dataclass
class Bench:
    """What one test works on."""

    database: Database
    folder: Path
    storage_url: str
    bucket: Path
    """The bucket's folder: object ``o`` is the file ``o`` in it."""
    state: PipelineState
    variables: dict[str, str] = field(default_factory=dict)
    """More of the extractor's environment, for all its runs."""
    running: list[Running] = field(default_factory=list)

    def declare(self, *tables: Row) -> None:
        """Write tables.yaml; a table that has a gate by now gets its column, too."""
        path = self.folder / "tables.yaml"
        gate = {"name": GATE, "type": "STRING"}
        entries = [
            {**table, "columns": [*table["columns"], gate]} if self.database.has_gate(table["source"]) else table
            for table in tables
        ]
        path.write_text(yaml.safe_dump({"version": 1, "tables": entries}))
        load_tables(path)

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The extractor's whole environment; small chunks and short leases, so that a test of them is short."""
        to = conninfo_to_dict(self.database.dsn)
        usual = {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "PYTHONPATH": str(self.folder),  # sitecustomize.py, see Place.bench
            "GCP_PROJECT": PROJECT,
            "STORAGE_EMULATOR_HOST": self.storage_url,
            "LANDING_BUCKET": self.bucket.name,
            "TABLES_FILE": str(self.folder / "tables.yaml"),
            "STATE_BACKEND": "sqlite",
            "STATE_SQLITE_PATH": str(self.folder / "state.sqlite"),
            "LOG_FORMAT": "json",
            "POSTGRES_HOST": str(to["host"]),
            "POSTGRES_PORT": str(to["port"]),
            "POSTGRES_DB": str(to["dbname"]),
            "POSTGRES_USER": ROLE,
            "POSTGRES_PASSWORD": PASSWORD,
            "EXTRACT_CHUNK_PAGES": "50",
            "EXTRACT_LEASE": "4",
        }
        return {**usual, **self.variables, **variables}

    def start(self, *arguments: str, **variables: str) -> Running:
        """Start an extractor."""
        started = Running([str(PYTHON), "-m", "services.extractor", *arguments], self.environment(variables))
        self.running.append(started)
        return started

    def extract(self, *arguments: str, **variables: str) -> Finished:
        """Run an extractor to its end; it has to succeed."""
        finished = self.start(*arguments, **variables).finish()
        assert finished.exit_code == 0, finished.stderr
        return finished

    def on_terminal(self, *arguments: str, during: Callable[[], None] = lambda: None, **variables: str) -> str:
        """Run an extractor on a pseudo terminal to its end; what it showed there.

        Args:
            arguments: of the command line.
            during: done while it runs.
            variables: more of its environment.
        """
        terminal, end = pty.openpty()
        variables = {"TERM": "xterm-256color", "COLUMNS": "200", "LOG_FORMAT": "auto", **variables}
        command = [str(PYTHON), "-m", "services.extractor", *arguments]
        child = subprocess.Popen(
            command, cwd=REPOSITORY, env=self.environment(variables), stdin=end, stdout=end, stderr=end
        )
        os.close(end)
        shown = bytearray()

        def collect() -> None:
            while True:
                try:
                    shown.extend(os.read(terminal, 65_536))
                except OSError:  # the last process that held the other end is gone
                    return

        collector = threading.Thread(target=collect, daemon=True)
        collector.start()
        during()
        exit_code = child.wait(WAIT)
        collector.join()
        os.close(terminal)
        assert exit_code == 0, shown.decode()
        return shown.decode()

    def objects(self, prefix: str) -> list[str]:
        """Names of the objects below a prefix."""
        found = (path.relative_to(self.bucket).as_posix() for path in self.bucket.rglob("*") if path.is_file())
        return sorted(name for name in found if name.startswith(f"{prefix}/"))

    def landed(self, table: str | None = None) -> list[Landed]:
        """The batches in landing/ (of a table), oldest first, as the loader would find them."""
        found = []
        for name in self.objects(LANDING):
            if name.endswith(".manifest.json"):
                manifest = Manifest.model_validate_json((self.bucket / name).read_bytes())
                if table in (None, manifest.table):
                    parts = [pq.ParquetFile(self.bucket / part.object_name).read() for part in manifest.parts]
                    assert [part.num_rows for part in parts] == [part.rows for part in manifest.parts]
                    found.append(Landed(manifest, parts))
        return sorted(found, key=lambda batch: batch.manifest.batch_id)

    def only_batch(self, table: str | None = None) -> Landed:
        """The one batch in landing/ (of a table)."""
        [batch] = self.landed(table)
        return batch

    def merge(self) -> None:
        """Do to all landed batches what loader and transformer would: the watermark moves and landing/ is empty."""
        for batch in self.landed():
            id, table = batch.manifest.batch_id, batch.manifest.table
            now = datetime.now(UTC)
            self.state.change_batch(id, lambda b: b.after(Step.LOAD, now).after(Step.MERGE, now))  # noqa: B023
            self.state.advance(table, self.state.progress(table).merge_token)
        shutil.rmtree(self.bucket / LANDING, ignore_errors=True)

    def batches(self, table: str) -> list[Batch]:
        """What the state has of a table's batches, oldest first."""
        return self.state.batches_of_table(table)

    def source(self, table: str, columns: Columns = PAGED, key: Sequence[str] = ("id",)) -> dict[Key, Row]:
        """The source's rows, in the form of ``newest``."""
        rows = self.database.rows(f"SELECT {', '.join(columns)} FROM {SCHEMA}.{table}")
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        return {tuple(row[name] for name in key): row for row in found}

    def at_rest(self, *, killed: bool = False) -> None:
        """What has to hold whenever no extractor runs.

        landing/ has manifests and the parts that they name, and nothing else; every object in failed/ has its reason;
        nobody holds a lease (who was killed cannot give it back: it expires); no plan and no chunk is left.
        """
        named = {part.object_name for batch in self.landed() for part in batch.manifest.parts}
        others = [name for name in self.objects(LANDING) if name not in named and not name.endswith(".manifest.json")]
        assert others == [], "every landed object belongs to a manifest"
        failed = self.objects(FAILED)
        reasons = {name for name in failed if name.endswith(".error.json")}
        assert {f"{name}.error.json" for name in failed if name not in reasons} == reasons
        store = self.state.store
        left = [d.id for d in store.query("leases", {}) if d.data["holder"] is not None]
        if killed:
            wait_until("the end of all leases", lambda: not any(self.is_held(name) for name in left))
        else:
            assert left == []
        assert [d.id for d in store.query("plans", {})] == []
        assert [d.id for d in store.query("chunks", {})] == []

    def is_held(self, lease: str) -> bool:
        """Whether somebody holds a lease now."""
        found = look(self.state.store, lease)
        return found is not None and found.held(datetime.now(UTC))

    def reasons(self) -> Counter[str]:
        """How many objects are in failed/, per code of the reason."""
        read = [json.loads((self.bucket / name).read_text()) for name in self.objects(FAILED) if "error.json" in name]
        for reason in read:
            name = reason["object"].removeprefix(f"gs://{self.bucket.name}/")
            assert (self.bucket / mirrored(name, LANDING, FAILED)).is_file()
        return Counter(str(reason["code"]) for reason in read)


@dataclass(frozen=True)
class Place:
    """A database and a bucket server."""

    database: Database
    storage_url: str
    storage_root: Path

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Bench]:
        """A bench for one test; whatever extractor still runs after it is ended."""
        self.database.run(
            f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
            f"CREATE SCHEMA {SCHEMA}",
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLE}",
        )
        bucket = f"bucket-{time.time_ns()}"
        made = httpx.post(f"{self.storage_url}/storage/v1/b", json={"name": bucket}, trust_env=False)
        made.raise_for_status()
        (folder / "sitecustomize.py").write_text(WITHOUT_PANDAS)
        store = SqliteStore(folder / "state.sqlite")
        bench = Bench(self.database, folder, self.storage_url, self.storage_root / bucket, PipelineState(store))
        try:
            yield bench
        finally:
            for started in bench.running:
                if started.process.poll() is None:
                    started.kill()
            store.close()


@contextmanager
def storage_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """A fake-gcs-server; yields its URL and the folder of its buckets."""
    home = Home.at(folder)
    home.make()
    ports = choose_ports(["storage", "bus"])
    # No bucket has that name: nobody is told of objects, and no bus is needed.
    component = emulators.storage(
        emulators.storage_binary(), home, ports["storage"], ports["bus"], "nobody", "nothing", "nowhere"
    )
    with process(component):
        yield f"http://{HOST}:{ports['storage']}", home.storage


def make_role(database: Database) -> None:
    """The extractor's role: no superuser, may connect and see other users' transactions."""
    with database.connect() as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            connection.execute(f"GRANT pg_read_all_stats TO {ROLE}")


@contextmanager
def place_on(dsn: str, folder: Path) -> Iterator[Place]:
    """A place with a new database of this server; the extractor's role is made when it is not there."""
    server = Database(dsn)
    make_role(server)
    name = f"source_{time.time_ns()}"
    server.run(f"CREATE DATABASE {name}")
    try:
        with storage_server(folder) as (url, root):
            yield Place(Database(make_conninfo(dsn, dbname=name)), url, root)
    finally:
        with suppress(psycopg.OperationalError):  # a server of the test's own may be gone
            server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def short_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that every user can enter, with a short name: a socket's path is limited to 107 bytes."""
    folder = tempfile.TemporaryDirectory(prefix="cx")
    Path(folder.name).chmod(0o755)
    return folder
