"""Whatever keeps a batch from being loaded, or from being announced, is said in its trouble while it lasts (item 15).

The buckets, BigQuery and Pub/Sub are stand-ins that are away: which of them is, and when, is the point.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from google.cloud import bigquery

import services.loader.loading as loading
from services.core.batch import Batch, BatchState, Step
from services.core.errors import DataError
from services.core.events import ObjectFinalized
from services.core.jobs import StillRunning
from services.core.manifest import ManifestColumn, Part, schema_fingerprint
from services.core.naming import manifest_object, part_object
from services.core.settings import LoaderSettings
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.storage import Copied, ObjectStore, StoredObject
from services.core.tables import Column, ColumnType, Mode, Table, Tables
from services.core.window import Window
from services.loader.loading import FINISHING, Loader

AT = datetime(2026, 11, 22, 17, tzinfo=UTC)
ID = "20261122T170000000000Z-00000000"
TABLE = Table(
    name="t",
    source="s.t",
    key=["id"],
    mode=Mode.SNAPSHOT,
    bronze_model="t",
    columns=[Column(name="id", type=ColumnType.INT64, required=True)],
)
SETTINGS = LoaderSettings.model_validate({"GCP_PROJECT": "p"})
AWAY = ConnectionError("away")


@dataclass
class Buckets:
    """Buckets of which some requests may be away."""

    content: dict[str, bytes] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)

    def _ask(self, what: str) -> None:
        if what in self.away:
            raise AWAY

    def _described(self, name: str) -> StoredObject:
        return StoredObject(SETTINGS.landing_bucket, name, 1, len(self.content[name]), "c", AT)

    def create(self, bucket: str, name: str, data: io.BytesIO, *_: Any) -> StoredObject:
        self.content[name] = data.getvalue()
        return self._described(name)

    def read(self, bucket: str, name: str) -> bytes | None:
        self._ask("read")
        return self.content.get(name)

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        self._ask("stat")
        return self._described(name) if name in self.content else None

    def list(self, bucket: str, prefix: str) -> list[StoredObject]:
        self._ask("list")
        return [self._described(name) for name in sorted(self.content) if name.startswith(prefix)]

    def copy(self, stored: StoredObject, to_bucket: str, to_name: str) -> Copied:
        self._ask("copy")
        return "there"

    def delete(self, stored: StoredObject) -> bool:
        self._ask("delete")
        return self.content.pop(stored.name, None) is not None


@dataclass
class Announcer:
    """Pub/Sub, which may be away."""

    away: bool = False

    def publish(self, batch: Batch) -> str:
        if self.away:
            raise AWAY
        return "1"

    def alert(self, error: DataError, objects: list[str]) -> str:
        return "1"


@dataclass
class Place:
    """A loader, and what it stands on."""

    loader: Loader
    buckets: Buckets
    announcer: Announcer

    def batch(self) -> Batch:
        found = self.loader.state.batch(ID)
        assert found is not None
        return found

    def handle(self) -> str:
        name = manifest_object(SETTINGS.landing_prefix, "t", ID)
        return self.loader.handle(ObjectFinalized(SETTINGS.landing_bucket, name, 1))

    def handle_in_vain(self) -> str:
        """Handle the event, which fails; returns the batch's trouble."""
        with pytest.raises(ConnectionError):
            self.handle()
        return self.batch().trouble or ""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A landed batch of one part."""
    state = PipelineState(SqliteStore(tmp_path / "state.sqlite"))
    buckets, announcer = Buckets(), Announcer()
    tables = Tables(version=1, tables=[TABLE])
    loader = Loader(
        SETTINGS, tables, state, cast(ObjectStore, buckets), cast(bigquery.Client, None), cast(Any, announcer)
    )
    batch = Batch(
        id=ID, run_id="r", table="t", mode=Mode.SNAPSHOT, window=Window(low=None, high=AT), extracted_at=AT,
        started_at=AT,
    )  # fmt: skip
    part = part_object(SETTINGS.landing_prefix, "t", ID, 0)
    buckets.content[part] = b"rows"
    columns = [ManifestColumn(name="id", type=ColumnType.INT64, required=True)]
    manifest = batch.manifest(TABLE, columns, [Part(object_name=part, rows=1, size=4, crc32c="c")])
    assert manifest.schema_fingerprint == schema_fingerprint(columns)
    buckets.content[manifest_object(SETTINGS.landing_prefix, "t", ID)] = manifest.model_dump_json().encode()
    state.create_batch(batch)
    state.step(ID, Step.LAND)
    monkeypatch.setattr(loading, "load", lambda *_: cast(Any, type("Job", (), {"output_rows": 1, "job_id": "j"})))
    monkeypatch.setattr(loading, "refresh_stable", lambda *_: True)
    return Place(loader, buckets, announcer)


def fails(error: Exception) -> Callable[..., Any]:
    def raising(*_: object) -> None:
        raise error

    return raising


@pytest.mark.parametrize("what", ["read", "stat"])
def test_a_bucket_that_is_away_before_the_load_is_the_batches_trouble(place: Place, what: str) -> None:
    place.buckets.away.add(what)
    assert place.handle_in_vain() == "ConnectionError: away"
    place.buckets.away.clear()
    assert place.handle() == "loaded"
    assert (place.batch().state, place.batch().trouble) == (BatchState.LOADED, None)


@pytest.mark.parametrize("step", ["load", "refresh_stable"])
def test_a_warehouse_that_is_away_is_the_batches_trouble(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = getattr(loading, step)
    monkeypatch.setattr(loading, step, fails(AWAY))
    assert place.handle_in_vain() == "ConnectionError: away"
    assert place.handle_in_vain() == "ConnectionError: away"
    assert place.batch().load_attempts == 2
    monkeypatch.setattr(loading, step, working)
    assert place.handle() == "loaded"
    assert place.batch().trouble is None


def test_a_load_that_takes_long_is_no_trouble(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", fails(StillRunning("job j has not ended")))
    with pytest.raises(StillRunning):
        place.handle()
    assert (place.batch().state, place.batch().trouble) == (BatchState.LANDED, None)


@pytest.mark.parametrize("away", ["list", "copy", "delete", "Pub/Sub"])
def test_what_is_loaded_and_not_archived_or_announced_is_in_trouble(place: Place, away: str) -> None:
    """Also when the event comes again; when it ends well, the trouble has ended too."""
    place.announcer.away = away == "Pub/Sub"
    place.buckets.away.add(away)
    assert place.handle_in_vain() == f"{FINISHING}ConnectionError: away"
    assert place.batch().state is BatchState.LOADED
    assert place.handle_in_vain() == f"{FINISHING}ConnectionError: away"
    place.announcer.away = False
    place.buckets.away.clear()
    assert place.handle() == "already_loaded"
    assert place.batch().trouble is None


def test_the_trouble_of_the_next_step_is_left_to_the_transformer(place: Place) -> None:
    assert place.handle() == "loaded"
    place.loader.state.change_batch(ID, lambda batch: batch.in_trouble(BatchState.LOADED, "bronze model t failed"))
    assert place.handle() == "already_loaded"
    assert place.batch().trouble == "bronze model t failed"


def test_a_batch_that_nobody_announced_has_its_trouble_too(place: Place) -> None:
    """The state hears of it before its parts are looked at."""
    place.loader.state.forget_batch(ID)
    looked: list[str] = []

    def stat(bucket: str, name: str) -> StoredObject | None:
        looked.append(name)
        raise AWAY

    place.buckets.stat = stat  # type: ignore[method-assign]
    assert place.handle_in_vain() == "ConnectionError: away"
    assert looked


def test_a_value_in_an_error_is_no_trouble_that_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", fails(ValueError("a-value-that-nobody-tells")))
    with pytest.raises(ValueError, match="a-value"):
        place.handle()
    assert (place.batch().trouble or "").startswith("ValueError: ")
    assert "a-value" not in (place.batch().trouble or "")


def test_a_state_that_is_away_does_not_hide_the_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.buckets.away.add("read")
    monkeypatch.setattr(place.loader.state, "change_batch", fails(OSError("the state is away")))
    with pytest.raises(ConnectionError, match=r"^away$"):
        place.handle()
