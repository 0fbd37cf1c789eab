"""Manifests: what is taken for a batch's, how much memory one may take, and what one of nobody can bring about."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.batch import Batch, BatchState, Step
from services.core.chain import covered
from services.core.errors import DataError
from services.core.manifest import Manifest, ManifestColumn, Part, manifest_fingerprint
from services.core.naming import LandedObject, batch_time, new_batch_id, part_object
from services.core.state.sqlite import SqliteStore
from services.core.state.state import PipelineState
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.window import Window
from services.extractor.planning.window import next_window
from services.loader.checks import check_unannounced
from services.loader.manifests import ForeignManifest, check_announced, read_manifest

AT = datetime(2026, 11, 22, 17, tzinfo=UTC)
ID = "20261122T165959000000Z-0000000a"
PREFIX = "business_case/landing"
LANDED = LandedObject("t", ID, None)
TABLE = Table(
    name="t",
    source="s.t",
    key=["id"],
    mode=Mode.SNAPSHOT,
    bronze_model="t",
    columns=[Column(name="id", type=ColumnType.INT64, required=True)],
)


def manifest(**more: Any) -> Manifest:
    facts = {
        "batch_id": ID,
        "run_id": "r",
        "table": "t",
        "source": "s.t",
        "mode": "snapshot",
        "window": {"low": None, "high": AT},
        "extracted_at": AT,
        "rows": 1,
        "columns": [ManifestColumn(name="id", type=ColumnType.INT64, required=True)],
        "schema_fingerprint": "",
        "parts": [part(0)],
    }
    return Manifest.model_validate(facts | more)


def part(number: int) -> Part:
    name = part_object(PREFIX, "t", ID, number)
    return Part(object_name=name, rows=1, size=33_554_432, crc32c="AAAAAA==")


def batch(content: bytes | None = None, state: BatchState = BatchState.EXTRACTING) -> Batch:
    noted = Batch(
        id=ID,
        run_id="r",
        table="t",
        mode=Mode.SNAPSHOT,
        window=Window(low=None, high=AT),
        extracted_at=AT,
        started_at=AT,
        state=state,
    )
    return noted.model_copy(update={"manifest_sha256": None if content is None else manifest_fingerprint(content)})


def test_the_announced_manifest_is_taken() -> None:
    content = manifest().encoded()
    for state in (BatchState.EXTRACTING, BatchState.LANDED):
        check_announced(batch(content, state), content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (manifest().encoded() + b" ", "the state knows another"),
        (manifest(parts=[part(1)]).encoded(), "the state knows another"),
        (manifest(run_id="x").encoded(), "run_id differ"),
        (manifest(mode="incremental").encoded(), "mode differ"),
        (manifest(window=None).encoded(), "window differ"),
        (manifest(extracted_at=AT + timedelta(microseconds=1)).encoded(), "extracted_at differ"),
        (b"{", "the state knows another"),
        (None, "was not read"),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
def test_another_manifest_is_not(content: bytes | None, says: str, announced: bool) -> None:
    """While the extraction runs the batch is spared; once it has landed, there will be no other manifest."""
    known = manifest().encoded() if announced else None
    with pytest.raises(ForeignManifest, match=says):
        check_announced(batch(known), content)
    if announced or "differ" in says:
        with pytest.raises(DataError, match=says) as refused:
            check_announced(batch(known, BatchState.LANDED), content)
        assert not isinstance(refused.value, ForeignManifest)


def test_an_older_extractors_landed_batch_is_taken() -> None:
    """It has announced nothing; what the state has noted is the same."""
    check_announced(batch(state=BatchState.LANDED), manifest().encoded())


def test_a_manifest_of_ten_thousand_parts_and_columns_is_read() -> None:
    columns = [
        ManifestColumn(name=f"{'c' * 295}{number}", type=ColumnType.BIGNUMERIC, source_type="numeric(1000,500)")
        for number in range(10_000)
    ]
    parts = [part(number) for number in range(10_000)]
    drift = [f"column {'c' * 60}{number} is not declared: character varying(10485760)" for number in range(10_000)]
    large = manifest(columns=columns, parts=parts, rows=10_000, drift=drift)
    assert read_manifest(large.encoded(), LANDED, PREFIX) == large


_PEAK = """
import re, sys
from pathlib import Path
from services.core.errors import DataError
from services.core.naming import LandedObject
from services.loader.manifests import check_size, read_manifest

