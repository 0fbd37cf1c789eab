"""The fingerprints of rows that are read again, as objects: looked for before a read, put after it, deleted when old.

They are put before the batch's manifest is announced, and the batch names them in the same write that announces it. So
a death in between leaves an object that nothing names, which the next batch of the table deletes. What a batch names
counts only once its rows are in bronze (``planning.again``). What goes wrong here costs that rows land again, and never
stops a table.
"""

import io

import structlog

from services.core.batch import Batch, Fingerprints
from services.core.manifest import schema_fingerprint
from services.core.naming import file_table, fingerprints_object, fingerprints_prefix, parse_landed
from services.core.settings import ExtractorSettings
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.telling import kind, told
from services.extractor.planning.again import FORM, moved
from services.extractor.planning.preparation import Prepared
from services.extractor.reading.sieve import Sieve, checksum

log = structlog.get_logger()


def recall(settings: ExtractorSettings, state: PipelineState, objects: ObjectStore, tip: Batch, sieve: Sieve) -> None:
    """Let a sieve know what the batch has kept that the window follows, where it still counts.

    Asked after the time of the read was taken: a file that came before it is in landing/ now, or was noted.
    """
    try:
        void = _arrived(settings, state, objects, tip.table) or moved(tip, state.progress(tip.table))
        if void is None:
            void = _know(settings, objects, tip, sieve)
    except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
        void = f"they could not be read: {kind(error)}: {told(error)}"
    if void is not None:
        log.warning("fingerprints.void", of_batch=tip.id, reason=void, effect="rows that are read again land again")


def _arrived(settings: ExtractorSettings, state: PipelineState, objects: ObjectStore, table: str) -> str | None:
    """What lies in landing/ for a table that no extraction has put there."""
    for stored in objects.list(settings.landing_bucket, f"{settings.landing_prefix}/"):
        landed = parse_landed(settings.landing_prefix, stored.name)
        if landed is None:
            ours = file_table(stored.name, [table]) is None
        elif landed.table == table and landed.is_manifest:
            batch = state.batch(landed.batch_id)
            ours = batch is not None and batch.arrived_at is None
        else:
            ours = True
        if not ours:
            return f"{stored.name} came since"
    return None


def _know(settings: ExtractorSettings, objects: ObjectStore, tip: Batch, sieve: Sieve) -> str | None:
    name = fingerprints_object(settings.fingerprints_prefix, tip.table, tip.id)
    content = objects.read(settings.landing_bucket, name)
    if content is None:
        return f"{name} is gone"
    if tip.fingerprints is None or checksum(content) != tip.fingerprints.sha256:
        return f"{name} is not what its batch has put"
    sieve.know(content)
    return None


def keep(settings: ExtractorSettings, objects: ObjectStore, prepared: Prepared, sieve: Sieve) -> Fingerprints | None:
    """Put the fingerprints of what the next window reads again; None where there are none.

    Returns:
        What the batch notes of them.
    """
    plan = prepared.plan
    if sieve.overflowed:
        log.warning(
            "fingerprints.too_many",
            most=settings.extract_fingerprints,
            effect="the next run lands again what it reads again",
            cure="raise EXTRACT_FINGERPRINTS, or shorten cursor.lookback",
        )
        return None
    if not sieve.keeps_any:
        return None
    content, rows, ahead = sieve.kept()
    name = fingerprints_object(settings.fingerprints_prefix, plan.table, plan.batch_id)
    try:
        objects.create(settings.landing_bucket, name, io.BytesIO(content), "application/vnd.apache.parquet")
    except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
        log.warning("fingerprints.not_kept", object=name, reason=told(error), kind=kind(error))
        return None
    return Fingerprints(
        form=FORM,
        columns=schema_fingerprint(plan.columns),
        rows=rows,
        ahead=ahead,
        sha256=checksum(content),
        unannounced=prepared.progress.unannounced,
    )


def forget_older(settings: ExtractorSettings, objects: ObjectStore, table: str, batch_id: str) -> None:
    """Delete the fingerprints of the batches of a table before this one, which nobody asks for any more."""
    newest = fingerprints_object(settings.fingerprints_prefix, table, batch_id)
    try:
        for stored in objects.list(settings.landing_bucket, fingerprints_prefix(settings.fingerprints_prefix, table)):
            if stored.name < newest:
                objects.delete(stored)
    except Exception as error:  # noqa: BLE001 - the bucket's lifecycle deletes what stays
        log.warning("fingerprints.not_deleted", reason=told(error), kind=kind(error))
