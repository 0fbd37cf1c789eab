"""Keys on real servers: what proves them, what is counted, and whether equal values are one key on both sides."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import yaml

from local.stack.options import PYTHON, REPOSITORY
from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Mode, Table
from services.extractor.contract.keys import canonical, check_key_types, doubled_statement, unproven
from services.extractor.contract.mapping import reads
from services.extractor.source.catalog import read_relation
from services.extractor.source.keys import read_key
from services.extractor.source.terms import set_terms
from tests.integration.extractor_harness import (
    ROLE,
    Bench,
    Connection,
    Row,
    Server,
    declared,
    incremental,
    newest,
)
from tests.integration.merged_runs import Runs

CURSOR = {"expression": "updated_at", "type": "timestamp"}


@pytest.fixture
def connection(bench: Bench) -> Iterator[Connection]:
    """A superuser's connection on the terms of the extractor's transactions."""
    with bench.database.connect() as connection:
        for statement in set_terms():
            connection.execute(statement.replace("SET LOCAL", "SET").encode())
        yield connection


def keyed(relation: str, *names: str) -> Table:
    """A table with these columns, texts in BigQuery, as its key."""
    columns = [Column(name=name, type=ColumnType.STRING, required=True) for name in names]
    return Table(
        name="t", source=f"src.{relation}", key=list(names), mode=Mode.SNAPSHOT, bronze_model="t", columns=columns
    )


# --- which types can be keys --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Values:
    """A type, and values of it, some of which are equal though they are written differently."""

    type: str
    values: Sequence[str]
    equal: int = 1
    """How many values there are that equal an earlier one."""


ONE_TEXT = [
    Values("smallint", ["1", "+1", "-0", "0"], 2),
    Values("integer", ["1", "01", "-0", "0"], 2),
    Values("bigint", ["1", "+1"]),
    Values("oid", ["1", "01"]),
    Values("boolean", ["t", "true", "f", "no"], 2),
    Values('"char"', ["a", "a", "b"]),
    Values("bytea", ["\\x61", "a", "\\x00"]),
    Values("uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}"]),
    Values("money", ["1", "1.00", "-0", "0"], 2),
    Values("bit(3)", ["101", "101", "010"]),
    Values("bit varying", ["1", "10", "1"]),
    Values("date", ["2026-01-02", "Jan 2 2026", "infinity"]),
    Values("time", ["12:00", "12:00:00.000", "24:00:00", "00:00"]),
    Values("timetz", ["12:00+00", "12:00:00Z", "13:00+01"]),
    Values("timestamp", ["2026-01-02", "2026-01-02 00:00:00", "-infinity"]),
    Values("timestamptz", ["2026-01-02 12:00+00", "2026-01-02 13:00+01", "2026-01-02 09:00 America/Sao_Paulo"], 2),
    Values("inet", ["10.0.0.1", "10.0.0.1/32", "10.0.0.1/24", "::1", "0:0::1"], 2),
    Values("cidr", ["10.0.0.0/8", "10/8"]),
    Values("macaddr", ["08:00:2b:01:02:03", "08002b-010203"]),
    Values("macaddr8", ["08:00:2b:01:02:03:04:05", "08002b0102030405"]),
    Values("pg_lsn", ["0/1", "00/01"]),
    Values("xid", ["1", "01"]),
    Values("xid8", ["1", "01"]),
    Values("text", ["a", "a", "A", "a ", "é", "e\u0301"]),
    Values("varchar(5)", ["a", "a", "a "]),
    Values("name", ["a", "a", "A"]),
    Values("char(3)", ["a", "a ", "A"]),
    Values("bpchar", ["a", "a ", "a   ", " a"], 2),
    Values("numeric", ["1", "1.0", "1.00", "100", "1e2", "NaN", "nan", "Infinity", "0.000", "-0"], 5),
    Values("numeric(10,2)", ["1", "1.0", "1.001", "-0", "0"], 3),
    Values("double precision", ["-0", "0", "0.1", "0.10", "NaN", "5e-324", "-Infinity"], 2),
    Values("real", ["-0", "0", "0.1", "0.10", "NaN", "1e-45"], 2),
    Values("src.colour", ["red", "red", "blue"]),
    Values("int[]", ["{1,2}", "{ 01, +2 }", "[1:2]={1,2}", "[0:1]={1,2}", "{}"], 2),
    Values("text[]", ["{a}", '{"a"}', "{NULL}", '{"NULL"}']),
    Values("numeric(5,1)[]", ["{1}", "{1.0}"]),
    Values("timestamptz[]", ["{2026-01-02 12:00+00}", "{2026-01-02 13:00+01}"]),
    Values("int4range", ["[1,4]", "[1,5)", "(0,4]", "empty", "(1,1)"], 3),
    Values("daterange", ["[2026-01-01,2026-01-02]", "[2026-01-01,2026-01-03)"]),
    Values("tstzrange", ["[2026-01-02 12:00+00,)", "[2026-01-02 13:00+01,)"]),
    Values("int8multirange", ["{[1,2],[3,4]}", "{[1,5)}"]),
    Values("src.pair", ["(1,a)", '(01,"a")', "(1,A)"]),
    Values("src.short", ["1", "1.0"]),
    Values("src.shorts", ["{1}", "{1.0}"]),
    Values("hstore", ["a=>1,b=>2", "b=>2, a=>1"]),
    Values("ltree", ["a.b", "a.b", "A.b"]),
]


def insensitive(connection: Connection) -> bool:
    """Make a collation that takes a for A; only a PostgreSQL that was built with ICU can."""
    how = "provider = icu, locale = 'und-u-ks-level2', deterministic = false"
    try:
        connection.execute(f"CREATE COLLATION src.insensitive ({how})")
    except psycopg.errors.FeatureNotSupported:
        return False
    connection.execute("CREATE DOMAIN src.word AS text COLLATE src.insensitive")
    return True


@pytest.fixture
def typed(connection: Connection) -> Connection:
    for statement in (
        *(f"CREATE EXTENSION {name} SCHEMA src" for name in ("hstore", "ltree", "citext", "btree_gist")),
        "CREATE TYPE src.colour AS ENUM ('red', 'blue')",
        "CREATE TYPE src.pair AS (a int, b text)",
        "CREATE TYPE src.loose AS (a int, b numeric)",
        "CREATE TYPE src.floats AS RANGE (subtype = float8)",
        "CREATE TYPE src.names AS RANGE (subtype = text)",
        "CREATE DOMAIN src.short AS numeric(3,1)",
        "CREATE DOMAIN src.shorts AS src.short[]",
        "CREATE DOMAIN src.long AS numeric",
        "CREATE DOMAIN src.longer AS src.long",
    ):
        connection.execute(statement)
    connection.execute("SET search_path = pg_catalog, src")  # for the names of the extensions' types
    return connection


def filled(connection: Connection, type_: str, values: Sequence[str]) -> None:
    connection.execute("DROP TABLE IF EXISTS src.k CASCADE")
    connection.execute(f"CREATE TABLE src.k (k {type_} NOT NULL)")
    for value in values:
        connection.execute(f"INSERT INTO src.k SELECT %s::{type_.split(' COLLATE ')[0]}", (value,))


def check(connection: Connection, relation: str = "k") -> str:
    """Refuse what is no key, as the extractor does; the SQL of how it lands."""
    table = keyed(relation, "k")
    found = read_relation(connection, table)
    check_key_types(table, found, read_key(connection, found.oid, ["k"]))
    [read] = reads(table.columns[0], found.columns["k"], table)
    return read.expression


def hashed(connection: Connection) -> str:
    """The SQL of what is hashed of the column where it is masked so."""
    return f"{canonical(read_relation(connection, keyed('k', 'k')).columns['k'])}::text"


def texts_per_value(connection: Connection, landed: str) -> list[int]:
    """How many texts each of the different values has."""
    pairs = f'SELECT k, {landed} COLLATE "C" AS landed FROM src.k GROUP BY 1, 2'
    found = connection.execute(f"SELECT count(*) FROM ({pairs}) AS pairs GROUP BY k").fetchall()
    return [int(count) for (count,) in found]


def test_equal_values_of_what_can_be_a_key_land_as_one_text(typed: Connection) -> None:
    for case in ONE_TEXT:
        filled(typed, case.type, case.values)
        for text in (check(typed), hashed(typed)):
            texts = texts_per_value(typed, text)
            assert texts == [1] * (len(case.values) - case.equal), case
            # And one text is of one value, so that what is unique at the source is unique in bronze.
            assert typed.execute(f'SELECT count(DISTINCT {text} COLLATE "C") FROM src.k').fetchone() == (len(texts),), (
                case
            )


def test_a_key_has_the_usual_text_but_for_what_does_not_count(typed: Connection) -> None:
    usual = {
        "real": (["0.1", "1e-45", "-0", "NaN", "Infinity", "16777217"], "0"),
        "double precision": (["0.1", "0.30000000000000004", "5e-324", "-0", "1e300", "-Infinity"], "0"),
        "numeric": (["100", "0.1", "1.50", "NaN", "-Infinity", "12345678901234567890.123456789"], "1.5"),
        "bpchar": (["a", " a", "b  ", "", "\u00a0"], "b"),
    }
    for type_, (values, other) in usual.items():
        filled(typed, type_, values)
        landed = check(typed)
        texts = typed.execute(f"SELECT {landed} FROM src.k WHERE {landed} <> textin({OUTPUT[type_]}(k))").fetchall()
        assert texts == [(other,)], type_


OUTPUT = {"real": "float4out", "double precision": "float8out", "numeric": "numeric_out", "bpchar": "bpcharout"}
"""PostgreSQL's own output functions: a cast may change a text."""

