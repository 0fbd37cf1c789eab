"""What a session is set to decides which rows arrive, and as which texts: whatever lies between here and PostgreSQL.

https://www.pgbouncer.org/config.html
"""

import subprocess
from collections.abc import Iterator

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from local.stack.options import PYTHON, REPOSITORY
from services.extractor.contract.masking import mask_settings
from services.extractor.source.terms import MARK
from tests.integration.extractor_harness import (
    ROLE,
    Bench,
    Place,
    Server,
    declared,
    incremental,
    newest,
    own_server,
    place_on,
)
from tests.integration.pooler import pooler
from tests.integration.postgres_versions import UNUSUAL, VERSIONS

HOSTILE = {
    **UNUSUAL,
    "DateStyle": "SQL, DMY",
    "quote_all_identifiers": "on",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1min",
}
KEY = "the key of the masks"
POOLERS = {"as it comes": ("session", ""), "options are dropped": ("transaction", "options,extra_float_digits")}
"""PgBouncer's mode, and what it does with a client that brings startup options: refuses it, or drops them."""


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with own_server(folder, request.param, log_statement="all", log_min_duration_statement="0") as server:
        yield server


@pytest.fixture(scope="module")
def place(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Its database has other settings than anybody would want."""
    with place_on(server.dsn, tmp_path_factory.mktemp("session")) as place:
        name = sql.Identifier(str(conninfo_to_dict(place.database.dsn)["dbname"]))
        with place.database.connect() as connection:
            for setting, value in HOSTILE.items():
                alter = sql.SQL("ALTER DATABASE {} SET {} = {}")
                connection.execute(alter.format(name, sql.Identifier(setting), sql.Literal(value)))
        yield place


TEXTS = {
    "f8": ("float8", "0.30000000000000004", "0.30000000000000004"),
    "ts": ("timestamptz", "2026-01-02 03:04:05.123456+00", "2026-01-02 03:04:05.123456+00"),
    "iv": ("interval", "1 mon 2 days 03:04:05", "P1M2DT3H4M5S"),
    "fl": ("float8[]", "{123456.78901234567}", "{123456.78901234567}"),
    "by": ("bytea[]", '{"\\\\x00ff"}', '{"\\\\x00ff"}'),
    "rc": ("regclass", "src.texts", "src.texts"),
    "da": ("date[]", "{2026-01-02}", "{2026-01-02}"),
}
"""Per column its type, what is put in, and what has to arrive as a text."""


def texts(bench: Bench) -> None:
    columns = ", ".join(f"{name} {type_}" for name, (type_, _, _) in TEXTS.items())
    values = ", ".join(f"'{value}'" for _, value, _ in TEXTS.values())
    bench.database.run(
        f"CREATE TABLE src.texts (id int PRIMARY KEY, {columns})",
        "SET standard_conforming_strings = on",
        f"GRANT SELECT ON src.texts TO {ROLE}",
    )
    with bench.database.connect(options="-c standard_conforming_strings=on -c DateStyle=ISO") as connection:
        connection.execute(f"INSERT INTO src.texts VALUES (1, {values})")


def expected() -> list[dict[str, object]]:
    return [{"id": 1, **{name: arrives for name, (_, _, arrives) in TEXTS.items()}}]


def arrived(bench: Bench, table: str) -> list[dict[str, object]]:
    return [
        {name: value for name, value in row.items() if name != "_extracted_at"}
        for row in bench.only_batch(table).rows()
    ]


@pytest.mark.parametrize(("mode", "ignored"), POOLERS.values(), ids=POOLERS)
def test_behind_a_pooler_the_same_texts_and_rows_arrive(bench: Bench, server: Server, mode: str, ignored: str) -> None:
    """By one statement, by chunks with several readers, and by a window. A key of masks does not get through."""
    database = bench.database
    texts(bench)
    database.paged_table("big")
    database.paged_table("events")
    database.run("UPDATE src.events SET changed_at = now() - interval '1 hour'")
    words = {"id": "INT64", **dict.fromkeys(TEXTS, "STRING")}
    secret = {"name": "secret", "source_column": "v", "type": "STRING", "mask": "hash"}
    masked = declared("masked")
    masked |= {"source": "src.big", "columns": [masked["columns"][0], secret]}
    bench.declare(declared("texts", words), declared("big"), incremental("events"), masked)
    with pooler(server.port, mode, ignore_startup_parameters=ignored) as between:
        finished = bench.start(POSTGRES_PORT=str(between.port), EXTRACT_MASK_SECRET=KEY).finish()
        assert finished.exit_code == 1
        failed = {entry["table"]: entry["error"] for entry in finished.report if entry["outcome"] == "failed"}
        assert failed.keys() == {"masked"}, failed
        assert arrived(bench, "texts") == expected(), finished.stderr
        assert newest([bench.only_batch("big")], "id") == bench.source("big")
        assert newest([bench.only_batch("events")], "id") == bench.source("events")
        error = finished.outcome("masked")["error"]
        assert error.startswith("ConfigurationError: table masked: the key that masks secret by hash did not reach")
        assert "POSTGRES_HOST" in error
        bench.merge()
        changed = "UPDATE src.events SET v = 1, changed_at = clock_timestamp() WHERE id = 7"
        database.run("CREATE INDEX ON src.events (changed_at)", "VACUUM ANALYZE src.events", changed)
        finished = bench.extract("--table", "events", POSTGRES_PORT=str(between.port))
        assert {row["id"]: row["v"] for row in bench.only_batch("events").rows()} == {7: 1}
    assert "window.safety_lag" not in finished.stderr
    bench.at_rest()


def test_a_pooler_that_gives_every_statement_another_session_is_refused_at_once(bench: Bench, server: Server) -> None:
    bench.database.paged_table("big")
    bench.declare(declared("big"))
    with pooler(server.port, "statement") as between:
        finished = bench.start(POSTGRES_PORT=str(between.port)).finish()
    outcome = finished.outcome()
    assert outcome["outcome"] == "failed"
    assert outcome["error"].startswith("ConfigurationError: ")
    assert "session or transaction mode" in outcome["error"]
    assert outcome["seconds"] < 5


def test_the_key_of_the_masks_shows_nowhere(bench: Bench, server: Server) -> None:
    bench.database.paged_table("big", gated=True)
    entry = declared("big")
    entry["columns"] += [{"name": "secret", "source_column": "v", "type": "STRING", "mask": "hash"}]
    bench.declare(entry)
    with bench.database.gate(2_000) as gate:
        running = bench.start(EXTRACT_MASK_SECRET=KEY)
        gate.wait()
        activity = str(bench.database.rows("SELECT a::text FROM pg_stat_activity a"))
    finished = running.finish()
    assert finished.exit_code == 0, finished.stderr
    written = finished.stdout + finished.stderr + server.log.read_text() + activity
    pads = mask_settings(SecretStr(KEY)).values()
    assert not [key for key in (KEY, KEY.encode().hex(), *pads) if key in written]
    assert MARK in written, "the settings are asked for by name"


def test_functions_that_a_schema_on_the_roles_path_puts_before_postgresqls_are_not_called(bench: Bench) -> None:
    """A mask would hand the value over, a check let it pass."""
    database = bench.database
    database.run(
        "CREATE TABLE src.people (id int PRIMARY KEY, email text NOT NULL)",
        "INSERT INTO src.people VALUES (1, 'ana@example.com')",
        f"GRANT SELECT ON src.people TO {ROLE}",
        'CREATE FUNCTION src."right"(text, integer) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$',
        'CREATE FUNCTION src."length"(text) RETURNS integer LANGUAGE sql AS $$ SELECT 5 $$',
        f"ALTER ROLE {ROLE} SET search_path = src, pg_catalog",
    )
    email = {"name": "email", "type": "STRING", "mask": "partial"}
    entry = declared("people", {"id": "INT64"})
    entry["columns"] += [email]
    bench.declare(entry)
    try:
        bench.extract()
    finally:
        database.run(f"ALTER ROLE {ROLE} RESET search_path")
    assert arrived(bench, "people") == [{"id": 1, "email": "***********.com"}]


def declare(bench: Bench, source: str) -> subprocess.CompletedProcess[str]:
    """`credix declare`."""
    command = [str(PYTHON.parent / "credix"), "declare", source]
    return subprocess.run(command, cwd=REPOSITORY, env=bench.environment({}), capture_output=True, text=True)


def test_rows_that_a_policy_hides_from_the_role_are_not_left_out_without_a_word(bench: Bench) -> None:
    """Of a table and of a view that reads as its caller; a dry run and a proposal say so, too."""
    database = bench.database
    database.run(
        "CREATE TABLE src.rls (id int PRIMARY KEY, v int)",
        "INSERT INTO src.rls SELECT i, i FROM generate_series(1, 10) i",
        "ALTER TABLE src.rls ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY few ON src.rls FOR SELECT TO {ROLE} USING (id > 7)",
        "CREATE VIEW src.above AS SELECT * FROM src.rls",
        "CREATE ROLE narrow",
        f"GRANT USAGE ON SCHEMA src TO narrow; GRANT SELECT ON src.rls TO {ROLE}, narrow",
        "CREATE POLICY nothing ON src.rls FOR SELECT TO narrow USING (false)",
        f"ALTER VIEW src.above OWNER TO narrow; GRANT SELECT ON src.above TO {ROLE}",
    )
    bench.declare(declared("rls"), declared("above"))
    try:
        finished = bench.start().finish()
        looked = bench.start("--dry-run").finish()
        assert (finished.exit_code, looked.exit_code) == (1, 1)
        for run in (finished, looked):
            for name in ("rls", "above"):
                assert "row-level security hides rows" in run.outcome(name)["error"]
                assert "BYPASSRLS" in run.outcome(name)["error"]
        proposed = declare(bench, "src.rls")
        assert (proposed.returncode, proposed.stdout) == (2, "")
        assert "row-level security hides rows of src.rls" in proposed.stderr
        for role in (ROLE, "narrow"):
            database.run(f"ALTER ROLE {role} BYPASSRLS")
        bench.extract()
        for name in ("rls", "above"):
            assert len(bench.only_batch(name).rows()) == 10
    finally:
        database.run(
            f"ALTER ROLE {ROLE} NOBYPASSRLS", "DROP VIEW src.above", "DROP OWNED BY narrow", "DROP ROLE narrow"
        )
