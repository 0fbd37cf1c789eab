"""How every service starts: settings, tables and log, before anything else is touched."""

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
