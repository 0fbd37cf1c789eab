"""The whole project, run by dbt as the transformer runs it, on a warehouse that only analyzes.

So what is analyzed is what is sent, macros of dbt's own included: of the project itself, and of a project of bronze
models of every shape with the same macros.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from local.googlesql.analysis import GoogleSql
from local.googlesql.types import name_of
from local.project_check.bronze_project import Model, write_bronze_project
from local.project_check.declared import declared_columns, disagreements
from local.project_check.pruning import not_pruned
from local.project_check.rest import serving
from local.project_check.shapes import Brought, Shape, brought_to
from local.project_check.warehouse import Warehouse
from services.core.jobs import new_job_id
from services.core.settings import TransformerSettings
from services.core.tables import BRONZE_COLUMNS, Mode, Table, Tables
from services.transformer.bronze.batch_rows import bronze_columns
from services.transformer.bronze.delta import insertion, rows_of
from services.transformer.bronze.handover import handed_over
from services.transformer.bronze.tables import BASE, DELTA, BronzeTables, Part
from services.transformer.dbt_project import DbtProject, NodeResult
from services.transformer.quality.compiled import DataTest
from services.transformer.quality.guard import Guard
from services.transformer.quality.row_tests import Plan, RowTests

_LARGE = 10**12
"""Bytes of a base: so that it has a delta."""

_TEXTS = ("_source_table", "_batch_id")


@dataclass(frozen=True)
class Findings:
    """What a check found."""

    analyzed: int
    """Statements."""
    merges: int
    """MERGEs among them."""
    compared: int
    """Columns whose names, and types where a yml has them, were compared with what is declared."""
    problems: list[str]
    """Each names model and file, with Google's words."""

    def __add__(self, other: "Findings") -> "Findings":
        """Both together."""
        return Findings(
            self.analyzed + other.analyzed,
            self.merges + other.merges,
            self.compared + other.compared,
            self.problems + other.problems,
        )


def check_project(settings: TransformerSettings, tables: Tables, google: GoogleSql) -> Findings:
    """Build and test the project, with batches of every kind for its declared tables.

    Args:
        settings: where the project is, and where dbt may write.
        tables: the declared tables.
        google: the analyzer.

    Raises:
        DbtError: the project does not parse.
    """
    with _dbt_on(Warehouse(google), settings) as (warehouse, settings):
        project = DbtProject(settings, tables)
        project.parsed()
        problems = [f"table {name}: {reason}" for name, reason in project.refused.items()]
        fitting = [table for table in tables.tables if table.name not in project.refused]
        variable = {
            table.bronze_model: _handed_over(warehouse, settings, table, brought_to(table)) for table in fitting
        }
        problems += _failures(
            project.run("check", ["build", "--selector", "all", "--no-write-json"], {"bronze": variable})
        )
        if not problems:
            problems += _failures(_guarded(project, warehouse, settings, fitting))
        by_model = {table.bronze_model: _declared_in_tables_yaml(table) for table in fitting}
        compared = 0
        for node in project.parsed().nodes.values():
            made = warehouse.held.get(f"{node.database}.{node.schema}.{node.name}")
            if node.resource_type == "model" and made is not None:
                declared = by_model.get(node.name) or declared_columns(node)
                compared += len(declared)
                place = f"{node.name} ({node.original_file_path}, {node.patch_path.split('://')[1]})"
                problems += [f"model {place}: {each}" for each in disagreements(declared, made)]
        return Findings(warehouse.analyzed, len(warehouse.merges), compared, problems)


def check_shapes(settings: TransformerSettings, shapes: Collection[Shape], google: GoogleSql) -> Findings:
    """Make bronze tables of some shapes, with the project's macros, and merge into them.

    Args:
        settings: where the project is, and where dbt may write.
        shapes: the shapes.
        google: the analyzer.

    Raises:
        DbtError: the project of these models does not parse.
    """
    folder = settings.dbt_target_path.resolve().parent / "shapes"
    models = [Model(s.table.bronze_model, _declared_in_tables_yaml(s.table), s.partition_by) for s in shapes]
    write_bronze_project(settings.dbt_project_dir, folder, models)
    paths = {"dbt_project_dir": folder, "dbt_target_path": folder / "target", "dbt_log_path": folder / "logs"}
    with _dbt_on(Warehouse(google), settings.model_copy(update=paths)) as (warehouse, settings):
        project = DbtProject(settings, Tables(version=1, tables=[shape.table for shape in shapes]))
        project.parsed()
        problems = [f"shape {name}: {reason}" for name, reason in project.refused.items()]
        made = {shape.table.bronze_model: _handed_over(warehouse, settings, shape.table, []) for shape in shapes}
        problems += _failures(project.run("check", ["run", "--select", *made, "--no-write-json"], {"bronze": made}))
        for number in range(max(len(shape.merges) for shape in shapes)):
            variable = {
                shape.table.bronze_model: _handed_over(
                    *(warehouse, settings, shape.table, shape.merges[number], shape.merges[:number]),
                    _guard(shape.table),
                )
                for shape in shapes
                if len(shape.merges) > number
            }
            problems += _failures(
                project.run("check", ["run", "--select", *variable, "--no-write-json"], {"bronze": variable})
            )
        problems += _unpruned(warehouse, shapes)
        return Findings(warehouse.analyzed, len(warehouse.merges), 0, problems)


