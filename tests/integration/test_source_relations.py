"""Relations of every kind, names of every kind, privileges and masks, on real servers."""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from services.core.errors import ConfigurationError
from services.core.tables import Column, ColumnType, Mask, Mode, SchemaDrift, Table
from services.extractor.contract.declare import declaration
from services.extractor.contract.drift import settle
from services.extractor.contract.masking import masked
from services.extractor.source.catalog import (
    RelationKind,
    SourceColumn,
    SourceRelation,
    TypeKind,
    primary_key,
    read_relation,
)
from services.extractor.source.sql import quoted
from tests.integration.postgres_versions import SECRET, VERSIONS, Server, served
from tests.integration.type_reading import ROW, Pipe
from tests.integration.warehouse_fixture import Warehouse

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with served(request.param) as started:
        yield started


@pytest.fixture
def database(server: Server) -> Iterator[Connection]:
    """A connection; what it makes is gone afterwards."""
    with server.connect() as connection:
        yield connection
        connection.execute("DROP SCHEMA IF EXISTS shop CASCADE")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


@pytest.fixture(scope="module")
def pipe(server: Server, warehouse_endpoint: Warehouse) -> Iterator[Pipe]:
    opened = Pipe(server, warehouse_endpoint)
    try:
        yield opened
    finally:
        opened.close()


def run(connection: Connection, statements: str) -> None:
    connection.execute(statements.encode())


def declared(
    source: str, *columns: str, drift: SchemaDrift = SchemaDrift.IGNORE, exclude: list[str] | None = None
) -> Table:
    return Table(
        name="t",
        source=source,
        mode=Mode.SNAPSHOT,
        bronze_model="t",
        schema_drift=drift,
        exclude=exclude or [],
        columns=[Column(name=name, type=ColumnType.STRING) for name in columns or ("a",)],
    )


def relation(connection: Connection, source: str) -> SourceRelation:
    return read_relation(connection, declared(source))


# --- what the catalog says ----------------------------------------------------------------------------------------


def test_every_kind_of_relation_is_known(database: Connection) -> None:
    run(
        database,
        """
        CREATE TABLE plain (a integer);
        CREATE TABLE divided (a integer) PARTITION BY RANGE (a);
        CREATE TABLE divided_1 PARTITION OF divided FOR VALUES FROM (0) TO (10);
        CREATE VIEW seen AS SELECT a FROM plain;
        CREATE MATERIALIZED VIEW kept AS SELECT a FROM plain;
        CREATE FOREIGN DATA WRAPPER nowhere;
        CREATE SERVER away FOREIGN DATA WRAPPER nowhere;
        CREATE FOREIGN TABLE far (a integer) SERVER away;
        CREATE SEQUENCE numbers;
        CREATE INDEX plain_a ON plain (a);
        """,
    )
    kinds = {
        name: relation(database, f"public.{name}").kind
        for name in ("plain", "divided", "divided_1", "seen", "kept", "far")
    }
    assert kinds == {
        "plain": RelationKind.TABLE,
        "divided": RelationKind.PARTITIONED,
        "divided_1": RelationKind.TABLE,
        "seen": RelationKind.VIEW,
        "kept": RelationKind.MATERIALIZED_VIEW,
        "far": RelationKind.FOREIGN,
    }
    for name in ("numbers", "plain_a", "absent"):
        with pytest.raises(ConfigurationError, match=rf"table t: source public\.{name} does not exist"):
            relation(database, f"public.{name}")
    run(database, "DROP FOREIGN DATA WRAPPER nowhere CASCADE")