SEVERAL_TEXTS = [
    Values("citext", ["a", "A"]),
    Values("citext[]", ["{a}", "{A}"]),
    Values("interval", ["1 day", "24 hours", "1 mon", "30 days", "-1 mon 1 day", "-29 days"], 3),
    Values("jsonb", ["1", "1.0"]),
    Values("src.longer[]", ["{1}", "{1.0}"]),
    Values("numeric[]", ["{1}", "{1.0}"]),
    Values("numrange", ["[1,2]", "[1.0,2]"]),
    Values("nummultirange", ["{[1,2]}", "{[1.0,2]}"]),
    Values("src.floats", ["[0,1]", "[-0,1]"]),
    Values("src.loose", ["(1,1)", "(1,1.0)"]),
    Values("bpchar[]", ["{a}", '{"a "}']),
    Values("real[]", ["{0}", "{-0}"]),
    Values("double precision[]", ["{0}", "{-0}"]),
]
COLLATED = [
    Values("text COLLATE src.insensitive", ["a", "A"]),
    Values("varchar(9) COLLATE src.insensitive", ["a", "A"]),
    Values("char(1) COLLATE src.insensitive", ["a", "A"]),
    Values("text[] COLLATE src.insensitive", ["{a}", "{A}"]),
    Values("src.word", ["a", "A"]),
]


