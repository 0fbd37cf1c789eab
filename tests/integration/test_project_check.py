"""What ``make lint`` says of the project's SQL: nothing of the project as it is; of mutants, what is wrong."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from local.googlesql import compiled
from local.googlesql.analysis import GoogleSql
from local.project_check.check import Findings, check_project, check_shapes
from local.project_check.shapes import every_shape
from services.core.settings import TransformerSettings
from services.core.tables import load_tables
from tests.integration.warehouse_fixture import DBT_PROJECT, REPOSITORY

TABLES = load_tables(REPOSITORY / "config" / "tables.yaml")
SHAPES = every_shape()

Change = tuple[str, str, str]
"""A file of the project, what it has once, and what stands there instead."""

# What has to be said, and the change that has to make it be said. Each leaves the others' models to be built.
MUTANTS: dict[str, tuple[str, Change]] = {
    "a reserved word as an alias": (
        r"^model installments_rejected: .*models/silver/installments_rejected\.sql.*Unexpected keyword QUALIFY",
        ("models/silver/installments_rejected.sql", "}} as rejection_reason", "}} as qualify"),
    ),
    "an ambiguous column": (
        r"^test every_company_is_in_the_summary_once: .*tests/every_company.*Column name buyer_tax_id is ambiguous",
        ("tests/every_company_is_in_the_summary_once.sql", "select company.buyer_tax_id", "select buyer_tax_id"),
    ),
    "another type in gold's contract": (
        r"^model payment_analytics_detailed: .*contract.*\| payment_variance +\| NUMERIC +\| FLOAT64 +\|",
        (
            "models/gold/gold.yml",
            'name: payment_variance, data_type: "numeric(38, 9)"',
            "name: payment_variance, data_type: float64",
        ),
    ),
    "a FLOAT64 where gold promises NUMERIC": (
        r"^model payment_analytics_detailed: .*\| original_amount +\| FLOAT64 +\| NUMERIC +\|",
        (
            "models/gold/payment_analytics_detailed.sql",
            "  installment.original_amount,",
            "  cast(installment.original_amount as float64) as original_amount,",
        ),
    ),
    "another type in silver": (
        r"^model cnpj_ws_clean \(models/silver/cnpj_ws_clean\.sql, models/silver/silver\.yml\): "
        "column created_at is DATE, declared TIMESTAMP",
        ("models/silver/cnpj_ws_clean.sql", "  created_at,", "  date(created_at) as created_at,"),
    ),
    "a column of silver that nobody declared": (
        r"^model cnpj_ws_clean \(.*\): column region is made and not declared",
        ("models/silver/cnpj_ws_clean.sql", "  updated_at,", "  updated_at,\n  uf as region,"),
    ),
}
BOUNDS = "between {{ bounds[0] }} and {{ bounds[1] }}"
UNPRUNABLE = {
    "a function": (
        "date_add(cast(current_date() as {{ partition_by.data_type }}), interval 0 day)",
        "current_date, date_add",
    ),
    "a subquery": ("(select max({{ column }}) from {{ table_literal(table.batches[0].table) }})", "a subquery"),
    "nothing": ("{{ bounds[1] }} or true", r"\$or"),
}
"""The upper bound of the partitions that a MERGE names, in other words; what is said of it."""


@pytest.fixture(scope="module")
def google() -> GoogleSql:
    compiled.compile_once()
    return GoogleSql()


def settings(folder: Path, project: Path = DBT_PROJECT) -> TransformerSettings:
    paths = {"dbt_target_path": folder / "target", "dbt_log_path": folder / "logs"}
    return TransformerSettings(gcp_project="lint", dbt_project_dir=project, **paths)  # type: ignore[arg-type]


def mutated(folder: Path, changes: Sequence[Change]) -> TransformerSettings:
    """The settings for a copy of the project with these changes."""
    project = folder / "dbt"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("observability", "target", "logs"))
    for file, old, new in changes:
        text = (project / file).read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times: {old}"
        (project / file).write_text(text.replace(old, new))
    return settings(folder, project)


def assert_said(found: Findings, *patterns: str) -> None:
    said = [problem for problem in found.problems if not any(re.search(each, problem) for each in patterns)]
    lacking = [each for each in patterns if not any(re.search(each, problem) for problem in found.problems)]
    assert not lacking, "\n".join([*lacking, "— is not said, but:", *found.problems])
    assert not said, said


def test_the_project_as_it_is_is_bigquerys(google: GoogleSql, tmp_path: Path) -> None:
    found = check_project(settings(tmp_path), TABLES, google)
    assert_said(found)
    models, tests = 7, len(list((DBT_PROJECT / "tests").glob("*.sql")))
    assert found.analyzed > models + tests
    assert found.merges == 2 * len(TABLES.tables), "with the row tests in them, and without"


def test_bronze_of_every_shape_is_bigquerys(google: GoogleSql, tmp_path: Path) -> None:
    found = check_shapes(settings(tmp_path), SHAPES, google)
    assert_said(found)
    assert found.merges == sum(len(shape.merges) for shape in SHAPES)


def test_mutants_of_models_and_tests_are_named_in_googles_words(google: GoogleSql, tmp_path: Path) -> None:
    changed = mutated(tmp_path, [change for _, change in MUTANTS.values()])
    assert_said(check_project(changed, TABLES, google), *(said for said, _ in MUTANTS.values()))


@pytest.mark.parametrize("mutant", UNPRUNABLE)
def test_a_merge_that_reads_every_partition_is_named(google: GoogleSql, tmp_path: Path, mutant: str) -> None:
    bound, said = UNPRUNABLE[mutant]
    changed = mutated(tmp_path, [("macros/bronze_partitions.sql", BOUNDS, BOUNDS.replace("{{ bounds[1] }}", bound))])
    by_day = [shape for shape in SHAPES if shape.table.name == "by_day"]
    assert_said(
        check_shapes(changed, by_day, google), rf"^shape by_day \(macros/.*\): its MERGE reads every partition.*{said}"
    )


def test_a_merge_that_names_no_partition_is_named(google: GoogleSql, tmp_path: Path) -> None:
    changed = mutated(tmp_path, [("macros/bronze.sql", "{{- '\\n  and ' ~ touched if touched }}", "")])
    by_number = [shape for shape in SHAPES if shape.table.name == "by_number"]
    assert_said(check_shapes(changed, by_number, google), r"^shape by_number .*: there is none$")


def test_a_macro_that_quotes_no_name_is_refused_in_googles_words(google: GoogleSql, tmp_path: Path) -> None:
    changed = mutated(
        tmp_path,
        [
            (
                "macros/bronze.sql",
                "{% for column in columns %}{{ column_name(column) }}, {% endfor %}",
                "{% for column in columns %}{{ column.name }}, {% endfor %}",
            )
        ],
    )
    names = [shape for shape in SHAPES if shape.table.name in ("names_whole", "by_number")]
    assert_said(
        check_shapes(changed, names, google), r"^model names_whole: .*models/bronze/names_whole\.sql.*Syntax error: "
    )
