"""Fingerprints as objects: when they are believed, and that nothing about them makes a run fail."""

from collections.abc import Iterator
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
from services.extractor.planning.again import FORM, Again
from services.extractor.reading.sieve import Sieve, checksum
from tests.unit.extractor.history.bucket import BUCKET, LANDING, Bucket
from tests.unit.extractor.test_again import PROGRESS, TIP
from tests.unit.extractor.test_sieve import ONE, batch

ROWS = batch(ONE, {"id": 1, "v": "a"}, {"id": 2, "v": "b"})
OTHER = "20261126T130000000000Z-00000002"
SETTINGS = {"POSTGRES_HOST": "h", "POSTGRES_USER": "u", "GCP_PROJECT": "p"}


class Scene:
    """A tip with its fingerprints in a bucket, and a state that knows it."""

    def __init__(self, settings: ExtractorSettings) -> None:
        self.settings, self.bucket = settings, Bucket()
        self.state = PipelineState(SqliteStore(Path(":memory:")))
        self.state.store.create("tables", "t", PROGRESS.model_dump(mode="json"))
        sieve = Sieve(10)
        sieve.news(ROWS, pa.array([Again.NEXT.value] * 2, pa.int32()))
        content, rows, ahead = sieve.kept()
        kept = Fingerprints(
            form=FORM, columns="columns", rows=rows, ahead=ahead, sha256=checksum(content), unannounced=None
        )
        self.tip = TIP.model_copy(update={"fingerprints": kept})
        self.state.create_batch(self.tip)
        self.put(fingerprints_object(settings.fingerprints_prefix, "t", self.tip.id), content)

    def put(self, name: str, content: bytes = b"x") -> None:
        self.bucket.replace(BUCKET, name, content)

    def known(self) -> int:
        """How many of the two rows are no news."""
        sieve = Sieve(10)
        fingerprints.recall(self.settings, self.state, cast(Any, self.bucket), self.tip, sieve)
        sieve.news(ROWS, pa.array([Again.LAST.value] * 2, pa.int32()))
        return sieve.dropped


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


def _prepared(scene: Scene) -> Any:
    plan = SimpleNamespace(table="t", batch_id=OTHER, columns=[ManifestColumn(name="id", type=ColumnType.INT64)])
    return SimpleNamespace(plan=plan, progress=scene.state.progress("t"))


def test_what_cannot_be_put_is_not_noted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sieve = Sieve(10)
    sieve.news(ROWS, pa.array([Again.NEXT.value, (Again.NEXT | Again.AHEAD).value], pa.int32()))
    kept = fingerprints.keep(scene.settings, cast(Any, scene.bucket), _prepared(scene), sieve)
    assert kept is not None
    assert (kept.rows, kept.ahead, kept.unannounced) == (2, 1, None)

    def forbidden(*_: object) -> None:
        raise PermissionError("forbidden")

    monkeypatch.setattr(scene.bucket, "create", forbidden)
    assert fingerprints.keep(scene.settings, cast(Any, scene.bucket), _prepared(scene), sieve) is None


def test_where_nothing_is_read_again_nothing_is_put(scene: Scene) -> None:
    before = dict(scene.bucket.objects)
    assert fingerprints.keep(scene.settings, cast(Any, scene.bucket), _prepared(scene), Sieve(10)) is None
    assert scene.bucket.objects == before


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
