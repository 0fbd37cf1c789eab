"""Lands a batch whole or not at all: reads it, announces its manifest and puts it, or clears away what there is."""

from collections.abc import Callable
from contextlib import closing

import structlog

from services.core.batch import Batch, Step
from services.core.errors import TransientError
from services.core.faults import fault_point
from services.core.landing import put_manifest
from services.core.manifest import Manifest, manifest_fingerprint
from services.core.tables import Table
from services.core.telling import kind, kind_and_words, told
from services.extractor.extraction.leftovers import abandon
from services.extractor.extraction.workplace import Turn, Workplace
from services.extractor.fingerprints import forget_older, keep
from services.extractor.landing import reject_superseded
from services.extractor.planning.plan import Plan
from services.extractor.reading.guard import SourceRewritten
from services.extractor.reading.reading import Read
from services.extractor.reading.sieve import Sieve
from services.extractor.reading.work import shared_plan

log = structlog.get_logger()


def land(
    place: Workplace,
    table: Table,
    batch: Batch,
    plan: Plan,
    turn: Turn,
    read: Callable[[Sieve], Read],
) -> tuple[Manifest | None, int]:
    """Read and land what is news; when there is none, nothing is left of it anywhere.

    Args:
        place: the workplace.
        table: the table.
        batch: its batch.
        plan: what is read.
        turn: the table's turn.
        read: reads through a sieve; no parts when there is no news.

    Returns:
        The manifest, or None; and how many rows were no news.
    """
    with structlog.contextvars.bound_contextvars(batch_id=batch.id), closing(place.sieve(plan)) as sieve:
        try:
            found = read(sieve)
            if not found.parts:
                return None, found.known
            turn.lease.renew()
            reject_superseded(place.objects, place.settings, batch, found.parts)
            counts = found.unrepresentable
            columns = [c.model_copy(update={"unrepresentable": counts.get(c.name, 0)}) for c in plan.columns]
            fault_point("extractor.read")
            manifest = batch.manifest(table, columns, found.parts)
            kept = keep(place.settings, place.objects, plan, found, sieve)
            fault_point("extractor.fingerprints_kept")
            facts = {"rows_known": found.known, "fingerprints": kept}
            place.state.announce(batch.id, manifest_fingerprint(manifest.encoded()), **facts)
            fault_point("extractor.manifest_announced")
            put_manifest(place.objects, place.settings, batch, manifest)
        except BaseException as error:
            if _goes_on(place, batch, error):
                log.warning("extraction.left_for_the_next_try", reason=told(error), kind=kind(error))
            else:
                _give_up(place, batch, error, turn)
            raise
        fault_point("extractor.manifest_landed")
        _note_landed(place, manifest, found.known)
        fault_point("extractor.landed")
        place.state.forget_plan(batch.id)
        if plan.again:
            forget_older(place.settings, place.objects, table.name, batch.id)
    return manifest, found.known


def _goes_on(place: Workplace, batch: Batch, error: BaseException) -> bool:
    """Whether another try of this task, which Cloud Run starts when this one fails, can go on with the batch."""
    passing = isinstance(error, TransientError) or not isinstance(error, Exception)
    lasting = isinstance(error, SourceRewritten)
    on_cloud_run = bool(place.settings.cloud_run_execution)
    return on_cloud_run and passing and not lasting and shared_plan(place.state.store, batch.id) is not None


def _give_up(place: Workplace, batch: Batch, error: BaseException, turn: Turn) -> None:
    """Clear away a batch that failed. What cannot be cleared away now, the sweep does: the error itself is told."""
    if isinstance(error, Exception):
        turn.note.failed(kind(error), told(error))  # at once: a bucket that is away holds up what follows
    try:
        abandon(place, batch, "extraction_failed", kind_and_words(error))
    except Exception:
        log.exception("extraction.not_cleared")


def _note_landed(place: Workplace, manifest: Manifest, known: int) -> None:
    log.info(
        "batch.landed",
        **manifest.counts,
        rows_known=known,
        unrepresentable=manifest.unrepresentable,
        drift=manifest.drift,
    )
    facts = {**manifest.counts, "unrepresentable": manifest.unrepresentable}
    # Without effect if the loader was faster than this note.
    place.state.step(manifest.batch_id, Step.LAND, **facts)
