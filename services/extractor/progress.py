"""Progress of the reads: a live display on a terminal, a log line now and then elsewhere."""

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import structlog

from services.core import machine

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LOG_SECONDS = 10.0
"""Least time between two progress lines of a table in the log."""

log = structlog.get_logger()


class Progress(Protocol):
    """Is told what the reads do, from several threads."""

    def started(self, table: str, estimated_rows: int) -> None:
        """A table's read begins; the planner expects this many rows."""

    def landed(self, table: str, rows: int, size: int) -> None:
        """A part is in the bucket, of so many rows and bytes."""

    def finished(self, table: str) -> None:
        """A table's read has ended."""

    def __enter__(self) -> "Progress":
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End showing."""


class LoggedProgress:
    """Lines in the log, at most one in ten seconds and table, with rows, rows a second, bytes and what is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[str, tuple[float, float, int, int, int]] = {}

    def started(self, table: str, estimated_rows: int) -> None:
        """A table's read begins."""
        now = machine.monotonic()
        with self._lock:
            self._tables[table] = (now, now, estimated_rows, 0, 0)

    def landed(self, table: str, rows: int, size: int) -> None:
        """A part is in the bucket."""
        now = machine.monotonic()
        with self._lock:
            began, said, estimated, all_rows, all_bytes = self._tables[table]
            all_rows, all_bytes = all_rows + rows, all_bytes + size
            due = now - said >= LOG_SECONDS
            self._tables[table] = (began, now if due else said, estimated, all_rows, all_bytes)
        if due:
            speed = all_rows / (now - began)
            # A snapshot of an emptied table has no rows, however long it took and whatever the planner estimates.
            left = round(max(0, estimated - all_rows) / speed) if speed else None
            log.info(
                "extraction.progress",
                rows=all_rows,
                estimated_rows=estimated,
                rows_per_second=round(speed),
                bytes=all_bytes,
                seconds_left=left,
            )

    def finished(self, table: str) -> None:
        """A table's read has ended."""
        with self._lock:
            self._tables.pop(table, None)

    def __enter__(self) -> "LoggedProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LiveProgress:
    """A line per table on the terminal: a bar, rows, rows a second, megabytes, time left by the planner's estimate."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress: RichProgress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows  {task.fields[speed]:>12}  {task.fields[megabytes]:>8.1f} MB  left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, tuple[TaskID, float]] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def started(self, table: str, estimated_rows: int) -> None:
        """A table's read begins."""
        with self._lock:
            task = self._progress.add_task(table, total=estimated_rows, speed="", megabytes=0.0)
            self._tasks[table] = (task, machine.monotonic())
            self._sizes[table] = 0

    def landed(self, table: str, rows: int, size: int) -> None:
        """A part is in the bucket."""
        with self._lock:
            task, began = self._tasks[table]
            self._sizes[table] += size
            self._progress.update(task, advance=rows, megabytes=self._sizes[table] / 1e6)
            done = self._progress.tasks[self._progress.task_ids.index(task)].completed
            self._progress.update(task, speed=f"{done / max(machine.monotonic() - began, 1e-3):,.0f}/s")

    def finished(self, table: str) -> None:
        """A table's read has ended: what was done is all there was."""
        with self._lock:
            if table in self._tasks:
                task, _ = self._tasks[table]
                done = self._progress.tasks[self._progress.task_ids.index(task)].completed
                self._progress.update(task, total=done)

    def __enter__(self) -> "LiveProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def open_progress() -> Progress:
    """The display that fits where the log goes."""
    return LiveProgress() if sys.stderr.isatty() else LoggedProgress()
