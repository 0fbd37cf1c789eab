"""Before a read: what the source has, whether it fits the contract, the window, the statement. Nothing is written."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from services.core.batch import Batch
from services.core.chain import Covered, covered
from services.core.errors import DataError
from services.core.manifest import ManifestColumn, schema_fingerprint
from services.core.settings import ExtractorSettings
from services.core.state.memory import Seen, recalled
from services.core.state.state import PipelineState, TableProgress
from services.core.tables import Mode, Table
from services.core.window import Window
from services.extractor.contract.drift import settle
from services.extractor.contract.mapping import Read, reads
from services.extractor.planning.again import again_flag, void
from services.extractor.planning.change import Change, Decision, Verdict, changes, decide
from services.extractor.planning.cursor import SettledCursor, settle_cursor
from services.extractor.planning.key import look_at_key, refuse_doubled
from services.extractor.planning.plan import Plan, not_older, page_bounds
from services.extractor.planning.promise import Blindness, Does, check_lookback, keeps_a_distance, unseen
from services.extractor.planning.seen import ask, see
from services.extractor.planning.window import (
    MOST_EXPRESSIONS,
    index_statement,
    next_window,
    predicate,
    refused_rows,
    select_list,
    unread,
    window_high,
)
from services.extractor.source.catalog import RelationKind
from services.extractor.source.clock import SourceClock
from services.extractor.source.connection import Connections, conninfo
from services.extractor.source.database import Estimate, Source, open_source
from services.extractor.source.origin import Origin
from services.extractor.source.sql import quoted, relation_sql
from services.extractor.source.storage import Storage
from services.extractor.source.terms import hashed

INDEX_PAGES = 1_000
"""Pages from which on a window without an index is worth a warning: reading them all takes a noticeable time."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Prepared:
    """What an extraction is going to read."""

    plan: Plan
    window: Window
    decision: Decision
    """The mode, and what had changed."""
    seen: Seen
    """What the batch rests on, to be remembered."""
    counting: frozenset[str]
    """Batches of which it has to be remembered, too."""
    extracted_at: datetime
    """Before the read, by the source's clock, and later than any extraction of the table before."""
    progress: TableProgress
    drift: list[str]
    source: Source
    """In the transaction that all this was asked in, if it was to be held."""
    cursor: SettledCursor | None
    unseen: list[str]
    """What could not be seen of the rows that are still to come, or of the key, for people."""
    missing_index: str | None
    """The CREATE INDEX statement that would make windows cheap; None when there is nothing to say."""
    perhaps_empty: bool
    """Whether one cheap question can show that the window has no rows, in the transaction that planned it."""


