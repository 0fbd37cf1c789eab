"""Publishes the run report in the report bucket: ``runs/<run id>/report.html`` and ``pipeline/latest.html``."""

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from google.cloud import bigquery

from services.core.settings import TransformerSettings
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.tables import Tables

LATEST = "pipeline/latest.html"
"""The newest report, at the same place for everybody's bookmark."""

log = structlog.get_logger()


@dataclass(frozen=True)
class RunReports:
    """Makes and uploads a page per run."""

    settings: TransformerSettings
    tables: Tables
    state: PipelineState
    objects: ObjectStore
    client: bigquery.Client

    def publish(self, run_id: str) -> None:
        """Publish the report of a run that is in the history; a failure is logged and nothing else."""
        try:
            # Imported here: a transformer that starts to merge needs no charts.
            from services.transformer.report.facts import collect
            from services.transformer.report.page import render

            facts = collect(self.settings, self.tables, self.state, self.objects, self.client, datetime.now(UTC))
            page = render(facts).encode()
            for name in (f"runs/{run_id}/report.html", LATEST):
                self.objects.replace(self.settings.report_bucket, name, page, "text/html; charset=utf-8")
            log.info("report.published", bucket=self.settings.report_bucket, object=LATEST, bytes=len(page))
        except Exception:
            # What is merged is merged: a report must not make the event come again.
            log.exception("report.not_published")