def test_what_has_several_texts_for_equal_values_is_refused_with_what_to_declare(typed: Connection) -> None:
    for case in SEVERAL_TEXTS + (COLLATED if insensitive(typed) else []):
        filled(typed, case.type, case.values)
        texts = texts_per_value(typed, "k::text")
        assert (len(texts), sum(texts)) == (len(case.values) - case.equal, len(case.values)), case
        with pytest.raises(ConfigurationError, match=r"equal values (can have several texts|have one text)") as refused:
            check(typed)
        instead = str(refused.value).split("one for equal values (")[1].split("), and declare that")[0]
        typed.execute(f"CREATE VIEW src.instead AS SELECT {instead} AS k FROM src.k")
        check(typed, "instead")
        if "(" in instead:  # lower(), justify_interval()
            assert texts_per_value(typed, instead) == [1] * (len(case.values) - case.equal), case


@pytest.mark.parametrize(
    "type_", ["json", "xml", "jsonpath", "point", "lseg", "line", "box", "path", "polygon", "circle"]
)
def test_what_postgresql_cannot_compare_is_no_key(connection: Connection, type_: str) -> None:
    connection.execute(f"CREATE TABLE src.k (k {type_} NOT NULL)")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        connection.execute(doubled_statement(keyed("k", "k"), "").encode())
    with pytest.raises(ConfigurationError, match="which PostgreSQL cannot compare"):
        check(connection)


@pytest.mark.parametrize("type_", ["tsvector", "tsquery", "regclass", "tid", "src.names", "cube", "src.ltree"])
def test_what_nobody_has_looked_at_is_no_key(connection: Connection, type_: str) -> None:
    """Among them a type of another schema with a known name."""
    connection.execute("CREATE EXTENSION cube SCHEMA public")
    connection.execute("CREATE TYPE src.names AS RANGE (subtype = text)")
    connection.execute("CREATE TYPE src.ltree AS RANGE (subtype = text)")
    connection.execute(f"CREATE TABLE src.k (k {'public.' if type_ == 'cube' else ''}{type_} NOT NULL)")
    try:
        with pytest.raises(ConfigurationError, match="not known whether equal values have one text"):
            check(connection)
    finally:
        connection.execute("DROP TABLE src.k")
        connection.execute("DROP EXTENSION cube")


# --- what proves a key --------------------------------------------------------------------------------------------

