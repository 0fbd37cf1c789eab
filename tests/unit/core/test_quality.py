"""How tests stand: the worst that was found since an audit has seen it, whatever the order of audits and batches."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.health.standing import standings
from services.core.state.quality import (
    WORST,
    Audit,
    RowTest,
    RowTests,
    Status,
    TestResult,
    Trouble,
    audits,
    note_audit,
    note_audit_trouble,
    note_row_tests,
    row_tests,
)
from services.core.state.sqlite import SqliteStore
from services.core.state.store import DocumentStore

NOW = datetime(2026, 11, 26, 6, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def result(status: Status, failures: int | None = None, name: str = "t") -> TestResult:
    return TestResult(name=name, status=status, failures=failures)


def audit(minutes: float, *results: TestResult) -> Audit:
    return Audit(id=f"a{minutes:09}", at=at(minutes), seconds=1, tests=list(results))


@pytest.fixture
def store(tmp_path: Path) -> DocumentStore:
    return SqliteStore(tmp_path / "state.sqlite")


def test_of_a_table_the_worst_is_kept_and_the_newest_of_that() -> None:
    noted = RowTests(table="x").after([result("fail", 4)], ["b1"], at(1)).after([result("pass", 0)], ["b2"], at(2))
    assert noted.tests["t"] == RowTest(status="fail", failures=4, at=at(1), batches=["b1"])
    noted = noted.after([result("warn", 9)], ["b3"], at(3)).after([result("fail", 2)], ["b4"], at(4))
    assert noted.tests["t"] == RowTest(status="fail", failures=2, at=at(4), times=2, batches=["b4"])


def test_an_audit_takes_over_what_it_has_seen() -> None:
    noted = RowTests(table="x").after([result("fail", 4)], ["b1"], at(1))
    assert noted.audited(audit(2, result("pass")), unseen=[]).tests == {}
    assert noted.audited(audit(2), unseen=[]).tests == {}, "the project has the test no more"
    for kept in (
        noted.audited(audit(0.5, result("pass")), unseen=[]),  # the batch was tested after it began
        noted.audited(audit(2, result("pass")), unseen=["b1"]),  # the batch was not in bronze
        noted.audited(audit(2, result("error")), unseen=[]),  # it could not look
    ):
        assert kept == noted


def test_audit_and_trouble_are_noted(store: DocumentStore) -> None:
    assert audits(store).newest is None
    note_audit(store, audit(1, result("pass")), {})
    note_audit_trouble(store, Trouble(at=at(2), why="away"))
    found = audits(store)
    assert (found.newest, found.trouble) == (audit(1, result("pass")), Trouble(at=at(2), why="away"))
    note_audit(store, audit(3, result("fail", 1)), {})
    assert (audits(store).newest, audits(store).trouble) == (audit(3, result("fail", 1)), None)
    note_audit(store, audit(2, result("pass")), {})
    assert audits(store).newest == audit(3, result("fail", 1)), "an older one that ends late changes nothing"


def test_tables_are_noted_apart_and_audited_together(store: DocumentStore) -> None:
    note_row_tests(store, "x", [result("fail", 1)], ["b1"], at(1))
    note_row_tests(store, "y", [result("warn", 1, "u")], ["b2"], at(1))
    note_row_tests(store, "z", [], ["b3"], at(1))
    assert [noted.table for noted in row_tests(store)] == ["x", "y"]
    note_audit(store, audit(2, result("pass"), result("pass", name="u")), {"x": ["b1"]})
    assert {noted.table: list(noted.tests) for noted in row_tests(store)} == {"x": ["t"], "y": []}


STATUSES = st.sampled_from(WORST)
EVENTS = st.lists(st.tuples(st.sampled_from(["batch", "audit"]), STATUSES), max_size=12)


@given(EVENTS)
def test_what_a_batch_shows_stands_until_an_audit_finds_the_test_whole(events: list[tuple[str, Status]]) -> None:
    newest, noted = None, RowTests(table="x")
    for minute, (what, status) in enumerate(events):
        if what == "audit":
            newest = audit(minute, result(status))
            noted = noted.audited(newest, unseen=[])
        else:
            noted = noted.after([result(status)], [f"b{minute}"], at(minute))
    found = {each.name: each.status for each in standings(newest, [noted])}
    # The model: what batches showed since an audit could run the test, and what the newest audit said.
    told = max((n for n, event in enumerate(events) if event[0] == "audit" and event[1] != "error"), default=-1)
    said = [status for what, status in events if what == "audit"][-1:]
    said += [status for what, status in events[told + 1 :] if what == "batch"]
    worst = max(said, key=WORST.index, default=None)
    assert found.get("t") == worst


def test_the_worst_is_told_first_and_of_the_same_the_audits() -> None:
    newest = audit(1, result("fail", 3, "a"), result("warn", 2, "b"), result("pass", 0, "c"))
    batches = RowTests(table="x").after(
        [result("fail", 1, "a"), result("fail", 7, "b"), result("pass", 0, "c"), result("pass", 0, "d")], ["b"], at(2)
    )
    found = [(s.name, s.status, s.failures, s.found_by, s.table, s.as_of) for s in standings(newest, [batches])]
    assert found == [
        ("a", "fail", 3, "audit", None, at(1)),
        ("b", "fail", 7, "batch", "x", at(2)),
        ("c", "pass", 0, "audit", None, at(1)),
        ("d", "pass", 0, "batch", "x", at(2)),
    ]
