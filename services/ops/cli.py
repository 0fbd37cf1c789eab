"""The `credix` command: extract, look at the pipeline, run it on one machine.

Exit codes: 0 done; 1 something failed, or, of `status`, something needs a person, the first line says what; 2 settings,
tables.yaml or the command line are wrong.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from services.core.errors import ConfigurationError, PipelineError
from services.core.settings import OpsSettings, read_settings
from services.core.state.state import PipelineState, open_state
from services.core.tables import Mode, load_tables
from services.core.telling import told
from services.ops.audit import print_audit, read_audit
from services.ops.cost import By, parse_since, read_costs
from services.ops.cost_text import print_costs
from services.ops.environment import adopt_local_stack
from services.ops.held import discard as discard_batch
from services.ops.held import release as release_batch
from services.ops.held import this_person
from services.ops.status import read_status
from services.ops.status_text import print_status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="PostgreSQL tables into BigQuery, event by event.",
)


@app.callback()
def _surroundings() -> None:
    adopt_local_stack()


@app.command()
def extract(
    table: Annotated[list[str] | None, typer.Option(help="Only this table; repeatable.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Instead of the mode in tables.yaml.")] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Accept what changed at the source, as a run's error said it: a snapshot."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the window, the rows expected and the statement; read nothing.")
    ] = False,
) -> None:
    """Run the extractor, as the Cloud Run job does; its exit code is this command's."""
    arguments = [part for name in table or [] for part in ("--table", name)]
    if mode is not None:
        arguments += ["--mode", mode.value]
    if accept_changes:
        arguments.append("--accept-changes")
    if dry_run:
        arguments.append("--dry-run")
    command = [sys.executable, "-m", "services.extractor", *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def sweep() -> None:
    """Finish or clear away what is left behind: the loader's sweep, then one reconcile of the transformer."""
    codes = [
        subprocess.run([sys.executable, "-m", *command], check=False).returncode
        for command in (["services.loader", "--sweep"], ["services.transformer"])
    ]
    raise typer.Exit(max(codes))


@app.command()
def declare(
    source: Annotated[str, typer.Argument(help="schema.relation in PostgreSQL, unquoted.")],
) -> None:
    """Propose a table's entry for tables.yaml, from the source's catalog: types, key, what may be null."""
    # The source's driver is not in every image that has this command.
    from services.ops.declare import propose

    typer.echo(propose(source), nl=False)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="JSON, also what a pipe gets.")] = False,
) -> None:
    """Show what needs a person, and per table how far it is. Exit code 1 when something needs a person."""
    settings = read_settings(OpsSettings)
    found = read_status(settings, load_tables(settings.tables_file))
    if as_json or not sys.stdout.isatty():
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_status(found, Console(highlight=False))
    raise typer.Exit(1 if found.needs_attention else 0)


@app.command()
def audit(
    run: Annotated[bool, typer.Option("--run", help="Make an audit first, as its Cloud Run job does.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, also what a pipe gets.")] = False,
) -> None:
    """Show how every test stands: by the newest audit, and by the batches since. Exit code 1 when one does not pass."""
    code = 0
    if run:
        command = [sys.executable, "-m", "services.transformer", "--audit"]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if code > 1:
        raise typer.Exit(code)
    settings = read_settings(OpsSettings)
    with _state(settings) as state:
        found = read_audit(state)
    if as_json or not sys.stdout.isatty():
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_audit(found, Console(highlight=False))
    raise typer.Exit(code or (0 if found.sound else 1))


@app.command()
def cost(
    since: Annotated[str, typer.Option(help="A span like 12h, 7d, 4w, or a date; in UTC.")] = "7d",
    by: Annotated[By, typer.Option(help="What the sums are made by.")] = By.STAGE,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, also what a pipe gets.")] = False,
) -> None:
    """Show what the runs billed in BigQuery, in bytes and USD, and what a month of them would cost."""
    now = datetime.now(UTC)
    try:
        begin = parse_since(since, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    settings = read_settings(OpsSettings)
    with _state(settings) as state:
        found = read_costs(state, begin, now, by, settings.bigquery_usd_per_tib)
    if as_json or not sys.stdout.isatty():
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_costs(found, Console(highlight=False))


BatchId = Annotated[str, typer.Argument(help="The batch's id, as `credix status` tells it.")]


@app.command()
def release(batch: BatchId) -> None:
    """Let a batch that is held be merged as it is."""
    settings = read_settings(OpsSettings)
    with _state(settings) as state:
        released = release_batch(state, batch, this_person())
    typer.echo(f"Batch {batch} of table {released.table} is released; the transformer merges it now.")
    # The client takes long to import, and only this command says anything to others.
    from services.core.events import Publisher

    try:
        Publisher(settings.gcp_project, settings.batch_loaded_topic, settings.alert_topic).publish(released)
    except Exception as error:  # noqa: BLE001 - the batch is released, and would be found without a word
        typer.echo(
            f"The transformer could not be told ({told(error)}): credix sweep, or wait for its next run.", err=True
        )


@app.command()
def discard(batch: BatchId, why: Annotated[str, typer.Option(help="Why, for who reads it later.")] = "") -> None:
    """Decide that a batch that is held is never merged; the next extraction reads its window again."""
    settings = read_settings(OpsSettings)
    with _state(settings) as state:
        discarded = discard_batch(state, batch, this_person(), why)
    table = discarded.table
    again = "its window is read again by: credix extract --table" if discarded.window else "drop the file again for"
    typer.echo(f"Batch {batch} of table {table} is discarded; {again} {table}")


@contextmanager
def _state(settings: OpsSettings) -> Iterator[PipelineState]:
    """The state, for a block.

    Raises:
        PipelineError: it cannot be reached.
    """
    try:
        state = open_state(settings)
    except Exception as error:
        raise PipelineError(f"the state cannot be opened: {told(error)}") from error
    try:
        yield state
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(f"the state does not answer: {told(error)}") from error
    finally:
        state.store.close()


def main() -> None:
    """Run the command line."""
    # The local stack is no part of what is deployed: the command works without it.
    try:
        from local.cli import local
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("local"):
            raise
    else:
        app.add_typer(local, name="local")
    try:
        app()
    except PipelineError as error:
        message = Text.assemble(("error ", "bold red"), str(error))
        Console(stderr=True, soft_wrap=True).print(message)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