def peak() -> int:
    return int(re.findall(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[0])

content = Path(sys.argv[1]).read_bytes()
try:
    read_manifest(b"{}", LandedObject("t", "i", None), "p")
except DataError:
    before = peak()
try:
    check_size(len(content))
    read_manifest(content, LandedObject("t", "i", None), "p")
except DataError as error:
    print(peak() - before, len(str(error)))
"""
"""Kilobytes that reading a manifest takes."""

MOST = 299_000
LARGEST = 16 * 1024**2


def _listed(each: bytes, marks: int) -> bytes:
    return b",".join([each] * (MOST // (marks + 1)))


BOMBS: dict[str, Callable[[], bytes]] = {
    "lists": lambda: b"[" + _listed(b"[]", 1) + b"]",
    "nested_lists": lambda: b"[" + _listed(b"[[[[[[[[]]]]]]]]", 8) + b"]",
    "objects": lambda: b"[" + _listed(b'{"a":{}}', 2) + b"]",
    "fields": lambda: b"{" + b",".join(b'"%x":1' % number for number in range(MOST)) + b"}",
    "parts": lambda: b'{"parts":[' + _listed(b"{}", 1) + b"]}",
    "wrong_parts": lambda: b'{"parts":[' + _listed(b'{"object_name":1,"rows":-1}', 2) + b"]}",
    "columns": lambda: b'{"columns":[' + _listed(b'{"name":"a","type":"X"}', 2) + b"]}",
    "drift": lambda: b'{"drift":[' + _listed(b"1", 0) + b"]}",
    "digits": lambda: b'{"rows":' + b"9" * (LARGEST - 20) + b"}",
    "a_text": lambda: b'{"source":"' + b"x" * (LARGEST - 20) + b'"}',
    "a_field": lambda: b'{"' + b"x" * (LARGEST - 20) + b'":1}',
    "brackets": lambda: b"[" * LARGEST,
    "blanks": lambda: b" " * LARGEST,
    "too_large": lambda: b"[" + b"{}," * 30_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_manifest_takes_little_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(BOMBS[name]())
    done = subprocess.run([sys.executable, "-c", _PEAK, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kilobytes, message = map(int, done.stdout.split())
    assert kilobytes < 100_000
    assert message < 5_000, "it goes into the state, an alert, and a reason"


TIMES = st.datetimes(timezones=st.just(UTC))
ARRIVALS = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
MANIFESTS = st.builds(
    manifest,
    mode=st.sampled_from(["snapshot", "incremental"]),
    window=st.none() | st.builds(Window, low=st.none() | TIMES, high=TIMES),
    extracted_at=TIMES,
    run_id=st.text(),
    source=st.text() | st.just("gs://b/t.parquet#1"),
    drift=st.lists(st.text()),
    batch_id=st.builds(new_batch_id, TIMES) | st.from_regex(r"\A[0-9]{8}T[0-9]{12}Z-[0-9a-f]{8}\Z"),
)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], PipelineState]]:
    folder = tmp_path_factory.mktemp("states")
    opened: list[SqliteStore] = []

    def state() -> PipelineState:
        opened.append(SqliteStore(folder / f"{len(opened)}.sqlite"))
        return PipelineState(opened[-1])

    yield state
    for store in opened:
        store.close()


@given(forged=MANIFESTS, arrived=ARRIVALS, first=st.booleans())
def test_a_manifest_of_nobody_reaches_nothing_that_orders_or_bounds(
    states: Callable[[], PipelineState], forged: Manifest, arrived: datetime, first: bool
) -> None:
    """Not the watermark, the next window, the snapshots, the times of extraction, nor the order of batches."""
    state = states()
    if not first:
        state.create_batch(batch(state=BatchState.LOADED))
        state.step(ID, Step.MERGE)
        state.advance("t", 1)
    before = state.progress("t")
    try:
        check_unannounced(forged, TABLE, arrived)
    except DataError:
        began = batch_time(forged.batch_id)
        assert began is None or began > arrived, "its id would come after batches that are really later"
        return
    taken = Batch.unannounced(forged, arrived, "gs://b/o#1")
    assert taken.extracted_at == min(forged.extracted_at, arrived)
    state.create_batch(taken)
    for step in (Step.LAND, Step.LOAD, Step.MERGE):
        state.step(taken.id, step)
    after = state.advance("t", 2)
    assert after.model_dump(exclude={"merged_batch", "merge_token"}) == before.model_dump(
        exclude={"merged_batch", "merge_token"}
    )
    assert (after.merged_batch or "") <= max(f"{arrived:%Y%m%dT%H%M%S%f}Z-g", ID)
    snapshot = state.newest_snapshot("t")
    assert (snapshot.id if snapshot else None) == (None if first else ID)
    now = max(arrived, AT) + timedelta(seconds=1)
    low = covered(before.covered, state.open_batches("t")).until
    assert next_window(Mode.INCREMENTAL, low, now) == Window(low=before.watermark, high=now)
    assert state.take_time("t", now) == now
    assert not (taken.source or "").startswith("gs://"), "as a file's does"


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-00:01", "10000-01-01T00:00:00Z", "inf", 1e300]
)
@pytest.mark.parametrize("field", ["extracted_at", "low", "high"])
def test_times_that_utc_does_not_have_are_refused(field: str, time: str | float) -> None:
    document = json.loads(manifest().encoded())
    (document if field == "extracted_at" else document["window"])[field] = time
    with pytest.raises(DataError, match=f"cannot be read: (window.)?{field}"):
        read_manifest(json.dumps(document).encode(), LANDED, PREFIX)
