"""What is logged of test results, and kept of them in the state: names and counts."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import cast

import structlog

from services.core import machine
from services.core.state.quality import Status, TestResult, note_row_tests
from services.core.state.store import DocumentStore
from services.transformer.dbt_project import NodeResult

_MOST_LETTERS = 300
"""Of a message: a project can have thousands of tests, and a document of the state has 1 MiB."""

log = structlog.get_logger()


def note_rows(
    store: DocumentStore, table: str, results: Collection[NodeResult], batches: list[str], at: datetime | None = None
) -> None:
    """Note the row test results of some batches. To be called before bronze has them.

    Args:
        store: the state's.
        table: the batches' table.
        results: how the tests ended.
        batches: ids of the batches.
        at: when they were tested; now by default.

    Raises:
        TransientError: the state does not answer.
    """
    note_row_tests(store, table, as_noted(results), batches, at or machine.now())


def as_noted(results: Iterable[NodeResult]) -> list[TestResult]:
    """Test results as the state keeps them."""
    return [
        TestResult(
            name=result.name,
            status=cast(Status, result.status),
            failures=result.failures,
            message=result.message[:_MOST_LETTERS] if result.status == "error" else "",
        )
        for result in results
    ]


def log_results(results: Iterable[NodeResult], **facts: str) -> None:
    """Log what did not pass.

    Args:
        results: how the tests ended.
        facts: what else is told of each.
    """
    for result in results:
        test, failures, reason = result.name, result.failures, result.message
        if result.status == "warn":
            log.warning("test.warned", test=test, failures=failures, reason=reason, **facts)
        elif result.status == "fail":
            log.error("test.failed", test=test, failures=failures, reason=reason, **facts)
        elif result.status != "pass":
            log.error("test.not_run", test=test, reason=reason, **facts)