PROVEN = {
    "primary": ["CREATE TABLE {0} (id int PRIMARY KEY, b int)"],
    "indexed": ["CREATE TABLE {0} (id int, b int)", "CREATE UNIQUE INDEX ON {0} (id)"],
    "including": ["CREATE TABLE {0} (id int, b int)", "CREATE UNIQUE INDEX ON {0} (id) INCLUDE (b)"],
    "deferred": ["CREATE TABLE {0} (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, b int)"],
    "partitioned": ["CREATE TABLE {0} (id int PRIMARY KEY, b int) PARTITION BY RANGE (id)"],
    "partition": [
        "CREATE TABLE {0} (id int PRIMARY KEY, b int)",
        "CREATE TABLE {0}s (id int, b int) PARTITION BY RANGE (id)",
        "ALTER TABLE {0}s ATTACH PARTITION {0} FOR VALUES FROM (0) TO (9)",
    ],
    "materialized": [
        "CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS id, 2 AS b",
        "CREATE UNIQUE INDEX ON {0} (id)",
    ],
}
UNPROVEN = {
    "plain": ["CREATE TABLE {0} (id int, b int)", "CREATE INDEX ON {0} (id)"],
    "wider": ["CREATE TABLE {0} (id int, b int, UNIQUE (id, b))"],
    "included": ["CREATE TABLE {0} (id int, b int)", "CREATE UNIQUE INDEX ON {0} (b) INCLUDE (id)"],
    "partial": ["CREATE TABLE {0} (id int, b int)", "CREATE UNIQUE INDEX ON {0} (id) WHERE b > 0"],
    "expression": ["CREATE TABLE {0} (id int, b int)", "CREATE UNIQUE INDEX ON {0} (abs(id))"],
    "mixed": ["CREATE TABLE {0} (id int, b int)", "CREATE UNIQUE INDEX ON {0} (id, abs(b))"],
    "parent": ["CREATE TABLE {0} (id int PRIMARY KEY, b int)", "CREATE TABLE {0}_child () INHERITS ({0})"],
    "parts": [
        "CREATE TABLE {0} (id int, b int) PARTITION BY RANGE (b)",
        "CREATE TABLE {0}_1 PARTITION OF {0} (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (9)",
    ],
    "only": [
        "CREATE TABLE {0} (id int, b int) PARTITION BY RANGE (id)",
        "CREATE TABLE {0}_1 PARTITION OF {0} FOR VALUES FROM (0) TO (9)",
        "CREATE UNIQUE INDEX ON ONLY {0} (id)",
    ],
    "seen": ["CREATE TABLE {0}_below (id int PRIMARY KEY, b int)", "CREATE VIEW {0} AS TABLE {0}_below"],
    "refreshed": ["CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS id, 2 AS b"],
    "foreign_table": [
        "CREATE EXTENSION IF NOT EXISTS file_fdw",
        "CREATE SERVER IF NOT EXISTS files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE {0} (id int, b int) SERVER files OPTIONS (program 'true')",
    ],
    "broken": ["CREATE TABLE {0} (id int, b int)", "INSERT INTO {0} VALUES (1, 1), (1, 1)"],
}


def proven(connection: Connection, name: str, *key: str) -> bool:
    table = keyed(name, *key)
    relation = read_relation(connection, table)
    return unproven(table, relation, read_key(connection, relation.oid, key)) is None


def test_only_an_index_over_all_rows_proves_a_key(bench: Bench, connection: Connection) -> None:
    for name, statements in {**PROVEN, **UNPROVEN}.items():
        bench.database.run(*(statement.format(f"src.{name}") for statement in statements))
    with pytest.raises(psycopg.errors.UniqueViolation):
        bench.database.run("CREATE UNIQUE INDEX CONCURRENTLY left_invalid ON src.broken (id)")
    found = {name: proven(connection, name, "id") for name in (*PROVEN, *UNPROVEN)}
    assert found == {**dict.fromkeys(PROVEN, True), **dict.fromkeys(UNPROVEN, False)}
    assert {name: proven(connection, name, "b", "id") for name in ("primary", "wider", "included", "plain")} == {
        "primary": True,
        "wider": True,
        "included": True,
        "plain": False,
    }


def test_a_key_of_periods_that_do_not_overlap_is_one(bench: Bench, typed: Connection, server: Server) -> None:
    if server.binaries.major < 18:
        pytest.skip("PostgreSQL 18 has them first")
    bench.database.run(
        "SET search_path = src; CREATE TABLE src.t (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS))"
    )
    assert proven(typed, "t", "id", "at")
    assert not proven(typed, "t", "id")


