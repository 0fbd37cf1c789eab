"""The extractor against the server's own COPY, other engines, and itself: ``make benchmark``.

    python -m benchmarks.extraction engines --rows 10000000 --rounds 3
    python -m benchmarks.extraction memory --rows 1000000 --rows 10000000
    python -m benchmarks.extraction incremental
    python -m benchmarks.extraction start

Every command prints what was measured in one run, and the ratios that the project promises with whether they hold; exit
code 1 when one does not. Engines other than ours need requirements/benchmark.txt; those that are missing are left out,
and said so.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import PROGRAMS, installed
from benchmarks.contenders import ours as bring_ours
from benchmarks.measure import Measured, measure
from benchmarks.stage import REPOSITORY, SOURCES, Stage, stage
from benchmarks.tables import INSTALLMENTS, SCHEMA, SourceTable, bodies, giant, texts

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
errors = Console(stderr=True)

MB = 1_000_000
OTHERS = ("connectorx", "adbc", "pandas")


@dataclass(frozen=True)
class Line:
    """One measured command."""

    what: str
    rows: int
    seconds: float
    cpu_seconds: float | None
    """Of the client."""
    peak_bytes: int | None

    @property
    def speed(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class Promise:
    """A ratio that the project promises."""

    what: str
    ratio: float
    bound: str
    holds: bool


def _finish(title: str, lines: list[Line], promises: list[Promise]) -> None:
    """Show, and end the process with 1 when a promise is broken."""
    if sys.stdout.isatty():
        table = Table(title=title, title_justify="left")
        for heading in ("what", "rows", "rows/s", "seconds", "client CPU s", "peak MB"):
            table.add_column(heading, justify="left" if heading == "what" else "right")
        for line in lines:
            cpu = f"{line.cpu_seconds:.1f}" if line.cpu_seconds is not None else "–"
            peak = f"{line.peak_bytes / MB:.0f}" if line.peak_bytes is not None else "–"
            table.add_row(line.what, f"{line.rows:,}", f"{line.speed:,.0f}", f"{line.seconds:.2f}", cpu, peak)
        console = Console()
        console.print(table)
        for promise in promises:
            style = "green" if promise.holds else "bold red"
            console.print(f"[{style}]{promise.what}: {promise.ratio:.2f} ({promise.bound})[/]")
    else:
        report = {
            "title": title,
            "lines": [{**asdict(line), "rows_per_second": round(line.speed)} for line in lines],
            "promises": [asdict(promise) for promise in promises],
        }
        print(json.dumps(report, indent=2))  # noqa: T201
    if not all(promise.holds for promise in promises):
        raise typer.Exit(1)


def _say(text: str) -> None:
    errors.print(text, style="dim")


def _line(what: str, rows: int, measured: Measured, *, client: bool = True) -> Line:
    return Line(
        what, rows, measured.seconds, measured.cpu_seconds if client else None, measured.peak_bytes if client else None
    )


def _ours(scene: Stage, table: str, state: str, *, upload: bool = True) -> tuple[Measured, int]:
    """The whole command, from the process's start to its end, parts in the bucket and the batch noted."""
    measured = scene.extract(table, state, module="services.extractor" if upload else "benchmarks.without_bucket")
    [entry] = json.loads(measured.output)["tables"]
    scene.clear()
    return measured, int(entry["rows"])


def _others(scene: Stage, table: str, *, upload: bool) -> Iterator[tuple[str, Callable[[int], Measured]]]:
    if not installed():
        _say("no engines to compare with (make benchmark-setup)")
        return
    for name in OTHERS:

        def run(rows: int, name: str = name) -> Measured:
            with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
                rest = [] if upload else ["--no-upload"]
                arguments = [name, scene.url, f"{scene.select(table)} LIMIT {rows}", file.name, *rest]
                python = str(PROGRAMS / "python")
                measured = measure(
                    [python, "-m", "benchmarks.engines", *arguments], scene.environment("none"), folder=REPOSITORY
                )
                scene.clear()
                return measured

        yield name, run


@app.command()
def engines(
    rows: Annotated[int, typer.Option(help="Installments in the table.")] = 10_000_000,
    pandas_rows: Annotated[
        int, typer.Option(help="Rows that pandas reads of them: it holds all in memory.")
    ] = 2_000_000,
    rounds: Annotated[int, typer.Option(help="How often each is measured; the median counts.")] = 3,
    upload: Annotated[
        bool, typer.Option(help="Into the emulated bucket, which works on the same cores, or only into Parquet.")
    ] = True,
) -> None:
    """A full load of the installments: COPY, ours, ConnectorX, ADBC, pandas; promises 0.7, 2, 2 and 8."""
    table = "installments"
    with stage() as scene:
        _say(f"filling {rows:,} rows")
        scene.seed(rows)
        measured: dict[str, list[Line]] = {}
        for turn in range(rounds):
            _say(f"round {turn + 1} of {rounds}")
            copied = scene.copy(scene.select(table))
            measured.setdefault("psql COPY (binary) > /dev/null", []).append(_line("copy", rows, copied, client=False))
            ours, landed = _ours(scene, table, f"engines-{turn}", upload=upload)
            if landed != rows:
                raise typer.BadParameter(f"the extractor landed {landed:,} rows of {rows:,}")
            measured.setdefault("credix extractor, whole command", []).append(_line("credix", rows, ours))
            for name, run in _others(scene, table, upload=upload):
                read = min(rows, pandas_rows) if name == "pandas" else rows
                measured.setdefault(f"{name}, Parquet{', into the bucket' if upload else ''}", []).append(
                    _line(name, read, run(read))
                )
    middle = {what: _median(what, lines) for what, lines in measured.items()}
    found = {lines[0].what: middle[what] for what, lines in measured.items()}
    ours_line = found["credix"]
    share = ours_line.speed / found["copy"].speed
    promises = [Promise("ours as a share of COPY", share, "at least 0.7", share >= 0.7)]
    for name, times in (("connectorx", 2), ("adbc", 2), ("pandas", 8)):
        if name in found:
            ratio = ours_line.speed / found[name].speed
            promises.append(Promise(f"ours as a multiple of {name}", ratio, f"at least {times}", ratio >= times))
    where = "into the bucket" if upload else "into Parquet"
    _finish(f"full load of {rows:,} installments {where}, median of {rounds}", list(middle.values()), promises)


