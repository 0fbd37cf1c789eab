"""The loader and everything wrong that can land: it goes to failed/ with its reason, is said once, and stops nobody.

Every case has its own buckets, dataset and state, on one bucket server and one warehouse for the module.
"""

import dataclasses
import io
import json
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud.storage import Client

from local.stack import emulators
from local.stack.home import Home
from local.stack.ports import HOST, choose_ports
from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.chain import Covered, covered
from services.core.errors import DataError, TransientError
from services.core.events import ObjectFinalized
from services.core.gcs import GcsObjectStore
from services.core.manifest import manifest_fingerprint
from services.core.naming import file_batch_id, hashed_table, mirrored
from services.core.settings import LoaderSettings
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState, TableProgress
from services.core.storage import StoredObject
from services.core.tables import Mode, load_tables
from services.core.warehouse import bigquery_client
from services.core.window import Window
from services.extractor.planning.window import next_window
from services.loader import load_job
from services.loader.loading import Loader, Result
from services.loader.sweep import Sweep
from tests.integration.bad_input_cases import (
    BAD_BATCHES,
    BAD_FILES,
    DECLARED,
    GOOD_FILES,
    LANDING,
    READ_AT,
    ROWS,
    BatchCase,
    Draft,
    FileCase,
    GoodFile,
    draft,
    evolved,
    parquet,
    rows_of,
)
from tests.integration.warehouse_fixture import EXTENSIONS_HOME, PROJECT
from tests.processes import process

FAILED = str(LoaderSettings.model_fields["failed_prefix"].default)
ARCHIVE = str(LoaderSettings.model_fields["archive_prefix"].default)
LONGEST_NAME = 1024
"""Bytes of an object's name (https://cloud.google.com/storage/docs/objects#naming)."""

Objects = dict[str, StoredObject]


@dataclass
class Announced:
    """What the loader said to others."""

    published: list[Batch] = field(default_factory=list)
    alerts: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Code, message and objects."""

    def publish(self, batch: Batch) -> str:
        self.published.append(batch)
        return str(len(self.published))

    def alert(self, error: DataError, objects: list[str]) -> str:
        self.alerts.append((error.code, str(error), list(objects)))
        return str(len(self.alerts))


@dataclass(frozen=True)
class Lake:
    """What one case works on."""

    loader: Loader
    announced: Announced

    @property
    def bucket(self) -> str:
        return self.loader.settings.landing_bucket

    def put(self, name: str, content: bytes) -> StoredObject:
        return self.loader.objects.create(self.bucket, name, io.BytesIO(content), "application/octet-stream")

    def land(self, batch: Draft, known: bool = True, announced: bytes | None = None) -> None:
        """Put a batch into landing/, the manifest last, as the extractor does.

        Args:
            batch: the batch.
            known: whether an extraction has noted it in the state.
            announced: the manifest that it has announced, if not this one.
        """
        if known:
            self.loader.state.create_batch(batch.batch)
        for name, content in (batch.others | batch.parts).items():
            self.put(name, content)
        if known:
            self.loader.state.announce(batch.batch_id, manifest_fingerprint(announced or batch.manifest))
        self.put(batch.manifest_name, batch.manifest)
        if known:
            self.loader.state.step(batch.batch_id, Step.LAND)

    def handle(self, name: str, bucket: str | None = None) -> Result:
        """Give the loader the event of an object."""
        return self.loader.handle(ObjectFinalized(bucket or self.bucket, name, 1))

    def objects(self, bucket: str | None = None) -> Objects:
        """Everything in a bucket, by name."""
        return {stored.name: stored for stored in self.loader.objects.list(bucket or self.bucket, "")}

    def archived(self) -> set[str]:
        return set(self.objects(self.loader.settings.archive_bucket))

    def read(self, name: str, bucket: str | None = None) -> bytes | None:
        return self.loader.objects.read(bucket or self.bucket, name)

    def temp_tables(self) -> set[str]:
        return {table.table_id for table in self.loader.client.list_tables(self.loader.settings.dataset_temp)}

    def rows(self, batch: Batch) -> list[dict[str, Any]]:
        """What is in a batch's hashed table."""
        name = f"{PROJECT}.{self.loader.settings.dataset_temp}.{hashed_table(batch.table, batch.id)}"
        return [dict(row) for row in self.loader.client.query_and_wait(f"SELECT * FROM `{name}` ORDER BY id")]


