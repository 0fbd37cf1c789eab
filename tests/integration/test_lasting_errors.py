"""What no retry cures fails at once, by its SQLSTATE, whatever language the server speaks; and no value is told.

The function ``refuse`` stands for a server with other messages: it raises a SQLSTATE with words of its own.
"""

from psycopg.conninfo import conninfo_to_dict

from tests.integration.extractor_harness import PASSWORD, ROLE, Bench, Finished, declared

VALUE = "a-value-that-nobody-tells"
COLUMNS = {"id": "INT64", "n": "INT64"}


def views(bench: Bench, **expressions: str) -> None:
    """Views over one table of many rows, of which the last one has the value."""
    bench.database.run(
        "CREATE TABLE src.base (id int PRIMARY KEY, v text)",
        f"INSERT INTO src.base SELECT i, CASE WHEN i = 5000 THEN '{VALUE}' ELSE i::text END"
        " FROM generate_series(1, 5000) i",
        "CREATE FUNCTION src.refuse(code text, v text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN IF v LIKE 'a-value%' THEN RAISE 'ungültige Eingabe: »%«', v USING ERRCODE = code; END IF;"
        " RETURN 1; END $$",
        *(f"CREATE VIEW src.{name} AS SELECT id, {sql} AS n FROM src.base" for name, sql in expressions.items()),
        f"GRANT SELECT ON ALL TABLES IN SCHEMA src TO {ROLE}",
    )
    bench.declare(*(declared(name, COLUMNS) for name in expressions))


def failed_at_once(finished: Finished, table: str) -> str:
    """A table's error; nothing was tried again, and the value is nowhere."""
    assert finished.events("read.again") == []
    assert VALUE not in finished.stdout + finished.stderr
    outcome = finished.outcome(table)
    assert outcome["outcome"] == "failed"
    return str(outcome["error"])


def test_a_value_that_postgresql_refuses(bench: Bench) -> None:
    """A cast, a division, and the same in another language (cases/21)."""
    expressions = {
        "badcast": "v::int",
        "div0": "1 / (id - 5000)",
        "in_german": "src.refuse('22P02', v)",
        "of_a_function": "src.refuse('P0001', v)",
        "of_a_check": "src.refuse('23514', v)",
    }
    views(bench, **expressions)
    finished = bench.start().finish()
    assert finished.exit_code == 1
    said = {name: failed_at_once(finished, name) for name in expressions}
    assert all("column n: PostgreSQL refuses a value of" in error for error in said.values()), said
    codes = {"badcast": "22P02", "div0": "22012", "in_german": "22P02", "of_a_function": "P0001", "of_a_check": "23514"}
    assert {name: f"SQLSTATE {code}" in said[name] for name, code in codes.items()} == dict.fromkeys(codes, True)
    assert "DivisionByZero" in said["div0"]


def test_a_refusal_that_lasts_is_a_persons(bench: Bench) -> None:
    """Also of a foreign table's server, whose refusal has no SQLSTATE of its own."""
    views(bench, refused="src.refuse('42501', v)")
    to = conninfo_to_dict(bench.database.dsn)
    bench.database.run(
        "CREATE EXTENSION IF NOT EXISTS postgres_fdw",
        f"CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{to['port']}',"
        f" dbname '{to['dbname']}')",
        f"CREATE USER MAPPING FOR {ROLE} SERVER loop OPTIONS (user '{ROLE}', password 'not {PASSWORD}')",
        "CREATE FOREIGN TABLE src.far (id int, n int) SERVER loop OPTIONS (schema_name 'src', table_name 'base')",
        f"GRANT SELECT ON src.far TO {ROLE}",
    )
    bench.declare(declared("refused", COLUMNS), declared("far", COLUMNS))
    finished = bench.start().finish()
    assert "ConfigurationError" in failed_at_once(finished, "refused")
    assert "SQLSTATE 42501" in finished.outcome("refused")["error"]
    assert "password authentication failed" in failed_at_once(finished, "far")


def test_what_passes_is_tried_again_whatever_the_language(bench: Bench) -> None:
    """A lock that cannot be had, said in another language."""
    views(bench, passing="src.refuse('55P03', v)")
    finished = bench.start(EXTRACT_ATTEMPTS="2").finish()
    assert finished.exit_code == 1
    assert len(finished.events("read.again")) == 1
    assert "TransientError" in finished.outcome()["error"]
    assert VALUE not in finished.stdout + finished.stderr


def test_a_value_that_the_type_lacks_is_counted(bench: Bench) -> None:
    """With the statement that finds the rows at the source, which has no value in it."""
    bench.database.run(
        "CREATE TABLE src.t (id int PRIMARY KEY, amount numeric, day date)",
        "INSERT INTO src.t VALUES (1, 1, '2026-01-01'), (2, 'NaN', '2026-01-01'), (3, 'NaN', 'infinity')",
        f"GRANT SELECT ON src.t TO {ROLE}",
    )
    for column, type_, rows in (("amount", "NUMERIC", 2), ("day", "DATE", 1)):
        bench.declare(declared("t", {"id": "INT64", column: type_}))
        error = failed_at_once(bench.start().finish(), "t")
        assert f"column {column}: {rows} row(s) have a value that {type_} cannot hold" in error
        statement = error.partition("They are: ")[2]
        assert len(bench.database.rows(statement)) == rows
