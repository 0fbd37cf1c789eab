"""Puts the transformer together from its settings; the one place that both entry points share."""

from services.core.batch import Batch
from services.core.gcs import GcsObjectStore
from services.core.settings import TransformerSettings
from services.core.state.state import open_state
from services.core.tables import Tables
from services.core.warehouse import bigquery_client
from services.transformer.artifacts import BucketArtifacts
from services.transformer.dbt_project import DbtProject
from services.transformer.observability.observation import Observer
from services.transformer.quality.audit import Auditor
from services.transformer.quality.row_tests import RowTests
from services.transformer.reconcile import Transformer
from services.transformer.report.publish import RunReports


def open_transformer(settings: TransformerSettings, tables: Tables) -> Transformer:
    """The transformer on the settings' project, buckets and state."""
    state = open_state(settings)
    objects = GcsObjectStore(settings.gcp_project)
    client = bigquery_client(settings.gcp_project, settings.bigquery_location)

    def alert(batch: Batch) -> None:
        # Imported here: Pub/Sub's client takes a fifth of a second of every cold start, and alerts are rare.
        from services.core.events import Publisher

        Publisher(settings.gcp_project, settings.batch_loaded_topic, settings.alert_topic).held(batch)

    dbt = DbtProject(settings, tables)
    return Transformer(
        settings=settings,
        tables=tables,
        state=state,
        client=client,
        dbt=dbt,
        row_tests=RowTests(dbt),
        artifacts=BucketArtifacts(settings, objects),
        reports=RunReports(settings, tables, state, objects),
        alert=alert,
    )


def open_reports(settings: TransformerSettings, tables: Tables) -> RunReports:
    """What publishes the run report, on the same."""
    return RunReports(settings, tables, open_state(settings), GcsObjectStore(settings.gcp_project))


def open_auditor(settings: TransformerSettings, tables: Tables, dbt: DbtProject) -> Auditor:
    """What makes audits, on the same, and on a parsed project."""
    return Auditor(
        settings=settings,
        tables=tables,
        state=open_state(settings),
        client=bigquery_client(settings.gcp_project, settings.bigquery_location),
        dbt=dbt,
    )


def open_observer(settings: TransformerSettings) -> Observer:
    """What publishes Elementary's report and dbt's docs, on the same."""
    return Observer(
        settings=settings,
        state=open_state(settings),
        objects=GcsObjectStore(settings.gcp_project),
        client=bigquery_client(settings.gcp_project, settings.bigquery_location),
    )
