"""What can go wrong with the local stack; each message says what failed and what to do next."""

from pathlib import Path

from services.core.errors import ConfigurationError, PipelineError

LOG_TAIL_LINES = 20
"""How many lines of its log the message of a failed component carries."""


class StackError(PipelineError):
    """The local stack could not do what was asked."""


class NotInstalledError(ConfigurationError):
    """A program that the chosen profile needs is not on this machine."""


class StackBusyError(StackError):
    """Another process is starting or stopping this stack and did not finish in time."""


class StepCancelledError(StackError):
    """A step ended early because another step failed or the user interrupted."""


class ComponentError(StackError):
    """A component did not start, or did not become ready.

    Attributes:
        component: its name.
        log: its log file.
    """

    def __init__(self, component: str, problem: str, command: str, log: Path) -> None:
        self.component = component
        self.log = log
        tail = log_tail(log)
        super().__init__(f"{component} {problem}\n  command: {command}\n  log: {log}\n{tail}".rstrip())


def log_tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log, indented; reads at most 64 kB from its end; empty when there is no log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65536))
        text = file.read().decode(errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
