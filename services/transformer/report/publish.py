"""Publishes the run report in the report bucket: ``runs/<run id>/report.html`` and ``pipeline/latest.html``."""

from dataclasses import dataclass

import structlog

from services.core import machine
from services.core.health.attention import attention
from services.core.health.overview import read_objects, read_overview
from services.core.settings import TransformerSettings
from services.core.state.state import PipelineState
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

    def publish(self, run_id: str) -> None:
        """Publish the report of a run that is in the history; a failure is logged and nothing else."""
        self._publish(f"runs/{run_id}/report.html", LATEST)

    def refresh(self) -> bool:
        """Publish the newest report again, if it lacks what needs a person or the newest audit, or is soon too old.

        For whoever looks at it when nothing is merged any more, because extraction fails, and after an audit. Whether
        it published; a failure is logged.
        """
        try:
            now = machine.now()
            found = read_objects(self.settings, self.objects)
            seen = read_overview(self.settings, self.tables, self.state, found, now, rested=False)
            wanted = Published.of(now, attention(seen, self.settings), seen.audits.newest)
            if not wanted.differs(published(self.state.store), self.settings.late_after / 2):
                return False
        except Exception:
            log.exception("report.not_published")
            return False
        return self._publish(LATEST)

    def _publish(self, *names: str) -> bool:
        try:
            # Imported here: a transformer that starts to merge needs no charts.
            from services.transformer.report.facts import collect
            from services.transformer.report.page import render

            facts = collect(self.settings, self.tables, self.state, self.objects, machine.now())
            # A text of anybody's can have what UTF-8 cannot: half of a character.
            page = render(facts).encode("utf-8", "replace")
            for name in names:
                self.objects.replace(self.settings.report_bucket, name, page, "text/html; charset=utf-8")
            note_published(self.state.store, Published.of(facts.at, facts.needs, facts.audit))
            log.info("report.published", bucket=self.settings.report_bucket, object=LATEST, bytes=len(page))
        except Exception:
            # What is merged is merged: a report must not make the event come again.
            log.exception("report.not_published")
            return False
        return True
