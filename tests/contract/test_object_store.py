"""One suite for the buckets that tests use: Google's client on the emulated service, and the simulation's."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.stack import emulators
from local.stack.home import Home
from local.stack.ports import HOST, choose_ports
from services.core.errors import DataError, TransientError
from services.core.storage import ObjectStore
from tests.processes import process
from tests.simulation.buckets import MemoryBuckets

LAKE, OTHER = "lake", "archive"


@pytest.fixture(scope="session")
def bucket_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = Home.at(tmp_path_factory.mktemp("buckets"))
    home.make()
    for name in (LAKE, OTHER):
        (home.storage / name).mkdir()
    ports = choose_ports(["storage", "bus"])
    server = emulators.storage(
        emulators.storage_binary(), home, ports["storage"], ports["bus"], "nobody", "nothing/", "none"
    )
    with process(server):
        yield f"http://{HOST}:{ports['storage']}"


UNLIKE_GOOGLES = {
    "test_the_same_content_again_is_no_error_and_other_content_is_refused": "takes a second upload of the same name",
    "test_a_generation_that_is_gone_is_neither_copied_nor_deleted_nor_opened": "deletes whatever generation is there",
}
"""What the emulated service (fake-gcs-server) does unlike Cloud Storage, by the test that shows it."""


@pytest.fixture(params=["emulator", "memory"])
def objects(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    why = UNLIKE_GOOGLES.get(request.function.__name__)
    if request.param == "emulator" and why:
        request.applymarker(pytest.mark.xfail(reason=f"fake-gcs-server {why}", strict=True))
    if request.param == "memory":
        return MemoryBuckets(lambda: datetime.now(UTC), lambda event: None)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("bucket_service"))
    from services.core.gcs import GcsObjectStore

    return GcsObjectStore("p")


@pytest.fixture
def name(tmp_path: Path) -> str:
    return f"landing/{tmp_path.name}/object.parquet"


def created(objects: ObjectStore, name: str, content: bytes = b"rows", bucket: str = LAKE) -> int:
    return objects.create(bucket, name, io.BytesIO(content), "application/json").generation


def test_an_object_is_as_it_was_created(objects: ObjectStore, name: str) -> None:
    stored = objects.create(LAKE, name, io.BytesIO(b"123456789"), "text/plain", {"table": "t"})
    assert (stored.bucket, stored.name, stored.size, stored.crc32c) == (LAKE, name, 9, "4waSgw==")
    assert objects.stat(LAKE, name) == stored
    assert objects.read(LAKE, name) == objects.open(stored).read() == b"123456789"
    assert abs((datetime.now(UTC) - stored.created_at).total_seconds()) < 60


def test_nothing_is_none(objects: ObjectStore, name: str) -> None:
    assert (objects.stat(LAKE, name), objects.read(LAKE, name), objects.list(LAKE, name)) == (None, None, [])


def test_the_same_content_again_is_no_error_and_other_content_is_refused(objects: ObjectStore, name: str) -> None:
    generation = created(objects, name)
    assert created(objects, name) == generation
    with pytest.raises(DataError, match="exists with other content"):
        created(objects, name, b"other")
    assert objects.read(LAKE, name) == b"rows"


def test_replacing_gives_another_generation(objects: ObjectStore, name: str) -> None:
    generation = created(objects, name)
    replaced = objects.replace(LAKE, name, b"other", "text/plain")
    assert replaced.generation > generation
    assert objects.read(LAKE, name) == b"other"


def test_only_what_is_below_a_prefix_is_listed_by_name(objects: ObjectStore, name: str) -> None:
    names = [f"{name}{end}" for end in ("b", "a", "c/d")]
    for each in names:
        created(objects, each)
    created(objects, name, bucket=OTHER)
    assert [stored.name for stored in objects.list(LAKE, name)] == sorted(names)


def test_a_copy_takes_a_free_name_or_finds_the_same_and_never_writes_over(objects: ObjectStore, name: str) -> None:
    created(objects, name)
    stored = objects.stat(LAKE, name)
    assert stored is not None
    assert objects.copy(stored, OTHER, name) == "there"
    assert objects.read(OTHER, name) == b"rows"
    assert objects.copy(stored, OTHER, name) == "there"
    objects.replace(OTHER, name, b"other", "text/plain")
    assert objects.copy(stored, OTHER, name) == "taken"
    assert objects.read(OTHER, name) == b"other"


def test_a_generation_that_is_gone_is_neither_copied_nor_deleted_nor_opened(objects: ObjectStore, name: str) -> None:
    created(objects, name)
    stored = objects.stat(LAKE, name)
    assert stored is not None
    objects.replace(LAKE, name, b"other", "text/plain")
    assert objects.copy(stored, OTHER, name) == "gone"
    assert not objects.delete(stored)
    with pytest.raises(TransientError):
        objects.open(stored)
    assert objects.read(LAKE, name) == b"other"
    newest = objects.stat(LAKE, name)
    assert newest is not None
    assert objects.delete(newest)
    assert not objects.delete(newest)
    assert objects.copy(newest, OTHER, name) == "gone"
