"""The local stack: the whole pipeline, and stand-ins for everything around it, as processes on one machine.

Processes are supervised (`stack`), described as values (`component`, `plan`) and found again by their record
(`record`), so that they outlive the command that started them.
"""

from local.stack.emulators import emulators_available
from local.stack.environment import environment
from local.stack.errors import ComponentError, NotInstalledError, StackBusyError, StackError
from local.stack.options import StackOptions
from local.stack.record import Stack
from local.stack.stack import (
    ComponentStatus,
    down,
    kill_component,
    load,
    restart_component,
    running,
    start_component,
    status,
    up,
)
from local.stack.steps import OnProgress, Progress

__all__ = [
    "ComponentError",
    "ComponentStatus",
    "NotInstalledError",
    "OnProgress",
    "Progress",
    "Stack",
    "StackBusyError",
    "StackError",
    "StackOptions",
    "down",
    "emulators_available",
    "environment",
    "kill_component",
    "load",
    "restart_component",
    "running",
    "start_component",
    "status",
    "up",
]