def test_columns_are_as_declared_and_types_as_they_are_below_all_domains(database: Connection) -> None:
    run(
        database,
        """
        CREATE DOMAIN amount AS numeric(12,2);
        CREATE DOMAIN price AS amount NOT NULL;
        CREATE DOMAIN dear AS price;
        CREATE DOMAIN prices AS dear[];
        CREATE TYPE mood AS ENUM ('ok');
        CREATE TYPE pair AS (a integer);
        CREATE TABLE t (
          gone integer, id bigint NOT NULL, n numeric(18,2), d dear, ds prices, m mood, p pair, r int4range,
          l integer[], doubled bigint GENERATED ALWAYS AS (id * 2) STORED
        );
        ALTER TABLE t DROP COLUMN gone;
        """,
    )
    found = relation(database, "public.t").columns
    assert list(found) == ["id", "n", "d", "ds", "m", "p", "r", "l", "doubled"]
    amount = ((12 << 16) | 2) + 4
    assert found["id"] == SourceColumn("id", "int8", -1, "bigint", nullable=False)
    assert found["n"] == SourceColumn("n", "numeric", ((18 << 16) | 2) + 4, "numeric(18,2)")
    assert found["d"] == SourceColumn("d", "numeric", amount, "dear", nullable=False)
    assert found["ds"] == SourceColumn("ds", "_dear", -1, "prices", kind=TypeKind.ARRAY)
    assert [found[name].kind for name in ("m", "p", "r", "l")] == [
        TypeKind.ENUM,
        TypeKind.COMPOSITE,
        TypeKind.RANGE,
        TypeKind.ARRAY,
    ]
    assert found["l"].declared == "integer[]"


def test_a_constraint_that_was_never_checked_keeps_no_null_out(server: Server, database: Connection) -> None:
    """PostgreSQL 18 sets attnotnull for it, too."""
    if server.version < 18:
        pytest.skip("NOT NULL … NOT VALID came with PostgreSQL 18")
    run(database, "CREATE TABLE t (a text); INSERT INTO t VALUES (NULL)")
    run(database, "ALTER TABLE t ADD CONSTRAINT filled NOT NULL a NOT VALID")
    assert relation(database, "public.t").columns["a"].nullable
    run(database, "DELETE FROM t; ALTER TABLE t VALIDATE CONSTRAINT filled")
    assert not relation(database, "public.t").columns["a"].nullable


def test_the_primary_key_is_in_its_own_order(database: Connection) -> None:
    run(
        database,
        """
        CREATE TABLE t (a integer, "B b" integer, c integer, PRIMARY KEY ("B b", a) INCLUDE (c));
        CREATE TABLE divided (a integer, b integer, PRIMARY KEY (a)) PARTITION BY RANGE (a);
        CREATE TABLE none (a integer UNIQUE NOT NULL);
        """,
    )
    keys = {name: primary_key(database, "public", name) for name in ("t", "divided", "none", "absent")}
    assert keys == {"t": ["B b", "a"], "divided": ["a"], "none": [], "absent": []}


# --- privileges ---------------------------------------------------------------------------------------------------


READERS_PASSWORD = "reader"  # noqa: S105 - of a role that lives as long as a test


@contextmanager
def reader(server: Server, database: Connection) -> Iterator[Connection]:
    """A role that may connect and nothing else."""
    run(database, f"CREATE ROLE \"Reader\" LOGIN PASSWORD '{READERS_PASSWORD}'; CREATE SCHEMA shop")
    run(database, 'CREATE TABLE shop.orders (a text, b text, "C c" text)')
    with psycopg.connect(
        make_conninfo(server.dsn, user="Reader", password=READERS_PASSWORD), autocommit=True
    ) as connection:
        yield connection
    run(database, 'DROP OWNED BY "Reader"; DROP ROLE "Reader"')


def test_a_missing_privilege_is_told_with_the_grant_that_gives_it(server: Server, database: Connection) -> None:
    """Each message's statement is run as it is, and then there is the next problem, or none."""
    table = declared("shop.orders", "a", drift=SchemaDrift.EVOLVE, exclude=["b"])
    with reader(server, database) as connection:
        told = []
        for _ in range(3):
            with pytest.raises(ConfigurationError) as refused:
                read_relation(connection, table)
            told.append(str(refused.value))
            run(database, told[-1].split("; ")[1])
            if len(told) == 1:
                run(database, 'GRANT SELECT (a) ON shop.orders TO "Reader"')
            if len(told) == 2:
                break
        assert told == [
            'table t: role Reader may not use schema shop; GRANT USAGE ON SCHEMA "shop" TO "Reader"',
            'table t: role Reader may not read column(s) "C c" of shop.orders; '
            'GRANT SELECT ("C c") ON "shop"."orders" TO "Reader"',
        ]
        assert list(read_relation(connection, table).columns) == ["a", "b", "C c"]


