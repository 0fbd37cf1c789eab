"""What a run cost goes into its entry in the history, and into the log. A failure never fails the run."""

from datetime import datetime

import structlog
from google.cloud import bigquery

from services.core.cost.price import usd
from services.core.cost.reading import read_cost
from services.core.cost.run_cost import RunCost
from services.core.state.state import PipelineState, Run

log = structlog.get_logger()


def keep_cost(state: PipelineState, client: bigquery.Client, run_id: str, since: datetime) -> RunCost:
    """Read what a run has cost up to now and note it in the history, over what was noted before; raises nothing.

    Args:
        state: whose history has the run.
        client: BigQuery, as the account that sent the run's jobs.
        run_id: the run.
        since: when it began.
    """
    cost = read_cost(client, run_id, since)
    try:
        kept = state.note_cost(run_id, cost)
    except Exception:
        log.exception("cost.not_kept", run_id=run_id)
        return cost
    return kept or cost


def note_with_cost(state: PipelineState, client: bigquery.Client, run: Run, usd_per_tib: float) -> None:
    """Note a run in the history, with what it cost, and say that in the log; raises nothing."""
    try:
        state.add_run(run)
    except Exception:
        log.exception("run.not_noted", run_id=run.id)
        return
    log_cost(run.id, keep_cost(state, client, run.id, run.started_at), usd_per_tib)


def log_cost(run_id: str, cost: RunCost, usd_per_tib: float) -> None:
    """Say once what a run cost, as far as it is known."""
    total = cost.total
    known = {
        "billed_bytes": total.billed,
        "processed_bytes": total.processed,
        "usd": round(usd(total.billed, usd_per_tib), 6),
        "slot_ms": total.slot_ms,
        "jobs": total.jobs,
        "untold_jobs": total.untold,
    }
    if cost.unknown is None:
        log.info("run.cost", run_id=run_id, **known)
    else:
        log.warning("run.cost_unknown", run_id=run_id, reason=cost.unknown, **(known if cost.lines else {}))
