"""Our extractor beside dlt and rivet, and what each gets wrong: ``python -m benchmarks.peers [--rows 1000000]``.

Every contender brings the same tables of one PostgreSQL into Parquet files, one after another, on this machine: so many
installments, a fifth of them rows of 20 texts, a five-hundredth rows of 100 kB; and small tables with the values at
which types end. What landed is compared with the source, row by row and column by column (benchmarks/equality.py).
Prints seconds, rows a second, the ratio to PostgreSQL's own COPY, peak memory, and what differs; JSON when it is piped.
Exit code 1 when what our extractor landed is not what the source holds.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from textwrap import shorten
from typing import Annotated

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import OURS, RACERS, READERS, Brought, Contender, fresh, installed
from benchmarks.equality import Difference, Source, compare
from benchmarks.measure import CommandFailed, Measured
from benchmarks.stage import Stage, stage
from benchmarks.tables import EDGE_SETUP, INSTALLMENTS, SCHEMA, SourceTable, bodies, edge_tables, texts
from benchmarks.truth import read_source

MB = 1_000_000
COPY = "psql COPY (binary) > /dev/null"
NOT_KEPT = "not kept"
CELL = 120
"""Characters of a result that a terminal shows; JSON has all of it."""
errors = Console(stderr=True)


@dataclass(frozen=True)
class Line:
    """How one contender brought one table."""

    table: str
    contender: str
    rows: int
    seconds: float | None
    """The median of the rounds; None when it failed."""
    to_copy: float | None
    """Its rows a second, as a share of what COPY reaches."""
    cpu_seconds: float | None
    peak_bytes: int | None
    """The largest of the rounds."""
    result: str
    """``equal``, or what differs, or why it failed."""

    @property
    def speed(self) -> float | None:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else None


def difference(source: Source, brought: Brought, table: SourceTable, companions: str | None) -> str:
    """``equal``, or what of a table differs from the source, or why it was not brought."""
    if table.name in brought.failed:
        return f"fails: {' '.join(brought.failed[table.name].split())}"
    files = brought.files[table.name]
    if not files:
        return f"no file, {source.rows:,} rows missing"
    landed = pa.concat_tables([pq.ParquetFile(file).read() for file in files], promote_options="permissive")
    found = compare(source, landed, companions)
    if isinstance(found, Difference):
        return str(found)
    unlike = [finding for finding in found if str(finding) != "equal"]
    if not unlike:
        return "equal"
    # The edge tables have one column that matters, whose name says nothing.
    return "; ".join(str(each) if each.column == "value" else f"{each.column}: {each}" for each in unlike)


def race(scene: Stage, table: SourceTable, racers: Sequence[Contender], rounds: int) -> Iterator[Line]:
    """Every contender brings a large table, so many times."""
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        source = read_source(connection, table)
    copies: list[Measured] = []
    measured: dict[str, list[Measured]] = {racer.name: [] for racer in racers}
    results: dict[str, str] = {}
    for turn in range(rounds):
        copies.append(scene.copy(f"SELECT * FROM {table.name}"))
        for racer in racers:
            say(f"{table.what}, round {turn + 1} of {rounds}: {racer.name}")
            with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
                try:
                    brought = racer.bring(scene, [table], fresh(Path(folder) / "own"))
                except CommandFailed as error:
                    results[racer.name] = f"fails: {error}"
                    continue
                if brought.measured and table.name not in brought.failed:
                    measured[racer.name].append(brought.measured)
                if turn == 0 or table.name in brought.failed:
                    results[racer.name] = (
                        difference(source, brought, table, racer.companions) if racer.keeps else NOT_KEPT
                    )
    best = median(copy.seconds for copy in copies)
    yield Line(table.what, COPY, source.rows, best, 1.0, None, None, "")
    for racer in racers:
        yield _line(table, racer, source.rows, measured[racer.name], best, results[racer.name])


def _line(table: SourceTable, racer: Contender, rows: int, runs: list[Measured], copy: float, result: str) -> Line:
    if not runs:
        return Line(table.what, racer.name, rows, None, None, None, None, result)
    seconds = median(run.seconds for run in runs)
    cpu = median(run.cpu_seconds for run in runs)
    return Line(table.what, racer.name, rows, seconds, copy / seconds, cpu, max(run.peak_bytes for run in runs), result)


def warm(scene: Stage, racers: Sequence[Contender]) -> None:
    """Let every contender bring one small table: its first run compiles its Python, and is not measured."""
    name = f"{SCHEMA}.warm"
    scene.execute(f"CREATE TABLE {name} AS SELECT 1 AS id")
    for racer in racers:
        say(f"once, not measured: {racer.name}")
        with tempfile.TemporaryDirectory(dir=scene.folder) as folder, suppress(CommandFailed):
            racer.bring(scene, [SourceTable(name, "id", "warm")], fresh(Path(folder) / "own"))


def edges(scene: Stage, readers: Sequence[Contender]) -> dict[str, dict[str, str]]:
    """What each contender makes of the values at the edges, by edge and contender."""
    tables = edge_tables()
    scene.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for statement in (*EDGE_SETUP, *(each for table in tables.values() for each in table.statements)):
        scene.execute(statement)
    found: dict[str, dict[str, str]] = {what: {} for what in tables}
    sources = {}
    for what, table in tables.items():
        with psycopg.connect(scene.dsn, autocommit=True) as connection:
            sources[what] = read_source(connection, table)
    for reader in readers:
        say(f"values at the edges: {reader.name}")
        with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
            try:
                brought = reader.bring(scene, list(tables.values()), fresh(Path(folder) / "own"))
            except CommandFailed as error:
                brought = Brought(None, {}, dict.fromkeys((table.name for table in tables.values()), str(error)))
            for what, table in tables.items():
                found[what][reader.name] = difference(sources[what], brought, table, reader.companions)
    return found


def say(text: str) -> None:
    """Tell a person what goes on."""
    errors.print(text, style="dim")


def main(
    rows: Annotated[
        int, typer.Option(help="Installments; the other tables have a fifth and a five-hundredth.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often each is measured; the median counts.")] = 1,
    values: Annotated[bool, typer.Option(help="Compare the values at the edges of types, too.")] = True,
) -> None:
    """Measure, compare and print; ends with 1 when what our extractor landed is not what the source holds."""
    racers, readers = list(RACERS), list(READERS)
    if not installed():
        say("dlt and rivet are not installed (make benchmark-setup): only ours is measured")
        racers, readers = ([each for each in some if each.name.startswith(OURS.name)] for some in (racers, readers))
    lines: list[Line] = []
    with stage() as scene:
        say(f"filling {rows:,} rows")
        scene.seed(rows)
        scene.execute(f"CREATE SCHEMA {SCHEMA}")
        warm(scene, racers)
        for table in (INSTALLMENTS, texts(max(1, rows // 5)), bodies(max(1, rows // 500))):
            for statement in (*table.statements, f"VACUUM ANALYZE {table.name}", "CHECKPOINT"):
                scene.execute(statement)
            lines += race(scene, table, racers, rounds)
        found = edges(scene, readers) if values else {}
    show(lines, found, racers)
    wrong = wrongly_landed(lines, found)
    if wrong:
        sys.stderr.write(f"the extractor landed something else than the source holds: {'; '.join(wrong)}\n")
    sys.exit(1 if wrong else 0)


def wrongly_landed(lines: Sequence[Line], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Tables and edges of which our extractor landed something else than the source holds, or a table not at all.

    A refusal of a value at an edge is what the default policy promises.
    """
    wrong = [line.table for line in lines if line.contender == OURS.name and line.result != "equal"]
    for what, each in found.items():
        ours = {name: said for name, said in each.items() if name.startswith(OURS.name)}
        wrong += [f"{what} ({name})" for name, said in ours.items() if not said.startswith(("equal", "fails: "))]
    return wrong


