"""Who brings the same tables into Parquet: our extractor, dlt and rivet, at their defaults and at their best."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import CommandFailed, Measured, measure
from benchmarks.stage import REPOSITORY, Stage
from benchmarks.tables import SourceTable
from services.ops.declare import propose

ENVIRONMENT = REPOSITORY / ".venv-benchmark"
PROGRAMS = ENVIRONMENT / "bin"
QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}


@dataclass(frozen=True)
class Brought:
    """What a contender did with some tables."""

    measured: Measured | None
    files: dict[str, list[Path]]
    """Parquet files of each table that it brought."""
    failed: dict[str, str]
    """Why it did not bring the others."""
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows it says that it brought, if it does."""


@dataclass(frozen=True)
class Contender:
    """One way to bring tables into Parquet."""

    name: str
    how: str
    """Its settings, for people."""
    bring: Callable[[Stage, Sequence[SourceTable], Path], Brought]
    """Brings tables; the folder is empty, and its own."""
    companions: str | None = None
    """Ending of the columns that hold as text what a column cannot."""
    keeps: bool = True
    """Whether its files are kept, so that they can be compared."""


def installed() -> bool:
    """Whether what the benchmark compares with is there."""
    return (ENVIRONMENT / ".installed").exists()


def ours(*, policy: str | None = None, stored: bool = True) -> Callable[[Stage, Sequence[SourceTable], Path], Brought]:
    """Our extractor, the whole command; tables as ``credix declare`` proposes them.

    Args:
        policy: ``on_unrepresentable`` of every column that may be null; None for the default.
        stored: whether the parts go into the emulated bucket, which works on the same cores, or nowhere.
    """

    def bring(scene: Stage, tables: Sequence[SourceTable], folder: Path) -> Brought:
        environment = (
            scene.environment("contender")
            | scene.image()
            | {
                "TABLES_FILE": str(folder / "tables.yaml"),
                "STATE_SQLITE_PATH": str(folder / "state.sqlite"),
            }
        )
        declared = _declared(environment, tables, policy)
        (folder / "tables.yaml").write_text(yaml.safe_dump({"version": 1, "tables": list(declared.values())}))
        scene.clear()
        module = "services.extractor" if stored else "benchmarks.without_bucket"
        measured = measure([sys.executable, "-m", module], environment, codes=(0, 1))
        reports = {report["table"]: report for report in json.loads(measured.output)["tables"]}
        files, failed, rows = {}, {}, {}
        for table, entry in declared.items():
            report = reports[entry["name"]]
            if report["error"]:
                failed[table] = str(report["error"])
            else:
                rows[table] = int(report["rows"])
                files[table] = sorted(scene.landed.rglob(f"*{report['batch_id']}*.parquet"))
        return Brought(measured, files, failed, rows)

    return bring


def _declared(
    environment: dict[str, str], tables: Sequence[SourceTable], policy: str | None
) -> dict[str, dict[str, Any]]:
    declared = {}
    with _variables(environment):
        for table in tables:
            [entry] = yaml.safe_load(propose(table.name))
            for column in entry["columns"]:
                if policy and not column.get("required"):
                    column["on_unrepresentable"] = policy
            declared[table.name] = entry
    return declared