@dataclass
class Place:
    """The servers, and the outcome of every case."""

    folder: Path
    numbers: Iterator[int] = field(default_factory=count)
    outcomes: list[tuple[str, str, str]] = field(default_factory=list)
    """Case, code and message."""

    @contextmanager
    def lake(self, **more: Any) -> Iterator[Lake]:
        """Empty buckets, dataset and state."""
        number = next(self.numbers)
        facts = {
            "GCP_PROJECT": PROJECT,
            "tables_file": self.folder / "tables.yaml",
            "state_sqlite_path": self.folder / f"state-{number}.sqlite",
            "landing_bucket": f"lake-{number}",
            "archive_bucket": f"archive-{number}",
            "dataset_temp": f"temp_{number}",
        }
        settings = LoaderSettings.model_validate(facts | more)
        buckets = Client(project=PROJECT)
        for bucket in (settings.landing_bucket, settings.archive_bucket):
            buckets.create_bucket(bucket)
        client = bigquery_client(PROJECT, settings.bigquery_location)
        client.create_dataset(settings.dataset_temp)
        store = SqliteStore(settings.state_sqlite_path)
        announced = Announced()
        tables = load_tables(settings.tables_file)
        yield Lake(
            Loader(settings, tables, PipelineState(store), GcsObjectStore(PROJECT), client, announced), announced
        )
        store.close()
        client.close()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A bucket server and a warehouse that reads its files; at the end, a table of what was refused and why."""
    folder = tmp_path_factory.mktemp("bad_input")
    (folder / "tables.yaml").write_text(yaml.safe_dump(DECLARED))
    home = Home.at(folder / "stack")
    home.make()
    (home.homes / "warehouse").symlink_to(EXTENSIONS_HOME)
    EXTENSIONS_HOME.mkdir(exist_ok=True)
    ports = choose_ports(["storage", "rest", "grpc"])
    # No object is below this prefix: nobody is told, and there is no bus here.
    bucket_server = emulators.storage(
        emulators.storage_binary(), home, ports["storage"], ports["storage"], bucket="none", prefix="none", topic="none"
    )
    place = Place(folder)
    with (
        process(bucket_server),
        process(emulators.warehouse(home, ports["rest"], ports["grpc"])),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{HOST}:{ports['storage']}")
        patch.setenv("BIGQUERY_EMULATOR_HOST", f"http://{HOST}:{ports['rest']}")
        yield place
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    if isinstance(terminal, pytest.TerminalReporter) and capture is not None:
        with capture.global_and_fixture_disabled():
            terminal.section("what the loader refused")
            for case, code, message in place.outcomes:
                shown = message.replace("\n", " ")
                terminal.write_line(f"{case:28} {code:24} {shown[:120]}")


@pytest.fixture
def lake(place: Place) -> Iterator[Lake]:
    with place.lake() as lake:
        yield lake


def cases(table: Sequence[BatchCase] | Sequence[FileCase] | Sequence[GoodFile]) -> list[Any]:
    """The cases as pytest's parameters."""
    return [pytest.param(case, id=case.name) for case in table]


def listed(name: str) -> str:
    """An object's name as the bucket emulator lists it: it keeps objects as files, and cleans their paths."""
    return posixpath.normpath(name).removeprefix("/")


def contents(objects: Objects) -> dict[str, tuple[int, str]]:
    return {name: (stored.generation, stored.crc32c) for name, stored in objects.items()}


@dataclass(frozen=True)
class Reason:
    """What has to be said about objects that were refused."""

    code: str
    says: str
    table: str | None
    batch_id: str | None
    column: str | None


