"""What a run would do: per table the window, the rows the planner expects, the chunks and the statement."""

import json
import sys
from dataclasses import asdict, dataclass

from services.core import machine
from services.core.naming import new_batch_id
from services.core.settings import ExtractorSettings
from services.core.state.state import PipelineState
from services.core.tables import Mode, Table
from services.core.telling import kind_and_words
from services.extractor.planning.preparation import prepare


@dataclass(frozen=True)
class Look:
    """What a run would do with one table."""

    table: str
    mode: str
    cursor: str | None = None
    """What its type is, whose clock or calendar it follows, and how it is rounded."""
    window_low: str | None = None
    window_high: str | None = None
    estimated_rows: int | None = None
    chunks: int | None = None
    """Ranges of pages that are read side by side; 1 for one statement."""
    statement: str | None = None
    changes: tuple[str, ...] = ()
    """What has changed at the source, or in tables.yaml."""
    unseen: tuple[str, ...] = ()
    """What cannot be seen of the rows that are still to come, or of the key."""
    drift: tuple[str, ...] = ()
    missing_index: str | None = None
    error: str | None = None


def dry_run(
    settings: ExtractorSettings, state: PipelineState, table: Table, mode: Mode, *, accepted: bool = False
) -> Look:
    """Look at one table: asks the source's catalog and planner, counts what a run would count, and writes nothing."""
    batch_id = new_batch_id(machine.now())
    try:
        prepared = prepare(settings, state, table, mode, batch_id, "dry-run", accepted=accepted)
    except Exception as error:  # noqa: BLE001 - the other tables are looked at all the same
        return Look(table.name, mode.value, error=kind_and_words(error))
    plan, window = prepared.plan, prepared.window
    return Look(
        table=table.name,
        mode=prepared.decision.mode.value,
        changes=tuple(prepared.decision.said),
        cursor=prepared.cursor.described if prepared.cursor else None,
        window_low=window.low.isoformat() if window.low else None,
        window_high=window.high.isoformat(),
        estimated_rows=plan.estimated_rows,
        chunks=max(1, len(plan.bounds)),
        statement=plan.statement(),
        unseen=tuple(prepared.unseen),
        drift=tuple(prepared.drift),
        missing_index=prepared.missing_index,
    )


def show(looks: list[Look]) -> None:
    """Print a table for people, or JSON when piped."""
    if not sys.stdout.isatty():
        print(json.dumps({"tables": [asdict(look) for look in looks]}))  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    summary = RichTable(title="dry run: nothing is read or written", title_justify="left")
    for heading in ("table", "mode", "after", "up to (UTC)"):
        summary.add_column(heading)
    for heading in ("rows expected", "chunks"):
        summary.add_column(heading, justify="right")
    for look in looks:
        expected = f"{look.estimated_rows:,}" if look.estimated_rows is not None else "–"
        row = (look.table, look.mode, look.window_low or "the beginning", look.window_high or "–", expected)
        summary.add_row(*row, str(look.chunks or "–"))
    console.print(summary)
    for look in looks:
        console.print(f"\n[bold]{look.table}[/]")
        if look.error:
            console.print(look.error, style="bold red", markup=False)
        if look.cursor:
            console.print(f"cursor: {look.cursor}", markup=False)
        for change in look.changes:
            console.print(f"changed: {change}", style="yellow", markup=False)
        for reason in look.unseen:
            console.print(f"not all can be seen: {reason}", style="yellow", markup=False)
        for difference in look.drift:
            console.print(f"drift: {difference}", style="yellow", markup=False)
        if look.missing_index:
            console.print(f"no index serves the cursor: {look.missing_index}", style="yellow", markup=False)
        if look.statement:
            console.print(look.statement, markup=False, highlight=False, soft_wrap=True)
