"""Where a command finds its settings: the environment, or else the local stack that runs in this folder."""

import os
from pathlib import Path


def adopt_local_stack() -> None:
    """Take the running local stack's variables where the environment names no project.

    So that ``credix local up && credix extract && credix status`` work in one shell without an ``eval``.
    """
    if os.environ.get("GCP_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT"):
        return
    try:
        from local.stack.environment import environment
        from local.stack.options import StackOptions
        from local.stack.stack import load
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("local"):
            raise
        return
    stack = load(StackOptions().home if "CREDIX_HOME" not in os.environ else Path(os.environ["CREDIX_HOME"]))
    if stack is not None:
        for name, value in environment(stack).items():
            os.environ.setdefault(name, value)
