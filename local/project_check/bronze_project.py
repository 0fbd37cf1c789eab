"""A dbt project with this one's settings and macros, and other bronze models."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Model:
    """A bronze model, as a person would write it."""

    name: str
    columns: Mapping[str, str]
    """Types by name, those that bronze adds included."""
    partition_by: Mapping[str, Any] | None = None


def write_bronze_project(project: Path, folder: Path, models: Collection[Model]) -> None:
    """Write such a project; what is there already is left as it is where it is the same, so that dbt need not read it.

    Args:
        project: this project's.
        folder: where the new one is written.
        models: its models.
    """
    bronze = folder / "models" / "bronze"
    bronze.mkdir(parents=True, exist_ok=True)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy2(project / name, folder)
    shutil.copytree(project / "macros", folder / "macros", dirs_exist_ok=True)
    declared = []
    for left in {path.stem for path in bronze.glob("*.sql")} - {model.name for model in models}:
        (bronze / f"{left}.sql").unlink()
    for model in models:
        config = f"{{{{ config(partition_by={model.partition_by}) }}}}\n" if model.partition_by else ""
        _write(bronze / f"{model.name}.sql", f"{config}{{{{ bronze() }}}}\n")
        columns = [
            {"name": name, "data_type": type_, "description": f"Column {name}."}
            for name, type_ in model.columns.items()
        ]
        declared.append({"name": model.name, "columns": columns})
    _write(bronze / "bronze.yml", yaml.safe_dump({"models": declared}))


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
