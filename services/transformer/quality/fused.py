"""Many tests, and counts of groups, as one statement: a table that all of them read is billed once. Pure functions.

BigQuery bills a table once for a statement, however often it is named there
(https://cloud.google.com/bigquery/pricing#on_demand_pricing). Each part keeps the SQL that dbt made of it, so it means
what it means when dbt runs it alone.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.transformer.dbt_project import NodeResult
from services.transformer.quality.compiled import DataTest


@dataclass(frozen=True)
class Groups:
    """The rows of a relation by a column: how many there are of each value."""

    name: str
    relation: str
    """As SQL names it."""
    column: str


_TOLD = "row tests that do not pass: "
_ANSWER = r"\d+ (?:-?\d+|null) (?:true|false|null) (?:true|false|null)"
_SAID = re.compile(rf"{_TOLD}(?P<answers>{_ANSWER}(?:, {_ANSWER})*);")
_BOOL = {"true": True, "false": False, "null": None}

Part = DataTest | Groups
"""What a fused statement asks."""


@dataclass(frozen=True)
class Answered:
    """A row of a fused statement's answer."""

    part: int
    """Place of the part in the statement."""
    name: str | None
    """The group; None of a test."""
    number: int | None
    """Rows of the group; what a test calls failures."""
    warns: bool | None = None
    fails: bool | None = None


def fused(parts: Sequence[Part], named: Mapping[str, str] | None = None) -> str:
    """One statement that asks all parts.

    Args:
        parts: tests that are compiled, and groups.
        named: queries by the name under which the parts' SQL reads them, each after those that it reads.
    """
    asked = [_asked(number, part) for number, part in enumerate(parts)]
    queries = [f"{name} as (\n{sql}\n)" for name, sql in (named or {}).items()]
    return "\n".join([*(["with " + ",\n".join(queries)] if queries else []), "\nunion all\n".join(asked)])


def _asked(number: int, part: Part) -> str:
    if isinstance(part, Groups):
        column = f"cast(`{part.column}` as string)"
        return (
            f"select {number} as part, {column} as name, count(*) as number, "
            f"cast(null as bool) as warns, cast(null as bool) as fails\nfrom {part.relation}\ngroup by {column}"
        )
    # As dbt's materialization of a test has it.
    limit = f"\nlimit {part.limit}" if part.limit is not None else ""
    return (
        f"select {number} as part, cast(null as string) as name, cast({part.fail_calc} as int64) as number, "
        f"{part.fail_calc} {part.warn_if} as warns, {part.fail_calc} {part.error_if} as fails\n"
        f"from (\n{part.sql}{limit}\n) as dbt_internal_test"
    )


def all_pass(tests: Sequence[DataTest], answers: str) -> str:
    """A condition that is true if all tests pass; else it raises an error, which says what the others answer.

    Args:
        tests: the tests, in the order in which ``fused`` has them.
        answers: the name of the query that has their answers.
    """
    failing = ", ".join(str(number) for number, test in enumerate(tests) if test.severity == "error")
    not_passed = "number is null or warns" + (f" or (fails and part in ({failing}))" if failing else "")
    values = [f"ifnull(cast({name} as string), 'null')" for name in ("part", "number", "warns", "fails")]
    told = ", ' ', ".join(values)
    many = f"select countif({not_passed}) from {answers}"  # noqa: S608 - made of numbers and our own names
    said = f"select concat('{_TOLD}', string_agg(concat({told}), ', '), ';') from {answers} where {not_passed}"  # noqa: S608
    return f"if(({many}) = 0, true, error(({said})))"


def told_by_guard(message: str) -> dict[int, Answered] | None:
    """What the error of a guard says, by part; None if it is another error, or was cut short."""
    found = _SAID.search(message)
    if found is None:
        return None
    said = [each.split(" ") for each in found["answers"].split(", ")]
    return {
        int(part): Answered(int(part), None, None if number == "null" else int(number), _BOOL[warns], _BOOL[fails])
        for part, number, warns, fails in said
    }


def answered(rows: Iterable[Any]) -> dict[int, list[Answered]]:
    """The answer's rows by part."""
    found: dict[int, list[Answered]] = {}
    for row in rows:
        found.setdefault(row["part"], []).append(
            Answered(row["part"], row["name"], row["number"], row["warns"], row["fails"])
        )
    return found


def judged(test: DataTest, answer: Answered, seconds: float) -> NodeResult:
    """How a test ended, by dbt's rules and in its words.

    Args:
        test: the test.
        answer: what the statement answered.
        seconds: its share of the time that the statement took.
    """
    failures = answer.number
    if failures is None:
        return broken(test, f"its fail_calc, {test.fail_calc}, gives null on these rows", seconds)
    words = f"Got {failures} {'result' if failures == 1 else 'results'}, configured to"
    if test.severity == "error" and answer.fails:
        return _result(test, "fail", f"{words} fail if {test.error_if}", failures, seconds)
    if answer.warns:
        return _result(test, "warn", f"{words} warn if {test.warn_if}", failures, seconds)
    return passed(test, seconds)


def passed(test: DataTest, seconds: float) -> NodeResult:
    """The result of a test that is known to have passed."""
    return _result(test, "pass", "", 0, seconds)


def broken(test: DataTest, why: str, seconds: float = 0.0) -> NodeResult:
    """The result of a test that could not be run."""
    return _result(test, "error", why, None, seconds)


def _result(test: DataTest, status: str, message: str, failures: int | None, seconds: float) -> NodeResult:
    return NodeResult(test.name, "test", status, message, round(seconds, 3), None, failures)
