"""The `credix` command as a person types it: up on a database that is there already, seed, extract, status, down."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local.cycle import Client
from local.stack.options import REPOSITORY
from local.stack.stack import load
from services.core.tables import Tables, load_tables

CREDIX = Path(sys.executable).parent / "credix"
NAMED_IN_THE_README = {
    *("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"),
    *("GCP_PROJECT", "GOOGLE_CLOUD_PROJECT", "STORAGE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"),
    *("BIGQUERY_EMULATOR_HOST", "STATE_BACKEND", "TABLES_FILE", "LANDING_BUCKET", "DATASET_BRONZE"),
}


class Shell:
    """A shell with only what the command needs, and the home of its stack."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "CREDIX_HOME": str(home)}

    def run(self, *arguments: str | Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `credix` with these arguments."""
        done = subprocess.run(
            [str(CREDIX), *map(str, arguments)], env=self.variables, cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def database(postgres_dsn: str) -> Iterator[str]:
    """A database that somebody else runs."""
    name = sql.Identifier("of_somebody_else")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield make_conninfo(postgres_dsn, dbname="of_somebody_else")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="module")
def shell(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    opened = Shell(tmp_path_factory.mktemp("cli"))
    opened.run("local", "up", "--postgres-dsn", database)
    yield opened
    opened.run("local", "down", "--remove-data")


def test_seed_extract_and_status_within_a_minute(shell: Shell) -> None:
    shell.run("local", "seed", "--rows", "1000", "--seed", "3")
    shell.run("extract")
    deadline = time.monotonic() + 60
    while True:
        tables = json.loads(shell.run("status", "--json").stdout)["tables"]
        states = {table["table"]: (table["last_batch"]["state"], table["pending_batches"]) for table in tables}
        if states == {"cnpj_ws": ("merged", 0), "installments": ("merged", 0)}:
            break
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
    stack = load(shell.home)
    assert stack is not None
    assert [str(comparison) for comparison in Client.of(stack).compare() if not comparison.equal] == []


def test_one_table_in_another_mode(shell: Shell) -> None:
    done = shell.run("extract", "--table", "cnpj_ws", "--mode", "snapshot")
    [entry] = json.loads(done.stdout)["tables"]
    assert (entry["table"], entry["outcome"], entry["rows"]) == ("cnpj_ws", "landed", 50)


def test_a_dry_run_says_what_would_be_read(shell: Shell) -> None:
    before = shell.run("status", "--json").stdout
    tables = json.loads(shell.run("extract", "--dry-run").stdout)["tables"]
    assert [table["table"] for table in tables] == ["cnpj_ws", "installments"]
    assert all(table["error"] is None and table["statement"].startswith("SELECT ") for table in tables)
    batches = [table["last_batch"]["id"] for table in json.loads(before)["tables"]]
    after = json.loads(shell.run("status", "--json").stdout)["tables"]
    assert [table["last_batch"]["id"] for table in after] == batches


def test_a_table_is_declared_from_the_catalog(shell: Shell) -> None:
    proposed = yaml.safe_load(shell.run("declare", "oltp.business_case_installments").stdout)
    [table] = Tables.model_validate({"version": 1, "tables": proposed}).tables
    declared = load_tables(REPOSITORY / "config" / "tables.yaml").get("installments")
    assert declared is not None
    assert table.key == declared.key
    assert {c.name: c.type for c in table.columns} == {c.name: c.type for c in declared.columns}
    assert "oltp.nope does not exist" in shell.run("declare", "oltp.nope", expected=2).stderr


def test_an_unknown_table_is_a_mistake_of_the_command_line(shell: Shell) -> None:
    done = shell.run("extract", "--table", "nope", expected=2)
    assert "unknown table nope; declared are cnpj_ws, installments" in done.stderr


def test_env_is_for_another_shell(shell: Shell) -> None:
    printed = shell.run("local", "env").stdout
    script = f"{printed}\n{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    seen = json.loads(subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, check=True).stdout)
    assert seen.keys() >= NAMED_IN_THE_README
    with psycopg.connect(
        host=seen["POSTGRES_HOST"],
        port=seen["POSTGRES_PORT"],
        dbname=seen["POSTGRES_DB"],
        user=seen["POSTGRES_USER"],
        password=seen["POSTGRES_PASSWORD"],
    ) as connection:
        assert connection.execute("SELECT count(*) FROM oltp.business_case_installments").fetchone() == (1000,)


def test_the_stacks_processes(shell: Shell) -> None:
    components = {c["name"]: c["state"] for c in json.loads(shell.run("local", "status", "--json").stdout)}
    assert components == dict.fromkeys(("storage", "warehouse", "bus", "loader", "transformer"), "ready")


def test_a_folder_of_parquet_with_a_bad_file(shell: Shell, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "name": ["a", None]}), tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no parquet")
    done = shell.run("local", "seed", "--data", tmp_path, expected=1)
    assert "good.parquet: 2 rows" in done.stderr
    assert "bad.parquet" in done.stderr


def test_without_a_stack_the_next_step_is_said(tmp_path: Path) -> None:
    done = Shell(tmp_path).run("local", "env", expected=1)
    assert "credix local up" in done.stderr
    done = Shell(tmp_path).run("status", expected=2)
    assert "GCP_PROJECT" in done.stderr
    Shell(tmp_path).run("local", "status", expected=1)
    assert "nothing was running" in Shell(tmp_path).run("local", "down").stderr
