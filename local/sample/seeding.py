"""Fill the source database with a sample."""

from collections.abc import Callable, Iterable
from importlib.resources import files

import psycopg
import pyarrow as pa
from psycopg import sql

from local.sample.companies import companies
from local.sample.copy_text import copy_text
from local.sample.installments import installments
from local.sample.spec import SampleSpec

SCHEMA = "oltp"
COMPANIES = "business_case_cnpj_ws"
INSTALLMENTS = "business_case_installments"
CURSOR_INDEXES = ("business_case_cnpj_ws_cursor", "business_case_installments_cursor")

Progress = Callable[[str, int], None]
"""Called with a table's name and the rows copied into it so far."""


def create_schema(connection: psycopg.Connection) -> None:
    """Create schema oltp, its two tables and their indexes where they do not exist yet."""
    statements = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    with connection.transaction():
        connection.execute(statements)


def seed(connection: psycopg.Connection, spec: SampleSpec, on_progress: Progress | None = None) -> dict[str, int]:
    """Make both tables hold exactly the sample, whatever they held before.

    The tables are created if missing, emptied (TRUNCATE: readers wait) and filled in one transaction: nobody sees half,
    and after a failure everything is as it was. The same spec gives the same rows, however often it is run. With a
    transaction already open on the connection, the caller commits.

    Args:
        connection: to the source database, as somebody who may create schemas.
        spec: the sample.
        on_progress: told about the rows copied, chunk by chunk.

    Returns:
        Rows per table.
    """
    filled: dict[str, int] = {}
    with connection.transaction():
        create_schema(connection)
        connection.execute(
            sql.SQL("TRUNCATE {}, {}").format(sql.Identifier(SCHEMA, COMPANIES), sql.Identifier(SCHEMA, INSTALLMENTS))
        )
        for index in CURSOR_INDEXES:  # built once over all rows, instead of row by row: a quarter of the time
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(SCHEMA, index)))
        for table, batches in ((COMPANIES, companies(spec)), (INSTALLMENTS, installments(spec))):
            filled[table] = copy_into(connection, SCHEMA, table, batches, on_progress)
        create_schema(connection)
        for table in filled:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(SCHEMA, table)))
    return filled


def copy_into(
    connection: psycopg.Connection,
    schema: str,
    table: str,
    batches: Iterable[pa.RecordBatch],
    on_progress: Progress | None = None,
) -> int:
    """Append batches to a table by COPY, holding one batch at a time; columns are matched by name.

    Returns:
        Rows copied.

    Raises:
        ValueError: a value cannot be written exactly.
        psycopg.Error: PostgreSQL refuses a value, or the statement.
    """
    rows = 0
    batches = iter(batches)
    batch = next(batches, None)
    if batch is None:
        return 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(sql.Identifier(name) for name in batch.schema.names)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        while batch is not None:
            copy.write(copy_text(batch))
            rows += batch.num_rows
            if on_progress is not None:
                on_progress(table, rows)
            batch = next(batches, None)
    return rows
