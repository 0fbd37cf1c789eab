"""Before a read: what the source has, whether it fits the contract, the window, the statement. Nothing is written."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from services.core.errors import DataError
from services.core.manifest import ManifestColumn
from services.core.settings import ExtractorSettings
from services.core.state.state import PipelineState, TableProgress
from services.core.tables import Mode, Table
from services.core.window import Window
from services.extractor.contract.drift import settle
from services.extractor.contract.mapping import Read, reads
from services.extractor.planning.plan import Plan, page_bounds, rows_in_memory
from services.extractor.planning.window import (
    index_statement,
    next_window,
    predicate,
    refused_rows,
    relation_sql,
    select_list,
    window_high,
)
from services.extractor.source.catalog import RelationKind
from services.extractor.source.database import Estimate, Source, SourceClock, Storage, conninfo, open_source
from services.extractor.source.sql import quoted
from services.extractor.source.terms import hashed

INDEX_PAGES = 1_000
"""Pages from which on a window without an index is worth a warning: reading them all takes a noticeable time."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Prepared:
    """What an extraction is going to read."""

    plan: Plan
    window: Window
    mode: Mode
    extracted_at: datetime
    """Before the read, by the source's clock, and later than any extraction of the table before."""
    progress: TableProgress
    drift: list[str]
    source: Source
    """In the transaction that all this was asked in, if it was to be held."""
    missing_index: str | None
    """The CREATE INDEX statement that would make windows cheap; None when there is nothing to say."""


def prepare(
    settings: ExtractorSettings,
    state: PipelineState,
    table: Table,
    mode: Mode,
    batch_id: str,
    execution: str,
    hold: ExitStack | None = None,
) -> Prepared:
    """Ask the source and the state, and decide.

    Args:
        settings: of the extractor.
        state: where the watermark and the open batches are.
        table: what is extracted.
        mode: how.
        batch_id: of the new batch.
        execution: whose tasks may work on it.
        hold: keeps the source's transaction, and what it has locked, for the read; without it, it ends here.

    Raises:
        ConfigurationError: the source does not fit what is declared.
        DataError: a policy of the cursor says that its rows fail the run.
        TransientError: the source cannot be reached, or a lock cannot be had.
    """
    with open_source(conninfo(settings), hold, table=table.name) as source:
        relation = source.relation(table)
        settled = settle(table, relation)
        for difference in settled.differences:
            log.warning("schema.drift", policy=table.schema_drift.value, difference=difference)
        landed = [
            (read, found.declared if found else None)
            for column, found in settled.columns
            for read in reads(column, found, table)
        ]
        clock = source.clock()
        _say_what_is_hidden(clock, settings.extract_safety_lag)
        progress = state.progress(table.name)
        high = window_high(clock, table.cursor, settings.extract_safety_lag)
        window = next_window(mode, progress.watermark, state.open_batches(table.name), high)
        log.info(
            "window.planned",
            mode=mode.value,
            low=window.low.isoformat() if window.low else None,
            high=window.high.isoformat(),
            oldest_transaction=clock.oldest_transaction.isoformat() if clock.oldest_transaction else None,
        )
        # The future begins a minute from now, not at the window's end, beyond which rows are written all the time.
        future = max(window.high, (clock.now + timedelta(minutes=1)).astimezone(UTC))
        for what, counting in refused_rows(table, mode, window.model_copy(update={"high": future})):
            if rows := source.count(counting):
                raise DataError(
                    "cursor_policy",
                    f"{rows} row(s) of {table.source} have {what}, and the policy in tables.yaml is 'fail'",
                    table=table.name,
                )
        storage = source.storage(table)
        select, flags = select_list(table, [read for read, _ in landed])
        plan = Plan(
            batch_id=batch_id,
            table=table.name,
            execution=execution,
            select=select,
            relation=relation_sql(table),
            key=[quoted(column.name_in_source) for column in table.columns if column.name in table.key],
            checks={read.column.name: read.refused for read, _ in landed if read.refused is not None},
            condition=predicate(table, mode, window),
            columns=[_manifest_column(read, type_) for read, type_ in landed],
            flags=flags,
            bounds=[],
            layout=storage.layout,
            hashed=hashed(table),
            view_lock=source.view_lock(table) if relation.kind is RelationKind.VIEW else "",
            batch_rows=rows_in_memory(storage),
            estimated_rows=0,
        )
        estimate = source.estimate(plan.statement())
        plan = plan.model_copy(update={"foreign_tables": source.foreign_tables(estimate)})
        missing = _missing_index(source, table, plan, window, mode, storage, estimate)
    # Without a key nobody could tell a row that two snapshots saw from two rows: one statement, one snapshot.
    everything = bool(table.key) and (mode is Mode.SNAPSHOT or window.low is None or "Seq Scan" in estimate.scans)
    bounds = page_bounds(storage, settings.extract_chunk_pages, everything=everything)
    # Orders row versions: later than the extraction before, whatever the source's clock does.
    extracted_at = clock.now.astimezone(UTC)
    if progress.extracted_at is not None:
        extracted_at = max(extracted_at, progress.extracted_at + timedelta(microseconds=1))
    return Prepared(
        plan=plan.model_copy(update={"bounds": bounds, "estimated_rows": estimate.rows}),
        window=window,
        mode=mode,
        extracted_at=extracted_at,
        progress=progress,
        drift=settled.differences,
        source=source,
        missing_index=missing,
    )


def _manifest_column(read: Read, source_type: str | None) -> ManifestColumn:
    column = read.column
    return ManifestColumn(name=column.name, type=column.type, required=column.required, source_type=source_type)


def _say_what_is_hidden(clock: SourceClock, safety_lag: timedelta) -> None:
    seconds = safety_lag.total_seconds()
    if clock.replayed is not None:
        reason = "this server is a replica: its primary's open transactions cannot be seen from here"
        log.warning("window.safety_lag", reason=reason, replayed=clock.replayed.isoformat(), safety_lag_seconds=seconds)
    elif not clock.sees_others:
        reason = "this role cannot see other users' transactions; GRANT pg_read_all_stats to it"
        log.warning("window.safety_lag", reason=reason, safety_lag_seconds=seconds)


def _missing_index(
    source: Source, table: Table, plan: Plan, window: Window, mode: Mode, storage: Storage, estimate: Estimate
) -> str | None:
    """The index that a narrow window lacks; the planner says whether any could serve."""
    cursor = table.cursor
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
