"""Publishes the run report in the report bucket: ``runs/<run id>/report.html`` and ``pipeline/latest.html``."""

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from google.cloud import bigquery

from services.core.cost.keeping import note_with_cost
from services.core.health.attention import attention
from services.core.health.overview import read_objects, read_overview
from services.core.labels import jobs_of
from services.core.naming import new_batch_id
from services.core.settings import TransformerSettings
from services.core.state.state import PipelineState, Run
from services.core.storage import ObjectStore
from services.core.tables import Tables
from services.transformer.report.published import Published, note_published, published

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
        self._publish(f"runs/{run_id}/report.html", LATEST)

    def refresh(self) -> bool:
        """Publish the newest report again, if it no longer says what needs a person, or is soon too old to count.

        For whoever looks at it when nothing is merged any more, because extraction fails. It asks the state; silver
        and gold are asked only when there is something to publish. Whether it published; a failure is logged.
        """
        try:
            now = datetime.now(UTC)
            found = read_objects(self.settings, self.objects)
            seen = read_overview(self.settings, self.tables, self.state, found, now)
            wanted = Published.of(now, attention(seen, self.settings))
            if not wanted.differs(published(self.state.store), self.settings.late_after / 2):
                return False
        except Exception:
            log.exception("report.not_published")
            return False
        self._alone()
        return True

    def _alone(self) -> None:
        """Publish the newest report without a run of the transformer; the history has an entry for what that cost."""
        started_at = datetime.now(UTC)
        run_id = new_batch_id(started_at)
        with structlog.contextvars.bound_contextvars(run_id=run_id), jobs_of(run_id):
            done = self._publish(LATEST)
        outcome = "succeeded" if done else "failed"
        run = Run(id=run_id, service="report", started_at=started_at, finished_at=datetime.now(UTC), outcome=outcome)
        note_with_cost(self.state, self.client, run, self.settings.bigquery_usd_per_tib)

    def _publish(self, *names: str) -> bool:
        try:
            # Imported here: a transformer that starts to merge needs no charts.
            from services.transformer.report.facts import collect
            from services.transformer.report.page import render

            facts = collect(self.settings, self.tables, self.state, self.objects, self.client, datetime.now(UTC))
            # A text of anybody's can have what UTF-8 cannot: half of a character.
            page = render(facts).encode("utf-8", "replace")
            for name in names:
                self.objects.replace(self.settings.report_bucket, name, page, "text/html; charset=utf-8")
            note_published(self.state.store, Published.of(facts.at, facts.needs))
            log.info("report.published", bucket=self.settings.report_bucket, object=LATEST, bytes=len(page))
        except Exception:
            # What is merged is merged: a report must not make the event come again.
            log.exception("report.not_published")
            return False
        return True
