"""Opens the loader with Google's clients."""

from services.core.events import Publisher
from services.core.gcs import GcsObjectStore
from services.core.settings import LoaderSettings
from services.core.state.state import open_state
from services.core.tables import Tables
from services.core.warehouse import bigquery_client
from services.loader.loading import Loader


def open_loader(settings: LoaderSettings, tables: Tables) -> Loader:
    """Open the loader and all that it talks to; nobody is asked yet."""
    return Loader(
        settings=settings,
        tables=tables,
        state=open_state(settings),
        # Short: within a minute a batch's trouble is noted, and the event comes again.
        objects=GcsObjectStore(settings.gcp_project, retry_seconds=25),
        client=bigquery_client(settings.gcp_project, settings.bigquery_location),
        announcer=Publisher(settings.gcp_project, settings.batch_loaded_topic, settings.alert_topic),
    )
