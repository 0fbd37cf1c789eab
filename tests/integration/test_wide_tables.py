"""Tables of which a SELECT list would be longer than PostgreSQL takes."""

from collections.abc import Iterator

import psycopg
import pytest

from services.extractor.planning.window import MOST_EXPRESSIONS
from tests.integration.extractor_harness import ROLE, Bench, Place, declared, own_server, place_on
from tests.integration.postgres_versions import VERSIONS


@pytest.fixture(scope="module", params=VERSIONS, ids=[f"postgresql{version}" for version in VERSIONS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    with own_server(folder, request.param) as server, place_on(server.dsn, folder) as place:
        yield place


def test_the_limit_is_postgresqls(bench: Bench) -> None:
    [row] = bench.database.rows(f"SELECT {', '.join(['1'] * MOST_EXPRESSIONS)}")
    assert len(row) == MOST_EXPRESSIONS
    with pytest.raises(psycopg.errors.TooManyColumns):
        bench.database.rows(f"SELECT {', '.join(['1'] * (MOST_EXPRESSIONS + 1))}")


def test_a_table_that_takes_too_many_expressions_is_refused_with_what_to_do(bench: Bench) -> None:
    """Its second half, as another table, is read."""
    names = [f"n{number}" for number in range(600)]
    bench.database.run(
        f"CREATE TABLE src.wide (id int PRIMARY KEY, {', '.join(f'{name} numeric' for name in names)})",
        "INSERT INTO src.wide (id, n0, n599) VALUES (1, 'NaN', 1.5)",
        f"GRANT SELECT ON src.wide TO {ROLE}",
    )
    columns = {name: {"type": "NUMERIC", "on_unrepresentable": "string"} for name in names}
    rest = {name: columns[name] for name in names[50:]}
    bench.declare(
        declared("wide", {"id": "INT64", **columns}), declared("rest", {"id": "INT64", **rest}, source="src.wide")
    )
    for arguments in (("--dry-run",), ()):
        finished = bench.start(*arguments).finish()
        assert finished.exit_code == 1
        error = finished.outcome("wide")["error"]
        assert "table wide: reading src.wide takes 1,801 expressions, and PostgreSQL has 1,664 at most" in error
        assert "some of the 600 column(s) that have one of them (n0, n1, n2, …)" in error
        assert "Traceback" not in finished.stderr
        assert finished.outcome("rest")["error"] is None
    assert bench.batches("wide") == []
    [row] = bench.only_batch("rest").rows()
    assert (row["id"], str(row["n599"]), row["n598"]) == (1, "1.500000000", None)
