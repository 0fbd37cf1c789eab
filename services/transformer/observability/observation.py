"""One observation: docs, Elementary's tests, report and alerts; one process at a time, under a lease of its own."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog
from google.cloud import bigquery

from services.core import machine
from services.core.cost.interrupted import note_interrupted
from services.core.cost.keeping import note_with_cost
from services.core.errors import ConfigurationError, LeaseBusy
from services.core.labels import jobs_of
from services.core.naming import new_batch_id
from services.core.settings import TransformerSettings
from services.core.state.lease import holding
from services.core.state.state import PipelineState, Run
from services.core.storage import ObjectStore
from services.transformer.observability import docs
from services.transformer.observability.commands import Commands
from services.transformer.observability.elementary import Elementary
from services.transformer.observability.packages import HOW_TO, missing, packages_folder, wanted_versions

LEASE = "observe"

INDEX = "index.html"
"""Elementary's newest report: the report bucket's main page."""

DOCS = "docs/index.html"
"""dbt's newest docs."""

_HTML = "text/html; charset=utf-8"
_ALWAYS_ASK = "no-cache"
"""Of a page that is replaced at the same address: a browser asks whether it has the newest."""
_NEVER_CHANGES = "private, max-age=31536000, immutable"

T = TypeVar("T")

log = structlog.get_logger()


@dataclass
class Observation:
    """What one observation did."""

    id: str
    elementary: str
    """published, off, or failed."""
    published: list[str] = field(default_factory=list)
    """Objects in the report bucket."""
    tests: dict[str, int] = field(default_factory=dict)
    """Number of tests by dbt's word for how they ended."""
    alerts: str = "off"
    """sent, off, or failed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Per step."""
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it."""
        return asdict(self)


@dataclass(frozen=True)
class Observer:
    """Makes observations, given its surroundings."""

    settings: TransformerSettings
    state: PipelineState
    objects: ObjectStore
    client: bigquery.Client

    def observe(self, holder: str) -> Observation | None:
        """Make and publish an observation; None when another process is at it.

        What fails is among its problems; the rest is done all the same.
        """
        return self._observe(holder, only_when_due=False)

    def observe_when_due(self, holder: str) -> Observation | None:
        """The same, unless what is published is younger than ``OBSERVE_INTERVAL`` (None)."""
        return self._observe(holder, only_when_due=True)

    def _observe(self, holder: str, *, only_when_due: bool) -> Observation | None:
        try:
            with holding(self.state.store, LEASE, holder, self.settings.transform_lease):
                if only_when_due and not self._due():
                    return None
                return self._made()
        except LeaseBusy as busy:
            log.info("observation.left_to_holder", reason=str(busy))
            return None

    def _due(self) -> bool:
        bucket = self.settings.report_bucket
        stats = [stat for name in (INDEX, DOCS) if (stat := self.objects.stat(bucket, name))]
        return all(machine.now() - stat.created_at >= self.settings.observe_interval for stat in stats)

    def _made(self) -> Observation:
        started_at = machine.now()
        observation = Observation(id=new_batch_id(started_at), elementary="failed")
        with (
            structlog.contextvars.bound_contextvars(observation_id=observation.id),
            jobs_of(observation.id),
            tempfile.TemporaryDirectory(prefix="observe-") as folder,
        ):
            ends_at = machine.monotonic() + self.settings.observe_timeout.total_seconds()
            commands = Commands(self.settings, Path(folder), ends_at, observation.seconds)
            self._docs(commands, observation)
            self._elementary(commands, observation)
            log.info("observation.finished", **observation.as_dict())
            run = Run(
                id=observation.id,
                service="observer",
                started_at=started_at,
                finished_at=machine.now(),
                outcome="failed" if observation.problems else "succeeded",
                details=observation.as_dict(),
            )
            note_with_cost(self.state, self.client, run, self.settings.bigquery_usd_per_tib)
            note_interrupted(self.state, self.client, "observer", {"observe"}, started_at, {})
        return observation

    def _docs(self, commands: Commands, observation: Observation) -> None:
        page = self._try(observation, lambda: docs.generate(commands))
        if page:
            self._publish(observation, page, {DOCS: _ALWAYS_ASK})

    def _elementary(self, commands: Commands, observation: Observation) -> None:
        settings = self.settings
        packages = packages_folder(settings.dbt_project_dir, settings.dbt_packages_folder)
        try:
            versions = wanted_versions(settings.dbt_project_dir)
            problems = [f"{packages}: {problem}" for problem in missing(packages, versions)]
        except ConfigurationError as error:
            versions, problems = {}, [str(error)]
        if problems:
            observation.elementary = "off"
            log.warning("elementary.off", reason="; ".join(problems), install=HOW_TO)
            return
        elementary = Elementary(settings, self.client, commands, packages, versions["elementary"])
        if not self._try(observation, lambda: self._test(elementary, observation)):
            return
        if page := self._try(observation, elementary.report):
            names = {f"elementary/{observation.id}/index.html": _NEVER_CHANGES, INDEX: _ALWAYS_ASK}
            if self._publish(observation, page, names):
                observation.elementary = "published"
        if elementary.alerts:
            observation.alerts = "failed"
            self._try(observation, lambda: self._alert(elementary, observation))

    @staticmethod
    def _test(elementary: Elementary, observation: Observation) -> bool:
        elementary.prepare()
        if elementary.tables_due():
            elementary.build_tables()
        observation.tests = elementary.test()
        return True

    @staticmethod
    def _alert(elementary: Elementary, observation: Observation) -> None:
        elementary.alert()
        observation.alerts = "sent"

    def _publish(self, observation: Observation, page: Path, names: dict[str, str]) -> bool:
        """Upload a page under each of the names, with its cache control; False when it could not be."""

        def upload() -> bool:
            content = page.read_bytes()
            for name, cache_control in names.items():
                self.objects.replace(self.settings.report_bucket, name, content, _HTML, cache_control)
                observation.published.append(name)
            return True

        return bool(self._try(observation, upload))

    @staticmethod
    def _try(observation: Observation, work: Callable[[], T]) -> T | None:
        """Do a step; a failure is noted, and what does not need the step goes on."""
        try:
            return work()
        except Exception as error:
            observation.problems.append(str(error))
            log.exception("observation.step_failed", reason=str(error))
            return None


def observe_after_work(settings: TransformerSettings, opened: Callable[[], Observer], holder: str) -> None:
    """What a transformer that has worked does last: with ``OBSERVE=run``, observe when it is due; raises nothing."""
    if settings.observe != "run":
        return
    try:
        opened().observe_when_due(holder)
    except Exception:
        # What is merged is merged: a report must not make the event come again.
        log.exception("observation.failed")