def place_of(stored: StoredObject) -> str:
    """Where a rejected object is; one that is named like a reason must not be in the place of one."""
    target = mirrored(stored.name, LANDING, FAILED)
    return f"{target}~{stored.generation}" if target.endswith(".error.json") else target


def check_rejected(lake: Lake, landed: dict[str, tuple[StoredObject, bytes]], reason: Reason) -> str:
    """Every object is in failed/ with its reason, nothing is left in landing/, one alert was sent; the message."""
    assert [code for code, _, _ in lake.announced.alerts] == [reason.code]
    [(_, message, objects)] = lake.announced.alerts
    assert sorted(objects) == sorted(landed)
    assert message
    assert reason.says in message
    found = lake.objects()
    for name, (stored, content) in landed.items():
        assert listed(name) not in found
        target = place_of(stored)
        assert listed(target) in found
        assert lake.read(target) == content
        document = json.loads(lake.read(f"{target}.error.json") or b"")
        first_seen, failed_at = (datetime.fromisoformat(document.pop(key)) for key in ("first_seen", "failed_at"))
        assert first_seen <= failed_at <= datetime.now(UTC)
        assert document.pop("attempts") >= 1
        assert document == {
            "code": reason.code,
            "message": message,
            "table": reason.table,
            "batch_id": reason.batch_id,
            "column": reason.column,
            "object": f"gs://{lake.bucket}/{name}",
            "generation": stored.generation,
        }
        assert len(f"{target}.error.json".encode()) <= LONGEST_NAME
    return message


def check_again(lake: Lake, name: str) -> None:
    """The same event twice more changes nothing."""
    before = contents(lake.objects())
    alerts, published = list(lake.announced.alerts), list(lake.announced.published)
    for _ in range(2):
        assert lake.handle(name) in ("rejected", "ignored")
    assert contents(lake.objects()) == before
    assert (lake.announced.alerts, lake.announced.published) == (alerts, published)


def check_others_load(lake: Lake) -> None:
    """A batch of another table is loaded, archived and announced."""
    good = draft("steady", parts=1)
    lake.land(good)
    lake.announced.published.clear()
    assert lake.handle(good.manifest_name) == "loaded"
    assert [batch.id for batch in lake.announced.published] == [good.batch_id]
    assert {mirrored(name, LANDING, ARCHIVE) for name in [*good.parts, good.manifest_name]} <= lake.archived()


def landed_objects(lake: Lake, batch: Draft) -> dict[str, tuple[StoredObject, bytes]]:
    """The batch's objects as they are in landing/."""
    contents = batch.parts | {batch.manifest_name: batch.manifest}
    stored = {name: lake.loader.objects.stat(lake.bucket, name) for name in contents}
    return {name: (found, contents[name]) for name, found in stored.items() if found is not None}


@pytest.mark.parametrize("case", cases(BAD_BATCHES))
def test_a_bad_batch_goes_to_failed_whole(case: BatchCase, lake: Lake, place: Place) -> None:
    batch = draft(case.table, case.batch_id)
    whole = batch.manifest
    case.damage(batch)
    lake.land(batch, case.known, None if case.announced else whole)
    if case.failed_before:
        error = BatchError(code=case.code, message="the extractor ended before the manifest was written")
        lake.loader.state.change_batch(batch.batch_id, lambda b: b.model_copy(update={"state": BatchState.EXTRACTING}))
        lake.loader.state.step(batch.batch_id, Step.ABANDON, error=error)
    landed = landed_objects(lake, batch)
    assert lake.handle(batch.manifest_name) == "rejected"
    reason = Reason(case.code, case.says, case.table, batch.batch_id, case.column)
    message = check_rejected(lake, landed, reason)
    place.outcomes.append((case.name, case.code, message))
    noted = lake.loader.state.batch(batch.batch_id)
    if case.known:
        assert noted is not None
    if noted is not None:
        assert noted.state is BatchState.FAILED
        assert not noted.open
        assert noted.error == BatchError(code=case.code, message=message, column=case.column)
    hashed = {hashed_table(case.table, batch.batch_id)} if case.loaded else set()
    assert lake.temp_tables() == hashed, "nothing was left for the transformer, nor for people"
    assert lake.announced.published == []
    assert lake.archived() == set()
    assert set(batch.others) <= set(lake.objects())
    check_again(lake, batch.manifest_name)
    check_others_load(lake)


