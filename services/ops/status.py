"""What `credix status` shows: per table the watermark, lag, batches, and the objects in landing/ and failed/."""

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table as RichTable

from services.core.batch import Batch, BatchState
from services.core.naming import parse_landed
from services.core.settings import OpsSettings
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.tables import Tables
from services.ops.dead_letters import DeadLetters, dead_letters


class BatchStatus(BaseModel):
    """The newest batch of a table."""

    id: str
    state: BatchState
    rows: int
    window_low: datetime | None
    window_high: datetime | None
    """None, as the low, for a file that was dropped into landing/ by hand."""
    started_at: datetime
    merged_at: datetime | None
    unrepresentable: dict[str, int]
    """Per column, the values that its type could not hold."""
    drift: list[str]
    """How the source differed from the declared columns."""
    load_attempts: int
    """How often the loader began to load it."""
    trouble: str | None
    """Why the last attempt at loading it ended; it comes again."""
    error: str | None


class TableStatus(BaseModel):
    """How a table is."""

    table: str
    watermark: datetime | None
    lag_seconds: float | None
    """Now minus the watermark."""
    last_batch: BatchStatus | None
    pending_batches: int
    """Batches on their way: extracting, landed or loaded."""
    landed_objects: int
    failed_objects: int


class Status(BaseModel):
    """How the pipeline is."""

    at: datetime
    tables: list[TableStatus]
    unknown_landed_objects: int
    unknown_failed_objects: int
    dead_letters: list[DeadLetters]


def _batch_status(batch: Batch) -> BatchStatus:
    return BatchStatus(
        id=batch.id,
        state=batch.state,
        rows=batch.rows,
        window_low=batch.window.low if batch.window else None,
        window_high=batch.window.high if batch.window else None,
        started_at=batch.started_at,
        merged_at=batch.merged_at,
        unrepresentable=batch.unrepresentable,
        drift=batch.drift,
        load_attempts=batch.load_attempts,
        trouble=batch.trouble,
        error=f"{batch.error.code}: {batch.error.message}" if batch.error else None,
    )


def _count_by_table(objects: ObjectStore, bucket: str, prefix: str) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for stored in objects.list(bucket, f"{prefix}/"):
        if not stored.name.endswith((".error.json", "/")):
            landed = parse_landed(prefix, stored.name)
            name = landed.table if landed else None
            counts[name] = counts.get(name, 0) + 1
    return counts


def collect_status(settings: OpsSettings, tables: Tables, state: PipelineState, objects: ObjectStore) -> Status:
    """Look at the state, the bucket and the dead letters."""
    now = datetime.now(UTC)
    landed = _count_by_table(objects, settings.landing_bucket, settings.landing_prefix)
    failed = _count_by_table(objects, settings.landing_bucket, settings.failed_prefix)
    statuses = []
    for name in tables.names():
        watermark = state.progress(name).watermark
        # A table that nobody extracted in a week is rare: then all its history is read.
        batches = state.batches_of_table(name, now - timedelta(days=7)) or state.batches_of_table(name)
        on_their_way = [b for b in state.open_batches(name) if b.state is not BatchState.MERGED]
        statuses.append(
            TableStatus(
                table=name,
                watermark=watermark,
                lag_seconds=round((now - watermark).total_seconds(), 3) if watermark else None,
                last_batch=_batch_status(batches[-1]) if batches else None,
                pending_batches=len(on_their_way),
                landed_objects=landed.pop(name, 0),
                failed_objects=failed.pop(name, 0),
            )
        )
    return Status(
        at=now,
        tables=statuses,
        unknown_landed_objects=sum(landed.values()),
        unknown_failed_objects=sum(failed.values()),
        dead_letters=dead_letters(
            settings.gcp_project,
            [name.strip() for name in settings.dead_letter_subscriptions.split(",") if name.strip()],
        ),
    )


_STATE_STYLE = {BatchState.MERGED: "green", BatchState.FAILED: "bold red"}


def _short(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "–"


def print_status(status: Status, console: Console) -> None:
    """Show the status as a table for people; times in UTC."""
    table = RichTable(title=f"credix status at {_short(status.at)} UTC", title_justify="left")
    for heading in ("table", "watermark", "lag", "last batch", "state"):
        table.add_column(heading)
    for heading in ("rows", "pending", "landing", "failed"):
        table.add_column(heading, justify="right")
    for row in status.tables:
        batch = row.last_batch
        style = _STATE_STYLE.get(batch.state, "yellow") if batch else "dim"
        table.add_row(
            row.table,
            _short(row.watermark),
            f"{row.lag_seconds:,.0f} s" if row.lag_seconds is not None else "–",
            batch.id if batch else "–",
            f"[{style}]{batch.state.value if batch else 'never extracted'}[/]",
            f"{batch.rows:,}" if batch else "–",
            str(row.pending_batches),
            str(row.landed_objects),
            f"[bold red]{row.failed_objects}[/]" if row.failed_objects else "0",
        )
    console.print(table)
    for row in status.tables:
        if row.last_batch and row.last_batch.error:
            console.print(f"[bold red]{row.table}[/] {row.last_batch.error}")
        if row.last_batch and row.last_batch.trouble:
            attempts = row.last_batch.load_attempts
            console.print(f"[yellow]{row.table}[/] loading, attempt {attempts}: {row.last_batch.trouble}")
        for column, count in (row.last_batch.unrepresentable if row.last_batch else {}).items():
            console.print(f"[yellow]{row.table}[/] {count:,} value(s) of {column} could not be held by its type")
        for difference in row.last_batch.drift if row.last_batch else []:
            console.print(f"[yellow]{row.table}[/] schema drift: {difference}")
    for letters in status.dead_letters:
        if letters.error:
            console.print(f"[yellow]{letters.subscription}[/] could not be looked at: {letters.error}")
        elif letters.messages:
            about = ", ".join(letters.objects)
            console.print(f"[bold red]{letters.subscription}[/] {letters.messages} dead letter(s): {about}")
    if status.unknown_landed_objects or status.unknown_failed_objects:
        console.print(
            f"objects of no declared table: {status.unknown_landed_objects} in landing, "
            f"{status.unknown_failed_objects} in failed"
        )
