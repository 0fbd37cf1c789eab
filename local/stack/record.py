"""What is written down about a stack: `stack.json` while it runs, `keepsake.json` for as long as its data.

Both hold passwords: mode 0600, replaced whole, never half written.
"""

from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.stack.component import Component
from local.stack.errors import StackError
from local.stack.options import StackOptions
from local.stack.postgres import Cluster, PostgresAccess
from local.stack.process import ProcessId


class Stack(BaseModel):
    """A started stack: what was asked for, what runs, and how to reach it."""

    model_config = ConfigDict(frozen=True)

    options: StackOptions
    ports: dict[str, int] = Field(description="Port per purpose (`ports.choose_ports`).")
    postgres: PostgresAccess
    components: tuple[Component, ...] = Field(description="In the order of starting.")
    processes: dict[str, ProcessId] = Field(description="Process per component, as last started.")
    started: datetime
    complete: bool = Field(default=False, description="False until all is ready: what a killed `up` left behind.")

    @property
    def home(self) -> Path:
        """The stack's folder, absolute."""
        return self.options.home

    def component(self, name: str) -> Component:
        """Return a component by name.

        Raises:
            StackError: the stack has no such component.
        """
        for component in self.components:
            if component.name == name:
                return component
        known = ", ".join(component.name for component in self.components)
        raise StackError(f"the stack in {self.home} has no component {name!r}; it has {known}")


class Keepsake(BaseModel):
    """What belongs to the data and outlives a stop."""

    model_config = ConfigDict(frozen=True)

    ports: dict[str, int]
    cluster: Cluster | None


def read_stack(path: Path) -> Stack | None:
    """Return the recorded stack, or None when there is no record.

    Raises:
        StackError: the record cannot be understood.
    """
    return _read(path, Stack)


def read_keepsake(path: Path) -> Keepsake | None:
    """Return what an earlier run left, or None.

    Raises:
        StackError: it cannot be understood.
    """
    return _read(path, Keepsake)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record, replacing the old one at once."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_text(record.model_dump_json(indent=2))
    unfinished.replace(path)


R = TypeVar("R", bound=BaseModel)


def _read(path: Path, kind: type[R]) -> R | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise StackError(
            f"{path} is not a record of this version ({error.error_count()} problems): end the processes it lists "
            "(their pids are in it), then remove it"
        ) from error
