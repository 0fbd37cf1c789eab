"""dlt in its own process: ``python -m benchmarks.dlt_load BACKEND URL FOLDER TABLE…``.

Brings each table into Parquet files below FOLDER with dlt's own ``filesystem`` destination, as its documentation says.
Prints what each table failed with, or null. Runs in .venv-benchmark.
"""

import json
import sys
from pathlib import Path
from typing import Any

import dlt
from dlt.sources.sql_database import sql_table

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sqlalchemy": ("sqlalchemy", {}),
    "pyarrow": ("pyarrow", {}),
    "connectorx": ("connectorx", {}),
    "connectorx-stream": ("connectorx", {"return_type": "arrow_stream"}),
}


def load(backend: str, url: str, folder: Path, table: str) -> None:
    """Bring one table; raises what dlt raises."""
    schema, _, relation = table.partition(".")
    name, more = BACKENDS[backend]
    pipeline = dlt.pipeline(
        relation,
        pipelines_dir=str(folder / "pipelines" / relation),
        destination=dlt.destinations.filesystem(bucket_url=(folder / "data").as_uri()),
        dataset_name=relation,
    )
    source = sql_table(credentials=url, schema=schema, table=relation, backend=name, backend_kwargs=more)
    pipeline.run(source, loader_file_format="parquet")


def reason(error: BaseException) -> str:
    """What was first wrong: dlt puts its own errors around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def main(backend: str, url: str, folder: str, *tables: str) -> None:
    """Bring the tables, one after another."""
    failed: dict[str, str | None] = {}
    for table in tables:
        try:
            load(backend, url, Path(folder), table)
            failed[table] = None
        except KeyboardInterrupt:
            raise
        # Whatever it is, it is what this contender makes of the table; a panic of ConnectorX is no Exception.
        except BaseException as error:  # noqa: BLE001
            failed[table] = reason(error)
    print(json.dumps(failed))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
