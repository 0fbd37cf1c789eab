"""The status for people: what needs one on top, readable at 80 columns; times in UTC, durations as people say them."""

from datetime import timedelta

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from services.core.health.attention import SOFT
from services.core.words import counted, minute, moment, span
from services.ops.status import Need, Status, TableStatus


def print_status(status: Status, console: Console) -> None:
    """Show the status. The first line says what needs a person, or that nothing does."""
    for need in status.needs_attention:
        console.print(_paragraph(need))
    if not status.needs_attention:
        console.print(Text(_all_well(status), style="green"))
    console.print()
    console.print(_tables(status))
    for row in status.tables:
        for note in _notes(row):
            console.print(Text(f"{row.table}: {note}", style="yellow"))
    if status.unknown_landed_objects or status.unknown_failed_objects:
        unknown = f"{status.unknown_landed_objects:,} in landing/, {status.unknown_failed_objects:,} in failed/"
        console.print(Text(f"Objects of no declared table: {unknown}"))


def _paragraph(need: Need) -> Text:
    return Text(need.sentence_now, style="yellow" if need.cause in SOFT else "bold red", overflow="fold")


def _all_well(status: Status) -> str:
    lags = [(row.lag_seconds, row.table) for row in status.tables if row.lag_seconds is not None]
    behind = f", the furthest behind is {max(lags)[1]}, by {span(timedelta(seconds=max(lags)[0]))}" if lags else ""
    return f"Nothing needs a person: {counted(len(status.tables), 'table')}{behind}."


def _tables(status: Status) -> RichTable:
    needed = {need.table: need.cause for need in reversed(status.needs_attention)}
    table = RichTable(box=None, padding=(0, 1, 0, 0), title=f"credix status at {moment(status.at)} UTC")
    table.title_justify = "left"
    table.add_column("table", overflow="fold")
    for heading in ("state", "behind", "complete up to"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rows", "on way", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in status.tables:
        cause = needed.get(row.table)
        style = "green" if cause is None else "yellow" if cause in SOFT else "bold red"
        table.add_row(
            Text(row.table),
            Text(row.state, style=style),
            span(timedelta(seconds=row.lag_seconds)) if row.lag_seconds is not None else "–",
            minute(row.complete_to),
            f"{row.last_batch.rows:,}" if row.last_batch else "–",
            f"{row.pending_batches:,}",
            f"{row.failed_objects:,}",
        )
    return table


def _notes(row: TableStatus) -> list[str]:
    """What is to be known of a table, and needs nobody."""
    batch = row.last_batch
    notes = [f"{counted(row.landed_objects, 'object')} in landing/"] if row.landed_objects else []
    if batch is None:
        return notes
    notes += [f"{count:,} value(s) of {column} could not be held" for column, count in batch.unrepresentable.items()]
    notes += [f"schema drift: {difference}" for difference in batch.drift]
    notes += [f"changed before its last batch: {change}" for change in batch.changes]
    return [*notes, *(f"cannot be seen: {what}" for what in batch.unseen)]