def _median(what: str, lines: list[Line]) -> Line:
    def middle(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return Line(
        what,
        lines[0].rows,
        median(line.seconds for line in lines),
        middle([line.cpu_seconds for line in lines]),
        max((line.peak_bytes for line in lines if line.peak_bytes is not None), default=None),
    )


@app.command()
def memory(
    rows: Annotated[list[int], typer.Option(help="Installments in the table; repeatable.")] = [  # noqa: B006
        1_000,
        1_000_000,
        10_000_000,
    ],
    wide: Annotated[bool, typer.Option(help="Tables of wide rows, too.")] = True,
) -> None:
    """Peak memory of full loads of many rows and of wide ones; promises less than 400 MB, but for one row of 200 MB."""
    lines, promises = [], []
    with stage() as scene:
        for number in rows:
            _say(f"filling {number:,} rows")
            scene.seed(number)
            lines.append(_peak(scene, INSTALLMENTS))
        scene.execute(f"CREATE SCHEMA {SCHEMA}")
        for table in (texts(500_000), bodies(10_000), giant()) if wide else ():
            _say(f"filling {table.what}")
            for statement in (*table.statements, f"VACUUM ANALYZE {table.name}"):
                scene.execute(statement)
            lines.append(_peak(scene, table))
    for line in lines:
        if line.what != giant().what and line.peak_bytes is not None:
            peak = line.peak_bytes / MB
            promises.append(Promise(f"{line.rows:,} {line.what}: peak MB", peak, "less than 400", peak < 400))
    _finish("memory of a full load", lines, promises)


def _peak(scene: Stage, table: SourceTable) -> Line:
    with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
        brought = bring_ours()(scene, [table], Path(folder))
    scene.clear()
    if brought.measured is None or brought.failed:
        raise typer.BadParameter(f"{table.name}: {brought.failed}")
    return _line(table.what, brought.rows[table.name], brought.measured)


@app.command()
def incremental(
    small: Annotated[int, typer.Option(help="Installments in the smaller table.")] = 100_000,
    large: Annotated[int, typer.Option(help="Installments in the larger table.")] = 10_000_000,
    changed: Annotated[int, typer.Option(help="Rows that changed.")] = 1_000,
    rounds: Annotated[int, typer.Option(help="How often each is measured; the median counts.")] = 5,
) -> None:
    """An incremental run that finds the same change in a small and in a large table; promises at most 1.5 times."""
    lines = []
    with stage() as scene:
        for number in (small, large):
            _say(f"filling {number:,} rows")
            scene.seed(number)
            measured = [_incremental(scene, number, changed, turn) for turn in range(rounds)]
            lines.append(_median(f"{changed:,} changed of {number:,}", measured))
    ratio = lines[1].seconds / lines[0].seconds
    _finish(
        f"incremental runs, median of {rounds}",
        lines,
        [Promise("large as a multiple of small", ratio, "at most 1.5", ratio <= 1.5)],
    )


def _incremental(scene: Stage, number: int, changed: int, turn: int) -> Line:
    """Measure a run whose watermark is yesterday's, over a table in which so many rows were paid today."""
    table = SOURCES["installments"]
    # Every other row lies far in the past, so that the window holds what changed and nothing else.
    if turn == 0:
        scene.execute(f"UPDATE {table} SET paid_date = NULL, invoice_issue_date = DATE '2020-01-01' WHERE greatest(paid_date, invoice_issue_date) >= current_date - 3 OR greatest(paid_date, invoice_issue_date) IS NULL")  # fmt: skip  # noqa: E501
        scene.execute(f"UPDATE {table} SET paid_date = current_date - 1 WHERE asset_id IN (SELECT asset_id FROM {table} ORDER BY asset_id LIMIT {changed})")  # fmt: skip  # noqa: E501
        scene.execute(f"VACUUM ANALYZE {table}")
        scene.execute("CHECKPOINT")
    state = f"incremental-{number}-{turn}"
    scene.watermark("installments", state, days_ago=1)
    ours, rows = _ours(scene, "installments", state)
    return _line("credix", rows, ours)


@app.command()
def start(
    rounds: Annotated[int, typer.Option(help="How often it is measured; the median counts.")] = 5,
) -> None:
    """From the process's start until the first rows have been read; promises less than 1.5 s."""
    seconds, lines = [], []
    with stage() as scene:
        scene.seed(100_000)
        for turn in range(rounds):
            measured = measure(
                [sys.executable, "-m", "benchmarks.first_read", "--table", "installments"],
                scene.environment(f"start-{turn}") | scene.image(),
            )
            found = json.loads(measured.output.splitlines()[-1])
            seconds.append(float(found["seconds_to_first_rows"]))
            lines.append(Line(f"start {turn + 1}", int(found["rows"]), seconds[-1], None, None))
            scene.clear()
    middle = median(seconds)
    _finish("start to first rows", lines, [Promise("seconds", middle, "less than 1.5", middle < 1.5)])


if __name__ == "__main__":
    app()
