"""One table's extraction: lease, leftovers of a crash, plan, read, land, note."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import structlog

from services.core import machine
from services.core.batch import Batch
from services.core.errors import LeaseBusy
from services.core.faults import fault_point
from services.core.naming import new_batch_id
from services.core.state.extractions import ExtractionNote
from services.core.state.lease import Lease, holding
from services.core.state.memory import remember
from services.core.tables import Mode, Table
from services.core.telling import kind, told
from services.extractor.extraction.leftovers import clear_leftovers
from services.extractor.extraction.outcome import Outcome, brought, failed
from services.extractor.extraction.rows import by_chunks, by_one_statement
from services.extractor.extraction.whole import land
from services.extractor.extraction.workplace import Turn, Workplace
from services.extractor.planning.preparation import Prepared, prepare
from services.extractor.reading.work import share

log = structlog.get_logger()


@dataclass(frozen=True)
class Extractor:
    """Extracts tables, one after the other."""

    place: Workplace

    def extract(self, table: Table, mode: Mode, *, accepted: bool = False) -> Outcome:
        """Extract one table and say how it went; only a stop of the process itself is raised.

        Args:
            table: the table.
            mode: how it is to be read, if nothing has changed.
            accepted: whether a person accepts what changed at the source; then it is a snapshot.
        """
        started = machine.monotonic()
        place = self.place
        with structlog.contextvars.bound_contextvars(table=table.name):
            try:
                lease_time = place.settings.extract_lease
                with holding(
                    place.state.store, f"extract-{table.name}", place.run_id, lease_time, place.patience
                ) as lease:
                    outcome = self._extract_noted(table, mode, lease, accepted)
            except LeaseBusy as busy:
                log.warning("extraction.busy", reason=str(busy))
                outcome = Outcome(table.name, "busy", error=str(busy))
            except Exception as error:  # noqa: BLE001 - the other tables go on
                outcome = failed(table, error)
            place.progress.finished(table.name)
            seconds = round(machine.monotonic() - started, 3)
            log.info(
                "extraction.finished",
                outcome=outcome.outcome,
                rows=outcome.rows,
                rows_known=outcome.rows_known,
                seconds=seconds,
            )
        return replace(outcome, seconds=seconds)

    def _extract_noted(self, table: Table, mode: Mode, lease: Lease, accepted: bool) -> Outcome:
        """Extract under the lease; the state hears that it began, and how it ended before the lease is given back."""
        turn = Turn(lease, ExtractionNote.begin(self.place.state.store, table.name, self.place.run_id))
        try:
            outcome = self._extract_alone(table, mode, turn, accepted)
        except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
            turn.note.failed(kind(error), told(error))
            return failed(table, error)
        return outcome

    def _extract_alone(self, table: Table, mode: Mode, turn: Turn, accepted: bool) -> Outcome:
        place = self.place
        resumed = clear_leftovers(place, table)
        if resumed is not None:
            batch, plan = resumed
            turn.note.batch_id = batch.id
            log.info("extraction.resumed", batch_id=batch.id, attempt=place.task.attempt)
            place.progress.started(table.name, plan.estimated_rows)
            watermark = place.state.progress(table.name).watermark
            read = partial(by_chunks, place, table, batch, plan, turn)
            landed, known = land(place, table, batch, plan, turn, read)
        else:
            batch_id, execution = new_batch_id(machine.now()), place.task.execution
            with ExitStack() as hold:
                prepared = prepare(
                    *(place.settings, place.state, table, mode, batch_id, execution, hold),
                    connections=place.connections,
                    accepted=accepted,
                )
                batch, plan, source = self._batch(prepared), prepared.plan, prepared.source
                watermark = prepared.progress.watermark
                place.progress.started(table.name, plan.estimated_rows)

                def begin() -> None:
                    self._begin(batch, prepared, turn)

                nothing = prepared.perhaps_empty and source.shows_none(plan.presence())
                if plan.bounds:
                    begin()
                    share(place.state.store, plan)
                    read = partial(by_chunks, place, table, batch, plan, turn, source=source)
                else:
                    hold.close()  # who waits for its locks would make the read wait too, which takes locks of its own
                    read = partial(by_one_statement, place, table, batch, plan, turn, begin=begin)
                landed, known = (None, 0) if nothing else land(place, table, batch, plan, turn, read)
        turn.note.succeeded(quiet=None if landed else batch.window)
        return brought(batch, landed, known, watermark)

    def _batch(self, prepared: Prepared) -> Batch:
        return Batch(
            id=prepared.plan.batch_id,
            run_id=self.place.run_id,
            table=prepared.plan.table,
            mode=prepared.decision.mode,
            window=prepared.window,
            anew=prepared.decision.anew,
            changes=prepared.decision.said,
            extracted_at=prepared.extracted_at,
            started_at=machine.now(),
            drift=prepared.drift,
            unseen=prepared.unseen,
        )

    def _begin(self, batch: Batch, prepared: Prepared, turn: Turn) -> None:
        state = self.place.state
        state.begin_extraction(batch.table, batch.extracted_at, turn.lease.token)
        remember(state.store, batch.table, batch.id, prepared.seen, prepared.counting)
        fault_point("extractor.remembered")
        state.create_batch(batch)
        turn.note.batch_id = batch.id
        fault_point("extractor.batch_noted")
