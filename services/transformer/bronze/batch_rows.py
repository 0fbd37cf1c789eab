"""A loaded batch's rows as bronze has them: one SELECT, which row tests read and bronze takes in. Pure functions."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.core.batch import Batch
from services.core.errors import DataError
from services.core.tables import EXTRACTED_AT, Table
from services.core.warehouse import TempTable

ADDED_COLUMNS = {
    "_loaded_at": "TIMESTAMP",
    "_source_table": "STRING",
    "_batch_id": "STRING",
    "_extracted_at": "TIMESTAMP",
    "_deleted_at": "TIMESTAMP",
}
"""The columns that bronze adds to the source's own, in order, with their types."""

_EXACTLY_HELD = {
    "NUMERIC": {"INT64"},
    "BIGNUMERIC": {"INT64", "NUMERIC"},
    "STRING": {"INT64", "NUMERIC", "BIGNUMERIC", "BOOL", "DATE", "TIME", "DATETIME", "TIMESTAMP"},
}
"""By type, the other types whose every value it holds."""

_ENDS_A_LITERAL = re.compile('[\x00-\x1f"\\\\\x7f\x85\u2028\u2029]')
_TABLE = re.compile(r"[A-Za-z0-9:.-]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+")
_IN_NO_NAME = re.compile("[`\\\\\x00-\x1f]")


@dataclass(frozen=True)
class Loaded:
    """A batch whose rows are in its hashed table, and what that table has."""

    batch: Batch
    temp: TempTable


def text_literal(value: str) -> str:
    """A value from outside as a BigQuery string literal.

    Only what would end the literal or the line is escaped, in JSON's way, which is BigQuery's too. JSON's own text of a
    character beyond U+FFFF would be two halves that BigQuery refuses
    (https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#escape_sequences).
    """
    return f'"{_ENDS_A_LITERAL.sub(lambda found: json.dumps(found[0])[1:-1], value)}"'


def timestamp_literal(moment: datetime) -> str:
    """A moment as a TIMESTAMP."""
    return f"timestamp({text_literal(moment.isoformat())})"


def quoted(name: str) -> str:
    """A column's name, quoted: reserved words are names, too.

    Raises:
        ValueError: BigQuery could take it for more than a name.
    """
    if not name or _IN_NO_NAME.search(name):
        raise ValueError(f"not a column's name: {name!r}")
    return f"`{name}`"


def quoted_table(table_id: str) -> str:
    """A table's id, project.dataset.table, quoted.

    Raises:
        ValueError: it is something else.
    """
    if not _TABLE.fullmatch(table_id):
        raise ValueError(f"not a table, project.dataset.table: {table_id!r}")
    return f"`{table_id}`"


def bronze_columns(table: Table, held: Mapping[str, str], batches: Sequence[Loaded]) -> dict[str, str]:
    """The source's columns that bronze has once the batches are in it, with their types, in bronze's order.

    Those that it holds keep their place and type; then come declared ones, then those that batches bring beyond them
    (schema_drift: evolve). BigQuery's names ignore case.

    Args:
        table: the declared table.
        held: the columns that bronze has now; none when it is not there.
        batches: what is to be taken in.
    """
    wanted = dict(held)
    names = {name.lower() for name in held}
    declared = {column.name: column.type.value for column in table.landed_columns}
    for columns in (declared, *(loaded.temp.columns for loaded in batches)):
        for name, type_ in columns.items():
            if name.lower() not in names and name != EXTRACTED_AT.name:
                names.add(name.lower())
                wanted[name] = type_
    return {name: type_ for name, type_ in wanted.items() if name.lower() not in ADDED_COLUMNS}


def batch_rows(table: Table, columns: Mapping[str, str], loaded: Loaded) -> str:
    """A SELECT of a batch's rows: bronze's columns, then those that bronze adds.

    No row is older than its batch, whatever the source's clock did: only so is a snapshot's row never older than the
    snapshot. None is newer than the batch's arrival, if nobody announced it: it cannot be of the future. Without a key,
    a row is exactly as new as its batch.

    Args:
        table: the declared table.
        columns: bronze's, without those that it adds, with their types.
        loaded: the batch and its hashed table.

    Raises:
        DataError: a column's type is one that bronze's cannot hold exactly: the batch waits, and nothing is lost.
    """
    batch = loaded.batch
    brought = {name.lower(): type_ for name, type_ in loaded.temp.columns.items()}
    values = [
        f"{_value(table, batch, name, type_, brought.get(name.lower()))} as {quoted(name)}"
        for name, type_ in columns.items()
    ]
    began = timestamp_literal(batch.extracted_at)
    read_at = f"greatest(coalesce(_extracted_at, {began}), {began})" if table.key else began
    if batch.arrived_at is not None:
        read_at = f"least({read_at}, {timestamp_literal(batch.arrived_at)})"
    # A file that a person dropped may bring deleted rows back as they were; a manifest of nobody deletes nothing.
    trusted = batch.arrived_at is None or batch.from_file
    deleted = table.deleted_at if trusted and (table.deleted_at or "").lower() in brought else None
    values += [
        "current_timestamp() as _loaded_at",
        f"{text_literal(batch.source or table.source)} as _source_table",
        f"{text_literal(batch.id)} as _batch_id",
        f"{read_at} as _extracted_at",
        f"cast({quoted(deleted) if deleted else 'null'} as timestamp) as _deleted_at",
    ]
    return f"select {', '.join(values)} from {quoted_table(loaded.temp.id)}"  # noqa: S608 - names are checked, values are literals


def _value(table: Table, batch: Batch, name: str, type_: str, brought: str | None) -> str:
    """A column's value in a batch's rows, with the type that the column has in bronze; null when the batch lacks it."""
    if brought == type_:
        return quoted(name)
    if brought is None:
        if name in table.key:
            message = f"the batch has no column {name}, which is in the key of bronze {table.bronze_model}"
            raise DataError("key_column_missing", message, table=table.name, batch_id=batch.id, column=name)
        return f"cast(null as {type_})"
    if brought in _EXACTLY_HELD.get(type_, ()):
        return f"cast({quoted(name)} as {type_})"
    message = (
        f"column {name} is {brought} in batch {batch.id} and {type_} in bronze {table.bronze_model}. Rename the column "
        "in bronze's base and delta (alter table … rename column), and the next run adds the new one; or exclude it in "
        "tables.yaml"
    )
    raise DataError("type_not_held", message, table=table.name, batch_id=batch.id, column=name)
