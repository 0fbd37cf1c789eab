"""Elementary's packages: what counts as installed, and what the command that installs them says and leaves."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.transformer.observability import packages
from services.transformer.observability.packages import SOURCE, install_from, main, missing, wanted_versions

REPOSITORY = Path(__file__).parents[3]
PROJECT = REPOSITORY / "dbt"
VERSIONS = wanted_versions(PROJECT)


def package(folder: Path, name: str, version: str, called: str | None = None) -> None:
    (folder / name / "macros").mkdir(parents=True)
    (folder / name / "dbt_project.yml").write_text(yaml.safe_dump({"name": called or name, "version": version}))
    (folder / name / "macros" / "m.sql").write_text("{% macro m() %}{% endmacro %}")
    (folder / name / ".git").mkdir()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    package(folder, "elementary", VERSIONS["elementary"])
    package(folder, "dbt_utils", "0.1.0")
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command installs."""
    folder = tmp_path / "installed"
    monkeypatch.setenv("DBT_PROJECT_DIR", str(PROJECT))
    monkeypatch.setenv("DBT_PACKAGES_FOLDER", str(folder))
    monkeypatch.delenv(SOURCE, raising=False)
    monkeypatch.setattr(packages, "HUB_SECONDS", 0.05)  # no hub can be as fast as that
    return folder


def test_the_package_is_of_the_version_of_elementarys_command() -> None:
    required = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"elementary-data=={VERSIONS['elementary']}" in str(required)
    assert VERSIONS.keys() == {"elementary", "dbt_utils"}


def test_nothing_is_missing_where_both_are(source: Path) -> None:
    assert missing(source, VERSIONS) == []


def test_what_is_missing_is_named(source: Path, tmp_path: Path) -> None:
    assert missing(tmp_path / "none", VERSIONS) == [f"{n} {v} is not there" for n, v in VERSIONS.items()]
    (source / "elementary" / "dbt_project.yml").write_text("{name: elementary, version: 0.24.0}")
    (source / "dbt_utils" / "dbt_project.yml").write_text("{name: utils, version: 0.1.0}")
    assert missing(source, VERSIONS) == [
        "elementary is 0.24.0, not 0.25.1",
        "dbt_utils is a project of another name, utils",
    ]


def test_a_folder_is_installed_without_what_dbt_does_not_read(source: Path, installed: Path) -> None:
    installed.mkdir()
    (installed / "old").touch()
    install_from(source, PROJECT, installed)
    assert {path.name for path in installed.iterdir()} == {"elementary", "dbt_utils", "credix"}
    assert (installed / "credix" / "dbt_project.yml").samefile(PROJECT / "dbt_project.yml")
    assert (installed / "elementary" / "macros" / "m.sql").exists()
    assert not (installed / "elementary" / ".git").exists()


def test_the_command_installs_from_a_folder(
    source: Path, installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SOURCE, str(source))
    assert main(["--required"]) == 0
    assert "Elementary is on: elementary 0.25.1" in capsys.readouterr().out
    monkeypatch.delenv(SOURCE)
    assert main(["--required"]) == 0, "what is there is not fetched again"


def test_a_folder_with_something_else_changes_nothing(
    source: Path, installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "elementary" / "dbt_project.yml").write_text("{name: elementary, version: 0.24.0}")
    monkeypatch.setenv(SOURCE, str(source))
    assert main([]) == 2
    assert capsys.readouterr().err == f"{SOURCE}={source}: elementary is 0.24.0, not 0.25.1\n"
    assert not installed.exists()


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--required"], 1)])
def test_without_a_hub_one_line_says_that_elementary_is_off(
    arguments: list[str], code: int, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("Elementary is off, everything else works: dbt deps was not done after")
    assert f"{SOURCE}=<folder with elementary and dbt_utils> python -m services.transformer.observability" in said
    assert not installed.exists()


def read(path: str) -> Any:
    return yaml.safe_load((PROJECT / path).read_text())


def test_the_project_that_merges_knows_nothing_of_elementary() -> None:
    assert not (PROJECT / "packages.yml").exists()
    assert [
        path for path in (PROJECT / "models").rglob("*") if path.is_file() and "elementary" in path.read_text()
    ] == []


def test_no_sample_of_a_row_is_taken() -> None:
    """Three locks, of which one would do; docs/observability.md. What a test's meta says would open two of them."""
    project = read("observability/dbt_project.yml")
    assert project["vars"]["test_sample_row_count"] == 0
    assert project["vars"]["disable_samples_on_pii_tags"] is True
    assert project["flags"]["require_explicit_package_overrides_for_builtin_materializations"] is True
    ours = [*(PROJECT / "models").rglob("*.yml"), *(PROJECT / "observability" / "models").rglob("*.yml")]
    opened = ("test_sample_row_count", "show_sample_rows")
    assert [path for path in ours if any(key in path.read_text() for key in opened)] == []


def test_what_is_watched_is_there_and_is_no_personal_data() -> None:
    declared = {
        model["name"]: {column["name"]: column for column in model["columns"]}
        for path in ("models/bronze/bronze.yml", "models/gold/gold.yml")
        for model in read(path)["models"]
    }
    tables = [table for source in read("observability/models/sources.yml")["sources"] for table in source["tables"]]
    assert {"cnpj_ws", "installments"} <= {table["name"] for table in tables}
    for table in tables:
        for column in table.get("columns", []):
            assert "pii" not in declared[table["name"]][column["name"]].get("config", {}).get("tags", [])
