"""`credix release` and `credix discard`: a person decides about a batch that is held."""

import getpass
import socket

from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.errors import PipelineError
from services.core.state.state import PipelineState


class NotHeld(PipelineError):
    """There is nothing to decide about this batch."""


def release(state: PipelineState, batch_id: str, person: str) -> Batch:
    """Let a held batch be merged as it is.

    Raises:
        NotHeld: the state does not know it, or it is not held.
    """
    return _decided(state, batch_id, Step.RELEASE, BatchState.LOADED, released_by=person)


def discard(state: PipelineState, batch_id: str, person: str, why: str = "") -> Batch:
    """Decide that a held batch is never merged; the next extraction reads its window again.

    Raises:
        NotHeld: the state does not know it, or it is not held.
    """
    error = BatchError(code="discarded", message=f"discarded by {person}{f': {why}' if why else ''}")
    return _decided(state, batch_id, Step.DISCARD, BatchState.FAILED, error=error)


def this_person() -> str:
    """Who decides: the user and the machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _decided(state: PipelineState, batch_id: str, step: Step, to: BatchState, **facts: object) -> Batch:
    before = state.batch(batch_id)
    if before is None:
        raise NotHeld(f"batch {batch_id} is not known; `credix status` names the batches that are held")
    after = state.step(batch_id, step, **facts)
    # The step itself tells: another person may have decided in this moment.
    if before.state is not BatchState.HELD or after.state is not to:
        raise NotHeld(f"batch {batch_id} of table {after.table} is {after.state}, not held: nothing was changed")
    return after
