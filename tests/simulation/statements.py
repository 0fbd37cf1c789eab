"""The few statements that the services send themselves, read from their text.

What a statement of another shape means is not guessed: it is an error of the simulation, and fails the test.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

Row = dict[str, Any]

GUARD, FAILING = "only if all pass", "row tests that do not pass"
"""What stands before rows that are tested as they are taken in; what an error of it says."""

_INSERT = re.compile(r"insert into `([^`]+)` \(.*?\)\n(.*)", re.DOTALL)
_DISTINCT = re.compile(r"select distinct _batch_id from `([^`]+)`")
_DELETE = re.compile(r"delete from `([^`]+)` where _batch_id in \((.*)\)")
_SHRINKAGE = re.compile(
    r"SELECT COUNT\(\*\), COUNTIF\(.*\) FROM `(?P<bronze>[^`]+)` AS `bronze row` LEFT JOIN "
    r"\(SELECT DISTINCT .*? FROM `(?P<snapshot>[^`]+)`\) AS `snapshot row` ON (?P<same>.*) WHERE .*"
)
_KEY = re.compile(r"`bronze row`\.`([^`]+)`")

_COLUMN = re.compile(r"(?:`([^`]+)`|cast\((?:`([^`]+)`|null) as \w+\)) as `([^`]+)`")
_BATCH = re.compile(r'"([^"]+)" as _batch_id')
_SOURCE = re.compile(r'"([^"]*)" as _source_table')
_BEGAN = re.compile(r'coalesce\(_extracted_at, timestamp\("([^"]+)"\)\)')
_ARRIVED = re.compile(r'least\(.*timestamp\("([^"]+)"\)\) as _extracted_at')
_DELETED = re.compile(r"cast\((?:`([^`]+)`|null) as timestamp\) as _deleted_at")
_TABLE = re.compile(r"from `([^`]+)`$")


@dataclass(frozen=True)
class BatchRows:
    """A SELECT of a batch's rows, as ``services.transformer.bronze.batch_rows`` writes it."""

    table: str
    columns: tuple[tuple[str, str | None], ...]
    """Bronze's, each with the batch's column that it is from."""
    batch_id: str
    source: str
    began: datetime
    arrived: datetime | None
    deleted: str | None

    def of(self, rows: list[Row], now: datetime) -> list[Row]:
        """The rows, given those of the hashed table."""
        return [self._row(row, now) for row in rows]

    def _row(self, row: Row, now: datetime) -> Row:
        read_at = max(row["_extracted_at"] or self.began, self.began)
        return {name: row[brought] if brought else None for name, brought in self.columns} | {
            "_loaded_at": now,
            "_source_table": self.source,
            "_batch_id": self.batch_id,
            "_extracted_at": min(read_at, self.arrived) if self.arrived else read_at,
            "_deleted_at": row[self.deleted] if self.deleted else None,
        }


class Unforeseen(AssertionError):
    """A service asks what the simulation cannot answer: teach it (tests/simulation), it never guesses."""


def is_bad(row: Row) -> bool:
    """Whether the table's row test fails on a row."""
    return bool(row["n"] % 5 == 4)


@dataclass(frozen=True)
class Insert:
    """Appends batches to a delta."""

    into: str
    batches: tuple[BatchRows, ...]
    guarded: bool
    """Whether it appends nothing unless all rows pass their tests."""


@dataclass(frozen=True)
class Waiting:
    """Asks which batches a delta has."""

    delta: str


@dataclass(frozen=True)
class Clear:
    """Takes batches out of a delta."""

    delta: str
    batches: frozenset[str]


@dataclass(frozen=True)
class Shrinkage:
    """Asks how many rows a snapshot would find gone."""

    bronze: str
    snapshot: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class Void:
    """Takes a job's id and does nothing."""


Statement = Insert | Waiting | Clear | Shrinkage | Void


@lru_cache(1_000)
def batch_rows(select: str) -> BatchRows:
    """What a SELECT of a batch's rows says."""
    arrived, began = _ARRIVED.search(select), _BEGAN.search(select)
    deleted = _DELETED.search(select)
    if began is None or deleted is None:
        raise Unforeseen(f"no rows of a batch: {select}")
    return BatchRows(
        table=_found(_TABLE, select),
        columns=tuple((name, one or other or None) for one, other, name in _COLUMN.findall(select)),
        batch_id=_found(_BATCH, select),
        source=_found(_SOURCE, select),
        began=datetime.fromisoformat(began[1]),
        arrived=datetime.fromisoformat(arrived[1]) if arrived else None,
        deleted=deleted[1],
    )


def understood(statement: str) -> Statement:
    """What a statement says.

    Raises:
        Unforeseen: no service sends such a one.
    """
    if statement.startswith("SELECT 'void"):
        return Void()
    if found := _INSERT.fullmatch(statement):
        guarded = found[2].startswith(GUARD)
        rows = found[2].removeprefix(f"{GUARD}(").removesuffix(")") if guarded else found[2]
        return Insert(found[1], tuple(batch_rows(select) for select in rows.split("\nunion all\n")), guarded)
    if found := _DISTINCT.fullmatch(statement):
        return Waiting(found[1])
    if found := _DELETE.fullmatch(statement):
        return Clear(found[1], frozenset(re.findall(r'"([^"]+)"', found[2])))
    if found := _SHRINKAGE.fullmatch(statement):
        return Shrinkage(found["bronze"], found["snapshot"], tuple(_KEY.findall(found["same"])))
    raise Unforeseen(f"the simulated warehouse does not know this statement: {statement}")


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise Unforeseen(f"{pattern.pattern} is not in {text}")
    return found[1]
