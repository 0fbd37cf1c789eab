"""A read locks before it has a snapshot, whatever it reads."""

from services.extractor.source.locks import foreign_locks, opening


def test_what_is_read_by_one_statement_is_planned_before_it_is_read_under_a_new_snapshot() -> None:
    assert opening("SELECT 1 FROM t", ["SET LOCAL a = b"], None, "") == [
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET LOCAL a = b",
        "EXPLAIN SELECT 1 FROM t",
    ]


def test_a_view_is_locked_without_a_snapshot_where_it_can_be() -> None:
    assert opening("SELECT 1 FROM v", ["SET LOCAL a = b"], None, "LOCK TABLE v") == ["SET LOCAL a = b", "LOCK TABLE v"]


def test_a_sessions_snapshot_is_taken_before_anything_else() -> None:
    assert opening("SELECT 1 FROM t", ["SET LOCAL a = b"], "'0-1'", "") == [
        "SET TRANSACTION SNAPSHOT '0-1'",
        "SET LOCAL a = b",
    ]


def test_foreign_tables_are_touched_for_a_limited_time_each() -> None:
    assert foreign_locks([], "5s") == []
    assert foreign_locks(["a", "b"], "5s") == [
        "SET LOCAL statement_timeout = '5s'",
        "SELECT FROM a LIMIT 1",
        "SELECT FROM b LIMIT 1",
        "SET LOCAL statement_timeout TO DEFAULT",
    ]
