"""Load a folder of Parquet files into PostgreSQL, one table per file."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from local.sample.arrow_types import fits, postgres_type
from local.sample.seeding import SCHEMA, Progress, copy_into

BATCH_ROWS = 16_384
BATCH_BYTES = 32 << 20
"""Most rows, and roughly most bytes, in memory at a time."""

_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_NAME_BYTES = 63  # PostgreSQL cuts longer names off
_FILES_FAULT = ("0A", "22", "23", "42", "54")
"""SQLSTATE classes: not supported, data, constraint, definition, limit. Everything else is the database's trouble."""

_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = %s AND c.relname = %s
"""


class BadFileError(ValueError):
    """A file cannot become a table as it is. The message is the reason."""


@dataclass(frozen=True)
class LoadedFile:
    """A file that is now the content of a table."""

    file: str
    table: str
    rows: int


@dataclass(frozen=True)
class BadFile:
    """A file that was left out; its table, if there was one, is as it was."""

    file: str
    reason: str


@dataclass(frozen=True)
class FolderReport:
    """What became of the files of a folder, by name."""

    loaded: tuple[LoadedFile, ...]
    bad: tuple[BadFile, ...]

    @property
    def ok(self) -> bool:
        """Whether there was something to load and all of it was loaded."""
        return bool(self.loaded) and not self.bad


def load_folder(
    connection: psycopg.Connection, folder: Path, *, schema: str = SCHEMA, on_progress: Progress | None = None
) -> FolderReport:
    """Make the table named like each `*.parquet` file of a folder hold exactly the file's rows.

    A missing table is created with the types of the file; an existing one keeps its own, and must have the same columns
    with types that take the file's values exactly. Each file is one transaction: loaded whole, or left out with a
    reason in the report. Loading again gives the same result. Memory holds one batch of rows.

    Args:
        connection: to the database, with no transaction open.
        folder: where the files are; folders inside it are not looked into.
        schema: where the tables are; created if missing.
        on_progress: told about the rows copied, batch by batch.

    Raises:
        NotADirectoryError: there is no such folder.
        psycopg.Error: the database failed, rather than a file.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".parquet")
    same_name = Counter(path.stem.lower() for path in paths)
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))

    loaded: list[LoadedFile] = []
    bad: list[BadFile] = []
    for path in paths:
        try:
            if same_name[path.stem.lower()] > 1:
                raise BadFileError("another file has the same name but for upper and lower case")
            loaded.append(LoadedFile(path.name, path.stem, _load(connection, path, schema, on_progress)))
        except (ValueError, OverflowError, OSError, pa.ArrowException) as error:
            bad.append(BadFile(path.name, _reason(error)))
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in _FILES_FAULT:
                raise
            bad.append(BadFile(path.name, f"PostgreSQL refuses it: {_reason(error)}"))
    return FolderReport(tuple(loaded), tuple(bad))


def _load(connection: psycopg.Connection, path: Path, schema: str, on_progress: Progress | None) -> int:
    """Replace one table's content by one file's; the rows."""
    table = path.stem
    if not _TABLE_NAME.fullmatch(table) or len(table) > _MAX_NAME_BYTES:
        raise BadFileError(f"{table!r} is no table name: letters, digits and underscores, at most {_MAX_NAME_BYTES}")
    if path.is_dir():
        raise BadFileError("it is a folder, not a file")
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True) as file:
        types = column_types(file.schema_arrow)
        name = sql.Identifier(schema, table)
        with connection.transaction():
            if not _check_existing(connection, schema, table, file.schema_arrow):
                connection.execute(_create_table(name, types))
            connection.execute(sql.SQL("TRUNCATE {}").format(name))
            rows = copy_into(connection, schema, table, _batches(file), on_progress)
            if rows != file.metadata.num_rows:
                raise BadFileError(f"it says {file.metadata.num_rows} rows, but has {rows}")
    return rows


def column_types(schema: pa.Schema) -> dict[str, str]:
    """PostgreSQL types of a file's columns, by name.

    Raises:
        BadFileError: a column's name or type cannot be had in PostgreSQL, or two names differ by case only.
    """
    if not schema.names:
        raise BadFileError("it has no columns")
    repeated = [name for name, times in Counter(name.lower() for name in schema.names).items() if times > 1]
    if repeated:
        raise BadFileError(f"more than one column is named {repeated[0]!r}, but for upper and lower case")
    types: dict[str, str] = {}
    for field in schema:
        if not field.name or "\0" in field.name or len(field.name.encode()) > _MAX_NAME_BYTES:
            raise BadFileError(f"{field.name!r} is no column name: 1 to {_MAX_NAME_BYTES} bytes")
        try:
            types[field.name] = postgres_type(field.type)
        except ValueError as error:
            raise BadFileError(f"column {field.name!r}: {error}") from error
    return types


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        row_bytes = group.total_byte_size // max(group.num_rows, 1) + 1
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
        yield from file.iter_batches(batch_size=rows, row_groups=[number])


def _check_existing(connection: psycopg.Connection, schema: str, table: str, arrow: pa.Schema) -> bool:
    """Whether the table exists.

    Raises:
        BadFileError: it exists and cannot take the file's columns.
    """
    found = connection.execute(_COLUMNS, [schema, table]).fetchall()
    if not found:
        return False
    existing = {column: kind for column, kind in found if column is not None}
    if existing.keys() != set(arrow.names):
        missing = sorted(existing.keys() - set(arrow.names))
        extra = sorted(set(arrow.names) - existing.keys())
        raise BadFileError(f"its columns are not those of {schema}.{table}: missing {missing}, unknown {extra}")
    for field in arrow:
        kind, column = postgres_type(field.type), existing[field.name]
        if not (pa.types.is_null(field.type) or fits(kind, column)):
            raise BadFileError(f"column {field.name!r} is {column} in {schema}.{table} and cannot hold {kind} exactly")
    return True


def _create_table(name: sql.Identifier, types: dict[str, str]) -> sql.Composed:
    columns = (sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in types.items())
    return sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(columns))


def _reason(error: Exception) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
