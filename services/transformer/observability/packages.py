"""Elementary's dbt packages: whether they are installed, and ``python -m services.transformer.observability.packages``.

The command installs what dbt/observability/packages.yml names, from the folder ``DBT_PACKAGES_SOURCE`` when it is set,
else from dbt's package hub. Exit codes: 0 they are installed, or the hub cannot be reached and Elementary is off; 1 the
same with ``--required``; 2 the folder does not hold what is named.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from services.core.errors import ConfigurationError

SOURCE = "DBT_PACKAGES_SOURCE"

HOW_TO = f"`{SOURCE}=<folder with elementary and dbt_utils> python -m {__spec__.name if __spec__ else __name__}`"
"""How to switch Elementary on where the hub cannot be reached."""

HUB_SECONDS = 60.0
"""Most that dbt may take. Where no name is resolved it gives up after its five attempts, 12 s; else it waits longer."""

_LEFT_OUT = shutil.ignore_patterns(".*", "integration_tests", "docs")
_VERSION_UNKNOWN = {"dbt_utils"}
"""Packages whose own project file says the same version (0.1.0) in every release."""


def observability_project(dbt_project: Path) -> Path:
    """The folder of the project that knows Elementary."""
    return dbt_project / "observability"


def packages_folder(dbt_project: Path, configured: Path | None) -> Path:
    """Where the packages are installed."""
    return (configured or observability_project(dbt_project) / "dbt_packages").absolute()


def wanted_versions(dbt_project: Path) -> dict[str, str]:
    """The packages of the hub that packages.yml names, with their versions.

    Raises:
        ConfigurationError: there is no such file.
    """
    path = observability_project(dbt_project) / "packages.yml"
    try:
        entries = yaml.safe_load(path.read_text())["packages"]
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {path}") from error
    return {entry["package"].split("/")[-1]: str(entry["version"]) for entry in entries if "package" in entry}


def missing(folder: Path, versions: dict[str, str]) -> list[str]:
    """What keeps a folder from holding the packages; nothing when it does."""
    found = []
    for name, version in versions.items():
        project_file = folder / name / "dbt_project.yml"
        if not project_file.is_file():
            found.append(f"{name} {version} is not there")
            continue
        project = yaml.safe_load(project_file.read_text())
        if project.get("name") != name:
            found.append(f"{name} is a project of another name, {project.get('name')}")
        elif name not in _VERSION_UNKNOWN and str(project.get("version")) != version:
            found.append(f"{name} is {project.get('version')}, not {version}")
    return found


def install_from(source: Path, dbt_project: Path, folder: Path) -> None:
    """Copy the packages from a folder that has one folder for each, by its name.

    Raises:
        ConfigurationError: a package is not there or has another version; nothing was changed.
    """
    versions = wanted_versions(dbt_project)
    if problems := missing(source, versions):
        raise ConfigurationError(f"{SOURCE}={source}: {'; '.join(problems)}")
    made = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    for name in versions:
        shutil.copytree(source / name, made / name, ignore=_LEFT_OUT)
    # What `dbt deps` does with `local:`; relative, so that it holds in an image, too.
    (made / "credix").symlink_to(os.path.relpath(dbt_project.absolute(), folder), target_is_directory=True)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


def install_from_hub(dbt_project: Path, folder: Path, seconds: float) -> str | None:
    """Let dbt install the packages; None when they are there now, else why not, in one line."""
    project = observability_project(dbt_project).absolute()
    dbt = [sys.executable, "-c", "from dbt.cli.main import cli; cli()"]
    options = ["--project-dir", str(project), "--no-use-colors", "--log-level-file", "none"]
    environment = os.environ | {"DBT_PACKAGES_FOLDER": str(folder), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    try:
        done = subprocess.run(
            [*dbt, "deps", *options],
            env=environment,
            timeout=seconds,
            check=False,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return f"dbt deps was not done after {seconds:.0f} s"
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        return f"dbt deps: {said[-1][:300] if said else f'exit code {done.returncode}'}"
    return "; ".join(missing(folder, wanted_versions(dbt_project))) or None


def main(arguments: Sequence[str] | None = None) -> int:
    """Install the packages unless they are there; returns the exit code."""
    parser = argparse.ArgumentParser(description="Install Elementary's dbt packages.")
    parser.add_argument("--required", action="store_true", help="exit with 1 when they cannot be installed")
    required = parser.parse_args(arguments).required
    dbt_project = Path(os.environ.get("DBT_PROJECT_DIR") or "dbt")
    configured = os.environ.get("DBT_PACKAGES_FOLDER")
    folder = packages_folder(dbt_project, Path(configured) if configured else None)
    source = os.environ.get(SOURCE)
    try:
        versions = wanted_versions(dbt_project)
        there = ", ".join(f"{name} {version}" for name, version in versions.items())
        if source:
            install_from(Path(source).expanduser(), dbt_project, folder)
        elif missing(folder, versions) and (reason := install_from_hub(dbt_project, folder, HUB_SECONDS)):
            sys.stderr.write(
                f"Elementary is off, everything else works: {reason}. "
                f"To switch it on: {HOW_TO} (docs/observability.md).\n"
            )
            return 1 if required else 0
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"Elementary is on: {there} in {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
