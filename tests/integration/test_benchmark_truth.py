"""What the benchmark compares with is what PostgreSQL holds: what landed is made by hand here, of the same values."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from benchmarks.equality import compare
from benchmarks.tables import EDGE_SETUP, SCHEMA, SourceTable, edge_tables
from benchmarks.truth import read_source
from tests.processes import throwaway_postgres


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("truth")
    for parent in (folder, *list(folder.parents)[:2]):
        parent.chmod(0o755)
    with throwaway_postgres(Path(folder)) as address:
        # Settings of the server must not change what is compared with.
        with psycopg.connect(address, autocommit=True) as connection:
            for setting in ("timezone = 'Asia/Kathmandu'", "datestyle = 'German'", "bytea_output = 'escape'"):
                connection.execute(f"ALTER DATABASE postgres SET {setting}".encode())
            connection.execute("ALTER DATABASE postgres SET extra_float_digits = 0")
            connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
            for statement in EDGE_SETUP:
                connection.execute(statement.encode())
        yield address


TABLE = SourceTable(
    f"{SCHEMA}.mixed",
    "id",
    "mixed",
    (
        f"CREATE TABLE {SCHEMA}.mixed (id integer PRIMARY KEY, gone text, t text, n numeric, f float8, z timestamptz, "
        "p timestamp, d date, c time, b bytea, j jsonb, a integer[], i interval)",
        f"ALTER TABLE {SCHEMA}.mixed DROP COLUMN gone",
        f"INSERT INTO {SCHEMA}.mixed VALUES (2, E'a\"\\n\\tb,\\\\', 1.50, 0.30000000000000004, "
        "'2026-11-22 12:34:56.789012+05:45', '0001-01-01 00:00', '9999-12-31', '23:59:59.999999', '\\x00ff', "
        "'{\"a\": 1.10}', '{1,NULL}', '1 mon 6.5 sec'), (10, '', NULL, NULL, NULL, NULL, NULL, NULL, '\\x', 'null', "
        "'{}', NULL)",
    ),
)

LANDED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "id": (pa.int32(), [2, 10]),
    "t": (pa.string(), ['a"\n\tb,\\', ""]),
    "n": (pa.decimal128(38, 9), [Decimal("1.5"), None]),
    "f": (pa.float64(), [0.1 + 0.2, None]),
    "z": (pa.timestamp("us", "UTC"), [datetime(2026, 11, 22, 6, 49, 56, 789012, tzinfo=UTC), None]),
    "p": (pa.timestamp("us"), [datetime(1, 1, 1), None]),
    "d": (pa.date32(), [date(9999, 12, 31), None]),
    "c": (pa.time64("us"), [time(23, 59, 59, 999999), None]),
    "b": (pa.binary(), [b"\x00\xff", b""]),
    "j": (pa.string(), ['{"a":1.1}', "null"]),
    "a": (pa.list_(pa.int32()), [[1, None], []]),
    "i": (pa.string(), ["P1MT6.5S", None]),
}

OTHERS: dict[str, list[Any]] = {
    "t": ['a"\n\tb,\\', None],
    "n": [Decimal("1.500000001"), None],
    "f": [0.3, None],
    "z": [datetime(2026, 11, 22, 12, 34, 56, 789012, tzinfo=UTC), None],
    "p": [datetime(1, 1, 3), None],
    "d": [date(9999, 12, 30), None],
    "c": [time(23, 59, 59), None],
    "b": [b"\x00\xff", None],
    "j": ['{"a":1.1}', None],
    "a": [[1, None], None],
    "i": ["P1MT6S", None],
}


@pytest.fixture(scope="module")
def mixed(dsn: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in TABLE.statements:
            connection.execute(statement.encode())
        return read_source(connection, TABLE)


def _landed(changed: str | None = None) -> pa.Table:
    return pa.table(
        {name: pa.array(OTHERS[name] if name == changed else values, type_) for name, (type_, values) in LANDED.items()}
    )


def test_what_is_the_same_is_equal(mixed: Any) -> None:
    findings = compare(mixed, _landed())
    assert isinstance(findings, list)
    assert {finding.column: str(finding) for finding in findings} == dict.fromkeys(LANDED, "equal")


@pytest.mark.parametrize("changed", OTHERS)
def test_one_changed_value_is_found(mixed: Any, changed: str) -> None:
    findings = compare(mixed, _landed(changed))
    assert isinstance(findings, list)
    assert [finding.column for finding in findings if not finding.exact] == [changed]


def test_a_timestamp_without_a_zone_is_not_natural_for_one_with_a_zone(mixed: Any) -> None:
    landed = _landed().set_column(4, "z", _landed()["z"].cast(pa.timestamp("us")))
    findings = compare(mixed, landed)
    assert isinstance(findings, list)
    assert [str(finding) for finding in findings if finding.column == "z"] == ["equal, as timestamp[us]"]


@pytest.mark.parametrize("what", edge_tables())
def test_every_edge_is_read(dsn: str, what: str) -> None:
    table = edge_tables()[what]
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in table.statements:
            connection.execute(statement.encode())
        source = read_source(connection, table)
    value = source.columns["value"]
    assert value.printed.null_count == 1
    assert len(set(value.printed.to_pylist())) == source.rows