def prepare(
    settings: ExtractorSettings,
    state: PipelineState,
    table: Table,
    mode: Mode,
    batch_id: str,
    execution: str,
    hold: ExitStack | None = None,
    *,
    connections: Connections | None = None,
    accepted: bool = False,
) -> Prepared:
    """Ask the source and the state, and decide.

    Args:
        settings: the extractor's.
        state: how far the table is, and what that rests on.
        table: its declaration.
        mode: how it is to be read, if nothing has changed.
        batch_id: the batch's.
        execution: Cloud Run execution whose tasks may work on it.
        hold: keeps the source's transaction, and what it has locked, for the read; without it, it ends here.
        connections: those to the source that wait to be taken up again.
        accepted: whether a person accepts what changed at the source; then it is a snapshot.

    Raises:
        ConfigurationError: the source does not fit what is declared.
        SourceChanged: it is not what the watermark rests on, and a person has to accept that.
        DataError: a policy of the cursor says that its rows fail the run.
        psycopg.OperationalError: the source cannot be reached.
    """
    safety_lag = settings.extract_safety_lag
    with open_source(conninfo(settings), hold, kept=connections) as source:
        relation = source.relation(table)
        settled = settle(table, relation)
        for difference in settled.differences:
            log.warning("schema.drift", policy=table.schema_drift.value, difference=difference)
        uncertain = look_at_key(source, table, relation)
        landed = [
            (read, found.declared if found else None)
            for column, found in settled.columns
            for read in reads(column, found, table)
        ]
        select, flags = select_list(table, [read for read, _ in landed])
        cursor = settle_cursor(table, source.cursor_type(table, relation), relation)
        origin = source.origin(relation)
        clock = source.clock()
        blind = unseen(clock, origin)
        _say_what_is_unseen(blind, clock, safety_lag)
        progress = state.progress(table.name)
        on_their_way = state.open_batches(table.name)
        reached = covered(progress.covered, on_their_way)
        before = recalled(state.store, table.name, reached.batch)
        server = source.server()  # after what is remembered, which it cannot be behind of
        secret = settings.extract_mask_secret.get_secret_value()
        kept = safety_lag.total_seconds() if keeps_a_distance(blind) else 0.0
        seen = see(table, mode, server, relation, origin, cursor, settled.columns, kept, secret)
        found = _changed(source, table, reached, before, seen, origin, cursor)
        decision = decide(table, mode, found, accepted=accepted)
        _say_what_changed(decision)
        mode = decision.mode
        check_lookback(table, mode, blind)
        high = window_high(clock, origin, cursor, safety_lag)
        window = next_window(mode, reached.until, high, anew=decision.anew)
        log.info(
            "window.planned",
            mode=mode.value,
            low=window.low.isoformat() if window.low else None,
            high=window.high.isoformat(),
            cursor=cursor.described if cursor else None,
            oldest_transaction=clock.oldest_transaction.isoformat() if clock.oldest_transaction else None,
        )
        for what, counting in refused_rows(table, cursor, mode, window, clock.now.astimezone(UTC)):
            if rows := source.count(counting):
                raise DataError(
                    "cursor_policy",
                    f"{rows} row(s) of {table.source} have {what}, and the policy in tables.yaml is 'fail'",
                    table=table.name,
                )
        storage = source.storage(table)
        plan = Plan(
            batch_id=batch_id,
            table=table.name,
            execution=execution,
            select=select,
            relation=relation_sql(table),
            key=[quoted(column.name_in_source) for column in table.columns if column.name in table.key],
            checks={read.column.name: read.refused for read, _ in landed if read.refused is not None},
            condition=predicate(cursor, mode, window),
            columns=[_manifest_column(read, type_) for read, type_ in landed],
            flags=flags,
            bounds=[],
            layout=storage.layout,
            server=server,
            hashed=hashed(table),
            view_lock=source.view_lock(table) if relation.kind is RelationKind.VIEW else "",
            estimated_rows=0,
        )
        estimate = source.estimate(plan.statement())
        plan = plan.model_copy(update={"foreign_tables": source.foreign_tables(estimate)})
        if uncertain is not None:
            source.lock_foreign(plan.foreign_tables)  # within its time; the count itself may take longer
            refuse_doubled(source, table, plan.condition)
        missing = _missing_index(source, table, cursor, plan, window, mode, storage, estimate)
        # Without a key nobody could tell a row that two snapshots saw from two rows: one statement, one snapshot.
        everything = bool(table.key) and (mode is Mode.SNAPSHOT or window.low is None or "Seq Scan" in estimate.scans)
        bounds = page_bounds(storage, settings.extract_chunk_pages, everything=everything)
        if cursor is not None and table.mode is Mode.INCREMENTAL and settings.extract_fingerprints:
            tip = _tip(state, reached, mode, window, progress, before, seen, plan)
            newer = not_older(source.oldest_running()) if tip and bounds else None
            flag = again_flag(cursor, window, tip.fingerprints if tip else None, newer)
            plan = _flagged(table, plan, [read for read, _ in landed], flag, tip)
    # Orders row versions: later than the extraction before, whatever the source's clock does.
    extracted_at = clock.now.astimezone(UTC)
    if progress.extracted_at is not None:
        extracted_at = max(extracted_at, progress.extracted_at + timedelta(microseconds=1))
    return Prepared(
        plan=plan.model_copy(
            update={"bounds": bounds, "estimated_rows": estimate.rows, "unannounced": progress.unannounced}
        ),
        window=window,
        decision=decision,
        seen=seen,
        counting=frozenset({*(batch.id for batch in on_their_way), *([reached.batch] if reached.batch else [])}),
        extracted_at=extracted_at,
        progress=progress,
        drift=settled.differences,
        source=source,
        cursor=cursor,
        unseen=[*(blindness.said for blindness in blind), *([uncertain] if uncertain else [])],
        missing_index=missing,
        perhaps_empty=not bounds and _perhaps_empty(origin, mode, window, storage, estimate),
    )


