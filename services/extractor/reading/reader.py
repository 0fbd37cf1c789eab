"""The big read: SELECTs streamed from PostgreSQL as Arrow batches."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from services.core.arrow import conform
from services.extractor.planning.plan import Plan
from services.extractor.reading.engine import Engine, Session
from services.extractor.reading.failure import EngineFailed, RowsTooWide
from services.extractor.reading.guard import check_server
from services.extractor.reading.sieve import Sifting
from services.extractor.source.locks import SECOND_WAIT, foreign_locks, opening
from services.extractor.source.server import answered, asking
from services.extractor.source.session import Snapshot
from services.extractor.source.sql import text_literal
from services.extractor.source.terms import check_options, check_terms, read_terms, set_terms

log = structlog.get_logger()


class Reader:
    """One session of an engine at a time; not for several threads at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Session | None = None

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            session, self._session = self._session, None
            session.close()

    def read(
        self,
        plan: Plan,
        statement: str,
        snapshot: Snapshot | None,
        read_at: datetime,
        counts: Counter[str],
        sifting: Sifting | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Stream a statement's rows as batches of the plan's columns, in memory that grows with no table and no row.

        Rows that are too wide for the faster engine are read by the other one, from here on in this process.

        Args:
            plan: the columns.
            statement: what is read.
            snapshot: the snapshot to read under; None for one of its own, taken once what is read is locked.
            read_at: value of ``_extracted_at``.
            counts: per column, the values that could not be held; added to.
            sifting: tells what is no news, and is left out, in a plan whose rows have an ``Again``.

        Raises:
            ConfigurationError: the session does not keep what was set.
            DataError: a value does not fit its column.
            RowsTooWide: they came after narrower ones: the statement has to be read again, as a whole.
            EngineFailed: anything else; this reader connects again at its next use.
        """
        came = Counter[str]()
        try:
            yield from self._read(plan, statement, snapshot, read_at, counts, sifting, came)
        except RowsTooWide:
            self.close()
            self._engine.read_by_bytes(plan.table)
            log.info("read.by_bytes", reason="the rows are too wide to be read by vectors")
            if came["rows"]:
                raise
        except EngineFailed as failed:
            self.close()
            failed.rows = came["rows"]
            raise
        except BaseException:
            self.close()
            raise
        else:
            return
        yield from self.read(plan, statement, snapshot, read_at, counts, sifting)

    def _read(
        self,
        plan: Plan,
        statement: str,
        snapshot: Snapshot | None,
        read_at: datetime,
        counts: Counter[str],
        sifting: Sifting | None,
        came: Counter[str],
    ) -> Iterator[pa.RecordBatch]:
        if self._session is None:
            self._session = self._engine.session(plan.table)
        session = self._session
        _open(session, plan, statement, snapshot)
        width = len(plan.columns)
        for batch in session.batches(statement, plan.columns):
            if not batch.num_rows:
                continue
            came["rows"] += batch.num_rows
            landing = conform(batch, plan.columns, plan.table, read_at)
            news = sifting.news(landing, batch.column(width + len(plan.flags))) if sifting and plan.again else None
            if news is not None:
                batch, landing = batch.filter(news), landing.filter(news)
            for offset, name in enumerate(plan.flags):
                counts[name] += pc.sum(batch.column(width + offset)).as_py() or 0
            if landing.num_rows:
                yield landing
        session.commit()


def _open(session: Session, plan: Plan, statement: str, snapshot: Snapshot | None) -> None:
    """Begin the transaction: its terms, its locks, its snapshot; and see that the terms are kept."""
    name = text_literal(snapshot.name) if snapshot is not None else None
    begin = opening(statement, set_terms(), name, plan.view_lock)
    session.begin([*begin, *foreign_locks(plan.foreign_tables, SECOND_WAIT)])
    found = session.row(read_terms())
    check_terms(found)
    check_options(found, plan.table, plan.hashed)
    if plan.server is not None:
        check_server(plan, answered(session.row(asking(plan.server))))
