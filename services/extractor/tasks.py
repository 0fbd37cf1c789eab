"""The tasks of one Cloud Run execution: who extracts which table, and who helps with a large one.

https://cloud.google.com/run/docs/container-contract#jobs-env-vars
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.core.settings import ExtractorSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """This process among its execution's tasks."""

    execution: str
    """Id that all tasks of the execution share, tries included."""
    index: int
    count: int
    attempt: int
    """0 for the first try of this task."""

    @classmethod
    def of(cls, settings: ExtractorSettings, run_id: str) -> "Task":
        """The task that Cloud Run started; elsewhere the only one, of an execution of its own."""
        return cls(
            execution=settings.cloud_run_execution or run_id,
            index=settings.cloud_run_task_index,
            count=settings.cloud_run_task_count,
            attempt=settings.cloud_run_task_attempt,
        )

    @property
    def lease(self) -> str:
        """Lease that the task holds as long as it works; a later try has a later token."""
        return f"task-{self.execution}-{self.index}"

    def others(self) -> list[str]:
        """Leases of the other tasks."""
        return [f"task-{self.execution}-{index}" for index in range(self.count) if index != self.index]

    def own(self, tables: Sequence[T]) -> list[T]:
        """The tables that this task extracts; every table is one task's own."""
        return [table for number, table in enumerate(tables) if number % self.count == self.index]
