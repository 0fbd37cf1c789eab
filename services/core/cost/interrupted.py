"""Runs that ended without a word after they had sent jobs: what they cost is billed, so the history has it.

Whoever holds a service's lease knows that no other run of it is on its way. So a run whose jobs BigQuery lists, and
that the history does not know, was killed, or broke off. Up to when that was looked at is noted in the state.
"""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from google.cloud import bigquery

from services.core.cost.reading import cost_of, listed_jobs
from services.core.cost.run_cost import run_cost
from services.core.naming import batch_time
from services.core.state.state import INTERRUPTED, PipelineState, Run
from services.core.state.store import DocumentChanged, DocumentExists

_RUN = re.compile(r"(\d{8}t\d{12}z)(-[0-9a-f]{8})")

log = structlog.get_logger()


def note_interrupted(
    state: PipelineState,
    client: bigquery.Client,
    service: Literal["transformer", "observer", "audit"],
    stages: Collection[str],
    began: datetime,
    details: Mapping[str, Any],
) -> list[Run]:
    """Note the runs of a service that were interrupted, with what they cost; raises nothing.

    Args:
        state: whose history lacks them.
        client: BigQuery, as the account that sent their jobs.
        service: whose lease the caller holds.
        stages: the stages whose jobs only this service sends.
        began: when the caller's own run began.
        details: what the history is to say of them beside their cost.

    Returns:
        Those that were noted.
    """
    try:
        since = _looked_until(state, service)
        noted = _noted(state, client, service, stages, since or began, began, details)
        _note_looked(state, service, began)
    except Exception:
        log.exception("interrupted.not_noted")
        return []
    return noted


def _noted(
    state: PipelineState,
    client: bigquery.Client,
    service: Literal["transformer", "observer", "audit"],
    stages: Collection[str],
    since: datetime,
    until: datetime,
    details: Mapping[str, Any],
) -> list[Run]:
    jobs: dict[str, list[Any]] = {}
    for job in listed_jobs(client, since):
        jobs.setdefault((job.labels or {}).get("credix_run", ""), []).append(job)
    noted = []
    for name, mine in sorted(jobs.items()):
        started_at = batch_time(run_id) if (run_id := run_of_label(name)) else None
        if run_id is None or started_at is None or started_at >= until or state.run(run_id) is not None:
            continue
        if not any(job.labels.get("credix_stage") in stages for job in mine):
            continue
        run = Run(
            id=run_id,
            service=service,
            started_at=started_at,
            finished_at=max(job.ended or job.created for job in mine),
            outcome=INTERRUPTED,
            details=dict(details),
            cost=run_cost(map(cost_of, mine)),
        )
        state.add_run(run)
        log.warning("run.interrupted", run_id=run.id, service_of_run=service, jobs=len(mine))
        noted.append(run)
    return noted


def run_of_label(name: str) -> str | None:
    """The id of a run by its label; None when no run of this pipeline has such a label."""
    found = _RUN.fullmatch(name)
    return f"{found[1].upper()}{found[2]}" if found else None


def _place(service: str) -> tuple[str, str]:
    return "pipeline", f"costs-{service}"


def _looked_until(state: PipelineState, service: str) -> datetime | None:
    document = state.store.get(*_place(service))
    return datetime.fromisoformat(document.data["looked_until"]) if document else None


def _note_looked(state: PipelineState, service: str, until: datetime) -> None:
    """Only the holder of the lease notes it; another that has come since has looked, too."""
    document = state.store.get(*_place(service))
    data = {"looked_until": until.astimezone(UTC).isoformat()}
    try:
        if document is None:
            state.store.create(*_place(service), data)
        else:
            state.store.update(document, data)
    except (DocumentExists, DocumentChanged):
        return
