"""Fault points: places between two steps where a test makes a process die as if its machine had gone.

``FAULT_FILE`` names a file; a process that reaches the point whose name the file holds removes the file and ends itself
with SIGKILL, once. Without the variable, as everywhere but in tests, a point is one look at the environment.
"""

import os
import signal
from pathlib import Path


def fault_point(name: str) -> None:
    """Die here when the fault file says so."""
    path = os.environ.get("FAULT_FILE")
    if not path:
        return
    file = Path(path)
    if file.exists() and file.read_text(encoding="utf-8").strip() == name:
        file.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