def show(lines: Sequence[Line], found: dict[str, dict[str, str]], racers: Sequence[Contender]) -> None:
    """Print what was measured and what differs."""
    if not sys.stdout.isatty():
        report = {
            "contenders": {racer.name: racer.how for racer in racers},
            "lines": [asdict(line) for line in lines],
            "edges": found,
        }
        sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
        return
    console = Console()
    for name in dict.fromkeys(line.table for line in lines):
        table = Table(title=name, title_justify="left")
        for heading in ("", "rows", "seconds", "rows/s", "to COPY", "client CPU s", "peak MB", "compared"):
            table.add_column(heading, justify="left" if heading in ("", "compared") else "right", overflow="fold")
        for line in lines:
            if line.table == name:
                table.add_row(line.contender, *_cells(line))
        console.print(table)
    if found:
        table = Table(title="values at the edges of types", title_justify="left")
        table.add_column("")
        for reader in next(iter(found.values())):
            table.add_column(reader, overflow="fold")
        for what, each in found.items():
            table.add_row(what, *(shorten(said, CELL, placeholder=" …") for said in each.values()))
        console.print(table)
    for racer in racers:
        console.print(f"{racer.name}: {racer.how}", style="dim", highlight=False)


def _cells(line: Line) -> Iterator[str]:
    yield f"{line.rows:,}"
    yield f"{line.seconds:.2f}" if line.seconds else "–"
    yield f"{line.speed:,.0f}" if line.speed else "–"
    yield f"{line.to_copy:.2f}" if line.to_copy else "–"
    yield f"{line.cpu_seconds:.1f}" if line.cpu_seconds is not None else "–"
    yield f"{line.peak_bytes / MB:,.0f}" if line.peak_bytes is not None else "–"
    yield shorten(line.result, CELL, placeholder=" …")


if __name__ == "__main__":
    typer.run(main)
