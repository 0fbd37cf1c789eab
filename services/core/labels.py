"""The labels of BigQuery's jobs: by them the bytes billed are summed by stage, table, model and run.

``credix_stage`` is what the job is for, ``credix_run`` the run that sent it, ``credix_table`` the declared table that
it is about. dbt's jobs have more: dbt/macros/query_comment.sql, which makes labels of names by the same rule.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MOST_LETTERS = 63
"""Of a label's key or value (https://cloud.google.com/bigquery/docs/labels-intro#requirements)."""

_VALUE = re.compile(rf"[a-z0-9_-]{{0,{MOST_LETTERS}}}")
_KEPT_LETTERS = 30
"""Of a name that is no label: with a dash and a hash of 32 letters that makes a label."""

_run: ContextVar[str | None] = ContextVar("credix_run", default=None)


def label(name: str) -> str:
    """A name as a label's value: as it is where it can be one, else shortened, with a hash that tells it apart."""
    if _VALUE.fullmatch(name):
        return name
    kept = re.sub(r"[^a-z0-9_-]", "_", name.lower())[:_KEPT_LETTERS]
    return f"{kept}-{hashlib.md5(name.encode('utf-8', 'replace'), usedforsecurity=False).hexdigest()}"


def run_label(run_id: str) -> str:
    """A run's id as a label's value: in lower case, so that people find it."""
    return label(run_id.lower())


@contextmanager
def jobs_of(run_id: str) -> Iterator[None]:
    """Label all jobs that this thread sends within the block as a run's."""
    token = _run.set(run_label(run_id))
    try:
        yield
    finally:
        _run.reset(token)


def job_labels(stage: str, table: str | None = None) -> dict[str, str]:
    """The labels of a job that is about to be sent.

    Args:
        stage: what it is for: load, stable, hold, tests, bronze, downstream, audit, observe, void.
        table: the declared table that it is about, if it is about one.
    """
    labels = {"credix_stage": stage, "credix_run": _run.get(), "credix_table": table and label(table)}
    return {key: value for key, value in labels.items() if value is not None}
