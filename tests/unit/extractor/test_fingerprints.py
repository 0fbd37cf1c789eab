"""Fingerprints as objects: when they are believed, and that nothing about them makes a run fail."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from services.core.batch import Batch, Fingerprints
from services.core.errors import TransientError
from services.core.manifest import ManifestColumn
from services.core.naming import fingerprints_object, manifest_object, part_object
from services.core.settings import ExtractorSettings, read_settings
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import ColumnType
from services.extractor import fingerprints
from services.extractor.planning.again import FORM, Again, void
from services.extractor.reading.reading import Read
from services.extractor.reading.sieve import Sieve, checksum, written
from tests.unit.extractor.history.bucket import BUCKET, LANDING, Bucket
from tests.unit.extractor.test_again import PROGRESS, READ_AT, SEEN, TIP, WINDOW
from tests.unit.extractor.test_sieve import ONE, batch, kept_of

ROWS = batch(ONE, {"id": 1, "v": "a"}, {"id": 2, "v": "b"})
OTHER = "20261126T130000000000Z-00000002"
SETTINGS = {"POSTGRES_HOST": "h", "POSTGRES_USER": "u", "GCP_PROJECT": "p"}


class Scene:
    """A tip with its fingerprints in a bucket, and a state that knows it."""

    def __init__(self, settings: ExtractorSettings) -> None:
        self.settings, self.bucket = settings, Bucket()
        self.state = PipelineState(SqliteStore(Path(":memory:")))
        self.state.store.create("tables", "t", PROGRESS.model_dump(mode="json"))
        content = written(kept_of(ROWS))
        kept = Fingerprints(form=FORM, columns="columns", rows=2, ahead=0, sha256=checksum(content), unannounced=None)
        self.tip = TIP.model_copy(update={"fingerprints": kept})
        self.state.create_batch(self.tip)
        self.put(fingerprints_object(settings.fingerprints_prefix, "t", self.tip.id), content)

    def put(self, name: str, content: bytes = b"x") -> None:
        self.bucket.replace(BUCKET, name, content)

    def known(self) -> int:
        """How many of the two rows are no news."""
        plan = cast(Any, SimpleNamespace(tip=self.tip.id))
        known = fingerprints.recall(self.settings, self.state, cast(Any, self.bucket), plan)
        return 0 if known is None else known.num_rows


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    scene = Scene(read_settings(ExtractorSettings))
    yield scene
    scene.state.store.close()


def test_what_a_batch_has_kept_is_known(scene: Scene) -> None:
    assert scene.known() == 2


@pytest.mark.parametrize(
    "name",
    [
        f"{LANDING}/by_hand/t.parquet",
        f"{LANDING}/t-2026.parquet",
        manifest_object(LANDING, "t", OTHER),
    ],
)
def test_what_lies_in_landing_and_no_extraction_has_put_there_makes_them_void(scene: Scene, name: str) -> None:
    """It arrived before this run reads, and no run after it has seen it: its event may be lost."""
    scene.put(name)
    assert scene.known() == 0


def test_a_batch_that_is_in_the_state_as_unannounced_is_no_extractions(scene: Scene) -> None:
    scene.put(manifest_object(LANDING, "t", OTHER))
    scene.state.create_batch(TIP.model_copy(update={"id": OTHER, "arrived_at": TIP.started_at}))
    assert scene.known() == 0


@pytest.mark.parametrize(
    "name",
    [
        f"{LANDING}/other.parquet",
        f"{LANDING}/t.csv",
        manifest_object(LANDING, "other", OTHER),
        manifest_object(LANDING, "t", TIP.id),
        part_object(LANDING, "t", OTHER, 0),
    ],
)
def test_what_else_lies_in_landing_does_not(scene: Scene, name: str) -> None:
    """Other tables' objects; what the loader has not put away yet; parts without a manifest, which nobody loads."""
    scene.put(name)
    assert scene.known() == 2


def test_what_was_noted_since_they_were_planned_makes_them_void(scene: Scene) -> None:
    scene.state.note_unannounced("t", OTHER)
    assert scene.known() == 0


