"""How extractions are noted: whatever comes late, twice, or not at all, the newest one's end is what stays."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from services.core.state.extractions import (
    INTERRUPTED,
    ExtractionError,
    ExtractionNote,
    LastExtractions,
    last_extractions,
)
from services.core.state.sqlite import SqliteStore
from services.core.state.store import Data, Document, DocumentChanged, DocumentStore
from services.core.window import Window

AT = datetime(2026, 11, 23, 1, 20, tzinfo=UTC)
WHY = ExtractionError(kind="OperationalError", message="away")
QUIET = Window(low=None, high=AT)


def later(minutes: float) -> datetime:
    return AT + timedelta(minutes=minutes)


FIRST = LastExtractions.first("t", "r1", AT)


def test_failures_in_a_row_are_counted_since_the_first() -> None:
    once = FIRST.failed(later(1), WHY, "b1")
    twice = once.begun("r2", later(2)).failed(later(3), WHY, None)
    assert (twice.failures, twice.failing_since, twice.failed_at) == (2, later(1), later(3))
    assert (twice.error, twice.batch_id) == (WHY, "b1")


def test_one_that_begins_does_not_hide_the_failures_before_it() -> None:
    at_work = FIRST.failed(later(1), WHY, None).begun("r2", later(2))
    assert (at_work.failures, at_work.error, at_work.ended_at) == (1, WHY, None)


def test_a_success_ends_the_row() -> None:
    good = FIRST.failed(later(1), WHY, None).begun("r2", later(2)).succeeded(later(3), "b2", None)
    assert (good.failures, good.failing_since, good.error) == (0, None, None)
    assert (good.succeeded_at, good.failed_at, good.batch_id) == (later(3), later(1), "b2")
    failing = good.begun("r3", later(4)).failed(later(5), WHY, None)
    assert (failing.failures, failing.failing_since) == (1, later(5))


def test_the_last_window_without_news_stays() -> None:
    quiet = FIRST.succeeded(later(1), None, QUIET).begun("r2", later(2)).succeeded(later(3), "b2", None)
    assert quiet.quiet == QUIET


def test_one_that_never_said_how_it_ended_is_a_failure_when_the_next_begins() -> None:
    twice = FIRST.begun("r2", later(10)).begun("r3", later(20))
    assert (twice.failures, twice.failing_since, twice.failed_at) == (2, AT, later(10))
    assert twice.error is not None
    assert twice.error.kind == INTERRUPTED


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "state.sqlite")


def known(store: DocumentStore) -> LastExtractions:
    found = last_extractions(store, "t")
    assert found is not None
    return found


def test_nothing_is_known_before_the_first(store: SqliteStore) -> None:
    assert last_extractions(store, "t") is None


def test_an_extraction_is_noted_from_its_beginning_to_its_end(store: SqliteStore) -> None:
    note = ExtractionNote.begin(store, "t", "r1")
    assert (known(store).run_id, known(store).ended_at) == ("r1", None)
    note.troubled("TransientError: the source broke off")
    assert known(store).trouble == "TransientError: the source broke off"
    note.batch_id = "b1"
    note.succeeded(quiet=None)
    last = known(store)
    assert (last.trouble, last.batch_id, last.error) == (None, "b1", None)
    assert last.ended_at == last.succeeded_at is not None


def test_an_older_one_never_writes_over_a_newer_one(store: SqliteStore) -> None:
    """It was frozen beyond its lease, another has begun since, and has ended or not."""
    frozen = ExtractionNote.begin(store, "t", "r1")
    newer = ExtractionNote.begin(store, "t", "r2")
    frozen.failed("LeaseLost", "passed to another")
    frozen.troubled("late")
    assert (known(store).run_id, known(store).ended_at, known(store).trouble) == ("r2", None, None)
    newer.succeeded(quiet=QUIET)
    ended = known(store)
    frozen.failed("LeaseLost", "passed to another")
    frozen.succeeded(quiet=None)
    assert known(store) == ended
    assert (ended.failures, ended.quiet) == (0, QUIET)


def test_an_end_that_is_noted_again_changes_nothing(store: SqliteStore) -> None:
    note = ExtractionNote.begin(store, "t", "r1")
    note.failed("OperationalError", "away")
    once = known(store)
    note.failed("OperationalError", "away")
    note.troubled("late")
    assert known(store) == once


class LosesAnswers:
    """A store whose client repeats every write because its first answer was lost."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def create(self, collection: str, id: str, data: Data, *, forget_after: datetime | None = None) -> Document:
        self._store.create(collection, id, data)
        return self._store.create(collection, id, data)

    def get(self, collection: str, id: str) -> Document | None:
        return self._store.get(collection, id)

    def update(self, document: Document, data: Data) -> Document:
        self._store.update(document, data)
        return self._store.update(document, data)

    def delete(self, document: Document) -> None:
        self._store.delete(document)

    def query(self, collection: str, where: Mapping[str, str | int | bool], from_id: str = "") -> list[Document]:
        return self._store.query(collection, where, from_id)

    def close(self) -> None:
        self._store.close()


def test_a_lost_answer_makes_no_second_failure(store: SqliteStore) -> None:
    losing = cast(DocumentStore, LosesAnswers(store))
    for failures in (1, 2):
        note = ExtractionNote.begin(losing, "t", f"r{failures}")
        assert known(store).failures == failures - 1
        note.failed("OperationalError", "away")
        assert known(store).failures == failures


class Broken(LosesAnswers):
    """A store that takes no more updates."""

    def update(self, document: Document, data: Data) -> Document:
        raise OSError("away")


class Contended(LosesAnswers):
    """A store in which every document has just been changed by another."""

    def update(self, document: Document, data: Data) -> Document:
        raise DocumentChanged(document.id)


@pytest.mark.parametrize("kind", [Broken, Contended])
def test_what_cannot_be_noted_stops_nothing(store: SqliteStore, kind: type[LosesAnswers]) -> None:
    """The extraction's own error is what is told."""
    ExtractionNote.begin(store, "t", "r0").succeeded(quiet=None)
    document = store.get("extractions", "t")
    assert document is not None
    note = ExtractionNote(cast(DocumentStore, kind(store)), store.update(document, {"ended_at": None}))
    note.failed("OperationalError", "away")
    assert known(store).failures == 0
