"""One thread works on the database.

bqemulator has one DuckDB connection. Its ``async`` handlers use it in the event loop, its plain ones (``/readyz``,
``tabledata.list``, …) in FastAPI's thread pool at the same time, where one can fetch the other's result or commit the
other's transaction. BigQuery's requests are isolated. Plain handlers now run in the event loop too.
"""

from collections.abc import Callable
from typing import Any

import fastapi.dependencies.utils
import fastapi.routing

from local.warehouse.patches.replace import replace


async def _run_inline(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def apply() -> None:
    """Let FastAPI call plain handlers and dependencies where it would hand them to a thread."""
    for module in (fastapi.routing, fastapi.dependencies.utils):
        replace(module, "run_in_threadpool", _run_inline)
