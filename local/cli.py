"""`credix local`: the whole pipeline on one machine."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import psycopg
import typer
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table as RichTable

from local.demo import run_demo
from local.sample.changes import NotSeededError
from local.sample.parquet_folder import load_folder
from local.sample.seeding import seed as seed_sample
from local.sample.spec import MIN_ROWS, SampleSpec
from local.source import connect
from local.stack import stack as stacks
from local.stack.environment import environment
from local.stack.errors import StackError
from local.stack.options import StackOptions
from local.stack.record import Stack
from local.stack.steps import Progress

local = typer.Typer(no_args_is_help=True, help="The whole pipeline on one machine, on emulators.")

_err = Console(stderr=True)

Home = Annotated[Path, typer.Option(envvar="CREDIX_HOME", help="Folder of the stack's data and logs.")]
Profile = Annotated[
    Literal["embedded", "emulators"],
    typer.Option(help="embedded: only Python; emulators: Google's Pub/Sub and Firestore emulators (Java)."),
]
DEFAULT_HOME = StackOptions.model_fields["home"].default


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what a person can correct into one message and exit code 1; StackError is told by the command itself."""
    try:
        yield
    except (NotSeededError, NotADirectoryError, psycopg.OperationalError, ValueError) as error:
        raise StackError(str(error)) from error


def _report(progress: Progress) -> None:
    if progress.state in ("ready", "failed"):
        colour = "green" if progress.state == "ready" else "red"
        _err.print(
            f"  [{colour}]{progress.state:8}[/] {progress.name} [dim]{progress.seconds:.1f} s[/]", highlight=False
        )
    elif progress.state in ("running", "stopped", "waiting"):
        _err.print(f"  [dim]{progress.state:8}[/] {progress.name}", highlight=False)


def _running_stack(home: Path) -> Stack:
    stack = stacks.load(home)
    if stack is None:
        raise StackError(f"no stack runs in {home}; start one with `credix local up`")
    return stack


@local.command()
def up(
    profile: Profile = "embedded",
    home: Home = DEFAULT_HOME,
    postgres_dsn: Annotated[str | None, typer.Option(help="Use this database instead of an own one.")] = None,
    tables_file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="The declared tables.")
    ] = StackOptions.model_fields["tables_file"].default,
    dbt_project: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The dbt project.")
    ] = StackOptions.model_fields["dbt_project"].default,
) -> None:
    """Start the stack, or what is missing of it; it runs until `credix local down`."""
    options = StackOptions(
        profile=profile, home=home, postgres_dsn=postgres_dsn, tables_file=tables_file, dbt_project=dbt_project
    )
    with _explained():
        stacks.up(options, _report)
    _err.print(
        f"running; logs in {home}/logs. Next: credix local seed, credix extract, credix status, credix local down"
    )


@local.command()
def down(
    home: Home = DEFAULT_HOME,
    remove_data: Annotated[bool, typer.Option("--remove-data", help="Also remove all its data and logs.")] = False,
) -> None:
    """Stop the stack; its data stay."""
    with _explained():
        stopped = stacks.down(home, remove_data=remove_data or None, on_progress=_report)
    _err.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@local.command()
def status(
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, also what a pipe gets.")] = False,
) -> None:
    """Show the stack's processes; exit code 1 when one of them is not ready, or none runs."""
    with _explained():
        components = stacks.status(home)
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps([component.model_dump(mode="json") for component in components], indent=2))
    else:
        table = RichTable("component", "state", "pid", "ports", "memory", "log")
        for component in components:
            colour = "green" if component.state == "ready" else "bold red"
            memory = f"{component.memory_bytes / 2**20:.0f} MiB" if component.memory_bytes else "–"
            ports = ", ".join(map(str, component.ports.values()))
            table.add_row(
                component.name,
                f"[{colour}]{component.state}[/]",
                str(component.pid or "–"),
                ports,
                memory,
                str(component.log),
            )
        Console().print(table if components else "nothing is running")
    raise typer.Exit(0 if components and all(component.state == "ready" for component in components) else 1)


@local.command()
def env(home: Home = DEFAULT_HOME) -> None:
    """Print export lines for another shell: eval "$(credix local env)"."""
    with _explained():
        variables = environment(_running_stack(home))
    for name, value in sorted(variables.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


@local.command()
def seed(
    rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Installments to make.")] = 20_000,
    random_seed: Annotated[int, typer.Option("--seed", help="Same seed, rows and day: same rows.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Load every *.parquet of this folder instead.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Fill the source with sample data, or with the Parquet files of a folder."""
    with _explained():
        access = _running_stack(home).postgres
        with connect(access) as connection:
            if data is None:
                _seed_sample(connection, SampleSpec(rows=rows, seed=random_seed))
            else:
                _seed_folder(connection, data)


def _seed_sample(connection: psycopg.Connection, spec: SampleSpec) -> None:
    with Bar(console=_err, transient=True) as bar:
        tasks = {}

        def on_progress(table: str, rows: int) -> None:
            if table not in tasks:
                tasks[table] = bar.add_task(table, total=None)
            bar.update(tasks[table], completed=rows, description=f"{table} {rows:,} rows")

        counts = seed_sample(connection, spec, on_progress)
    for table, rows in counts.items():
        _err.print(f"  {table}: {rows:,} rows")


def _seed_folder(connection: psycopg.Connection, folder: Path) -> None:
    report = load_folder(connection, folder)
    for loaded in report.loaded:
        _err.print(f"  [green]loaded[/] {loaded.file}: {loaded.rows:,} rows into {loaded.table}")
    for bad in report.bad:
        _err.print(f"  [bold red]skipped[/] {bad.file}: {bad.reason}", highlight=False)
    if not report.ok:
        raise typer.Exit(1)


@local.command()
def demo(
    rows: Annotated[int, typer.Option(min=MIN_ROWS, help="Installments to make.")] = 20_000,
    random_seed: Annotated[int, typer.Option("--seed", help="Of the sample data.")] = 1,
    profile: Profile = "embedded",
    home: Annotated[Path, typer.Option(help="Folder of the demo's data, logs and report.")] = Path(".credix/demo"),
) -> None:
    """Run two cycles of the whole pipeline on a stack of its own, check them, and show what happened."""
    with _explained():
        run_demo(
            StackOptions(profile=profile, home=home, analyzer="off"), SampleSpec(rows=rows, seed=random_seed), _report
        )
