"""The tables that contenders bring into Parquet: many rows, wide rows, and values at the edge of what a type has."""

from collections.abc import Sequence
from dataclasses import dataclass

SCHEMA = "bench"


@dataclass(frozen=True)
class SourceTable:
    """A table of the source."""

    name: str
    """``schema.relation``."""
    key: str
    what: str
    """For people."""
    statements: tuple[str, ...] = ()
    """What makes it."""

    @property
    def relation(self) -> str:
        """Its name within the schema."""
        return self.name.partition(".")[2]


INSTALLMENTS = SourceTable("oltp.business_case_installments", "asset_id", "installments")


def texts(rows: int) -> SourceTable:
    """Rows of 20 texts, some 0.9 kB each."""
    columns = ", ".join(
        f"md5((n * 20 + {number})::text) || left(md5(n::text), 13) AS t{number}" for number in range(20)
    )
    name = f"{SCHEMA}.texts"
    return SourceTable(
        name,
        "id",
        "20 texts",
        (
            f"CREATE TABLE {name} AS SELECT n AS id, {columns} FROM generate_series(1, {rows}) n",
            f"ALTER TABLE {name} ADD PRIMARY KEY (id)",
        ),
    )


def bodies(rows: int) -> SourceTable:
    """Rows of 100 kB, stored as they are."""
    name = f"{SCHEMA}.bodies"
    return SourceTable(
        name,
        "id",
        "rows of 100 kB",
        (
            f"CREATE TABLE {name} (id integer PRIMARY KEY, body text)",
            f"ALTER TABLE {name} ALTER body SET STORAGE EXTERNAL",
            f"INSERT INTO {name} SELECT n, repeat(md5(n::text), 3200) FROM generate_series(1, {rows}) n",
        ),
    )


def giant() -> SourceTable:
    """One row of 200 MB among short ones."""
    name = f"{SCHEMA}.giant"
    return SourceTable(
        name,
        "id",
        "rows, one of 200 MB",
        (
            f"CREATE TABLE {name} AS SELECT n AS id, n::text AS body FROM generate_series(1, 5000) n",
            f"INSERT INTO {name} SELECT 0, repeat('0123456789', 20000000)",
            f"ALTER TABLE {name} ADD PRIMARY KEY (id)",
        ),
    )


@dataclass(frozen=True)
class Edge:
    """Values of one type; each is a table of its own, so that one that cannot be read hides no other."""

    what: str
    type: str
    values: Sequence[str]
    """As PostgreSQL reads them. A null comes on top."""


EDGES = [
    Edge("bigint, first and last", "bigint", ["-9223372036854775808", "9223372036854775807", "0"]),
    Edge("numeric(18,2)", "numeric(18,2)", ["0.01", "-9999999999999999.99", "1.50"]),
    Edge("numeric(38,9)", "numeric(38,9)", ["99999999999999999999999999999.999999999", "-0.000000001"]),
    Edge("numeric(50,10), 50 digits", "numeric(50,10)", ["1234567890123456789012345678901234567890.0123456789"]),
    Edge("numeric without a precision", "numeric", ["0.1", "123456789012345678901234567890.12345", "1e-20"]),
    Edge("numeric NaN", "numeric(18,2)", ["NaN", "1.50"]),
    Edge("numeric infinity", "numeric", ["Infinity", "1.5"]),
    Edge("double precision", "double precision", ["0.1", "-0", "NaN", "Infinity", "5e-324", "1.7976931348623157e308"]),
    Edge("real", "real", ["0.1", "3.4028235e38", "-0"]),
    Edge("boolean", "boolean", ["t", "f"]),
    Edge(
        "text, strange characters",
        "text",
        ["", " ", 'it\'s "a" \\ b', "\n\r\t", "\x01\x7f", "日本語 😀 e\u0301\u202e\uffff"],
    ),
    Edge("text that looks like null", "text", ["NULL", "\\N", "None", "nan"]),
    Edge("bytea", "bytea", ["\\x", "\\x00ff5c27"]),
    Edge("uuid", "uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    Edge("enum", f"{SCHEMA}.mood", ["sad", "it's ok"]),
    Edge("date", "date", ["2026-11-22", "0001-01-01", "9999-12-31", "1582-10-10"]),
    Edge("date infinity", "date", ["infinity", "-infinity", "2026-11-22"]),
    Edge(
        "timestamptz", "timestamp with time zone", ["2026-11-22 12:34:56.789012+05:45", "1969-12-31 23:59:59.999999+00"]
    ),
    Edge(
        "timestamptz, years 1 and 9999",
        "timestamp with time zone",
        ["0001-01-01 00:00+00", "9999-12-31 23:59:59.999999+00"],
    ),
    Edge("timestamptz infinity", "timestamp with time zone", ["infinity", "-infinity", "2026-11-22 12:00:00+00"]),
    Edge("timestamptz, year 10000", "timestamp with time zone", ["10000-01-01 00:00+00", "2026-11-22 12:00:00+00"]),
    Edge("timestamp", "timestamp", ["2026-11-22 12:34:56.789012", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"]),
    Edge("timestamp infinity", "timestamp", ["infinity", "-infinity", "2026-11-22 12:00:00"]),
    Edge("time", "time", ["00:00:00", "23:59:59.999999"]),
    Edge("time 24:00", "time", ["24:00:00", "12:00:00"]),
    Edge("interval", "interval", ["1 year -2 mons 3 days -04:05:06.789", "30 days", "1 mon", "24:00:00"]),
    Edge("jsonb", "jsonb", ['{"b": 1, "a": {"x": [1.10, null, true]}}', '"é\\n"', "null"]),
    Edge("jsonb, numbers of many digits", "jsonb", ['{"x": 12345678901234567890123456789.000000001}', "1e100"]),
    Edge("integer[]", "integer[]", ["{}", "{1,NULL,-2}"]),
    Edge("integer[][]", "integer[]", ["{{1,2},{3,4}}"]),
    Edge("text[]", "text[]", ['{"",NULL,"NULL","a,b","it\'s \\"q\\" \\\\"}']),
    Edge("numeric(10,2)[]", "numeric(10,2)[]", ["{1.10,NULL}"]),
    Edge("inet", "inet", ["192.168.0.1/24", "2001:db8::/32"]),
    Edge("int4range", "int4range", ["[1,5)", "empty", "(,)"]),
]

EDGE_SETUP = (f"CREATE TYPE {SCHEMA}.mood AS ENUM ('sad', 'it''s ok')",)


def edge_tables() -> dict[str, SourceTable]:
    """A table for each edge, by what it is."""
    tables = {}
    for number, edge in enumerate(EDGES):
        name = f"{SCHEMA}.edge_{number}"
        quoted = ", ".join(f"({row}, {_literal(value)})" for row, value in enumerate(edge.values, start=1))
        tables[edge.what] = SourceTable(
            name,
            "id",
            edge.what,
            (
                f"CREATE TABLE {name} (id integer PRIMARY KEY, value {edge.type})",
                f"INSERT INTO {name} VALUES {quoted}, (0, NULL)",
            ),
        )
    return tables


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