def test_a_table_that_may_not_be_read_at_all_is_granted_as_a_whole(server: Server, database: Connection) -> None:
    with reader(server, database) as connection:
        run(database, 'GRANT USAGE ON SCHEMA shop TO "Reader"')
        table = declared("shop.orders", "a", drift=SchemaDrift.EVOLVE)
        with pytest.raises(ConfigurationError, match=r'GRANT SELECT ON "shop"\."orders" TO "Reader"') as refused:
            read_relation(connection, table)
        run(database, str(refused.value).split("; ")[1])
        assert len(read_relation(connection, table).columns) == 3


def test_columns_that_are_not_read_need_no_privilege(server: Server, database: Connection) -> None:
    with reader(server, database) as connection:
        run(database, 'GRANT USAGE ON SCHEMA shop TO "Reader"; GRANT SELECT (a) ON shop.orders TO "Reader"')
        for drift in (SchemaDrift.IGNORE, SchemaDrift.FREEZE):
            assert "b" in read_relation(connection, declared("shop.orders", "a", drift=drift)).columns


# --- all the way --------------------------------------------------------------------------------------------------

NAMES = [
    "order",
    "MixedCase",
    "mixedcase",
    'with "quotes"',
    "it's",
    "back\\slash",
    "naïve café",
    "日本語",
    "percent %s %%",
    "{brace} $1 :name ?",
    "new\nline",
    "a.b",
    "x" * 63,
    "c0",
    "_PARTITIONTIME",
    "_extracted_at",
    "ctid ",
    "2nd",
    "user",
]


def test_columns_and_relations_of_any_name_arrive(pipe: Pipe, database: Connection) -> None:
    """By schema_drift: evolve, which finds names for them that BigQuery takes."""
    schema, name = 'Sch"éma \\ x', 'Order\'s "日本" %s'
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column)) for column in NAMES)
    relation_name = sql.SQL("{}.{}").format(sql.Identifier(schema), sql.Identifier(name))
    database.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    database.execute(
        sql.SQL("CREATE TABLE {} ({} integer NOT NULL, {})").format(relation_name, sql.Identifier(ROW), columns)
    )
    values = sql.SQL(", ").join(sql.Literal(f"value of {column}") for column in NAMES)
    database.execute(sql.SQL("INSERT INTO {} VALUES (0, {})").format(relation_name, values))

    arrived = pipe.arrive(f"{schema}.{name}", [], drift=SchemaDrift.EVOLVE)
    assert list(arrived.rows[0].values()) == [0, *(f"value of {column}" for column in NAMES)]
    assert len(arrived.drift) == len(NAMES)
    database.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def test_rows_of_every_kind_of_relation_arrive(server: Server, pipe: Pipe, database: Connection) -> None:
    virtual = "tripled integer GENERATED ALWAYS AS (v * 3) VIRTUAL," if server.version >= 18 else ""
    run(
        database,
        f"""
        CREATE TABLE plain (
          {ROW} integer, gone text, v integer, {virtual} doubled integer GENERATED ALWAYS AS (v * 2) STORED,
          late text DEFAULT 'x'
        );
        ALTER TABLE plain DROP COLUMN gone;
        INSERT INTO plain ({ROW}, v) VALUES (0, 10), (1, 20);
        ALTER TABLE plain ADD COLUMN added integer DEFAULT 7;
        CREATE TABLE child () INHERITS (plain);
        CREATE TABLE divided ({ROW} integer, v integer) PARTITION BY RANGE ({ROW});
        CREATE TABLE divided_0 PARTITION OF divided FOR VALUES FROM (0) TO (1);
        CREATE TABLE divided_1 (v integer, {ROW} integer);
        ALTER TABLE divided ATTACH PARTITION divided_1 FOR VALUES FROM (1) TO (9);
        INSERT INTO divided VALUES (0, 10), (1, 20);
        CREATE VIEW seen AS SELECT {ROW}, v FROM plain;
        CREATE MATERIALIZED VIEW kept AS SELECT {ROW}, v FROM plain;
        """,
    )
    expected = {"v": [10, 20], "doubled": [20, 40], "late": ["x", "x"], "added": [7, 7]}
    if server.version >= 18:
        expected["tripled"] = [30, 60]
    for name in ("plain", "divided", "seen", "kept"):
        arrived = pipe.arrive(f"public.{name}", [], drift=SchemaDrift.EVOLVE)
        columns = [column.name for column in arrived.columns if column.name != ROW]
        assert {column: [row[column] for row in arrived.rows] for column in columns} == (
            expected if name == "plain" else {"v": [10, 20]}
        )
    run(database, f"INSERT INTO child ({ROW}, v) VALUES (2, 30)")
    assert [row["v"] for row in pipe.arrive("public.plain", [], drift=SchemaDrift.EVOLVE).rows] == [10, 20, 30]