@pytest.mark.parametrize("case", cases(BAD_FILES))
def test_a_bad_file_goes_to_failed(case: FileCase, place: Place) -> None:
    with place.lake(**case.settings) as lake:
        name, content = f"{LANDING}/{case.object_name}", case.content()
        stored = lake.put(name, content)
        batch_id = file_batch_id(lake.bucket, name, stored.generation, stored.created_at) if case.table else None
        assert lake.handle(name) == "rejected"
        reason = Reason(case.code, case.says, case.table, batch_id, case.column)
        message = check_rejected(lake, {name: (stored, content)}, reason)
        assert set(lake.objects()) == {listed(place_of(stored)), listed(f"{place_of(stored)}.error.json")}
        place.outcomes.append((case.name, case.code, message))
        if batch_id is not None and (noted := lake.loader.state.batch(batch_id)) is not None:
            assert (noted.state, noted.open) == (BatchState.FAILED, False)
        assert lake.temp_tables() == set()
        assert lake.announced.published == []
        check_again(lake, name)
        check_others_load(lake)


@pytest.mark.parametrize("case", cases(GOOD_FILES))
def test_a_good_file_loads(case: GoodFile, lake: Lake) -> None:
    name, content = f"{LANDING}/{case.object_name}", case.content()
    stored = lake.put(name, content)
    assert lake.handle(name) == "loaded"
    [batch] = lake.announced.published
    assert batch.table == case.table
    assert batch.source == f"gs://{lake.bucket}/{name}#{stored.generation}", "bronze's _source_table"
    assert (batch.state, batch.rows, batch.window) == (BatchState.LOADED, 6, None)
    assert lake.objects() == {}
    assert lake.read(mirrored(name, LANDING, ARCHIVE), lake.loader.settings.archive_bucket) == content
    assert len(lake.archived()) == 3, "the file, a part, the manifest"
    loaded = lake.rows(batch)
    assert {row.pop("_extracted_at") for row in loaded} == {case.extracted_at or stored.created_at}
    assert batch.extracted_at == (case.extracted_at or stored.created_at), (
        "bronze takes no row for older than its batch"
    )
    assert loaded == (ROWS if case.table == "orders" else rows_of(case.table).to_pylist())
    assert lake.announced.alerts == []
    check_again(lake, name)
    check_others_load(lake)


def test_a_batch_that_evolves_brings_its_new_column(lake: Lake) -> None:
    batch = draft("growing")
    evolved("surplus")(batch)
    lake.land(batch)
    assert lake.handle(batch.manifest_name) == "loaded"
    [loaded] = lake.announced.published
    assert [row["surplus"] for row in lake.rows(loaded)] == ["x", "y"] * 3
    assert lake.objects() == {}
    check_others_load(lake)


def test_the_longer_of_two_names_keeps_its_batches_apart(lake: Lake) -> None:
    """A bad batch of orders takes nothing of orders_archive with it."""
    bad = draft("orders")
    good = draft("orders_archive", bad.batch_id)
    bad.swap(0, lambda content: content[:-1])
    lake.land(bad, known=False)
    lake.land(good, known=False)
    assert lake.handle(bad.manifest_name) == "rejected"
    left = {name for name in lake.objects() if name.startswith(f"{LANDING}/")}
    assert left == {*good.parts, good.manifest_name}


FAR = "9999-12-31T23:59:59Z"
LOW = datetime(2026, 11, 20, tzinfo=UTC)


