"""How a run or an audit ended, in one word for the history."""

from collections.abc import Iterable, Sequence
from typing import Literal

from services.transformer.dbt_project import NodeResult

Outcome = Literal["succeeded", "tests_failed", "failed"]


def outcome(problems: Sequence[str], nodes: Iterable[NodeResult]) -> Outcome:
    """How it ended.

    Args:
        problems: what could not be done.
        nodes: how models and tests ended.
    """
    if problems:
        return "failed"
    return "tests_failed" if any(node.status == "fail" for node in nodes) else "succeeded"