@contextmanager
def _variables(wanted: dict[str, str]) -> Iterator[None]:
    """Environment variables for a block."""
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def dlt(backend: str) -> Callable[[Stage, Sequence[SourceTable], Path], Brought]:
    """A dlt pipeline from sql_table with a backend into Parquet files (benchmarks/dlt_load.py)."""

    def bring(scene: Stage, tables: Sequence[SourceTable], folder: Path) -> Brought:
        names = [table.name for table in tables]
        command = [str(PROGRAMS / "python"), "-m", "benchmarks.dlt_load", backend, scene.url, str(folder), *names]
        home = {"HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}
        measured = measure(command, QUIET | home, folder=folder)
        reasons = json.loads(measured.output.splitlines()[-1])
        failed = {name: reason for name, reason in reasons.items() if reason}
        files = {
            table.name: sorted((folder / "data" / table.relation / table.relation).glob("*.parquet"))
            for table in tables
            if table.name not in failed
        }
        return Brought(measured, files, failed)

    return bring


def rivet(more: dict[str, Any] | None) -> Callable[[Stage, Sequence[SourceTable], Path], Brought]:
    """Rivet into local files, a process for each table.

    Args:
        more: of the export and, under ``tuning``, of the source; None for what ``rivet init`` writes. Exports in mode
            ``chunked`` go by the table's key.
    """

    def bring(scene: Stage, tables: Sequence[SourceTable], folder: Path) -> Brought:
        measured, files, failed = None, {}, {}
        environment = {"DATABASE_URL": scene.url, "HOME": str(folder)}
        for table in tables:
            place = folder / table.relation
            place.mkdir()
            configuration = place / "rivet.yaml"
            try:
                configuration.write_text(yaml.safe_dump(_rivet(table, more, place, environment)))
                command = [str(PROGRAMS / "rivet"), "run", "--json-errors", "-c", str(configuration)]
                measured = measure(command, environment, folder=place)
                files[table.name] = sorted((place / "data").rglob("*.parquet"))
            except CommandFailed as error:
                failed[table.name] = _rivet_error(error.wrote)
        return Brought(measured, files, failed)

    return bring


def _rivet_error(wrote: str) -> str:
    """The message of its error object, which is the last line that is one; else all that it wrote."""
    for line in reversed(wrote.splitlines()):
        if line.startswith("{"):
            found = json.loads(line)
            return f"{found.get('code')}: {found.get('error')}"
    return wrote


def _rivet(table: SourceTable, more: dict[str, Any] | None, place: Path, environment: dict[str, str]) -> dict[str, Any]:
    target = {"type": "local", "path": str(place / "data")}
    if more is None:
        init = [str(PROGRAMS / "rivet"), "init", "--source-env", "DATABASE_URL", "--table", table.name]
        written = yaml.safe_load(measure(init, environment, folder=place).output)
        written["exports"][0]["destination"] = target
        return dict(written)
    export = {name: value for name, value in more.items() if name != "tuning"}
    if export["mode"] == "chunked":
        export["chunk_by_key"] = table.key
    return {
        "source": {"type": "postgres", "url_env": "DATABASE_URL", "tuning": more.get("tuning", {})},
        "exports": [
            {"name": table.relation, "table": table.name, "format": "parquet", "destination": target, **export}
        ],
    }


OURS = Contender("credix", "whole command, into the emulated bucket", ours())
RACERS = [
    OURS,
    Contender(
        "credix, no bucket", "the same, parts are dropped when they are finished", ours(stored=False), keeps=False
    ),
    Contender("dlt", "defaults: backend sqlalchemy", dlt("sqlalchemy"), companions="__v_text"),
    Contender("dlt, pyarrow", "backend pyarrow", dlt("pyarrow")),
    Contender("dlt, connectorx", "backend connectorx", dlt("connectorx")),
    Contender("dlt, connectorx stream", "backend connectorx, return_type arrow_stream", dlt("connectorx-stream")),
    Contender("rivet", "as rivet init writes it", rivet(None)),
    Contender("rivet, full", "mode full, profile balanced", rivet({"mode": "full"})),
    Contender("rivet, full, fast", "mode full, profile fast", rivet({"mode": "full", "tuning": {"profile": "fast"}})),
    Contender(
        "rivet, parallel, fast",
        "mode chunked by key, parallel 2, profile fast",
        rivet({"mode": "chunked", "parallel": 2, "tuning": {"profile": "fast"}}),
    ),
]
"""Who is measured with large tables."""

READERS = [
    OURS,
    Contender("credix, string", "on_unrepresentable: string", ours(policy="string"), companions="_text"),
    *(racer for racer in RACERS if racer.name in ("dlt", "dlt, pyarrow", "dlt, connectorx", "rivet, full")),
]
"""Whose values at the edges are compared: one for each way to map types."""


def fresh(folder: Path) -> Path:
    """An empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