def progressed(state: PipelineState, table: str) -> TableProgress:
    """A table whose first batch is in bronze."""
    first = draft(table).batch.model_copy(update={"window": Window(low=None, high=LOW), "mode": Mode.INCREMENTAL})
    state.create_batch(first)
    for step in (Step.LAND, Step.LOAD, Step.MERGE):
        state.step(first.id, step)
    return state.advance(table, 1)


def test_a_manifest_of_nobody_is_taken_like_a_file(lake: Lake) -> None:
    """Whatever it says: it moves no watermark, deletes nothing, and no time of it is after its arrival."""
    state = lake.loader.state
    before = progressed(state, "orders")
    forged = draft()
    forged.edit(extracted_at=FAR, window={"low": None, "high": FAR}, mode="snapshot", source="gs://b/orders.parquet#1")
    forged.edit(run_id="x" * 100_000, drift=["lies"] * 1_000)
    forged.document["columns"][0]["unrepresentable"] = 2**63 - 1
    lake.land(forged, known=False)
    assert lake.handle(forged.manifest_name) == "loaded"
    [batch] = lake.announced.published
    arrived = batch.arrived_at
    assert arrived is not None
    assert datetime.now(UTC) - timedelta(minutes=1) < arrived <= datetime.now(UTC)
    assert batch == Batch(
        **batch.model_dump(include={"rows", "parts", "size", "landed_at", "loaded_at", "load_seconds"}),
        id=forged.batch_id,
        run_id=forged.batch_id,
        table="orders",
        source=batch.source,
        mode=Mode.INCREMENTAL,
        window=None,
        extracted_at=arrived,
        arrived_at=arrived,
        started_at=arrived,
        state=BatchState.LOADED,
        load_attempts=1,
        manifest_sha256=manifest_fingerprint(forged.manifest),
    ), "nothing else of what the manifest says"
    assert (batch.source or "").startswith(f"unannounced gs://{lake.bucket}/{forged.manifest_name}#")
    assert lake.objects() == {}
    assert lake.handle(forged.manifest_name) == "already_loaded"
    assert state.batch(batch.id) == batch
    state.step(batch.id, Step.MERGE)
    after = state.advance("orders", 2)
    stable = {"stable_batch": batch.id, "stable_job": after.stable_job, "stable_token": after.stable_token}
    assert after.unannounced != before.unannounced, "what the extractor read before it may be older"
    merged = {"merged_batch": max(batch.id, before.merged_batch or ""), "merge_token": 2}
    merged["unannounced"] = after.unannounced
    assert after == before.model_copy(update=merged | stable)
    assert state.newest_snapshot("orders") is None
    high = datetime.now(UTC)
    low = covered(Covered(LOW), state.open_batches("orders")).until
    assert next_window(Mode.INCREMENTAL, low, high) == Window(low=LOW, high=high)
    assert state.take_time("orders", high) == high
    good = draft()
    lake.land(good)
    assert lake.handle(good.manifest_name) == "loaded"
    assert state.progress("orders").stable_batch == good.batch_id, "people see the batch that came after it"


def test_a_manifest_of_nobody_keeps_an_earlier_time(lake: Lake) -> None:
    batch = draft()
    lake.land(batch, known=False)
    assert lake.handle(batch.manifest_name) == "loaded"
    [loaded] = lake.announced.published
    assert loaded.extracted_at == READ_AT < (loaded.arrived_at or READ_AT)


