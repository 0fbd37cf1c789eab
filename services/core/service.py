"""How every service starts, and how a job ends when it is asked to."""

import signal
from types import FrameType
from typing import TypeVar

from services.core.logs import configure_logging
from services.core.settings import CoreSettings, read_settings
from services.core.tables import Tables, load_tables

S = TypeVar("S", bound=CoreSettings)


def start(settings_class: type[S], service: str) -> tuple[S, Tables]:
    """Read the settings and the declared tables, and set up the log.

    Raises:
        ConfigurationError: a variable or a table is wrong; nothing has started.
    """
    settings = read_settings(settings_class)
    configure_logging(settings, service)
    return settings, load_tables(settings.tables_file)


def end_on_sigterm() -> None:
    """Let SIGTERM leave a job as an exception, so that what was begun is cleared away and leases are given back.

    As a container's first process it would otherwise be ignored. Cloud Run sends SIGKILL ten seconds later
    (https://cloud.google.com/run/docs/container-contract#jobs).
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
