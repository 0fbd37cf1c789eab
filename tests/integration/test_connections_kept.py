"""Connections for small questions that one table after the other takes up, on a real server."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from services.extractor.source.connection import Connections
from services.extractor.source.database import Source, open_source


@pytest.fixture
def kept() -> Iterator[Connections]:
    with closing(Connections()) as connections:
        yield connections


@pytest.fixture
def info(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    parts = conninfo_to_dict(postgres_dsn)
    monkeypatch.setenv("PGPASSWORD", str(parts.get("password") or ""))
    return postgres_dsn


def backend(source: Source) -> int:
    return source.count("SELECT pg_catalog.pg_backend_pid()")


def test_the_next_table_asks_on_the_same_connection_in_a_transaction_of_its_own(info: str, kept: Connections) -> None:
    with open_source(info, kept=kept) as first:
        pid = backend(first)
        first._connection.execute("SELECT set_config('credix.left', 'behind', false)")
    with open_source(info, kept=kept) as second:
        assert backend(second) == pid
        left = second.count("SELECT length(coalesce(pg_catalog.current_setting('credix.left', true), ''))")
        assert left == 0, "what a transaction sets ends with it"


def test_two_at_a_time_are_two_and_none_waits_in_a_transaction(info: str, kept: Connections) -> None:
    with open_source(info, kept=kept) as one, open_source(info, kept=kept) as other:
        pids = {backend(one), backend(other)}
    assert len(pids) == 2
    with psycopg.connect(info, autocommit=True) as watching:
        found = watching.execute(
            "SELECT state FROM pg_catalog.pg_stat_activity WHERE pid = ANY(%s)", [list(pids)]
        ).fetchall()
    assert found == [("idle",), ("idle",)]


def test_one_that_the_server_has_ended_meanwhile_is_replaced(info: str, kept: Connections) -> None:
    with open_source(info, kept=kept) as first:
        pid = backend(first)
    with psycopg.connect(info, autocommit=True) as killing:
        killing.execute("SELECT pg_catalog.pg_terminate_backend(%s, 5000)", [pid])
    with open_source(info, kept=kept) as second:
        assert backend(second) != pid


def test_a_failed_statement_leaves_the_connection_of_use(info: str, kept: Connections) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), open_source(info, kept=kept) as first:
        pid = backend(first)
        first._connection.execute("SELECT 1 / 0")
    with open_source(info, kept=kept) as second:
        assert backend(second) == pid


def test_a_source_that_is_closed_twice_is_given_back_once(info: str, kept: Connections) -> None:
    with ExitStack() as hold:
        with open_source(info, hold, kept=kept) as source:
            pid = backend(source)
        source.close()
        with open_source(info, kept=kept) as next_one:
            assert backend(next_one) == pid
            hold.close()
            assert backend(next_one) == pid, "its transaction goes on"
            with open_source(info, kept=kept) as third:
                assert backend(third) != pid