def test_a_manifest_of_nobody_is_tried_again_like_any(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first handler has noted the batch and ended: the state knows it, and the manifest still says otherwise."""
    batch = draft()
    batch.edit(extracted_at=FAR, mode="snapshot")
    lake.land(batch, known=False)

    def fails(*_: object) -> None:
        raise TransientError("the warehouse does not answer")

    with monkeypatch.context() as patch:
        patch.setattr("services.loader.loading.load", fails)
        with pytest.raises(TransientError):
            lake.handle(batch.manifest_name)
    assert lake.handle(batch.manifest_name) == "loaded"
    [loaded] = lake.announced.published
    assert (loaded.load_attempts, loaded.mode, loaded.extracted_at) == (2, Mode.INCREMENTAL, loaded.arrived_at)


FOREIGN = {
    "window": lambda d: json.dumps(d.document | {"window": {"low": None, "high": FAR}}).encode(),
    "same": lambda d: d.manifest,
    "no_manifest": lambda d: b"PAR1",
    "empty": lambda d: b"",
    "large": lambda d: b" " * (16 * 1024**2 + 1),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_manifest_does_not_end_an_extraction(lake: Lake, content: Callable[[Draft], bytes]) -> None:
    """Somebody writes a manifest before the extractor does: that object alone is refused, the extraction goes on."""
    batch = draft()
    state = lake.loader.state
    state.create_batch(batch.batch)
    for name, part in batch.parts.items():
        lake.put(name, part)
    foreign = content(batch)
    stored = lake.put(batch.manifest_name, foreign)
    assert lake.handle(batch.manifest_name) == "rejected"
    reason = Reason("manifest_invalid", "", "orders", batch.batch_id, None)
    check_rejected(lake, {batch.manifest_name: (stored, foreign)}, reason)
    assert state.batch(batch.batch_id) == batch.batch, "as the extraction has noted it"
    assert set(batch.parts) <= set(lake.objects())
    check_again(lake, batch.manifest_name)
    state.announce(batch.batch_id, manifest_fingerprint(batch.manifest))
    lake.put(batch.manifest_name, batch.manifest)
    lake.announced.alerts.clear()
    assert lake.handle(batch.manifest_name) == "loaded"
    assert lake.announced.alerts == []


def killed(*_: object, **__: object) -> None:
    raise TransientError("the process was killed here")


def test_a_file_that_was_noted_and_not_landed_is_landed_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are written again: the same content is the same batch, whatever generation the bucket gives it."""
    content = parquet(rows_of("orders"))
    name = f"{LANDING}/orders.parquet"
    lake.put(name, content)
    with monkeypatch.context() as patch:
        patch.setattr("services.loader.loading.put_manifest", killed)
        with pytest.raises(TransientError):
            lake.handle(name)
    assert lake.handle(name) == "loaded"
    [loaded] = lake.announced.published
    assert len(lake.rows(loaded)) == len(ROWS)
    assert lake.objects() == {}
    assert lake.announced.alerts == []


def test_a_part_that_is_written_over_after_its_load_is_not_archived(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bronze has what the manifest says, so the archive has it or nothing."""
    batch = draft()
    lake.land(batch)
    changed = batch.name(1)
    with monkeypatch.context() as patch:
        patch.setattr(Loader, "finish", killed)
        with pytest.raises(TransientError):
            lake.handle(batch.manifest_name)
    lake.loader.objects.replace(lake.bucket, changed, b"not it", "application/octet-stream")
    assert lake.handle(batch.manifest_name) == "already_loaded"
    loaded = lake.loader.state.batch(batch.batch_id)
    assert loaded is not None
    assert loaded.state is BatchState.LOADED
    assert len(lake.rows(loaded)) == len(ROWS)
    kept = {mirrored(name, LANDING, ARCHIVE) for name in (*batch.parts, batch.manifest_name) if name != changed}
    assert lake.archived() == kept
    refused = mirrored(changed, LANDING, FAILED)
    assert lake.objects().keys() == {refused, f"{refused}.error.json"}
    assert lake.read(refused) == b"not it"
    assert json.loads(lake.read(f"{refused}.error.json") or b"")["code"] == "part_changed"
    assert [(code, names) for code, _, names in lake.announced.alerts] == [("part_changed", [changed])]
    assert [published.id for published in lake.announced.published] == [batch.batch_id]


def test_a_part_that_is_written_over_while_it_loads_fails_its_batch(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two contents BigQuery has read is not known."""
    batch = draft()
    lake.land(batch)
    good = load_job.load

    def load(*arguments: Any) -> Any:
        lake.loader.objects.replace(lake.bucket, batch.name(1), batch.parts[batch.name(0)], "application/octet-stream")
        return good(*arguments)

    monkeypatch.setattr("services.loader.loading.load", load)
    assert lake.handle(batch.manifest_name) == "rejected"
    failed = lake.loader.state.batch(batch.batch_id)
    assert failed is not None
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (BatchState.FAILED, "part_changed")
    assert lake.announced.published == []
    assert lake.archived() == set()


@pytest.mark.parametrize("steps", [(), (Step.HOLD,), (Step.MERGE,)], ids=["loaded", "held", "merged"])
def test_a_foreign_manifest_of_a_loaded_batch_is_put_away_without_effect(lake: Lake, steps: tuple[Step, ...]) -> None:
    batch = draft()
    lake.land(batch)
    assert lake.handle(batch.manifest_name) == "loaded"
    for step in steps:
        lake.loader.state.step(batch.batch_id, step)
    before = lake.loader.state.batch(batch.batch_id)
    archived = contents(lake.objects(lake.loader.settings.archive_bucket))
    batch.edit(window={"low": None, "high": FAR})
    stored = lake.put(batch.manifest_name, batch.manifest)
    assert lake.handle(batch.manifest_name) == "already_loaded"
    assert lake.loader.state.batch(batch.batch_id) == before
    assert lake.objects() == {}
    now = contents(lake.objects(lake.loader.settings.archive_bucket))
    assert archived.items() <= now.items(), "nothing was written over"
    assert now.keys() - archived.keys() == {f"{mirrored(batch.manifest_name, LANDING, ARCHIVE)}~{stored.generation}"}


def test_objects_with_the_id_of_another_tables_batch_do_it_no_harm(lake: Lake) -> None:
    batch = draft()
    lake.land(batch)
    foreign = draft("steady", batch.batch_id)
    lake.land(foreign, known=False)
    landed = landed_objects(lake, foreign)
    assert lake.handle(foreign.manifest_name) == "rejected"
    check_rejected(lake, landed, Reason("manifest_invalid", "is one of table orders", "steady", batch.batch_id, None))
    assert lake.handle(batch.manifest_name) == "loaded"
    late = draft("steady", batch.batch_id, parts=1)
    lake.put(late.name(0), b"a part without a manifest")
    Sweep(lake.loader, datetime.now(UTC) + lake.loader.settings.sweep_grace + timedelta(minutes=1)).run()
    left = [name for name in lake.objects() if name.startswith(f"{LANDING}/")]
    assert left == [], "at rest, landing/ is empty"


class Unread(GcsObjectStore):
    """Reading is refused."""

    def read(self, bucket: str, name: str) -> bytes | None:
        raise AssertionError(name)

    def open(self, stored: StoredObject) -> Any:
        raise AssertionError(stored.name)


@pytest.mark.parametrize("name", ["orders.bin", "unknown.parquet", "keyless.parquet", "people.parquet"])
def test_what_cannot_be_taken_is_not_read(lake: Lake, name: str) -> None:
    """However large it is."""
    lake.put(f"{LANDING}/{name}", parquet(rows_of("orders")))
    loader = dataclasses.replace(lake.loader, objects=Unread(PROJECT))
    assert loader.handle(ObjectFinalized(lake.bucket, f"{LANDING}/{name}", 1)) == "rejected"


def test_a_manifest_that_is_gone_is_for_the_sweep(lake: Lake) -> None:
    batch = draft()
    lake.land(batch)
    stored = lake.objects()
    assert storage_delete(lake, batch.manifest_name)
    for _ in range(3):
        assert lake.handle(batch.manifest_name) == "ignored"
    assert set(lake.objects()) == set(batch.parts)
    assert lake.announced.alerts == []
    grace = lake.loader.settings.sweep_grace
    Sweep(lake.loader, datetime.now(UTC) + grace + timedelta(minutes=1)).run()
    landed = {name: (stored[name], content) for name, content in batch.parts.items()}
    reason = Reason("manifest_missing", "its manifest is gone", "orders", batch.batch_id, None)
    check_rejected(lake, landed, reason)
    noted = lake.loader.state.batch(batch.batch_id)
    assert noted is not None
    assert (noted.state, noted.open) == (BatchState.FAILED, False)


def storage_delete(lake: Lake, name: str) -> bool:
    """Take an object away, as a person may."""
    Client(project=PROJECT).bucket(lake.bucket).delete_blob(name)
    return lake.read(name) is None


IGNORED = {
    "part": f"{LANDING}/ingestion_dt=2026-11-22/orders_20261122T170000123456Z-1a2b3c4d.part-00000.parquet",
    "other_prefix": f"{LANDING}x/orders.parquet",
    "prefix_above": "business_case/orders.parquet",
    "failed": f"{FAILED}/orders.parquet",
    "no_prefix": "orders.parquet",
    "slash_before_prefix": f"/{LANDING}/orders.parquet",
    "upper_case_prefix": f"{LANDING.upper()}/orders.parquet",
}


@pytest.mark.parametrize("name", IGNORED.values(), ids=IGNORED)
def test_what_is_none_of_the_loaders_business_stays(name: str, lake: Lake) -> None:
    lake.put(name, b"hello")
    before = contents(lake.objects())
    for _ in range(3):
        assert lake.handle(name) == "ignored"
    assert contents(lake.objects()) == before
    assert lake.announced.alerts == []
    check_others_load(lake)


def test_events_of_what_is_not_there_are_ignored(lake: Lake) -> None:
    """The bucket emulator takes no folder placeholder, no name that is a folder of it, and no zero byte."""
    names = [f"{LANDING}/", f"{LANDING}/folder/", LANDING, "", f"{LANDING}/..", f"{LANDING}/orders.parquet"]
    names += [draft().manifest_name, f"{LANDING}/orders-{'x' * 300}.parquet"]
    for name in names:
        assert lake.handle(name) == "ignored", name
    lake.put(f"{LANDING}/orders.parquet", b"hello")
    assert lake.handle(f"{LANDING}/orders.parquet", bucket="elsewhere") == "ignored"
    assert set(lake.objects()) == {f"{LANDING}/orders.parquet"}
    assert lake.announced.alerts == []


def test_two_bad_files_of_one_name_are_both_kept(lake: Lake) -> None:
    """Each with its own reason."""
    name, kept = f"{LANDING}/orders.parquet", {}
    for content, code in ((b"hello", "corrupt_parquet"), (b"", "empty_file")):
        generation = lake.put(name, content).generation
        assert lake.handle(name) == "rejected"
        kept[generation] = (content, code)
    assert [code for code, _, _ in lake.announced.alerts] == ["corrupt_parquet", "empty_file"]
    reasons = {found: json.loads(lake.read(found) or b"") for found in lake.objects() if found.endswith(".error.json")}
    assert {
        reason["generation"]: (lake.read(found.removesuffix(".error.json")), reason["code"])
        for found, reason in reasons.items()
    } == kept


class Overwritten(GcsObjectStore):
    """Somebody writes a file again just before it is opened."""

    again = parquet(rows_of("orders"))

    def open(self, stored: StoredObject) -> Any:
        if self.again:
            content, self.again = self.again, b""
            self.replace(stored.bucket, stored.name, content, "application/octet-stream")
        return super().open(stored)


def test_a_file_that_is_written_again_while_it_is_read_is_loaded_as_it_is_now(lake: Lake) -> None:
    name = f"{LANDING}/orders.parquet"
    lake.put(name, b"not Parquet")
    loader = dataclasses.replace(lake.loader, objects=Overwritten(PROJECT))
    with pytest.raises(TransientError):
        loader.handle(ObjectFinalized(lake.bucket, name, 1))
    assert lake.handle(name) == "loaded", "the second event's file is a good one"