# --- what is counted ----------------------------------------------------------------------------------------------

MASKED = {"EXTRACT_MASK_SECRET": "a secret"}
ITEM: dict[str, Any] = {"id": "INT64", "v": "STRING"}


def test_a_key_that_is_none_is_refused_and_nothing_is_read(bench: Bench) -> None:
    """By the dry run, the first run, a snapshot, and a window; with a message that quotes no value."""
    bench.database.run(
        "CREATE TABLE src.dup (id int, v text, updated_at timestamptz NOT NULL DEFAULT now())",
        "INSERT INTO src.dup VALUES (7719305, 'a'), (7719305, 'b'), (2, 'c')",
        f"GRANT SELECT ON src.dup TO {ROLE}",
    )
    bench.declare(incremental("dup", ITEM, CURSOR))
    runs = Runs(bench)

    def refused(*arguments: str) -> None:
        finished = bench.start(*arguments).finish()
        assert finished.exit_code == 1
        error = finished.outcome()["error"]
        assert "the key (id) is not unique in src.dup: 1 key(s) have several rows" in error
        assert [line["kind"] for line in finished.events("extraction.failed")] == (
            [] if arguments == ("--dry-run",) else ["key_not_unique"]
        )
        assert "7719305" not in finished.stdout + finished.stderr
        [warned] = finished.events("key.unproven")
        assert 'no unique index covers it; CREATE UNIQUE INDEX CONCURRENTLY ON "src"."dup" ("id")' in warned["reason"]

    for arguments in (("--dry-run",), (), ("--mode", "snapshot")):
        refused(*arguments)
        assert bench.batches("dup") == []
    bench.database.run("DELETE FROM src.dup WHERE v = 'b'")
    [look] = bench.extract("--dry-run").report
    [unseen] = look["unseen"]
    assert unseen.startswith("whether the key (id) is unique: no unique index covers it")
    runs.run()
    assert runs.bronze("dup") == {7719305: "a", 2: "c"}
    assert [batch.unseen for batch in bench.batches("dup")] == [[unseen]]
    bench.database.run("INSERT INTO src.dup VALUES (3, 'd'), (3, 'e')")
    refused()
    bench.database.run("DELETE FROM src.dup WHERE v = 'e'", "CREATE UNIQUE INDEX ON src.dup (id)")
    finished = runs.run()
    assert finished.events("key.unproven") == []
    assert bench.batches("dup")[-1].unseen == []
    assert runs.bronze("dup") == {7719305: "a", 2: "c", 3: "d"}


def test_only_the_rows_of_a_window_are_counted(bench: Bench) -> None:
    """A window over an index stays cheap; a snapshot looks at all rows."""
    bench.database.run(
        "CREATE TABLE src.dup (id int, v text, updated_at timestamptz NOT NULL DEFAULT now())",
        "INSERT INTO src.dup VALUES (1, 'a', now() - interval '1 hour')",
        f"GRANT SELECT ON src.dup TO {ROLE}",
    )
    bench.declare(incremental("dup", ITEM, CURSOR))
    runs = Runs(bench)
    runs.run()
    bench.database.run("INSERT INTO src.dup VALUES (1, 'b')")
    runs.run()
    assert "is not unique" in bench.start("--mode", "snapshot").finish().outcome()["error"]


def test_rows_of_children_and_views_are_counted_and_a_null_in_a_key_is_another_mistake(bench: Bench) -> None:
    bench.database.run(
        "CREATE TABLE src.parent (id int PRIMARY KEY, v text)",
        "CREATE TABLE src.child () INHERITS (src.parent)",
        "INSERT INTO src.parent VALUES (1, 'a')",
        "INSERT INTO src.child VALUES (1, 'b')",
        "CREATE VIEW src.joined AS SELECT p.id, x AS v FROM ONLY src.parent p, (VALUES ('a'), ('b')) AS more (x)",
        "CREATE TABLE src.nulls (id int, v text)",
        "INSERT INTO src.nulls VALUES (NULL, 'a'), (NULL, 'b')",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA src TO {ROLE}",
    )
    bench.declare(*(declared(name, ITEM) for name in ("parent", "joined", "nulls")))
    finished = bench.start().finish()
    assert "other tables inherit from src.parent" in str(finished.events("key.unproven"))
    for name in ("parent", "joined"):
        assert f"is not unique in src.{name}: 1 key(s)" in finished.outcome(name)["error"]
    assert "is not unique" not in finished.outcome("nulls")["error"]
    assert "null" in finished.outcome("nulls")["error"]


