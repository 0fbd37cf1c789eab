"""What Google's analyzer says of the statements that reach the warehouse; every distinct one is asked about once."""

import json
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from local.googlesql.analysis import GoogleSql
from local.googlesql.engine import NoAnswer, Refused
from local.googlesql.reads import Reads, only_inserts
from local.warehouse.analysis.tables import NotThere, named_tables
from local.warehouse.meter.results import is_lasting
from local.warehouse.meter.scanned import scanned

REMEMBERED = 2048
"""Most statements whose analysis is kept."""

NOT_THERE = "names what is not there"
"""Why the analyzer cannot judge a statement: the warehouse says itself that something is missing (404), or makes it."""

_POSITION = re.compile(r" \[at (\d+:\d+)\]$")
_NOT_FOUND = re.compile(r"^Table not found|^(?:Function|Procedure|Table-valued function|Model) not found: \S*\.")
"""Tables, and what people have made in a dataset. A function without a dataset is BigQuery's own, or a mistake."""


@dataclass(frozen=True)
class Analyzed:
    """A statement that BigQuery takes; without its tree, which is large."""

    kind: str
    """GoogleSQL's name of it."""
    fields: list[dict[str, Any]]
    """Of a query: its columns, as a REST schema."""
    makes: tuple[str, ...]
    """Of a CREATE statement: the path of what it makes, as it is written."""
    reads: Reads
    """What it reads of tables, views expanded."""
    only_inserts: bool
    """Whether it adds rows, and changes none."""
    lasting: bool
    """Whether its answer stays the same while its tables do."""
    tables: Sequence[Any]
    """What it names, as the catalog has it now."""


@dataclass(frozen=True)
class Refusal:
    """A statement that BigQuery refuses."""

    message: str
    """As BigQuery words it."""


@dataclass(frozen=True)
class Unchecked:
    """A statement that the analyzer cannot judge."""

    reason: str


Judgement = Analyzed | Refusal | Unchecked


@dataclass
class Counts:
    """What was found since the warehouse started."""

    statements: int = 0
    distinct: int = 0
    seconds: float = 0.0
    refused: int = 0
    unchecked: Counter[str] = field(default_factory=Counter)
    """By reason."""
    differing: Counter[str] = field(default_factory=Counter)
    """Columns that the emulator named or typed unlike Google, by what differed."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Statements that the emulator ran though they name what is not there, by Google's words."""

    def as_json(self) -> dict[str, Any]:
        """For people and tests."""
        counters = {name: dict(getattr(self, name)) for name in ("unchecked", "differing", "accepted")}
        return {
            "statements": self.statements,
            "distinct": self.distinct,
            "refused": self.refused,
            "seconds": round(self.seconds, 3),
            **counters,
        }


class Analyzer:
    """The analyzer, with a memory."""

    def __init__(self, google: GoogleSql) -> None:
        self.google = google
        self.counts = Counts()
        self._known: OrderedDict[str, Judgement] = OrderedDict()

    def judge(self, sql: str, project: str, parameters: Sequence[dict[str, Any]], catalog: Any) -> Judgement:
        """What BigQuery would say of one statement, before it runs.

        Args:
            sql: the statement.
            project: the project of names without one.
            parameters: its parameters, as the REST API writes them.
            catalog: bqemulator's.
        """
        try:
            tables = named_tables(self.google, sql, project, catalog)
        except NotThere:
            return Unchecked(NOT_THERE)
        except Refused as refused:
            return Refusal(_worded(refused))
        except NoAnswer as error:
            return Unchecked(str(error)[:200])
        seen = [[table.get("id") or table["path"], table["fields"], table.get("view")] for table in tables]
        types = [[each.get("name"), each["parameterType"]] for each in parameters]
        key = json.dumps([sql, project, seen, types], sort_keys=True)
        if key not in self._known:
            self.counts.distinct += 1
            self._known[key] = self._judged(sql, tables, parameters)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        known = self._known[key]
        # The memory keeps what the analyzer made of it; the tables are as they are now.
        return replace(known, tables=tables) if isinstance(known, Analyzed) else known

    def _judged(self, sql: str, tables: Sequence[Any], parameters: Sequence[dict[str, Any]]) -> Judgement:
        try:
            typed = self.google.with_views(tables)
            named = [(each.get("name") or "", _field_of_parameter(each["parameterType"])) for each in parameters]
            statements = self.google.analyze(sql, typed, named)
        except Refused as refused:
            if _NOT_FOUND.search(str(refused)):
                return Unchecked(NOT_THERE)
            return Refusal(_worded(refused))
        except (NoAnswer, KeyError) as error:
            return Unchecked(f"{type(error).__name__}: {error}"[:200])
        if statements[-1].kind == "query" and (doubled := _doubled(statements[-1].fields)):
            # An answer is a table, if only a hidden one. The analyzer knows of no tables for answers.
            return Refusal(f"Duplicate column names in the result are not supported. Found duplicate(s): {doubled}")
        last = statements[-1]
        return Analyzed(
            last.kind,
            last.fields,
            last.makes,
            scanned(last, typed),
            only_inserts(last),
            is_lasting(last, typed),
            tables,
        )


def _doubled(fields: Sequence[dict[str, Any]]) -> str:
    times = Counter(field["name"].lower() for field in fields if not field["name"].startswith("$"))
    return ", ".join(name for name, count in times.items() if count > 1)


def _worded(refused: Refused) -> str:
    return _POSITION.sub(r" at [\1]", str(refused))


def _field_of_parameter(type_: dict[str, Any]) -> dict[str, Any]:
    if type_["type"] == "ARRAY":
        return {**_field_of_parameter(type_["arrayType"]), "mode": "REPEATED"}
    if type_["type"] == "STRUCT":
        inner = [{**_field_of_parameter(each["type"]), "name": each["name"]} for each in type_["structTypes"]]
        return {"name": "", "type": "STRUCT", "fields": inner}
    return {"name": "", "type": type_["type"]}
