"""`credix audit`: what is wrong first, readable at 80 columns, and an exit code."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from services.core.state.quality import (
    Audit,
    Group,
    TestResult,
    Trouble,
    note_audit,
    note_audit_trouble,
    note_row_tests,
)
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.ops.audit import AuditStatus, print_audit, read_audit

AT = datetime(2026, 11, 26, 6, tzinfo=UTC)
LATER = datetime(2026, 11, 26, 7, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> PipelineState:
    return PipelineState(SqliteStore(tmp_path / "state.sqlite"))


def audited(state: PipelineState, *results: TestResult) -> None:
    figures = {"tiers": [Group(name="GOOD", count=2)]}
    note_audit(state.store, Audit(id="a", at=AT, seconds=4.21, tests=list(results), figures=figures), {})


def shown(found: AuditStatus) -> str:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_audit(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_without_an_audit_it_says_how_to_make_one(state: PipelineState) -> None:
    found = read_audit(state)
    assert not found.sound
    assert shown(found).strip() == "There was no audit yet: credix audit --run"


def test_all_that_passes(state: PipelineState) -> None:
    audited(state, TestResult(name="t", status="pass", failures=0), TestResult(name="u", status="warn", failures=2))
    found = read_audit(state)
    assert found.sound
    assert "began 2026-11-26 06:00 UTC and took 4.2 s: 1 test warns, 1 test passes." in " ".join(shown(found).split())
    assert found.figures["tiers"][0].name == "GOOD"


def test_what_a_batch_showed_since_is_told_with_its_time(state: PipelineState) -> None:
    audited(state, TestResult(name="t" * 90, status="pass", failures=0))
    note_row_tests(state.store, "orders", [TestResult(name="t" * 90, status="fail", failures=1_234)], ["b"], LATER)
    found = read_audit(state)
    assert not found.sound
    page = shown(found)
    assert "1 test fails." in page
    assert "1,234 2026-11-26 07:00 a batch of orders" in page
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("status", ["fail", "error"])
def test_what_does_not_pass_is_not_sound(state: PipelineState, status: str) -> None:
    audited(state, TestResult.model_validate({"name": "t", "status": status, "message": "why it is so"}))
    found = read_audit(state)
    assert not found.sound
    assert "t: why it is so" in shown(found)


def test_an_audit_that_found_out_nothing_is_said_first(state: PipelineState) -> None:
    audited(state, TestResult(name="t", status="pass", failures=0))
    note_audit_trouble(state.store, Trouble(at=LATER, why="BigQuery is away"))
    found = read_audit(state)
    assert not found.sound
    assert shown(found).startswith("The audit of 2026-11-26 07:00 UTC found out nothing: BigQuery is away")
