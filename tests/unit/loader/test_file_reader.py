"""The process that reads a file: what its end means, and that nothing of it is left."""

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.core.errors import DataError, TransientError
from services.core.parquet import whole_file
from services.core.settings import LoaderSettings
from services.core.storage import StoredObject
from services.core.tables import Column, ColumnType, Mode, Table
from services.loader.files.reader import FileReader

AT = datetime(2026, 11, 22, tzinfo=UTC)
TABLE = Table(
    name="t",
    source="s.t",
    key=["id"],
    mode=Mode.SNAPSHOT,
    bronze_model="t",
    columns=[Column(name="id", type=ColumnType.INT64, required=True), Column(name="s", type=ColumnType.STRING)],
)


def file_of(rows: int, **more: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": range(rows), "s": [f"text {n}" for n in range(rows)], **more}), sink)
    return sink.getvalue()


def reader(content: io.BytesIO, **settings: object) -> FileReader:
    size = content.getbuffer().nbytes
    chosen = LoaderSettings.model_validate({"GCP_PROJECT": "p", **settings})
    return FileReader(content, StoredObject("b", "t.parquet", 1, size, "", AT), TABLE, chosen)


def read(content: bytes, **settings: object) -> tuple[pa.Table, datetime | None]:
    with reader(io.BytesIO(content), **settings) as opened:
        parts = [whole_file(data.read()) for data, _ in opened.parts()]
    return pa.concat_tables(parts), opened.earliest


def children() -> set[str]:
    """The ids of this process's children, also of those that ended and were not waited for."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended; it leaves no children
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No open file and no process of this test; and the next file can be read.

    Only what came with the test counts: the stack of other tests may run as children of the same worker.
    """
    files, processes = len(list(Path("/proc/self/fd").iterdir())), children()
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert children() <= processes
    assert read(file_of(3))[0].num_rows == 3


def test_a_large_file_is_read_whole_and_in_order() -> None:
    found, earliest = read(file_of(100_000))
    assert found.column("id").to_pylist() == list(range(100_000))
    assert set(found.column("_extracted_at").to_pylist()) == {AT}
    assert earliest is None


def test_the_earliest_time_of_many_is_told() -> None:
    times = [AT - timedelta(microseconds=n) for n in range(50_000)]
    found, earliest = read(file_of(50_000, _extracted_at=pa.array(times, pa.timestamp("us", "UTC"))))
    assert found.column("_extracted_at").to_pylist() == times
    assert earliest == times[-1]


class Failing(io.BytesIO):
    """A bucket that does not answer."""

    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionError("no answer")


def test_a_bucket_that_fails_is_not_the_files_fault() -> None:
    with pytest.raises(ConnectionError), reader(Failing(file_of(3))) as opened:
        list(opened.parts())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_the_machine_ends_is_not_the_files_fault(number: signal.Signals) -> None:
    class Ending(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            os.kill(opened._process.pid, number)
            opened._process.wait()
            return super().read(size)

    with pytest.raises(TransientError, match=f"ended with -{number}"), reader(Ending(file_of(3))) as opened:
        list(opened.parts())


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS])
def test_a_process_that_falls_over_is_the_files_fault(number: signal.Signals) -> None:
    class Ending(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            os.kill(opened._process.pid, number)
            opened._process.wait()
            return super().read(size)

    with (
        pytest.raises(DataError, match=f"its reader ended with {number.name}") as refused,
        reader(Ending(file_of(3))) as opened,
    ):
        list(opened.parts())
    assert refused.value.code == "corrupt_parquet"


def test_a_process_that_does_not_start_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/bin/false")
        with pytest.raises(TransientError, match="ended with 1"), reader(io.BytesIO(file_of(3))) as opened:
            list(opened.parts())


def test_one_file_is_read_at_a_time() -> None:
    """A container has memory for one such process."""
    with reader(io.BytesIO(file_of(3))) as opened:
        refused: list[Exception] = []

        def second() -> None:
            try:
                read(file_of(3), load_timeout=0.2)
            except TransientError as error:
                refused.append(error)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert [str(error) for error in refused] == ["another file was being read for 0 s; this one is tried again"]
        assert sum(rows for _, rows in opened.parts()) == 3


def test_the_loader_imports_no_arrow() -> None:
    """It takes a tenth of a second of every cold start, and memory; only the process that reads files needs it.

    Asked for by our own modules: where pandas is installed, as for tests, BigQuery's client imports Arrow by itself.
    """
    import subprocess
    import sys

    statement = "import sys, services.loader.loading; sys.exit('services.core.arrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", statement], check=False).returncode == 0