# --- the same key on both sides -----------------------------------------------------------------------------------


def test_a_key_that_changes_to_an_equal_one_stays_one_row(bench: Bench) -> None:
    """Numerics with other zeros, floats with the other zero, texts with blanks; also as hashes."""
    pairs = {
        "numeric": ("1.50", "1.5000"),
        "float8": ("-0", "0"),
        "float4": ("-0", "0"),
        "bpchar": ("a", "a  "),
        "char(4)": ("a", "a  "),
    }
    tables: list[Row] = []
    for number, (type_, (before, _)) in enumerate(pairs.items()):
        bench.database.run(
            f"CREATE TABLE src.t{number} (k {type_} PRIMARY KEY, v text, updated_at timestamptz DEFAULT now())",
            f"INSERT INTO src.t{number} VALUES ('{before}', 'a')",
            f"GRANT SELECT ON src.t{number} TO {ROLE}",
        )
        for name, mask in {f"t{number}": None, f"h{number}": "hash"}.items():
            columns: Row = {"k": {"type": "STRING", "mask": mask}, "v": "STRING"}
            tables.append(incremental(name, columns, CURSOR, key=["k"], source=f"src.t{number}"))
    bench.declare(*tables)
    runs = Runs(bench)
    runs.run(**MASKED)
    for number, (_, after) in enumerate(pairs.values()):
        bench.database.run(f"UPDATE src.t{number} SET k = '{after}', v = 'changed', updated_at = now()")
    runs.run(**MASKED)
    for table in tables:
        batches = [batch for batch in runs.landed if batch.manifest.table == table["name"]]
        assert len(batches) == 2, table
        assert [row["v"] for row in newest(batches, "k").values()] == ["changed"], table


def test_a_key_of_a_type_with_several_texts_is_refused_before_reading(bench: Bench) -> None:
    bench.database.run(
        "CREATE EXTENSION citext SCHEMA src",
        "CREATE TABLE src.words (k src.citext PRIMARY KEY, v text)",
        "INSERT INTO src.words VALUES ('A', 'a')",
        "CREATE VIEW src.lowered AS SELECT lower(k::text) AS k, v FROM src.words",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA src TO {ROLE}",
    )
    columns = {"k": "STRING", "v": "STRING"}
    bench.declare(declared("words", columns, key=["k"]), declared("lowered", columns, key=["k"]))
    for arguments in (("--dry-run",), ()):
        finished = bench.start(*arguments).finish()
        assert "table words: key column k is src.citext, of which equal" in finished.outcome("words")["error"]
        assert finished.outcome("lowered")["error"] is None
    assert [row["k"] for row in bench.only_batch("lowered").rows()] == ["a"]


# --- proposals ----------------------------------------------------------------------------------------------------


def propose(bench: Bench, source: str) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON.parent / "credix"), "declare", source]
    return subprocess.run(command, cwd=REPOSITORY, env=bench.environment({}), capture_output=True, text=True)


def test_what_is_proposed_is_taken(bench: Bench) -> None:
    """A key of a float is a text; where a primary key can be no key, there is none, and why."""
    bench.database.run(
        "CREATE EXTENSION citext SCHEMA src",
        "CREATE TABLE src.fkey (k float8 PRIMARY KEY, v float8)",
        "CREATE TABLE src.words (k src.citext PRIMARY KEY, v text)",
        "CREATE TABLE src.nothing ()",
        "INSERT INTO src.fkey VALUES ('NaN', 'NaN'), (0.1, 0.1)",
        "INSERT INTO src.words VALUES ('A', 'a')",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA src TO {ROLE}",
    )
    proposed = {name: propose(bench, f"src.{name}").stdout for name in ("fkey", "words")}
    [fkey], [words] = (yaml.safe_load(text) for text in proposed.values())
    assert [column["type"] for column in fkey["columns"]] == ["STRING", "FLOAT64"]
    assert "key" not in words
    assert proposed["words"].startswith("# No key, though it has a primary key: table words: key column k is ")
    bench.declare(fkey, words)
    bench.extract()
    assert sorted(row["k"] for row in bench.only_batch("fkey").rows()) == ["0.1", "NaN"]
    for source, why in {"src.nothing": "src.nothing has no columns", "a.b.c": "a.b.c is not schema.relation"}.items():
        refused = propose(bench, source)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr
