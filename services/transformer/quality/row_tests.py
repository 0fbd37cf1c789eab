"""The tests of single rows, on a batch before bronze takes it in: one statement for each table, one scan of the batch.

They are ordinary dbt tests of a bronze model, or of a model whose rows are each made from one row of it: such a model
says so in its config, ``meta: {rows_of: <bronze model>}``. What compares rows, or tables, is for the audit.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.cloud import bigquery

from services.core.batch import BatchError
from services.core.labels import job_labels
from services.core.tables import OnFailedTests, Table
from services.core.words import counted
from services.transformer.dbt_project import DbtProject, NodeResult
from services.transformer.quality.asking import ask
from services.transformer.quality.compiled import Compiled, DataTest, Model, compiled_row_tests
from services.transformer.quality.fused import Part, all_pass, broken, fused, judged, passed, told_by_guard
from services.transformer.quality.guard import Guard
from services.transformer.quality.noting import log_results

KINDS = frozenset({"not_null", "accepted_values", "between", "no_rows"})
"""Generic tests that look at each row alone. Of another test ``meta: {row_test: true}`` says that it does; ``false``
leaves one of these to the audit."""

_ASKED = "`row tests`"
"""What the tests' answers are called in a statement that goes on only if all pass."""

_SELECTED = (*(f"test_name:{kind}" for kind in sorted(KINDS)), "config.meta.row_test:true")
"""The tests that ``_is_row_test`` may accept, as dbt selects them."""

_MOST_GUARD = 100_000
"""Characters of a guard. What a statement takes in may have 900,000 (``bronze.handover``), and BigQuery takes 1 MB."""

_MOST_NAMED = 10
"""Tests that a batch's reason names."""


@dataclass(frozen=True)
class Plan:
    """The row tests of a table."""

    tests: list[DataTest]
    named: dict[str, str]
    """Queries of the models between the rows and the tests, by the name that is put for each: after what it reads."""
    bronze: str
    """The name that is put for the bronze model."""
    misplaced: dict[str, str]
    """Tests that cannot be asked of the rows alone, and why."""

    def statement(self, parts: Sequence[Part], rows: str) -> str:
        """One statement that asks some of the tests.

        Args:
            parts: the tests.
            rows: a SELECT of the batch's rows as bronze has them.
        """
        return fused(parts, {self.bronze: rows} | self._read_by(fused(parts)))

    def guard(self) -> Guard:
        """What makes a SELECT of rows raise an error unless every test passes; the error says what they find."""
        if not self.tests:
            return Guard("", "")
        asked = fused(self.tests)
        queries = self._read_by(asked) | {_ASKED: asked}
        named = "".join(f",\n{name} as (\n{sql}\n)" for name, sql in queries.items())
        guarded = f"select * from {self.bronze}\nwhere {all_pass(self.tests, _ASKED)}"  # noqa: S608 - our own names
        return Guard(f"with {self.bronze} as (\n", f"\n){named}\n{guarded}")

    def _read_by(self, sql: str) -> dict[str, str]:
        """The queries of models that some SQL reads, each after what it reads."""
        asked: dict[str, str] = {}
        for name, query in reversed(self.named.items()):
            if any(name in text for text in (sql, *asked.values())):
                asked = {name: query} | asked
        return asked


def plan(project: Compiled, table: Table) -> Plan:
    """The row tests of a table, by the project's declarations."""
    bronze = project.model(table.bronze_model)
    if bronze is None:
        return Plan([], {}, "", {})
    models, refused = _models(project, bronze)
    names = {model.relation: _name(model) for model in (bronze, *models)}
    named = {_name(model): _renamed(model.sql or "", names) for model in models}
    of_rows = {bronze.id, *(model.id for model in models)}
    tests, misplaced = [], {}
    for test in project.tests:
        if not _is_row_test(test) or not test.reads & (of_rows | refused.keys()):
            continue
        if why := next((refused[id_] for id_ in sorted(test.reads & refused.keys())), None):
            misplaced[test.name] = why
        elif not test.reads <= of_rows:
            misplaced[test.name] = f"it reads more than rows of {bronze.name}: take its meta.row_test off"
        elif test.sql is None:
            misplaced[test.name] = f"dbt could not compile it: {test.why_not}"
        else:
            tests.append(replace(test, sql=_renamed(test.sql, names)))
    return Plan(tests, named, _name(bronze), misplaced)


def _is_row_test(test: DataTest) -> bool:
    return test.kind in KINDS if test.row_test is None else test.row_test


def _models(project: Compiled, bronze: Model) -> tuple[list[Model], dict[str, str]]:
    """The models whose rows are the bronze model's, each after what it reads; and those that wrongly say so."""
    waiting = sorted((m for m in project.models.values() if m.rows_of == bronze.name), key=lambda model: model.name)
    placed: list[Model] = []
    while True:
        known = {bronze.id, *(model.id for model in placed)}
        ready = [model for model in waiting if model.sql is not None and model.reads <= known]
        if not ready:
            break
        placed += ready
        waiting = [model for model in waiting if model not in ready]
    why = f"says rows_of: {bronze.name}, but is not made from its rows alone, or does not compile; take the meta off"
    return placed, {model.id: f"model {model.name} {why}" for model in waiting}


def _name(model: Model) -> str:
    """What a model's rows are called in the statement. The blank keeps it apart from any name in the tests' own SQL."""
    return f"`rows of {model.name}`"


def _renamed(sql: str, names: dict[str, str]) -> str:
    for relation, name in names.items():
        sql = sql.replace(relation, name)
    return sql


class RowTests:
    """The row tests of a project, compiled when they are first needed, once for each process."""

    def __init__(self, project: DbtProject) -> None:
        self._project = project
        self._compiled: Compiled | None = None
        self._plans: dict[str, Plan] = {}
        self._lock = threading.Lock()

    def planned(self, table: Table) -> Plan:
        """The row tests of a table.

        Raises:
            DbtError: the project does not compile.
        """
        with self._lock:
            if self._compiled is None:
                self._compiled = compiled_row_tests(self._project, *_SELECTED)
            if table.name not in self._plans:
                self._plans[table.name] = plan(self._compiled, table)
            return self._plans[table.name]

    def results(self, client: bigquery.Client, table: Table, rows: str) -> list[NodeResult]:
        """Run a table's row tests on rows that bronze is about to take in.

        A test that cannot be run on them has the status ``error``; the others are run.

        Args:
            client: BigQuery.
            table: the table.
            rows: a SELECT of the rows in bronze's shape (``batch_rows``); of several batches joined by UNION ALL.

        Raises:
            DbtError: the project does not compile.
            GoogleAPICallError: BigQuery does not answer: nothing is known of the rows.
        """
        planned = self.planned(table)
        labels = job_labels("tests", table.name)
        answers = ask(client, planned.tests, lambda parts: planned.statement(parts, rows), labels)
        results = []
        for test, answer in zip(planned.tests, answers, strict=True):
            if answer.refused is not None:
                results.append(broken(test, answer.refused, answer.seconds))
            else:
                results.append(judged(test, answer.rows[0], answer.seconds))
        results += [broken(DataTest(name, None), why) for name, why in planned.misplaced.items()]
        log_results(results, table=table.name)
        return results

    def guard(self, table: Table) -> Guard | None:
        """What makes a SELECT of rows in bronze's shape raise an error unless every row test of the table passes.

        Returns:
            None when a test of the table cannot be asked of rows alone, so that not all can pass; or when the tests are
            so long that a statement which takes rows in as well could be too long for BigQuery.

        Raises:
            DbtError: the project does not compile.
        """
        planned = self.planned(table)
        guard = planned.guard()
        return None if planned.misplaced or len(guard.around("")) > _MOST_GUARD else guard

    def told(self, table: Table, error: str | None, seconds: float) -> list[NodeResult] | None:
        """What the row tests found, as a guarded SELECT told it.

        Args:
            table: the table.
            error: the words of its error; None when it raised none, so that all tests passed.
            seconds: what the statement took.

        Returns:
            The results; None if the error is another one.
        """
        tests = self.planned(table).tests
        answers = told_by_guard(error) if error is not None else {}
        if answers is None:
            return None
        share = seconds / max(len(tests), 1)
        results = [
            judged(test, answers[number], share) if number in answers else passed(test, share)
            for number, test in enumerate(tests)
        ]
        log_results(results, table=table.name)
        return results


def why_held(table: Table, results: Sequence[NodeResult]) -> BatchError | None:
    """Why a batch with these row test results waits for a person; None when it goes on.

    Only under ``on_failed_tests: hold``. A test that warns holds nothing; one that could not be run does, because
    nobody knows whether the rows are good.
    """
    if table.on_failed_tests is not OnFailedTests.HOLD:
        return None
    bad = [result for result in results if result.status not in ("pass", "warn")]
    if not bad:
        return None
    named = [
        f"{result.name} ({counted(result.failures, 'row') if result.failures else 'could not be run'})"
        for result in bad[:_MOST_NAMED]
    ]
    more = f" and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    message = f"{counted(len(bad), 'test does', 'tests do')} not pass on its rows: {', '.join(named)}{more}"
    return BatchError(code="tests_failed", message=message)
