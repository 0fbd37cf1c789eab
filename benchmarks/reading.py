"""Our two engines, reading only: ``python -m benchmarks.reading [--rows 5000000]``.

No Parquet and no upload: what rows cost the client until they are Arrow batches, in a process per engine and table.
Prints seconds, CPU seconds and peak memory, and their ratios to COPY; JSON when it is piped.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import measure
from benchmarks.stage import Stage, stage
from benchmarks.tables import INSTALLMENTS, SCHEMA, SourceTable, bodies, texts

MB = 1_000_000
_READ = """
import sys
from services.extractor.reading.failure import RowsTooWide
name, info, statement = sys.argv[1:]
if name == "DuckDB":
    from services.extractor.reading.by_vectors import DuckDb
    engine = DuckDb(info, 1)
else:
    from services.extractor.reading.by_bytes import Adbc
    engine = Adbc(info)
session = engine.session()
session.begin(["SET LOCAL timezone = 'UTC'"])
try:
    print(sum(batch.num_rows for batch in session.batches(statement, ())))
except RowsTooWide:
    print("refused by its memory limit")
session.close()
engine.close()
"""


@dataclass(frozen=True)
class Read:
    """How an engine read a table."""

    table: str
    engine: str
    rows: int
    seconds: float | None
    """None when it refused."""
    to_copy: float | None
    cpu_seconds: float
    peak_bytes: int


def read(scene: Stage, table: SourceTable, engine: str, copy: float, rows: int) -> Read:
    """Measure one engine with one table."""
    measured = measure([sys.executable, "-c", _READ, engine, scene.dsn, f"SELECT * FROM {table.name}"], scene.image())
    found = measured.output.strip()
    seconds = measured.seconds if found == str(rows) else None
    return Read(
        table.what,
        engine,
        rows,
        seconds,
        copy / seconds if seconds else None,
        measured.cpu_seconds,
        measured.peak_bytes,
    )


def main(
    rows: Annotated[
        int, typer.Option(help="Installments; the other tables have a tenth and a thousandth.")
    ] = 5_000_000,
) -> None:
    """Measure and print."""
    found: list[Read] = []
    with stage() as scene:
        scene.seed(rows)
        scene.execute(f"CREATE SCHEMA {SCHEMA}")
        numbers = {
            INSTALLMENTS: rows,
            texts(max(1, rows // 10)): rows // 10,
            bodies(max(1, rows // 1_000)): rows // 1_000,
        }
        for table, number in numbers.items():
            for statement in (*table.statements, f"VACUUM ANALYZE {table.name}", "CHECKPOINT"):
                scene.execute(statement)
            copy = scene.copy(f"SELECT * FROM {table.name}").seconds
            found += [read(scene, table, engine, copy, max(1, number)) for engine in ("DuckDB", "ADBC")]
    show(found)


def show(found: Sequence[Read]) -> None:
    """Print what was measured."""
    if not sys.stdout.isatty():
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=1) + "\n")
        return
    table = Table(title="reading only: the process, from its start to its end", title_justify="left")
    for heading in ("table", "rows", "engine", "seconds", "to COPY", "CPU s", "peak MB"):
        table.add_column(heading, justify="left" if heading in ("table", "engine") else "right")
    for each in found:
        seconds = f"{each.seconds:.2f}" if each.seconds else "refused by its limit"
        ratio = f"{each.to_copy:.2f}" if each.to_copy else "–"
        table.add_row(
            *(each.table, f"{each.rows:,}", each.engine, seconds, ratio),
            *(f"{each.cpu_seconds:.1f}", f"{each.peak_bytes / MB:,.0f}"),
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