@pytest.mark.parametrize("method", ["list", "read"])
def test_a_bucket_that_does_not_answer_makes_them_void_and_the_run_goes_on(
    scene: Scene, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise TransientError("the bucket is away")

    monkeypatch.setattr(scene.bucket, method, away)
    with capture_logs() as logged:
        assert scene.known() == 0
    assert [line["event"] for line in logged] == ["fingerprints.void"]


PLAN: Any = SimpleNamespace(
    table="t",
    batch_id=OTHER,
    columns=[ManifestColumn(name="id", type=ColumnType.INT64)],
    again=True,
    tip=TIP.id,
    unannounced="a file",
)
READ = Read(read_at={0: READ_AT})


def _sieve(*flags: Again) -> Sieve:
    """What the rows have passed."""
    sieve = Sieve(10)
    sifting = sieve.sift(READ_AT)
    sifting.news(ROWS.slice(0, len(flags)), pa.array([flag.value for flag in flags], pa.int32()))
    sieve.take(0, READ_AT, sifting)
    return sieve


def test_what_cannot_be_put_is_not_noted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sieve = _sieve(Again.NEXT, Again.NEXT | Again.AHEAD)
    kept = fingerprints.keep(scene.settings, cast(Any, scene.bucket), PLAN, READ, sieve)
    assert kept is not None
    assert (kept.rows, kept.ahead, kept.unannounced, kept.read_at) == (2, 1, "a file", READ_AT)

    def forbidden(*_: object) -> None:
        raise PermissionError("forbidden")

    monkeypatch.setattr(scene.bucket, "create", forbidden)
    assert fingerprints.keep(scene.settings, cast(Any, scene.bucket), PLAN, READ, sieve) is None


def test_where_nothing_is_read_again_nothing_is_put(scene: Scene) -> None:
    before = dict(scene.bucket.objects)
    assert fingerprints.keep(scene.settings, cast(Any, scene.bucket), PLAN, READ, _sieve(Again(0))) is None
    assert scene.bucket.objects == before


def test_of_a_read_under_several_snapshots_nothing_is_put(scene: Scene) -> None:
    before, read = dict(scene.bucket.objects), Read(read_at={0: READ_AT, 1: READ_AT + timedelta(seconds=1)})
    with capture_logs() as logged:
        assert fingerprints.keep(scene.settings, cast(Any, scene.bucket), PLAN, read, _sieve(Again.NEXT)) is None
    assert [line["event"] for line in logged] == ["fingerprints.none"]
    assert scene.bucket.objects == before


def test_after_a_read_by_chunks_without_news_the_batch_before_counts_on(scene: Scene) -> None:
    """The chunks' times are noted in the state, as if they had brought something."""
    later = READ_AT + timedelta(minutes=1)
    scene.state.take_time("t", later)

    def counts() -> bool:
        tip = scene.state.batch(TIP.id)
        assert tip is not None
        return void(tip, WINDOW, scene.state.progress("t"), SEEN, SEEN, "columns") is None

    assert not counts()
    fingerprints.count_on(scene.state, PLAN, Read(read_at={0: READ_AT, 1: later}))
    assert counts()
    scene.state.take_time("t", later)
    assert not counts(), "something was read after it"


def test_older_ones_of_the_table_are_deleted_and_nothing_else(scene: Scene) -> None:
    """A process that stood still, and whose table another has gone on with, does not delete what that one has put."""
    prefix = scene.settings.fingerprints_prefix
    newer = "20261126T140000000000Z-00000003"
    for table, batch_id in (("t", OTHER), ("t", newer), ("t2", TIP.id)):
        scene.put(fingerprints_object(prefix, table, batch_id))
    fingerprints.forget_older(scene.settings, cast(Any, scene.bucket), "t", OTHER)
    assert scene.bucket.landed(prefix) == [
        fingerprints_object(prefix, "t", OTHER),
        fingerprints_object(prefix, "t", newer),
        fingerprints_object(prefix, "t2", TIP.id),
    ]


def test_a_batch_of_the_release_before_has_none() -> None:
    old = TIP.model_dump(mode="json", exclude={"fingerprints", "rows_known"})
    assert Batch.model_validate(old).fingerprints is None
