"""Where objects go: nothing that is in the archive or in failed/ is ever written over, however late somebody comes."""

import io
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

import pytest

from services.core.errors import DataError
from services.core.landing import archive, places
from services.core.rejection import REASON, reject
from services.core.settings import CoreSettings
from services.core.storage import Copied, ObjectStore, StoredObject

AT = datetime(2026, 11, 22, tzinfo=UTC)
NAME = "business_case/landing/x/installments.parquet"
ARCHIVED = "business_case/archive/x/installments.parquet"
FAILED = "business_case/failed/x/installments.parquet"


@dataclass
class Buckets(ObjectStore):
    """Buckets that keep Cloud Storage's preconditions, and let others come in between two calls."""

    objects: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    """Generation and content, by bucket and name."""
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    before: Callable[[str], None] = lambda call: None

    def put(self, bucket: str, name: str, content: bytes) -> StoredObject:
        self.objects[bucket, name] = (next(self.numbers), content)
        found = self.stat(bucket, name)
        assert found is not None
        return found

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        if (bucket, name) not in self.objects:
            return None
        generation, content = self.objects[bucket, name]
        return StoredObject(bucket, name, generation, len(content), content.decode(), AT)

    def copy(self, stored: StoredObject, to_bucket: str, to_name: str) -> Copied:
        self.before("copy")
        source = self.objects.get((stored.bucket, stored.name))
        if source is None or source[0] != stored.generation:
            return "gone"
        there = self.objects.get((to_bucket, to_name))
        if there is None:
            self.put(to_bucket, to_name, source[1])
        return "taken" if there is not None and there[1] != source[1] else "there"

    def delete(self, stored: StoredObject) -> bool:
        self.before("delete")
        here = self.objects.get((stored.bucket, stored.name))
        if here is None or here[0] != stored.generation:
            return False
        del self.objects[stored.bucket, stored.name]
        return True

    def replace(
        self, bucket: str, name: str, data: bytes, content_type: str, cache_control: str | None = None
    ) -> StoredObject:
        self.before("replace")
        return self.put(bucket, name, data)

    def create(
        self, bucket: str, name: str, data: io.BytesIO, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        raise AssertionError("a move creates nothing")

    def read(self, bucket: str, name: str) -> bytes | None:
        raise AssertionError("a move reads nothing")

    def open(self, stored: StoredObject) -> BinaryIO:
        raise AssertionError("a move reads nothing")

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        raise AssertionError("a move lists nothing")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> CoreSettings:
    monkeypatch.setenv("GCP_PROJECT", "p")
    return CoreSettings()  # type: ignore[call-arg]  # from the environment


@pytest.mark.parametrize(
    ("there", "expected"), [(None, ARCHIVED), (b"new", ARCHIVED), (b"old", f"{ARCHIVED}~1")], ids=str
)
def test_an_object_finds_its_place(settings: CoreSettings, there: bytes | None, expected: str) -> None:
    buckets = Buckets()
    stored = buckets.put(settings.landing_bucket, NAME, b"new")
    if there is not None:
        buckets.put(settings.archive_bucket, ARCHIVED, there)
    archive(buckets, settings, stored)
    assert buckets.objects[settings.archive_bucket, expected][1] == b"new"
    assert buckets.objects[settings.archive_bucket, ARCHIVED][1] == (there or b"new")
    assert (settings.landing_bucket, NAME) not in buckets.objects


def test_there_is_always_another_place(settings: CoreSettings) -> None:
    """Also where somebody has dropped files with the very names that would be chosen."""
    buckets = Buckets()
    stored = buckets.put(settings.landing_bucket, NAME, b"new")
    for number, place in enumerate(itertools.islice(places(stored, ARCHIVED), 5)):
        buckets.put(settings.archive_bucket, place, b"old %d" % number)
    archive(buckets, settings, stored)
    assert buckets.objects[settings.archive_bucket, f"{ARCHIVED}~1~5"][1] == b"new"
    assert len(buckets.objects) == 6


ERROR = DataError("corrupt_parquet", "why")
MOVES: dict[str, Callable[[Buckets, CoreSettings, StoredObject], None]] = {
    "archive": archive,
    "reject": lambda buckets, settings, stored: reject(buckets, settings, [stored], ERROR),
}


def _dropped(buckets: Buckets, bucket: str, name: str, content: bytes) -> None:
    """Put an object where none is."""
    if (bucket, name) not in buckets.objects:
        buckets.put(bucket, name, content)


BETWEEN: dict[str, Callable[[Buckets, CoreSettings, StoredObject], None]] = MOVES | {
    "same_name_again": lambda buckets, settings, stored: _dropped(buckets, stored.bucket, stored.name, b"another"),
    "archive_taken": lambda buckets, settings, stored: _dropped(buckets, settings.archive_bucket, ARCHIVED, b"theirs"),
    "failed_taken": lambda buckets, settings, stored: _dropped(buckets, settings.landing_bucket, FAILED, b"theirs"),
}


@pytest.mark.parametrize("late", MOVES)
@pytest.mark.parametrize("others", list(itertools.permutations(BETWEEN, 2)), ids="-".join)
@pytest.mark.parametrize("frozen_before", [1, 2, 3])
def test_a_move_that_goes_on_late_harms_nothing(
    settings: CoreSettings, late: str, others: tuple[str, ...], frozen_before: int
) -> None:
    """A process is stopped before its first, second or third call; others act; it goes on."""
    buckets = Buckets()
    stored = buckets.put(settings.landing_bucket, NAME, b"new")
    calls = itertools.count(1)
    seen: dict[tuple[str, str, int], bytes] = {}

    def before(_: str) -> None:
        if next(calls) == frozen_before:
            for other in others:
                BETWEEN[other](buckets, settings, stored)
            away = {at: it for at, it in buckets.objects.items() if "/landing/" not in at[1] and REASON not in at[1]}
            seen.update({(*at, generation): content for at, (generation, content) in away.items()})

    buckets.before = before
    MOVES[late](buckets, settings, stored)
    now = {(*at, generation): content for at, (generation, content) in buckets.objects.items()}
    assert seen.items() <= now.items(), "what was in the archive and in failed/ is as it was"
    assert b"new" in now.values(), "the object itself is somewhere"
    for bucket, name in buckets.objects:
        if name.endswith(REASON):
            assert (bucket, name.removesuffix(REASON)) in buckets.objects, "a reason without its object"
        elif name.startswith(FAILED) and buckets.objects[bucket, name][1] != b"theirs":
            assert (bucket, f"{name}{REASON}") in buckets.objects, "an object without its reason"
    left = buckets.stat(settings.landing_bucket, NAME)
    assert left is None or left.generation != stored.generation, "it was moved; what is there has an event of its own"


def test_a_late_rejection_of_what_was_archived_leaves_no_reason(settings: CoreSettings) -> None:
    buckets = Buckets()
    stored = buckets.put(settings.landing_bucket, NAME, b"new")
    archive(buckets, settings, stored)
    reject(buckets, settings, [stored], ERROR)
    assert list(buckets.objects) == [(settings.archive_bucket, ARCHIVED)]


@pytest.mark.parametrize("ended_before", [1, 2, 3])
def test_a_rejection_that_ended_in_between_is_done_again(settings: CoreSettings, ended_before: int) -> None:
    buckets = Buckets()
    stored = buckets.put(settings.landing_bucket, NAME, b"new")
    calls = itertools.count(1)

    def die(_: str) -> None:
        if next(calls) == ended_before:
            raise KeyboardInterrupt

    buckets.before = die
    with pytest.raises(KeyboardInterrupt):
        reject(buckets, settings, [stored], ERROR)
    assert buckets.stat(settings.landing_bucket, NAME) == stored, "it is still there to be rejected"
    reject(buckets, settings, [stored], ERROR)
    assert sorted(name for _, name in buckets.objects) == [FAILED, FAILED + REASON]
    reason = json.loads(buckets.objects[settings.landing_bucket, FAILED + REASON][1])
    assert (reason["code"], reason["generation"]) == ("corrupt_parquet", stored.generation)