def test_a_table_that_changes_is_read_by_its_policy(pipe: Pipe, database: Connection) -> None:
    run(database, f"CREATE TABLE t ({ROW} integer NOT NULL, v numeric(10,2), note text)")
    run(database, "INSERT INTO t VALUES (0, 1.5, 'a')")
    columns = [
        Column(name="v", type=ColumnType.NUMERIC, source_type="numeric(10,2)"),
        Column(name="note", type=ColumnType.STRING, source_type="text"),
    ]
    for drift in SchemaDrift:
        assert pipe.arrive("public.t", columns, drift=drift).drift == []

    run(database, "ALTER TABLE t ALTER v TYPE numeric(20,4); ALTER TABLE t RENAME note TO remark")
    run(database, 'ALTER TABLE t ADD "Día" date; UPDATE t SET v = 1.2345, "Día" = \'2026-11-22\'')
    with pytest.raises(ConfigurationError, match=r"gone: note is not in public\.t"):
        pipe.arrive("public.t", columns, drift=SchemaDrift.IGNORE)
    with pytest.raises(ConfigurationError, match=r"type: v was widened from numeric\(10,2\) to numeric\(20,4\)"):
        pipe.arrive("public.t", columns, drift=SchemaDrift.FREEZE)
    arrived = pipe.arrive("public.t", columns, drift=SchemaDrift.EVOLVE)
    (row,) = arrived.rows
    assert {name: str(value) for name, value in row.items()} == {
        ROW: "0",
        "v": "1.234500000",
        "note": "None",
        "remark": "a",
        "Dia": "2026-11-22",
    }
    assert [column.source_type for column in arrived.columns] == ["integer", "numeric(20,4)", None, "text", "date"]


# --- masks --------------------------------------------------------------------------------------------------------


def hash_of(text: str) -> str:
    return hmac.new(SECRET.get_secret_value().encode(), text.encode(), hashlib.sha256).hexdigest()


def test_masked_values_arrive_masked(pipe: Pipe, database: Connection) -> None:
    texts = ["ana@example.com", "", "é\n'\\日本😀", "abcd", "abcde", None]
    source = pipe.create([("c", "text", texts)])
    masks = {mask.value: Column(name=mask, source_column="c", type=ColumnType.STRING, mask=mask) for mask in Mask}
    none_left = Column(name="all", source_column="c", type=ColumnType.STRING, mask=Mask.PARTIAL, mask_keep=0)
    rows = pipe.arrive(f"public.{source}", [*masks.values(), none_left]).rows
    assert [row["hash"] for row in rows] == [None if text is None else hash_of(text) for text in texts]
    assert [row["redact"] for row in rows] == ["***"] * 5 + [None]
    assert [row["partial"] for row in rows] == [
        "***********.com",
        "",
        "***\\日本😀"[:3] + "\\日本😀",
        "****",
        "*bcde",
        None,
    ]
    assert [row["all"] for row in rows] == [None if text is None else "*" * len(text) for text in texts]