def _unpruned(warehouse: Warehouse, shapes: Iterable[Shape]) -> list[str]:
    pruned = {f"{shape.table.bronze_model}{BASE}" for shape in shapes if shape.pruned}
    merges = [merge for merge in warehouse.merges if merge.target.id.split(".")[-1] in pruned]
    reasons = [(merge.target.id.split(".")[-1].removesuffix(BASE), not_pruned(merge)) for merge in merges]
    place = "macros/bronze_partitions.sql"
    return [f"shape {name} ({place}): its MERGE reads every partition: {why}" for name, why in reasons if why]


def _handed_over(
    warehouse: Warehouse,
    settings: TransformerSettings,
    table: Table,
    brought: Collection[Brought],
    before: Iterable[Iterable[Brought]] = (),
    guard: Guard | None = None,
) -> dict[str, Any]:
    """What dbt is handed for a table; the batches' hashed tables are there from then on."""
    loaded = [each.loaded(f"{settings.gcp_project}.{settings.dataset_temp}") for each in brought]
    for each, batch in zip(loaded, brought, strict=True):
        columns = [{"name": name, "type": type_} for name, type_ in each.temp.columns.items()]
        warehouse.put(each.temp.id, columns, batch.rows)
    snapshots = [each.batch for merge in before for each in merge if each.batch.mode is Mode.SNAPSHOT]
    newest = max(snapshots, key=lambda batch: batch.extracted_at, default=None)
    found = _found(warehouse, f"{settings.gcp_project}.{settings.dataset_bronze}.{table.bronze_model}")
    if loaded and found.delta is not None and found.base is not None:
        of_bronze = bronze_columns(table, found.base.columns, loaded)
        if not of_bronze.keys() - found.delta.columns.keys():
            warehouse.run(insertion(found.delta.id, of_bronze, rows_of(table, of_bronze, loaded)))
    waits = found.delta is not None
    facts = (table, found, "", newest, new_job_id("merge", table.name), loaded)
    return handed_over(*facts, delta=waits, guard=guard)


def _guarded(
    project: DbtProject, warehouse: Warehouse, settings: TransformerSettings, tables: list[Table]
) -> list[NodeResult]:
    """Merge once more, with the row tests in the MERGE: they have the SQL of silver, which is known to be right."""
    row_tests = RowTests(project)
    variable = {
        table.bronze_model: _handed_over(warehouse, settings, table, brought_to(table), guard=row_tests.guard(table))
        for table in tables
    }
    return project.run("check", ["run", "--select", *variable, "--no-write-json"], {"bronze": variable})


def _guard(table: Table) -> Guard:
    """A guard as row tests make it, of a test that any table can have."""
    rows = f"`rows of {table.bronze_model}`"
    return Plan([DataTest("batch_is_known", f"select * from {rows} where _batch_id is null")], {}, rows, {}).guard()  # noqa: S608 - a checked name


def _found(warehouse: Warehouse, name: str) -> BronzeTables:
    """What the warehouse has of a bronze model, as the transformer looks at it."""
    held = [warehouse.held.get(f"{name}{part}") for part in (BASE, DELTA)]
    base, delta = (
        Part(each.id, {f["name"]: name_of(f) for f in each.fields}, 1, _LARGE) if each else None for each in held
    )
    return BronzeTables(name, base, delta, None)


def _declared_in_tables_yaml(table: Table) -> dict[str, Any]:
    columns = {column.name: column.type.value for column in table.landed_columns}
    return columns | {name: "STRING" if name in _TEXTS else "TIMESTAMP" for name in BRONZE_COLUMNS}


def _failures(results: Iterable[NodeResult]) -> list[str]:
    """What failed; what was skipped for it is no problem of its own."""
    return [_said(result) for result in results if result.status in ("error", "fail", "runtime error")]


def _said(result: NodeResult) -> str:
    """What dbt said, which names the file, without the macros on the way there."""
    lines = [line.strip() for line in result.message.splitlines()]
    said = " ".join(line for line in lines if line and not line.startswith((">", "compiled code")))
    return f"{result.resource_type} {result.name}: {said}"


@contextmanager
def _dbt_on(warehouse: Warehouse, settings: TransformerSettings) -> Iterator[tuple[Warehouse, TransformerSettings]]:
    """Within the block, dbt talks to a warehouse, by the settings that are yielded."""
    # dbt takes a relative path for one below the project.
    paths = {"dbt_target_path": settings.dbt_target_path.resolve(), "dbt_log_path": settings.dbt_log_path.resolve()}
    with serving(warehouse) as host, _environment({"BIGQUERY_EMULATOR_HOST": host}):
        yield warehouse, settings.model_copy(update={"dbt_target": "emulator", **paths})


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
