"""The fingerprints of rows that are read again, as objects: looked for before a read, put after it, deleted when old.

They are put before the batch's manifest is announced, and the batch names them in the same write that announces it. So
a death in between leaves an object that nothing names, which the next batch of the table deletes. What a batch names
counts only once its rows are in bronze (``planning.again``). What goes wrong here costs that rows land again, and never
stops a table.
"""

import io

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from services.core.batch import Batch, Fingerprints
from services.core.manifest import schema_fingerprint
from services.core.naming import file_table, fingerprints_object, fingerprints_prefix, parse_landed
from services.core.settings import ExtractorSettings
from services.core.state.state import PipelineState
from services.core.storage import ObjectStore
from services.core.telling import kind, told
from services.extractor.planning.again import FORM, arrived
from services.extractor.planning.plan import Plan
from services.extractor.reading.reading import Read
from services.extractor.reading.sieve import Sieve, checksum, recalled, written

log = structlog.get_logger()


def recall(settings: ExtractorSettings, state: PipelineState, objects: ObjectStore, plan: Plan) -> pa.Table | None:
    """What the batch before has kept, where it counts for a read whose time was taken; None where it does not.

    A file that came before that time is in landing/ now, or was noted.
    """
    if plan.tip is None:
        return None
    try:
        tip = state.batch(plan.tip)
        void = "its batch is gone" if tip is None else _arrived(settings, state, objects, tip)
        if tip is not None and void is None:
            found = _kept(settings, objects, tip)
            if isinstance(found, pa.Table):
                return found
            void = found
    except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
        void = f"they could not be read: {kind(error)}: {told(error)}"
    log.warning("fingerprints.void", of_batch=plan.tip, reason=void, effect="rows that are read again land again")
    return None


def _arrived(settings: ExtractorSettings, state: PipelineState, objects: ObjectStore, tip: Batch) -> str | None:
    """What has come to a table since its tip that no extraction has put: it lies in landing/ or was noted."""
    for stored in objects.list(settings.landing_bucket, f"{settings.landing_prefix}/"):
        landed = parse_landed(settings.landing_prefix, stored.name)
        if landed is None:
            ours = file_table(stored.name, [tip.table]) is None
        elif landed.table == tip.table and landed.is_manifest:
            batch = state.batch(landed.batch_id)
            ours = batch is not None and batch.arrived_at is None
        else:
            ours = True
        if not ours:
            return f"{stored.name} came since"
    return arrived(tip, state.progress(tip.table))


def _kept(settings: ExtractorSettings, objects: ObjectStore, tip: Batch) -> pa.Table | str:
    """What a batch has kept, or why it cannot be had."""
    name = fingerprints_object(settings.fingerprints_prefix, tip.table, tip.id)
    content = objects.read(settings.landing_bucket, name)
    if content is None:
        return f"{name} is gone"
    if tip.fingerprints is None or checksum(content) != tip.fingerprints.sha256:
        return f"{name} is not what its batch has put"
    return recalled(content)


def keep(
    settings: ExtractorSettings, objects: ObjectStore, plan: Plan, read: Read, sieve: Sieve
) -> Fingerprints | None:
    """Put the fingerprints of what the next window reads again; None where there are none.

    Returns:
        What the batch notes of them.
    """
    if sieve.overflowed:
        log.warning(
            "fingerprints.too_many",
            most=settings.extract_fingerprints,
            effect="the next run lands again what it reads again",
            cure="raise EXTRACT_FINGERPRINTS, or shorten cursor.lookback",
        )
        return None
    kept = sieve.kept(read.read_at)
    if kept is None:
        if plan.again:
            reason = "several snapshots were read, or several processes have read"
            log.info("fingerprints.none", reason=reason, effect="the next run lands again what it reads again")
        return None
    if not kept.num_rows:
        return None
    content = written(kept)
    name = fingerprints_object(settings.fingerprints_prefix, plan.table, plan.batch_id)
    try:
        objects.create(settings.landing_bucket, name, io.BytesIO(content), "application/vnd.apache.parquet")
    except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
        log.warning("fingerprints.not_kept", object=name, reason=told(error), kind=kind(error))
        return None
    return Fingerprints(
        form=FORM,
        columns=schema_fingerprint(plan.columns),
        rows=kept.num_rows,
        ahead=pc.sum(kept.column("ahead")).as_py(),
        sha256=checksum(content),
        unannounced=plan.unannounced,
        read_at=max(read.read_at.values()),
    )


def count_on(state: PipelineState, plan: Plan, read: Read) -> None:
    """After a read by chunks that found no news: what the batch before has kept goes on to count.

    The chunks' times are noted as the table's, as if they had brought something. If this process dies before it is
    said here that they did not, the next run lands again what it reads again.
    """
    if plan.tip is None:
        return
    until = max(read.read_at.values())

    def read_again(tip: Batch) -> Batch:
        kept = tip.fingerprints
        return tip.model_copy(update={"fingerprints": kept and kept.model_copy(update={"read_at": until})})

    state.change_batch(plan.tip, read_again)


def forget_older(settings: ExtractorSettings, objects: ObjectStore, table: str, batch_id: str) -> None:
    """Delete the fingerprints of the batches of a table before this one, which nobody asks for any more."""
    newest = fingerprints_object(settings.fingerprints_prefix, table, batch_id)
    try:
        for stored in objects.list(settings.landing_bucket, fingerprints_prefix(settings.fingerprints_prefix, table)):
            if stored.name < newest:
                objects.delete(stored)
    except Exception as error:  # noqa: BLE001 - the bucket's lifecycle deletes what stays
        log.warning("fingerprints.not_deleted", reason=told(error), kind=kind(error))
