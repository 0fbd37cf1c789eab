"""One load per batch, whatever is repeated or lost (invariant 2); failures are told apart (invariant 8).

The client is a stand-in, because a job that fails for a passing reason cannot be had from an emulator.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery.job import LoadJob

from services.core.errors import DataError, TransientError
from services.core.jobs import StillRunning
from services.core.manifest import Manifest, Part
from services.core.naming import load_job_id
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.window import Window
from services.loader.load_job import load

AT = datetime(2026, 11, 22, tzinfo=UTC)
BATCH = "20261122T170000000000Z-00000000"
TABLE = Table(
    name="t",
    source="s.t",
    key=["id"],
    mode=Mode.SNAPSHOT,
    bronze_model="t",
    columns=[Column(name="id", type=ColumnType.INT64, required=True)],
)
MANIFEST = Manifest(
    batch_id=BATCH,
    run_id="r",
    table="t",
    source="s.t",
    mode=Mode.SNAPSHOT,
    window=Window(low=None, high=AT),
    extracted_at=AT,
    rows=3,
    columns=[],
    schema_fingerprint="",
    parts=[Part(object_name="o", rows=3, size=1, crc32c="")],
)


def asked(retry: Any, timeout: float | None) -> None:
    """Every request ends, with all its repetitions, within a minute: then the batch's trouble is noted."""
    assert timeout is not None
    assert timeout + retry.timeout < 60
    assert timeout <= 5, "nobody waits longer than LOAD_TIMEOUT for an answer"


class Job(LoadJob):
    """A load job whose end is known beforehand."""

    def __init__(
        self, job_id: str, *, reason: str | None = None, rows: int = 3, done: bool = False, ends: bool = True
    ) -> None:
        self._id, self._reason, self._rows, self._done, self._ends = job_id, reason, rows, done, ends

    job_id = property(lambda self: self._id)
    state = property(lambda self: "DONE" if self._done else "RUNNING")
    output_rows = property(lambda self: self._rows)
    error_result = property(lambda self: {"reason": self._reason, "message": "m"} if self._reason else None)

    def done(self, retry: Any = None, timeout: float | None = None, reload: bool = True) -> bool:
        asked(retry, timeout)
        ended, self._done = self._done, self._done or self._ends
        return ended


@dataclass
class Client:
    """BigQuery as far as a load needs it; a repeated job id is refused with 409."""

    outcomes: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    hidden: int = 0
    """So many look-ups find nothing, as if the job had been inserted by another just after."""
    location: str = "US"

    def get_job(self, job_id: str, location: str, retry: Any, timeout: float) -> Job:
        asked(retry, timeout)
        if job_id not in self.jobs or self.hidden > 0:
            self.hidden -= 1
            raise NotFound(job_id)  # type: ignore[no-untyped-call]
        return self.jobs[job_id]

    def load_table_from_uri(
        self, uris: list[str], destination: str, job_id: str, job_config: Any, retry: Any, timeout: float
    ) -> Job:
        asked(retry, timeout)
        if job_id in self.jobs:
            raise Conflict(job_id)  # type: ignore[no-untyped-call]
        self.loads.append(job_id)
        self.jobs[job_id] = Job(job_id, **(self.outcomes.pop(0) if self.outcomes else {}))
        return self.jobs[job_id]

    def get_table(self, destination: str, retry: Any, timeout: float) -> SimpleNamespace:
        asked(retry, 0)
        return SimpleNamespace(expires=None)

    def update_table(self, table: Any, fields: list[str], retry: Any, timeout: float) -> None:
        asked(retry, 0)
        assert table.expires > datetime.now(UTC)


def run(client: Client, seconds: float = 5) -> LoadJob:
    return load(cast(bigquery.Client, client), TABLE, MANIFEST, "p.d.t__x", "bucket", 7, timedelta(seconds=seconds))


def id_of(attempt: int) -> str:
    return load_job_id("t", BATCH, attempt)


def test_a_batch_is_loaded_under_its_own_id() -> None:
    client = Client()
    assert run(client).job_id == id_of(1)
    assert client.loads == [id_of(1)]


def test_a_batch_that_was_loaded_is_not_loaded_again() -> None:
    client = Client()
    run(client)
    run(client)
    assert client.loads == [id_of(1)]


def test_a_job_that_another_handler_started_is_waited_for() -> None:
    client = Client(jobs={id_of(1): Job(id_of(1))})
    assert run(client).job_id == id_of(1)
    assert client.loads == []


def test_a_job_that_another_handler_inserts_at_the_same_moment_is_waited_for() -> None:
    client = Client(jobs={id_of(1): Job(id_of(1))}, hidden=1)
    assert run(client).job_id == id_of(1)
    assert client.loads == []


@pytest.mark.parametrize("reason", ["backendError", "rateLimitExceeded", "quotaExceeded", "internalError", "notFound"])
def test_a_passing_failure_comes_again_as_the_next_attempt(reason: str) -> None:
    client = Client(outcomes=[{"reason": reason}])
    with pytest.raises(TransientError, match=reason):
        run(client)
    assert run(client).job_id == id_of(2)
    assert client.loads == [id_of(1), id_of(2)]


@pytest.mark.parametrize("reason", ["invalid", "invalidQuery", "badRequest"])
def test_a_refused_batch_is_not_tried_again(reason: str) -> None:
    client = Client(outcomes=[{"reason": reason}])
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            run(client)
        assert caught.value.code == "load_refused"
    assert client.loads == [id_of(1)]


def test_a_job_that_takes_long_is_no_failure_and_is_waited_for_by_the_next() -> None:
    client = Client(outcomes=[{"ends": False}])
    with pytest.raises(StillRunning, match="has not ended after 0 s"):
        run(client, seconds=0.4)
    client.jobs[id_of(1)]._ends = True
    assert run(client).job_id == id_of(1)
    assert client.loads == [id_of(1)]


def test_another_number_of_rows_than_the_manifest_says_is_refused() -> None:
    with pytest.raises(DataError, match="loaded 2 rows, the manifest says 3") as caught:
        run(Client(outcomes=[{"rows": 2}]))
    assert caught.value.code == "wrong_row_count"
