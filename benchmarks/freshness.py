"""From a commit in the source to gold, and to the end of the run's work: ``python -m benchmarks.freshness``.

On a stack of its own, per number of rows: everything once, then for each measurement 1,000 installments change in one
commit, the extractor starts, and gold is asked for one of them again and again. The run's work ends when its report is
published. Prints medians by stage, and the promises: visible within 3 s, all work within 5 s, and the work of a large
table no more than 1.3 times that of a small one; exit code 1 when one does not hold. The first run of a stack is not
measured: processes and caches are cold then.
"""

import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from local.cycle import Client, extract, run_cycle, settle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import StackOptions
from services.core.state.state import Run
from services.transformer.report.published import published
from tests.pipeline import filled

WAIT = timedelta(minutes=20)
CHANGED_ROWS = 1_000
VISIBLE_SECONDS, WORK_SECONDS, MOST_RATIO = 3.0, 5.0, 1.3


@dataclass(frozen=True)
class Fresh:
    """How long it took, in seconds from the commit."""

    landed: float
    loaded: float
    merged: float
    """The batch is in bronze."""
    visible: float
    """Gold shows the change."""
    run_ended: float
    """The transformer's run is in the history."""
    work_ended: float
    """Its report is published."""
    stages: dict[str, float]
    """Seconds of the transformer's stages."""


def change(client: Client) -> tuple[str, int]:
    """Change rows in one commit; the key of one of them, and its amount in cents from then on."""
    with connect(client.stack.postgres) as source:
        changed = source.execute(
            "UPDATE oltp.business_case_installments SET paid_amount_in_cents = coalesce(paid_amount_in_cents, 0) + 1, "
            "invoice_issue_date = current_date WHERE asset_id IN (SELECT asset_id FROM "
            "oltp.business_case_installments WHERE buyer_tax_id IS NOT NULL AND expected_amount_in_cents >= 0 "
            "AND original_amount_in_cents >= 0 AND due_date IS NOT NULL ORDER BY md5(asset_id::text) LIMIT %s) "
            "RETURNING asset_id, paid_amount_in_cents",
            [CHANGED_ROWS],
        ).fetchall()
    key, cents = max(changed, key=lambda row: row[1])
    return str(key), int(cents)


def await_visible(client: Client, key: str, cents: int, seen: list[float]) -> None:
    """Ask gold for a row until it has its new amount; appends when that was."""
    question = (
        f"SELECT 1 FROM `{client.settings.gcp_project}.{client.settings.dataset_gold}.payment_analytics_detailed` "
        f"WHERE asset_id = '{key}' AND paid_amount * 100 = {cents}"
    )
    deadline = time.monotonic() + WAIT.total_seconds()
    while not list(client.warehouse.query_and_wait(question)):
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    seen.append(time.monotonic())


def measured(client: Client) -> Fresh:
    """One change, all the way."""
    before = {run.id for run in client.state.runs("transformer")}
    key, cents = change(client)
    started, began = time.monotonic(), datetime.now(UTC)
    seen: list[float] = []
    watching = threading.Thread(target=await_visible, args=(client, key, cents, seen))
    watching.start()
    report = extract(client)
    ids = [entry["batch_id"] for entry in report["tables"] if entry["batch_id"]]
    settle(client, ids, WAIT)
    watching.join()
    run = ended(client, before)
    published_at = report_of(client, run)
    [batch] = [found for id_ in ids if (found := client.state.batch(id_)) and found.table == "installments"]

    def since(moment: datetime | None) -> float:
        return round((moment - began).total_seconds(), 2) if moment else float("nan")

    return Fresh(
        since(batch.landed_at),
        since(batch.loaded_at),
        since(batch.merged_at),
        round(seen[0] - started, 2) if seen else float("nan"),
        since(run.finished_at),
        since(published_at),
        dict(run.details["seconds"]),
    )


def ended(client: Client, before: set[str]) -> Run:
    """The transformer's newest run, once it is in the history."""
    deadline = time.monotonic() + WAIT.total_seconds()
    while time.monotonic() < deadline:
        if new := [run for run in client.state.runs("transformer") if run.id not in before]:
            return new[-1]
        time.sleep(0.05)
    raise TimeoutError("no run of the transformer ended")


def report_of(client: Client, run: Run) -> datetime:
    """When a report was published after a run's end."""
    deadline = time.monotonic() + WAIT.total_seconds()
    while time.monotonic() < deadline:
        newest = published(client.state.store)
        if newest is not None and newest.at >= run.finished_at:
            return datetime.now(UTC)
        time.sleep(0.05)
    raise TimeoutError("no report was published")


def main(
    rows: Annotated[list[int] | None, typer.Option(help="Installments in the source; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(help="Measurements per size; the median counts.")] = 5,
) -> None:
    """Measure, print, and end with 1 when a promise does not hold."""
    found: dict[int, list[Fresh]] = {}
    for number in rows or [20_000, 5_000_000]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            with filled(StackOptions(home=folder / "stack", ephemeral=True), SampleSpec(rows=number, seed=5)) as client:
                for _ in range(2):
                    run_cycle(client, WAIT)
                measured(client)
                found[number] = [measured(client) for _ in range(rounds)]
    show(found)


def show(found: dict[int, list[Fresh]]) -> None:
    """Print the medians and the promises; ends the process with 1 when one is broken."""
    names = ("landed", "loaded", "merged", "visible", "run_ended", "work_ended")
    medians = {
        rows: {name: round(median(getattr(each, name) for each in times), 2) for name in names}
        for rows, times in found.items()
    }
    small, large = medians[min(medians)], medians[max(medians)]
    broken = [f"{rows:,} rows: visible" for rows, each in medians.items() if each["visible"] >= VISIBLE_SECONDS]
    broken += [f"{rows:,} rows: all work" for rows, each in medians.items() if each["work_ended"] >= WORK_SECONDS]
    if large["work_ended"] > MOST_RATIO * small["work_ended"]:
        broken.append(f"{large['work_ended'] / small['work_ended']:.2f} times the work of the small table")
    if sys.stdout.isatty():
        title = f"Seconds from a commit of {CHANGED_ROWS:,} changed rows (medians)"
        table = Table(title=title, title_justify="left")
        for heading in ("rows", *names):
            table.add_column(heading, justify="right")
        for rows, each in medians.items():
            table.add_row(f"{rows:,}", *(f"{each[name]:.2f}" for name in names))
        Console().print(table)
    else:
        every = {rows: [asdict(each) for each in times] for rows, times in found.items()}
        sys.stdout.write(json.dumps({"medians": medians, "all": every}) + "\n")
    if broken:
        sys.stderr.write(f"not as promised: {'; '.join(broken)}\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    typer.run(main)
