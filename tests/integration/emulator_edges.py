"""Expressions on edge values, by Google's evaluator and by the local warehouse, and what they answer differently.

``python -m tests.integration.emulator_edges`` writes the table of differences into docs/emulator.md;
test_emulator_edges.py holds it there.
"""

import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from google.api_core.exceptions import GoogleAPICallError
from google.api_core.retry import Retry
from google.cloud import bigquery

from local.googlesql.analysis import GoogleSql
from local.googlesql.engine import NoAnswer, Refused
from local.googlesql.evaluation import evaluate
from local.googlesql.types import name_of
from tests.integration.warehouse_fixture import REPOSITORY, start_warehouse

EDGES = Path(__file__).with_suffix(".yaml")
DOCUMENT = REPOSITORY / "docs" / "emulator.md"
BEGIN, END = "<!-- made by tests/integration/emulator_edges.py -->\n", "<!-- end -->\n"
NEVER = Retry(predicate=lambda _: False)
TOGETHER = 40
"""Expressions in one statement."""
CLOSE = 1e-14
"""Relative difference of two FLOAT64 that are alike: the last digit of a standard deviation."""


@dataclass(frozen=True)
class Edge:
    """An expression."""

    subject: str
    template: str
    sql: str


@dataclass(frozen=True)
class Answer:
    """A value with its type, or an error."""

    type: str | None
    value: Any = None

    def __str__(self) -> str:
        if self.type is None:
            return "an error"
        return f"{_text(self.value)} ({self.type})"


@dataclass(frozen=True)
class Difference:
    """What the two answer to one expression."""

    edge: Edge
    google: Answer
    emulator: Answer


def edges() -> list[Edge]:
    """Return all expressions."""
    return [
        Edge(subject["subject"], template, template.replace("{v}", value))
        for subject in yaml.safe_load(EDGES.read_text())["subjects"]
        for template in subject["expressions"]
        for value in (subject["values"] if "{v}" in template else [""])
    ]


def reasons() -> list[dict[str, Any]]:
    """Return why templates of expressions differ: ``why``, and the ``expressions``."""
    found: list[dict[str, Any]] = yaml.safe_load(EDGES.read_text())["differences"]
    return found


def differences(google: GoogleSql, client: bigquery.Client, asked: Sequence[Edge]) -> list[Difference]:
    """Ask both for every expression, many in one statement, and return what differs."""
    of_google = dict(zip(asked, _answers(lambda sql: _of_google(google, sql), asked), strict=True))
    # What Google refuses the warehouse should refuse, too. That, and what is known to differ, is asked alone: among
    # others, an error is found only by asking again and again.
    known = {template for reason in reasons() for template in reason["expressions"]}
    alone = [edge for edge in asked if of_google[edge].type is None or edge.template in known]
    others = [edge for edge in asked if edge not in set(alone)]
    of_emulator: dict[Edge, Answer] = {}
    for some, together in ((others, TOGETHER), (alone, 1)):
        of_emulator |= zip(some, _answers(lambda sql: _of_emulator(client, sql), some, together), strict=True)
    return [
        Difference(edge, answer, of_emulator[edge])
        for edge, answer in of_google.items()
        if not _alike(answer, of_emulator[edge])
    ]


def _answers(
    ask: Callable[[str], list[Answer] | None], asked: Sequence[Edge], together: int = TOGETHER
) -> Iterator[Answer]:
    for start in range(0, len(asked), together):
        yield from _halved(ask, asked[start : start + together])


def _halved(ask: Callable[[str], list[Answer] | None], asked: Sequence[Edge]) -> list[Answer]:
    """Answer expressions in one statement; when one of them is an error, in two, and so on."""
    columns = ", ".join(f"{edge.sql} as x{number}" for number, edge in enumerate(asked))
    answers = ask(f"select {columns}")
    if answers is not None:
        return answers
    if len(asked) == 1:
        return [Answer(None)]
    middle = len(asked) // 2
    return _halved(ask, asked[:middle]) + _halved(ask, asked[middle:])


def _of_google(google: GoogleSql, sql: str) -> list[Answer] | None:
    try:
        answer = evaluate(google, sql)
    except (Refused, NoAnswer):
        return None
    (row,) = answer.rows
    return [Answer(name_of(field), value) for field, value in zip(answer.fields, row, strict=True)]


def _of_emulator(client: bigquery.Client, sql: str) -> list[Answer] | None:
    try:
        result = client.query(sql, retry=NEVER, job_retry=NEVER).result(retry=NEVER, job_retry=NEVER)
        (row,) = list(result)
    except (
        GoogleAPICallError,
        TypeError,
        ValueError,
    ):  # the latter two: a null in an array, which a client cannot read
        return None
    return [Answer(name_of(field.to_api_repr()), value) for field, value in zip(result.schema, row, strict=True)]


def _alike(one: Answer, other: Answer) -> bool:
    return one.type == other.type and _equal(one.value, other.value)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or one == other or math.isclose(one, other, rel_tol=CLOSE)
    return type(one) is type(other) and bool(one == other)


def table(found: Iterable[Difference]) -> str:
    """Return the differences as Markdown, a paragraph and a table per reason.

    Raises:
        ValueError: there is a difference without a reason, or a reason without a difference.
    """
    by_template: dict[str, list[Difference]] = {}
    for difference in found:
        by_template.setdefault(difference.edge.template, []).append(difference)
    explained = {template for reason in reasons() for template in reason["expressions"]}
    if by_template.keys() != explained:
        missing, needless = sorted(by_template.keys() - explained), sorted(explained - by_template.keys())
        raise ValueError(f"differences without a reason: {missing}; reasons without a difference: {needless}")
    parts = []
    for reason in reasons():
        parts += [f"{reason['why'].strip()}\n", "| expression | BigQuery | here |", "|---|---|---|"]
        for template in reason["expressions"]:
            several = by_template[template]
            first = several[0]
            more = f" and {len(several) - 1} more" if len(several) > 1 else ""
            parts.append(
                f"| {_code(first.edge.sql)}{more} | {_code(str(first.google))} | {_code(str(first.emulator))} |"
            )
        parts.append("")
    return "\n".join(parts)


def written(document: str, made: str) -> str:
    """Return the document with the table in its place."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case Decimal():
            return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
        case bytes():
            return f"b'{value.hex()}'"
        case datetime() | date() | time():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(_text, value))}]"
    return re.sub(r"[^ -~\u00a1-\uffff]", lambda c: f"\\u{ord(c[0]):04x}", str(value))


def _code(text: str) -> str:
    shown = _text(text).replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def main() -> None:
    """Write the table into the document."""
    with tempfile.TemporaryDirectory() as folder, start_warehouse(Path(folder), "--analyzer=off") as warehouse:
        made = table(differences(GoogleSql(), warehouse.client(), edges()))
    DOCUMENT.write_text(written(DOCUMENT.read_text(), made))


if __name__ == "__main__":
    main()
