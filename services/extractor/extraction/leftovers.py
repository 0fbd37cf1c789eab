"""What an extraction leaves that came to no end: the next one finishes it, goes on with it, or clears it away."""

import structlog

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.errors import DataError
from services.core.landing import batch_objects
from services.core.naming import manifest_object
from services.core.rejection import reject
from services.core.tables import Table
from services.extractor.extraction.workplace import Workplace
from services.extractor.planning.plan import Plan
from services.extractor.reading.work import shared_plan

log = structlog.get_logger()


def clear_leftovers(place: Workplace, table: Table) -> tuple[Batch, Plan] | None:
    """Finish or give up what a crashed extraction of this table left: this process holds the lease now.

    Returns:
        The batch to go on with: this execution's own, begun by a try of the task that ended before its time.
    """
    resumed = None
    for batch in place.state.open_batches(table.name):
        if batch.state is not BatchState.EXTRACTING:
            continue
        name = manifest_object(place.settings.landing_prefix, table.name, batch.id)
        announced = batch.manifest_sha256 is not None  # else what is there is no manifest of an extraction
        if announced and place.objects.stat(place.settings.landing_bucket, name) is not None:
            log.info("batch.found_landed", batch_id=batch.id)
            place.state.step(batch.id, Step.LAND)
            place.state.forget_plan(batch.id)
            continue
        plan = shared_plan(place.state.store, batch.id)
        if plan is not None and plan.execution == place.task.execution:
            resumed = batch, plan
        else:
            abandon(place, batch, "abandoned", "the extractor ended before the manifest was written")
    return resumed


def abandon(place: Workplace, batch: Batch, code: str, reason: str) -> None:
    """Fail a batch in the state first, so that nobody loads it, then clear its objects away.

    Args:
        place: the workplace.
        batch: the batch.
        code: machine-readable reason.
        reason: the same in words.
    """
    if not place.state.abandon(batch.id, BatchError(code=code, message=reason)):
        return  # it was landed or removed meanwhile, or failed before anything of it was written
    place.state.forget_plan(batch.id)
    reject_objects(place, batch, DataError(code, reason, table=batch.table, batch_id=batch.id))


def reject_objects(place: Workplace, batch: Batch, error: DataError) -> None:
    """Move what a batch has in landing/ to failed/."""
    reject(place.objects, place.settings, batch_objects(place.objects, place.settings, batch.table, batch.id), error)
