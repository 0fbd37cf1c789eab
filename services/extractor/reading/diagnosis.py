"""Why the engine could not read: PostgreSQL is asked again by a client that gets to know the SQLSTATE.

The engine (DuckDB's postgres extension) hands a server's words over and not its code, and the words are in the server's
language. So the same statement is run once more, under the same snapshot, by psycopg, which leaves the rows: what comes
then is told apart by its code. If nothing comes, the failure was one that passes.
"""

from collections.abc import Sequence

import psycopg

from services.core.errors import DataError, PipelineError, TransientError
from services.extractor.planning.plan import Plan
from services.extractor.reading.reader import EngineFailed
from services.extractor.source.database import Source, open_source
from services.extractor.source.errors import condition, translated
from services.extractor.source.session import Snapshot
from services.extractor.source.sql import quoted

AHEAD = 200_000
"""Rows that the engine may have had, at most, when it failed, and not handed over."""

SEARCH = "60s"
"""How long a statement may take that looks for the column and the rows; only words depend on it."""


def cause(
    info: str, plan: Plan, statement: str, snapshot: Snapshot | None, failed: EngineFailed, *, last: bool
) -> PipelineError:
    """What a failure of the engine was.

    Args:
        info: libpq connection string.
        plan: what was read.
        statement: the part of it.
        snapshot: what was read under; None for one of its own.
        failed: what the engine said.
        last: whether it is not tried again: then nothing but the SQLSTATE decides. Before, words that are known to pass
            are taken for it, and rows that the engine was not near are not read.
    """
    passing = TransientError(f"table {plan.table}: the source broke off: {failed.words}")
    if not failed.spoken or (failed.known and not last):
        return passing
    name = snapshot.name if snapshot is not None else None
    try:
        with open_source(info, table=plan.table, snapshot=name) as source:
            try:
                source.read_away(statement, None if last else failed.rows + AHEAD)
            except psycopg.Error as error:
                found, code = translated(error, plan.table), error.sqlstate
            else:
                return passing
    except PipelineError as away:
        return away
    return _refused(info, plan, statement, code) if code and isinstance(found, DataError) else found


def _refused(info: str, plan: Plan, statement: str, code: str) -> PipelineError:
    """PostgreSQL refuses a value: of which column, and where to look for it."""
    try:
        with open_source(info, table=plan.table) as source:
            source.limit(SEARCH)
            column = _culprit(source, plan, statement, code)
    except PipelineError:
        column = None  # it is told all the same, only less exactly
    if column in plan.checks:
        return counted(info, plan, column)
    what = f"{condition(code)}, SQLSTATE {code}"
    where = f"look for it there: SELECT {quoted(column) if column else '*'} FROM {plan.relation}"
    which = f"column {column}: PostgreSQL refuses a value" if column else "PostgreSQL refuses a value of a row"
    return DataError("value_does_not_fit", f"{which} ({what}); {where}", table=plan.table, column=column)


def _culprit(source: Source, plan: Plan, statement: str, code: str) -> str | None:
    """The column that fails a statement, by halves; None where it is none of them, or the search takes too long."""

    def fails(columns: Sequence[int]) -> bool:
        counts = ", ".join(f"pg_catalog.count(c{number})" for number in columns) or "pg_catalog.count(*)"
        return source.fails(f"SELECT {counts} FROM ({statement}) AS looked_at") == code

    suspects: Sequence[int] = range(len(plan.columns) + len(plan.flags))
    if fails([]) or not fails(suspects):
        return None
    while len(suspects) > 1:
        half = suspects[: len(suspects) // 2]
        suspects = half if fails(half) else suspects[len(half) :]
    names = [*(column.name for column in plan.columns), *plan.flags]
    return names[suspects[0]]


def counted(info: str, plan: Plan, column: str) -> PipelineError:
    """A column has values that its declared type lacks: how many, and the statement that shows them."""
    which = plan.failing(column)
    try:
        with open_source(info, table=plan.table) as source:
            source.limit(SEARCH)
            rows = str(source.count(f"SELECT pg_catalog.count(*) FROM {plan.relation} WHERE {which}"))
    except PipelineError:
        rows = "some"
    declared = next(found.type for found in plan.columns if found.name == column)
    return DataError(
        "value_does_not_fit",
        f"column {column}: {rows} row(s) have a value that {declared} cannot hold; they are SELECT "
        f"{', '.join(plan.key) or '*'} FROM {plan.relation} WHERE {which}; correct them, or choose another "
        "on_unrepresentable in tables.yaml",
        table=plan.table,
        column=column,
    )
