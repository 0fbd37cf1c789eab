"""What the source holds, as PostgreSQL itself writes it: what landed is compared with this (benchmarks/equality.py)."""

import tempfile

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql

from benchmarks.equality import Source, SourceColumn
from benchmarks.tables import SourceTable

SESSION = (
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
    "SET intervalstyle = 'postgres'",
    "CREATE FUNCTION pg_temp.iso(interval) RETURNS text LANGUAGE plpgsql SET intervalstyle = 'iso_8601' "
    "AS 'BEGIN RETURN $1::text; END'",
)

MICROSECONDS = "CASE WHEN isfinite({0}) THEN (extract(epoch FROM {0}) * 1000000)::numeric(30, 0)::text END"
OTHERS = {
    "date": "CASE WHEN isfinite({0}) THEN ({0} - DATE '1970-01-01')::text END",
    "timestamp with time zone": MICROSECONDS,
    "timestamp without time zone": MICROSECONDS,
    "time without time zone": "(extract(epoch FROM {0}) * 1000000)::numeric(30, 0)::text",
    "interval": "pg_temp.iso({0})",
}


def read_source(connection: psycopg.Connection, table: SourceTable) -> Source:
    """Everything that a table holds, in the order of its key's text."""
    for statement in SESSION:
        connection.execute(statement.encode())
    types: dict[str, str] = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [table.name],
        ).fetchall()
    )
    expressions = []
    for name, type_ in types.items():
        column = sql.Identifier(name).as_string(connection)
        expressions += [f"{column}::text", _other(type_).format(column)]
    statement = (
        f"COPY (SELECT {', '.join(expressions)} FROM {table.name}) TO STDOUT (FORMAT csv, NULL '', FORCE_QUOTE *)"
    )
    with tempfile.TemporaryFile() as file:
        with connection.cursor().copy(statement.encode()) as copied:
            for block in copied:
                file.write(block)
        file.seek(0)
        found = _parsed(file, len(expressions))
    key = list(types).index(table.key) * 2
    found = found.take(pc.sort_indices(found.column(key)))
    return Source(
        table.key,
        {
            name: SourceColumn(name, type_, found.column(2 * number), found.column(2 * number + 1))
            for number, (name, type_) in enumerate(types.items())
        },
    )


def _other(type_: str) -> str:
    return "array_to_json({0})::text" if type_.endswith("[]") else OTHERS.get(type_, "NULL")


def _parsed(file: object, columns: int) -> pa.Table:
    names = [str(number) for number in range(columns)]
    return pyarrow.csv.read_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=64 * 1024 * 1024),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
