"""How the tests stand, as the state keeps it: the newest audit, and what the row tests of batches found since.

Small documents: names, counts and times; no value of a row.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core.errors import TransientError
from services.core.state.store import DocumentChanged, DocumentExists, DocumentStore

_AUDIT = ("audits", "newest")
_ROWS = "row_tests"
_TRIES = 20
"""How often a write is tried again when another process was faster."""

Status = Literal["pass", "warn", "error", "fail"]
"""dbt's words; ``error``: it could not be run. The worst is last."""

WORST: tuple[Status, ...] = ("pass", "warn", "error", "fail")


class TestResult(BaseModel):
    """How a test ended."""

    __test__ = False  # pytest takes a class of this name for tests
    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    failures: int | None = Field(default=None, description="Rows that it complains of; None when it could not be run.")
    message: str = Field(default="", description="Why it could not be run.")


class Group(BaseModel):
    """A group of a whole, and how many there are."""

    model_config = ConfigDict(frozen=True)

    name: str
    count: int


class Audit(BaseModel):
    """What an audit found."""

    model_config = ConfigDict(frozen=True)

    id: str
    at: AwareDatetime = Field(description="When it began: its figures are as of then.")
    seconds: float
    tests: list[TestResult]
    figures: dict[str, list[Group]] = Field(
        default_factory=dict, description="Groups by what they are of; what could not be counted is not there."
    )


class Trouble(BaseModel):
    """Why the last audit found out nothing."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    why: str


class Audits(BaseModel):
    """The newest audit."""

    model_config = ConfigDict(frozen=True)

    newest: Audit | None = None
    trouble: Trouble | None = Field(default=None, description="None when the newest audit is the last that was begun.")


class RowTest(BaseModel):
    """The worst that a test found in batches since the last audit."""

    model_config = ConfigDict(frozen=True)

    status: Status
    failures: int | None = Field(default=None, description="Rows of the newest batches in which it found that.")
    message: str = ""
    at: AwareDatetime = Field(description="When it found that last.")
    times: int = Field(default=1, description="How often it found that.")
    batches: list[str] = Field(default_factory=list, description="The batches in which it found that last.")

    def then(self, newer: "RowTest") -> "RowTest":
        """After a newer result."""
        if newer.status == self.status:
            return newer.model_copy(update={"times": self.times + 1})
        return max(self, newer, key=lambda each: WORST.index(each.status))


class RowTests(BaseModel):
    """The row tests of a table's batches since the last audit."""

    model_config = ConfigDict(frozen=True)

    table: str
    tests: dict[str, RowTest] = Field(default_factory=dict)
    """By name."""

    def after(self, results: Iterable[TestResult], batches: list[str], at: datetime) -> "RowTests":
        """After the row tests of some batches.

        Only what did not pass names its batches, so that the document stays small.
        """
        tests = dict(self.tests)
        for result in results:
            found = RowTest(
                status=result.status,
                failures=result.failures,
                message=result.message,
                at=at,
                batches=batches if result.status != "pass" else [],
            )
            tests[result.name] = tests[result.name].then(found) if result.name in tests else found
        return self.model_copy(update={"tests": tests})

    def audited(self, audit: Audit, unseen: Collection[str]) -> "RowTests":
        """After an audit: what it has seen with its own eyes is its to tell.

        A test stays noted if it ran after the audit began, if the audit could not run it, or if it found something in
        batches of which one was not in bronze when the audit began.

        Args:
            audit: what was found.
            unseen: ids of batches that were not in bronze when it began.
        """
        told = {test.name for test in audit.tests if test.status != "error"}
        kept = {
            name: test
            for name, test in self.tests.items()
            if test.at >= audit.at
            or (
                test.status != "pass"
                and (any(batch in unseen for batch in test.batches) or _not_told(name, audit, told))
            )
        }
        return self.model_copy(update={"tests": kept})


def _not_told(name: str, audit: Audit, told: Collection[str]) -> bool:
    """Whether the audit has the test, and could not run it; one that it does not have, is in the project no more."""
    return name not in told and any(test.name == name for test in audit.tests)


def audits(store: DocumentStore) -> Audits:
    """The newest audit."""
    document = store.get(*_AUDIT)
    return Audits.model_validate(document.data) if document else Audits()


def row_tests(store: DocumentStore) -> list[RowTests]:
    """The row tests of all tables, by table."""
    return [RowTests.model_validate(document.data) for document in store.query(_ROWS, {})]


def row_tests_complain(store: DocumentStore, table: str) -> bool:
    """Whether a row test of a table has found something, or could not be run, since the last audit."""
    document = store.get(_ROWS, table)
    noted = RowTests.model_validate(document.data) if document else RowTests(table=table)
    return any(test.status != "pass" for test in noted.tests.values())


def note_row_tests(
    store: DocumentStore, table: str, results: Collection[TestResult], batches: list[str], at: datetime
) -> None:
    """Note how the row tests of some batches ended: before bronze has them, so that a death in between hides nothing.

    Args:
        store: the state's.
        table: the batches' table.
        results: how the tests ended.
        batches: ids of the batches.
        at: when they were tested.

    Raises:
        TransientError: the state does not answer.
    """
    if results:
        _change_rows(store, table, lambda noted: noted.after(results, batches, at))


def note_audit(store: DocumentStore, audit: Audit, unseen: Mapping[str, Collection[str]]) -> None:
    """Note an audit, over an older one, and take from the row tests' notes what it has seen.

    Args:
        store: the state's.
        audit: what was found.
        unseen: by table, ids of batches that were not in bronze when it began.

    Raises:
        TransientError: the state does not answer.
    """

    def newer(before: Audits) -> Audits:
        if before.newest is not None and before.newest.at > audit.at:
            return before
        return Audits(newest=audit)

    _change_audits(store, newer)
    for noted in row_tests(store):
        ids = unseen.get(noted.table, ())
        _change_rows(store, noted.table, lambda noted, ids=ids: noted.audited(audit, ids))  # type: ignore[misc]


def note_audit_trouble(store: DocumentStore, trouble: Trouble) -> None:
    """Note that an audit found out nothing; what the one before it found stays.

    Raises:
        TransientError: the state does not answer.
    """
    _change_audits(store, lambda before: before.model_copy(update={"trouble": trouble}))


def _change_audits(store: DocumentStore, change: Callable[[Audits], Audits]) -> None:
    for _ in range(_TRIES):
        document = store.get(*_AUDIT)
        after = change(Audits.model_validate(document.data) if document else Audits()).model_dump(mode="json")
        try:
            if document is None:
                store.create(*_AUDIT, after)
            else:
                store.update(document, after)
        except (DocumentExists, DocumentChanged):
            continue
        return
    raise TransientError(f"the note on the newest audit changed {_TRIES} times while it was updated")


def _change_rows(store: DocumentStore, table: str, change: Callable[[RowTests], RowTests]) -> None:
    for _ in range(_TRIES):
        document = store.get(_ROWS, table)
        before = RowTests.model_validate(document.data) if document else RowTests(table=table)
        after = change(before)
        if document is not None and after == before:
            return
        try:
            if document is None:
                store.create(_ROWS, table, after.model_dump(mode="json"))
            else:
                store.update(document, after.model_dump(mode="json"))
        except (DocumentExists, DocumentChanged):
            continue
        return
    raise TransientError(f"table {table}: the note on its row tests changed {_TRIES} times while it was updated")