def _perhaps_empty(origin: Origin, mode: Mode, window: Window, storage: Storage, estimate: Estimate) -> bool:
    """Whether to ask if there are rows, before a read is begun: of most tables, most runs find none.

    To begin a read, with a connection of its own, takes longer than this question. It is as good as the read, which
    would take its snapshot after the window's end was fixed and after the locks, too. Only rows in tables count: what
    functions below a view see, and another server, the read's own locks and snapshot are for. A snapshot of the table
    says something without rows, too.
    """
    if mode is not Mode.INCREMENTAL or not origin.plain:
        return False
    if window.low is None:
        return storage.pages == 0
    return storage.pages < INDEX_PAGES or "Seq Scan" not in estimate.scans  # else nothing is found by reading it all


def _tip(
    state: PipelineState,
    reached: Covered,
    mode: Mode,
    window: Window,
    progress: TableProgress,
    before: Seen | None,
    now: Seen,
    plan: Plan,
) -> Batch | None:
    """The batch that a window follows, if it has kept fingerprints and they count."""
    tip = state.batch(reached.batch) if reached.batch and mode is Mode.INCREMENTAL else None
    if tip is None or tip.fingerprints is None:
        return None
    reason = void(tip, window, progress, before, now, schema_fingerprint(plan.columns))
    if reason is not None:
        log.info("fingerprints.void", of_batch=tip.id, reason=reason, effect="rows that are read again land again")
    return tip if reason is None else None


def _flagged(table: Table, plan: Plan, reads: list[Read], flag: str, tip: Batch | None) -> Plan:
    """The plan with a flag behind each row, if PostgreSQL takes one more expression."""
    if len(reads) + len(plan.flags) >= MOST_EXPRESSIONS:
        return plan
    select, _ = select_list(table, reads, flag)
    return plan.model_copy(update={"select": select, "again": True, "tip": tip.id if tip else None})


def _manifest_column(read: Read, source_type: str | None) -> ManifestColumn:
    column = read.column
    return ManifestColumn(name=column.name, type=column.type, required=column.required, source_type=source_type)


def _changed(
    source: Source,
    table: Table,
    reached: Covered,
    before: Seen | None,
    now: Seen,
    origin: Origin,
    cursor: SettledCursor | None,
) -> list[Change]:
    """What changed since the batch that the next window follows."""
    if reached.until is None:
        return []
    if before is None:
        return [Change("nothing is remembered of what the watermark rests on; from now on it is", Verdict.NOTE)]
    older = unread(cursor, reached.until) if cursor else "true"
    return changes(before, now, ask(source, table, before, now, origin, older))


def _say_what_changed(decision: Decision) -> None:
    for change in decision.changes:
        if change.verdict is Verdict.NOTE:
            log.info("source.changed", change=change.what)
        else:
            log.warning("source.changed", change=change.what)
    if decision.due:
        log.warning("snapshot.due", reason="; ".join(decision.due), anew=decision.anew)


def _say_what_is_unseen(blind: list[Blindness], clock: SourceClock, safety_lag: timedelta) -> None:
    seconds = safety_lag.total_seconds()
    replayed = clock.replayed.isoformat() if clock.replayed else None
    for blindness in blind:
        match blindness.rule.does:
            case Does.SAFETY_LAG:
                log.warning("window.safety_lag", reason=blindness.said, replayed=replayed, safety_lag_seconds=seconds)
            case Does.HOLD:
                log.warning("window.held", reason=blindness.said)
            case Does.LOOKBACK:
                log.warning("window.lookback", reason=blindness.said)


def _missing_index(
    source: Source,
    table: Table,
    cursor: SettledCursor | None,
    plan: Plan,
    window: Window,
    mode: Mode,
    storage: Storage,
    estimate: Estimate,
) -> str | None:
    """The index that a narrow window lacks; the planner says whether any could serve."""
    narrow = cursor is not None and mode is Mode.INCREMENTAL and window.low is not None
    if cursor is None or not narrow or storage.pages < INDEX_PAGES or "Seq Scan" not in estimate.scans:
        return None
    if "Seq Scan" not in source.estimate(plan.statement(), index_only=True).scans:
        return None  # there is one; the planner expects so many rows that reading everything is cheaper
    statement = index_statement(table, cursor)
    log.warning(
        "window.no_index",
        reason="every run reads the whole table, because no index serves the cursor",
        statement=statement,
        pages=storage.pages,
    )
    return statement
