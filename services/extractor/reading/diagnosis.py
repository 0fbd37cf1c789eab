"""Why the engine could not read: PostgreSQL is asked again by a client that gets to know the SQLSTATE.

DuckDB's postgres extension hands a server's words over and not its code, and the words are in the server's language. So
the same statement is run once more, under the same snapshot, by psycopg, which leaves the rows: what comes then is told
apart by its code. If nothing comes, the failure was one that passes.
"""

from collections.abc import Sequence

import psycopg

from services.core.errors import ConfigurationError, DataError, PipelineError, TransientError
from services.extractor.planning.plan import Plan
from services.extractor.reading.failure import EngineFailed
from services.extractor.source.database import open_source
from services.extractor.source.errors import condition, translated
from services.extractor.source.session import Snapshot

AHEAD = 200_000
"""Rows that the engine may have had, at most, when it failed, and not handed over."""

SEARCH = "60s"
"""How long a statement may take that looks for the column and the rows; only words depend on it."""


def cause(info: str, plan: Plan, statement: str, snapshot: Snapshot | None, failed: EngineFailed) -> PipelineError:
    """What a failure of the engine was.

    Args:
        info: libpq connection string.
        plan: what was read.
        statement: the part of it.
        snapshot: what was read under; None for one of its own.
        failed: what the engine said.

    Returns:
        The error to raise. Only a TransientError may pass.
    """
    if failed.column in plan.checks:
        return counted(info, plan, failed.column)
    passing = TransientError(f"table {plan.table}: the source broke off: {failed.words}")
    if failed.passing or not failed.spoken:
        return passing
    try:
        with open_source(info, snapshot=snapshot.name if snapshot is not None else None) as source:
            source.read_away(statement, failed.rows + AHEAD)
    except psycopg.Error as error:
        found = translated(error, plan.table)
        return _refused(info, plan, statement, error.sqlstate or "") if isinstance(found, DataError) else found
    except ConfigurationError as error:
        return error  # the connection itself is refused
    return passing


def counted(info: str, plan: Plan, column: str) -> DataError:
    """A column has values that its declared type lacks: how many, and the statement that shows them."""
    which = plan.failing(column)
    try:
        with open_source(info) as source:
            source.limit(SEARCH)
            found = source.count(f"SELECT pg_catalog.count(*) FROM {plan.relation} WHERE {which}")  # noqa: S608
            rows = f"{found} row(s) have"
    except (psycopg.Error, PipelineError):
        rows = "some rows have"  # it is told all the same, only less exactly
    declared = next(found.type for found in plan.columns if found.name == column)
    shown = f"SELECT {', '.join(plan.key) or '*'} FROM {plan.relation} WHERE {which}"  # noqa: S608
    what = (
        f"column {column}: {rows} a value that {declared} cannot hold; correct them, or choose another "
        f"on_unrepresentable in tables.yaml. They are: {shown}"
    )
    return DataError("value_does_not_fit", what, table=plan.table, column=column)


def _refused(info: str, plan: Plan, statement: str, code: str) -> DataError:
    """PostgreSQL refuses a value: of which column, and where to look for it."""
    try:
        column = _culprit(info, plan, statement, code)
    except (psycopg.Error, PipelineError):
        column = None  # it is told all the same, only less exactly
    if column in plan.checks:
        return counted(info, plan, column)
    which = f"column {column}: PostgreSQL refuses a value" if column else "PostgreSQL refuses a value"
    cure = "correct the row, or the source's expression; PostgreSQL's own log names the value"
    what = f"{which} of {plan.relation} ({condition(code)}, SQLSTATE {code}); {cure}"
    return DataError("value_does_not_fit", what, table=plan.table, column=column)


def _culprit(info: str, plan: Plan, statement: str, code: str) -> str | None:
    """The column that fails a statement, by halves; None where it is none of them, or the search takes too long."""
    with open_source(info) as source:
        source.limit(SEARCH)

        def fails(columns: Sequence[int]) -> bool:
            counts = ", ".join(f"pg_catalog.count(c{number})" for number in columns) or "pg_catalog.count(*)"
            return source.fails(f"SELECT {counts} FROM ({statement}) AS looked_at") == code  # noqa: S608

        suspects: Sequence[int] = range(len(plan.columns) + len(plan.flags))
        if fails([]) or not fails(suspects):
            return None
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            suspects = half if fails(half) else suspects[len(half) :]
    names = [*(column.name for column in plan.columns), *plan.flags]
    return names[suspects[0]]
