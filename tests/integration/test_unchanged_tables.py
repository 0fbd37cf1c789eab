"""What a run asks the source about unchanged tables; and a refusal is never taken for nothing there."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from local.sample.many_tables import SCHEMA, change_many, many, seed_many, write_tables_file
from services.extractor.source import server
from services.extractor.source.connection import Connections
from services.extractor.source.database import Source, open_source
from tests.integration.extractor_harness import ROLE, own_server, place_on

MOST_STATEMENTS = 22
"""At the source, about a table of which nothing is to be read."""
TABLES = 6


@pytest.fixture
def source(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    monkeypatch.setenv("PGPASSWORD", str(conninfo_to_dict(postgres_dsn).get("password") or ""))
    with closing(Connections()) as kept, open_source(postgres_dsn, kept=kept) as source:
        yield source


def test_nothing_is_read_of_unchanged_tables_and_few_questions_are_asked(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    tables = many(TABLES)
    with (
        own_server(tmp_path, log_statement="all") as source,
        place_on(source.dsn, tmp_path) as place,
        place.bench(tmp_path) as bench,
    ):
        with bench.database.connect() as connection:
            seed_many(connection, tables)
        bench.database.run(
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {ROLE}", f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO {ROLE}"
        )
        write_tables_file(bench.folder / "tables.yaml", tables)
        first = bench.extract()
        assert {entry["outcome"] for entry in first.report} == {"landed"}
        said = len(source.log.read_text())
        assert {entry["outcome"] for entry in bench.extract().report} == {"no_changes"}
        asked = source.log.read_text()[said:]
        assert "COPY (" not in asked, "no read is begun"
        statements = asked.count("LOG:  statement: ") + asked.count("LOG:  execute ")
        assert statements <= MOST_STATEMENTS * TABLES
        with bench.database.connect() as connection:
            change_many(connection, tables[:1])
        bench.database.run("SELECT pg_sleep(1.2)")  # a window ends a second ago
        outcomes = {entry["table"]: entry["outcome"] for entry in bench.extract().report}
        assert [name for name, outcome in outcomes.items() if outcome == "landed"] == [tables[0].name]


def test_a_question_that_fails_does_not_say_that_nothing_is_there(source: Source) -> None:
    assert source.shows_none("SELECT 1 WHERE false")
    assert not source.shows_none("SELECT 1")
    assert not source.shows_none("SELECT 1 / 0 AS present")
    assert source._connection.info.transaction_status is psycopg.pq.TransactionStatus.INERROR


def test_a_server_that_keeps_one_thing_for_itself_says_the_rest(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = source.server()
    assert None not in (whole.system, whole.timeline, whole.position)
    monkeypatch.setitem(server._IF_IT_SAYS_SO, "system", "pg_catalog.no_such_function()")
    less = source.server()
    assert (less.system, less.timeline, less.database) == (None, whole.timeline, whole.database)
    assert source.count("SELECT 1") == 1, "the transaction goes on"
