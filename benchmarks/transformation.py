"""From 1,000 changed rows loaded to silver and gold built and tested: ``python -m benchmarks.transformation``.

On a stack of its own: everything once, then for each measurement 1,000 installments change, are extracted and loaded,
and a transformer merges them, builds silver and gold, runs all data tests and publishes the run's report: in a process
that has done it before (warm), and in a new one (cold), with and without the parse state that the image brings. Prints
seconds and the promises: warm under 8 s, cold under 15 s; exit code 1 when one does not hold.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import measure
from local.cycle import Client, extract, run_cycle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import kill_component
from services.core.batch import BatchState
from services.core.settings import TransformerSettings, read_settings
from services.transformer.wiring import open_transformer
from tests.pipeline import filled

WAIT = timedelta(seconds=180)
CHANGED_ROWS = 1_000
WARM_SECONDS, COLD_SECONDS = 8.0, 15.0


def loaded_batch(client: Client) -> None:
    """Change rows, extract them, and wait until the loader has loaded them."""
    with connect(client.stack.postgres) as source:
        source.execute(
            "UPDATE oltp.business_case_installments SET paid_amount_in_cents = paid_amount_in_cents + 1, "
            "invoice_issue_date = current_date WHERE asset_id IN (SELECT asset_id FROM oltp.business_case_installments "
            "ORDER BY asset_id LIMIT %s)",
            [CHANGED_ROWS],
        )
    extract(client, ["--table", "installments"])
    deadline = time.monotonic() + WAIT.total_seconds()
    while any(batch.state is BatchState.LANDED for batch in client.state.open_batches("installments")):
        if time.monotonic() > deadline:
            raise TimeoutError("the loader did not load the batch")
        time.sleep(0.1)


def warehouse_cpu(client: Client) -> float:
    """CPU seconds that the emulated warehouse has used so far."""
    times = psutil.Process(client.stack.processes["warehouse"].pid).cpu_times()
    return times.user + times.system


def parse_state(client: Client, folder: Path) -> Path:
    """What the image's build makes: dbt's parse state of the project, for this project and these datasets."""
    subprocess.run(
        [
            *(Path(sys.executable).parent / "dbt", "parse", "--quiet", "--target", client.variables["DBT_TARGET"]),
            *("--project-dir", REPOSITORY / "dbt", "--profiles-dir", REPOSITORY / "dbt"),
            *("--target-path", folder / "parsed", "--log-path", folder / "parsed"),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **client.variables},
        check=True,
    )
    return folder / "parsed" / "partial_parse.msgpack"


def main(
    rows: Annotated[int, typer.Option(help="Installments in the source.")] = 20_000,
    rounds: Annotated[int, typer.Option(help="Measurements of each kind; the median counts.")] = 3,
) -> None:
    """Measure, print, and end with 1 when a promise does not hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        options = StackOptions(home=folder / "stack", ephemeral=True)
        with filled(options, SampleSpec(rows=rows, seed=5)) as client:
            run_cycle(client, WAIT)
            with suppress(ProcessLookupError):
                kill_component(client.stack, "transformer")
            measured = measurements(client, folder, rounds)
    show(measured)


def measurements(client: Client, folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and the warehouse's CPU seconds of them, by kind."""
    transformer = open_transformer(read_settings(TransformerSettings), client.tables)
    state = parse_state(client, folder)

    def warm() -> None:
        assert transformer.reconcile_or_leave("benchmark"), "another transformer is at it"  # noqa: S101

    def cold(**variables: str) -> None:
        for left in (folder / "stack" / "dbt").rglob("partial_parse.msgpack"):
            left.unlink()
        measure([sys.executable, "-m", "services.transformer"], client.variables | variables)

    kinds: dict[str, Callable[[], None]] = {
        "warm": warm,
        "cold": cold,
        "cold, with the image's parse state": lambda: cold(DBT_PARTIAL_PARSE_FILE_PATH=str(state)),
    }
    loaded_batch(client)
    warm()  # not measured: it parses, and the warehouse sees its statements for the first time
    measured: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, run in kinds.items():
            loaded_batch(client)
            started, cpu = time.monotonic(), warehouse_cpu(client)
            run()
            measured[kind].append((time.monotonic() - started, warehouse_cpu(client) - cpu))
            merged = [batch.id for batch in client.state.open_batches("installments")]
            assert not merged, f"not merged: {merged}"  # noqa: S101
    return measured


def show(measured: dict[str, list[tuple[float, float]]]) -> None:
    """Print the medians and the promises; ends the process with 1 when one is broken."""
    medians = {
        kind: tuple(round(median(column), 2) for column in zip(*times, strict=True)) for kind, times in measured.items()
    }
    promised = {"warm": WARM_SECONDS, "cold, with the image's parse state": COLD_SECONDS}
    if sys.stdout.isatty():
        table = Table(title=f"{CHANGED_ROWS:,} changed rows: bronze, silver, gold, tests, report", title_justify="left")
        for heading in ("transformer", "seconds", "of them the warehouse's CPU", "to cold", "promised"):
            table.add_column(heading, justify="left" if heading == "transformer" else "right")
        for kind, (seconds, cpu) in medians.items():
            bound = f"< {promised[kind]:.0f} s" if kind in promised else "–"
            table.add_row(kind, f"{seconds:.2f}", f"{cpu:.2f}", f"{seconds / medians['cold'][0]:.2f}", bound)
        Console().print(table)
    else:
        sys.stdout.write(json.dumps({"medians": medians, "all": measured, "promised_seconds": promised}) + "\n")
    broken = [kind for kind, bound in promised.items() if medians[kind][0] >= bound]
    if broken:
        sys.stderr.write(f"not as promised: {', '.join(broken)}\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    typer.run(main)