def test_any_type_can_be_masked(pipe: Pipe, database: Connection) -> None:
    run(database, "CREATE TYPE pair AS (a integer, b text)")
    cases = {
        "bigint": "42",
        "date": "2026-11-22",
        "integer[]": "{1,NULL}",
        "pair": "(,)",
        "bytea": "\\x00ff",
        "boolean": "true",
    }
    source = pipe.create([(f"c{n}", type_, [text, None]) for n, (type_, text) in enumerate(cases.items())])
    for mask, expected in ((Mask.HASH, hash_of), (Mask.REDACT, lambda _: "***")):
        columns = [Column(name=f"c{n}", type=ColumnType.STRING, mask=mask) for n in range(len(cases))]
        first, second = pipe.arrive(f"public.{source}", columns).rows
        assert [first[column.name] for column in columns] == [expected(text) for text in cases.values()]
        assert [second[column.name] for column in columns] == [None] * len(cases)


def test_the_secret_shows_nowhere_in_the_server(database: Connection) -> None:
    run(database, "CREATE TABLE t (c text)")
    statement = f"SELECT {masked(Mask.HASH, quoted('c'), 4)} FROM t"
    plan = "\n".join(line for (line,) in database.execute(f"EXPLAIN VERBOSE {statement}".encode()).fetchall())
    pads = [database.execute(f"SHOW credix.mask_{side}".encode()).fetchone() for side in ("inner", "outer")]
    assert all(pad is not None and len(pad[0]) == 128 for pad in pads)
    for text in (statement, plan):
        assert not any(pad[0] in text for pad in pads if pad)
        assert SECRET.get_secret_value() not in text
    # Each pad is decoded once for the statement, not once for a row.
    assert plan.count("InitPlan") >= 2


def test_without_the_settings_a_hash_is_an_error(server: Server) -> None:
    with (
        psycopg.connect(server.dsn, options="-c TimeZone=UTC") as connection,
        pytest.raises(psycopg.Error, match="credix"),
    ):
        connection.execute(f"SELECT {masked(Mask.HASH, quoted('relname'), 4)} FROM pg_class".encode())


# --- declaring ----------------------------------------------------------------------------------------------------


def test_a_proposed_declaration_is_what_the_table_has(pipe: Pipe, database: Connection) -> None:
    run(
        database,
        f"""
        CREATE TABLE "Sales Orders" (
          {ROW} integer NOT NULL, "Order No" bigint, price numeric(18,2) NOT NULL, weight numeric(30,15),
          note varchar(20), at timestamptz, tags text[], PRIMARY KEY ("Order No", {ROW})
        );
        INSERT INTO "Sales Orders" VALUES (0, 1, 1.5, 0.000000000000001, 'x', '2026-11-22 12:00:00+00', '{{a,b}}');
        """,
    )
    key = primary_key(database, "public", "Sales Orders")
    found = read_relation(database, declared("public.Sales Orders"))
    table = Table.model_validate(declaration(found, "public", "Sales Orders", key))
    assert table.key == ["Order_No", ROW]
    frozen = table.model_copy(update={"schema_drift": SchemaDrift.FREEZE})
    assert settle(frozen, found).differences == []
    columns = [column for column in table.columns if column.name != ROW]
    (row,) = pipe.arrive("public.Sales Orders", columns, drift=SchemaDrift.FREEZE).rows
    assert row == {
        ROW: 0,
        "Order_No": 1,
        "price": Decimal("1.5"),
        "weight": Decimal("1e-15"),
        "note": "x",
        "at": datetime(2026, 11, 22, 12, tzinfo=UTC),
        "tags": "{a,b}",
    }
