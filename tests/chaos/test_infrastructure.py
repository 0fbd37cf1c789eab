"""What the pipeline stands on fails: warehouse, bucket, bus and PostgreSQL, by faults on the way and by SIGKILL.

Every test leaves the stack so that the next can go on. The first ones run beside the services; then the services are
ended, and the tests do by hand what they would do.

``CREDIX_CHAOS_PROFILE=emulators`` runs the tests beside the services on Google's emulators instead.
"""

import dataclasses
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from google.cloud import bigquery

from local.cycle import Client, extract, run_cycle, settle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.emulators import emulators_available
from local.stack.options import StackOptions
from local.stack.stack import kill_component, start_component, status
from services.core.batch import Batch, BatchState
from services.core.errors import DataError, TransientError
from services.core.events import ObjectFinalized
from services.core.naming import hashed_table, load_job_id, manifest_object, mirrored, new_batch_id, part_object
from services.core.settings import LoaderSettings, read_settings
from services.core.state.lease import acquire, look
from services.core.tables import Mode
from services.core.window import Window
from services.loader.loading import Loader
from services.loader.wiring import open_loader
from tests.chaos.by_hand import TABLE, at_rest, change, comes_home, extracted, job, known, start, sweep, transform
from tests.chaos.proxy import NEVER_ENDING, Action, Fault, FaultProxy
from tests.pipeline import filled, little_dbt, paused

PROFILE = os.environ.get("CREDIX_CHAOS_PROFILE", "embedded")

SPEC = SampleSpec(rows=600, seed=5)
WAIT = timedelta(seconds=60)
INSERT_JOB = ("POST", r"/jobs(\?|$)")
GET_LOAD_JOB = ("GET", r"/jobs/credix-load-")
BEGIN_UPLOAD = ("POST", r"^/upload/storage/.*uploadType=resumable")
UPLOAD = ("PUT", r"upload_id=|^/upload/")
REWRITE = ("POST", r"/rewriteTo/")
DELETE = ("DELETE", r"/o/")

embedded_only = pytest.mark.skipif(PROFILE != "embedded", reason="without the services every profile is the same")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if PROFILE == "emulators" and (reason := emulators_available()):
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("infrastructure")
    dbt = little_dbt(home.with_name(f"{home.name}-dbt"))
    options = StackOptions.model_validate({"profile": PROFILE, "home": home, "dbt_project": dbt, "ephemeral": True})
    with filled(options, SPEC) as opened:
        run_cycle(opened, WAIT)
        yield opened


@pytest.fixture(autouse=True)
def mended(client: Client) -> Iterator[None]:
    """Whatever a test that fails leaves dead, the next one finds alive."""
    yield
    dead = {found.name for found in status(client.stack.home) if found.state == "stopped"}
    for name in ("postgres", "state", "storage", "warehouse", "bus"):
        if name in dead:
            start_component(client.stack, name)


@pytest.fixture(scope="module")
def alone(client: Client) -> Client:
    """From here on no service runs: what happens is what a test does."""
    for name in ("loader", "transformer"):
        kill_component(client.stack, name)
    return client


@pytest.fixture
def warehouse(client: Client) -> Iterator[FaultProxy]:
    with FaultProxy(client.variables["BIGQUERY_EMULATOR_HOST"]) as proxy:
        yield proxy


@pytest.fixture
def bucket(client: Client) -> Iterator[FaultProxy]:
    with FaultProxy(client.variables["STORAGE_EMULATOR_HOST"]) as proxy:
        yield proxy


def load_jobs(client: Client, batch: Batch) -> list[str]:
    jobs = [job.job_id for job in client.warehouse.list_jobs(max_results=1000)]
    return sorted(id_ for id_ in jobs if id_.startswith("credix-load-") and batch.id in id_)


def opened_loader(client: Client, warehouse: FaultProxy | None = None, bucket: FaultProxy | None = None) -> Loader:
    """A loader in this process, whose warehouse or bucket is behind a proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, proxy in (("BIGQUERY_EMULATOR_HOST", warehouse), ("STORAGE_EMULATOR_HOST", bucket)):
            patch.setenv(name, proxy.url if proxy else client.variables[name])
        settings = read_settings(LoaderSettings)
        return open_loader(settings, client.tables)


def with_timeout(loader: Loader, seconds: float) -> Loader:
    settings = loader.settings.model_copy(update={"load_timeout": timedelta(seconds=seconds)})
    return dataclasses.replace(loader, settings=settings)


def event_of(client: Client, batch: Batch) -> ObjectFinalized:
    name = manifest_object(client.settings.landing_prefix, batch.table, batch.id)
    return ObjectFinalized(client.settings.landing_bucket, name, 1)


def is_loaded_once(client: Client, batch: Batch) -> None:
    """One job, one table with exactly the batch's rows, nothing in landing/ or failed/."""
    loaded = known(client, batch.id)
    assert (loaded.state, loaded.rows, loaded.trouble) == (BatchState.LOADED, batch.rows, None)
    assert load_jobs(client, batch) == [load_job_id(batch.table, batch.id, 1)]
    assert client.count(client.settings.dataset_temp, hashed_table(batch.table, batch.id)) == batch.rows
    assert client.landed() == []
    assert [name for name in client.failed() if batch.id in name] == []
    archived = [o.name for o in client.objects.list(client.settings.archive_bucket, "") if batch.id in o.name]
    assert len(archived) == batch.parts + 1


# Beside the services: a process of the infrastructure dies and is started again.


def test_the_bus_dies_with_events_under_way(client: Client) -> None:
    with paused(client, "loader"):
        batch = extracted(client)
        time.sleep(0.5)  # the event is with the loader, which does not answer
        kill_component(client.stack, "bus")
        start_component(client.stack, "bus")
    if PROFILE == "emulators":
        comes_home(client)  # Google's emulator forgets with its process
    settle(client, [batch.id], WAIT)
    at_rest(client)


def test_the_bus_is_down_during_the_upload(client: Client) -> None:
    """The notification is lost, and nothing happens by itself; the sweep and the transformer's job bring all home."""
    kill_component(client.stack, "bus")
    batch = extracted(client)
    kill_component(client.stack, "storage")  # with what it still wanted to say
    start_component(client.stack, "storage")
    start_component(client.stack, "bus")
    time.sleep(2)
    assert known(client, batch.id).state is BatchState.LANDED
    assert client.landed() != []
    code, report = job(client, "-m", "services.loader", "--sweep", SWEEP_GRACE="0")
    assert (code, report["problems"], report["done"]["object_loaded"]) == (0, [], 1)
    transform(client)
    settle(client, [batch.id], WAIT)
    at_rest(client)


def test_the_announcement_of_a_loaded_batch_is_lost(client: Client) -> None:
    """The sweep says it again, and the transformer hears it."""

    class Silent:
        def publish(self, batch: Batch) -> str:
            return ""

        def alert(self, error: DataError, objects: list[str]) -> str:
            return ""

    kill_component(client.stack, "bus")
    batch = extracted(client)
    kill_component(client.stack, "storage")
    start_component(client.stack, "storage")
    start_component(client.stack, "bus")
    loader = dataclasses.replace(opened_loader(client), announcer=Silent())
    assert loader.handle(event_of(client, batch)) == "loaded"
    time.sleep(2)
    assert known(client, batch.id).state is BatchState.LOADED
    assert sweep(client, grace=None)["batch_announced"] == 1
    settle(client, [batch.id], WAIT)
    at_rest(client)


def test_the_bucket_dies_in_the_middle_of_an_upload(client: Client, bucket: FaultProxy) -> None:
    change(client)
    fault = Fault(*UPLOAD, Action.HANG)
    with bucket.only(fault):
        run = start(client, "-m", "services.extractor", "--table", TABLE, STORAGE_EMULATOR_HOST=bucket.url)
        assert fault.reached.wait(30)
        kill_component(client.stack, "storage")
        fault.released.set()
        time.sleep(0.5)
        start_component(client.stack, "storage")
        run.communicate(timeout=60)
    if run.returncode != 0:
        extract(client, ["--table", TABLE])
    comes_home(client)


def test_postgresql_dies_during_an_extraction(client: Client) -> None:
    """The extractor tries again, or the next run does."""
    change(client)
    with connect(client.stack.postgres) as blocking:
        blocking.execute("LOCK TABLE oltp.business_case_cnpj_ws IN ACCESS EXCLUSIVE MODE")
        run = start(client, "-m", "services.extractor", "--table", TABLE)
        waits_for_a_lock(client)
        kill_component(client.stack, "postgres")
        with pytest.raises(psycopg.OperationalError):
            blocking.execute("SELECT 1")
    start_component(client.stack, "postgres")
    run.communicate(timeout=90)
    if run.returncode != 0:
        extract(client, ["--table", TABLE])
    comes_home(client)


def waits_for_a_lock(client: Client) -> None:
    deadline = time.monotonic() + 30
    with connect(client.stack.postgres) as looking:
        looking.autocommit = True
        while not looking.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            assert time.monotonic() < deadline, "the extractor does not wait for the lock"
            time.sleep(0.05)


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_the_warehouse_dies_during_a_load(client: Client, warehouse: FaultProxy, pause: float) -> None:
    """Early or late in the job; the loader's own tries, or the next delivery, load it once."""
    fault = Fault(*INSERT_JOB, Action.HANG, seconds=0)
    with paused(client, "loader", "transformer"):
        batch = extracted(client)
        loader = opened_loader(client, warehouse)
        with warehouse.only(fault):
            thread = threading.Thread(target=handle_quietly, args=(loader, event_of(client, batch)))
            thread.start()
            assert fault.reached.wait(30)
            time.sleep(pause)
            kill_component(client.stack, "warehouse")
            start_component(client.stack, "warehouse")
            thread.join(60)
            assert not thread.is_alive()
        assert [name for name in client.failed() if batch.id in name] == []
    settle(client, [batch.id], WAIT)
    at_rest(client)


def handle_quietly(loader: Loader, event: ObjectFinalized) -> None:
    try:
        loader.handle(event)
    except Exception as error:  # noqa: BLE001 - the event comes again
        sys.stderr.write(f"handled with {error!r}\n")


def test_the_warehouse_dies_during_a_merge(client: Client, warehouse: FaultProxy) -> None:
    fault = Fault("POST", r"/(jobs|queries)(\?|$)", Action.HANG, seconds=0, contains=b"merge into")
    with paused(client, "transformer"):
        batch = extracted(client)
        deadline = time.monotonic() + 30
        while known(client, batch.id).state is not BatchState.LOADED:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with warehouse.only(fault):
            run = start(client, "-m", "services.transformer", BIGQUERY_EMULATOR_HOST=warehouse.url)
            assert fault.reached.wait(60)
            time.sleep(0.02)
            kill_component(client.stack, "warehouse")
            start_component(client.stack, "warehouse")
            run.communicate(timeout=120)
    settle(client, [batch.id], WAIT)
    comes_home(client)


# Without the services: faults on the way to the warehouse.


def fault(where: tuple[str, str], action: Action = Action.ANSWER, **more: Any) -> Fault:
    return Fault(*where, action, **more)


WAREHOUSE_FAULTS = {
    "insert answered 503 three times": fault(INSERT_JOB, times=3),
    "job looked up under a rate limit": fault(GET_LOAD_JOB, status=429, times=2),
    "job looked up slowly": fault(GET_LOAD_JOB, Action.HANG, seconds=1),
    "answer of the insert lost": fault(INSERT_JOB, Action.LOSE_ANSWER),
    "answer of the insert cut": fault(INSERT_JOB, Action.CUT_ANSWER),
    "insert closed before": fault(INSERT_JOB, Action.CLOSE),
    "expiry looked up, answered 503": fault(("GET", r"/tables/"), times=1),
    "expiry answered 503": fault(("PATCH", r"/tables/"), times=1),
}


@embedded_only
@pytest.mark.parametrize("case", WAREHOUSE_FAULTS)
def test_a_passing_fault_of_the_warehouse_is_not_noticed(alone: Client, warehouse: FaultProxy, case: str) -> None:
    batch = extracted(alone)
    loader = opened_loader(alone, warehouse)
    # Sooner than the dataset's default, so that it has to be said.
    loader = dataclasses.replace(loader, settings=loader.settings.model_copy(update={"temp_table_days": 1}))
    with warehouse.only(WAREHOUSE_FAULTS[case]):
        assert loader.handle(event_of(alone, batch)) == "loaded"
    is_loaded_once(alone, batch)
    assert known(alone, batch.id).load_attempts == 1


@embedded_only
@pytest.mark.parametrize("action", [Action.LOSE_ANSWER, Action.CUT_ANSWER])
def test_the_answer_of_the_stable_copy_is_lost(alone: Client, warehouse: FaultProxy, action: Action) -> None:
    """At once or by the next delivery; the load is not done again."""
    batch = extracted(alone)
    loader = opened_loader(alone, warehouse)
    with warehouse.only(fault(INSERT_JOB, action, after=1)):
        handle_quietly(loader, event_of(alone, batch))
    loader.handle(event_of(alone, batch))
    is_loaded_once(alone, batch)
    assert alone.count(alone.settings.dataset_temp, TABLE) == batch.rows


def running_still(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "status": {"state": "RUNNING"}}


@embedded_only
def test_a_load_that_takes_too_long_is_taken_up_by_the_next_delivery(alone: Client, warehouse: FaultProxy) -> None:
    batch = extracted(alone)
    loader = opened_loader(alone, warehouse)
    warehouse.edit(*INSERT_JOB, running_still)
    warehouse.answer(*GET_LOAD_JOB, 404)
    warehouse.edit(*GET_LOAD_JOB, running_still, times=NEVER_ENDING)
    with pytest.raises(TransientError, match="has not ended"):
        with_timeout(loader, 1).handle(event_of(alone, batch))
    troubled = known(alone, batch.id)
    assert (troubled.state, troubled.load_attempts) == (BatchState.LANDED, 1)
    assert troubled.trouble is None, "a job that takes long is no trouble"
    assert [name for name in alone.failed() if batch.id in name] == []
    warehouse.clear()
    assert loader.handle(event_of(alone, batch)) == "loaded"
    is_loaded_once(alone, batch)
    assert known(alone, batch.id).load_attempts == 2


@embedded_only
def test_an_insert_that_hangs_ends_with_the_load_timeout(alone: Client, warehouse: FaultProxy) -> None:
    batch = extracted(alone)
    loader = with_timeout(opened_loader(alone, warehouse), 1)
    hanging = fault(INSERT_JOB, Action.HANG)
    with warehouse.only(hanging):
        thread = threading.Thread(target=handle_quietly, args=(loader, event_of(alone, batch)))
        thread.start()
        thread.join(4)
        ended = not thread.is_alive()
        hanging.released.set()
        thread.join(60)
    loader.handle(event_of(alone, batch))
    is_loaded_once(alone, batch)
    assert ended, "the loader waited for the answer for more than 4 s, LOAD_TIMEOUT is 1 s"


@embedded_only
def test_a_job_that_the_warehouse_refuses_for_good_fails_the_batch(alone: Client, warehouse: FaultProxy) -> None:
    """To failed/, and the next run reads the window again."""

    def refused(answer: dict[str, Any]) -> dict[str, Any]:
        error = {"reason": "invalid", "message": "injected"}
        return {**answer, "status": {"state": "DONE", "errorResult": error, "errors": [error]}}

    batch = extracted(alone)
    warehouse.edit(*INSERT_JOB, refused)
    assert opened_loader(alone, warehouse).handle(event_of(alone, batch)) == "rejected"
    is_failed(alone, batch, "load_refused")


@embedded_only
def test_an_insert_that_the_warehouse_refuses_for_good_fails_the_batch(alone: Client, warehouse: FaultProxy) -> None:
    batch = extracted(alone)
    loader = opened_loader(alone, warehouse)
    with warehouse.only(fault(INSERT_JOB, status=400)):
        assert loader.handle(event_of(alone, batch)) == "rejected"
    is_failed(alone, batch, "load_refused")


def is_failed(client: Client, batch: Batch, code: str) -> None:
    """Failed in the state, all objects in failed/ with the reason."""
    failed = known(client, batch.id)
    assert failed.error is not None
    assert (failed.state, failed.error.code) == (BatchState.FAILED, code)
    assert client.landed() == []
    settings = client.settings
    for landed in (
        part_object(settings.landing_prefix, batch.table, batch.id, 0),
        manifest_object(settings.landing_prefix, batch.table, batch.id),
    ):
        name = mirrored(landed, settings.landing_prefix, settings.failed_prefix)
        assert client.objects.stat(settings.landing_bucket, name) is not None
        reason = json.loads(client.objects.read(settings.landing_bucket, f"{name}.error.json") or b"{}")
        assert (reason["code"], reason["batch_id"]) == (code, batch.id)


# Without the services: faults on the way to the bucket.

UPLOAD_FAULTS = {
    "upload answered 503": fault(UPLOAD),
    "upload under a rate limit": fault(UPLOAD, status=429),
    "connection closed in the middle": fault(UPLOAD, Action.CUT_REQUEST),
    "answer of the upload lost": fault(UPLOAD, Action.LOSE_AND_KEEP),
    "begin answered 503": fault(BEGIN_UPLOAD),
    "answer of the begin lost": fault(BEGIN_UPLOAD, Action.LOSE_ANSWER),
    "answer of the manifest's upload lost": fault(UPLOAD, Action.LOSE_AND_KEEP, after=1),
    "manifest's upload cut": fault(UPLOAD, Action.CUT_REQUEST, after=1),
}


@embedded_only
@pytest.mark.parametrize("case", UPLOAD_FAULTS)
def test_a_passing_fault_of_the_bucket_is_not_noticed_by_the_extractor(
    alone: Client, bucket: FaultProxy, case: str
) -> None:
    change(alone)
    with bucket.only(UPLOAD_FAULTS[case]):
        code, report = job(alone, "-m", "services.extractor", "--table", TABLE, STORAGE_EMULATOR_HOST=bucket.url)
    assert (code, report["tables"][0]["error"]) == (0, None)
    batch = known(alone, report["tables"][0]["batch_id"])
    assert batch.state is BatchState.LANDED
    assert opened_loader(alone).handle(event_of(alone, batch)) == "loaded"
    is_loaded_once(alone, batch)


@embedded_only
@pytest.mark.parametrize("after", [0, 2], ids=["a part", "the manifest"])
def test_an_upload_whose_end_nobody_knows_fails_the_run_and_the_next_one_brings_the_rows(
    alone: Client, bucket: FaultProxy, after: int
) -> None:
    """The answer is lost and the bucket does not know the upload any more; the object, even the manifest, is there."""
    change(alone)
    with bucket.only(fault(UPLOAD, Action.LOSE_ANSWER, after=after)):
        code, report = job(alone, "-m", "services.extractor", "--table", TABLE, STORAGE_EMULATOR_HOST=bucket.url)
    assert (code, report["tables"][0]["outcome"]) == (1, "failed")
    assert alone.landed() == [], "all of it is in failed/"
    [failed] = [b for b in alone.state.batches_of_table(TABLE)[-1:] if b.state is BatchState.FAILED]
    assert opened_loader(alone).handle(event_of(alone, failed)) == "rejected", "a late event"
    batch = extracted(alone)
    assert opened_loader(alone).handle(event_of(alone, batch)) == "loaded"
    is_loaded_once(alone, batch)


SHORT_PATIENCE = """
import sys
from google.cloud.storage.retry import DEFAULT_RETRY
DEFAULT_RETRY._timeout = 1.5  # of 120
from services.extractor.__main__ import main
sys.exit(main(["--table", "cnpj_ws"]))
"""


@embedded_only
@pytest.mark.parametrize("where", [UPLOAD, (".*", ".")])
def test_a_bucket_that_does_not_come_back_fails_the_run_and_the_next_one_brings_the_rows(
    alone: Client, bucket: FaultProxy, where: tuple[str, str]
) -> None:
    """Whether only uploads fail, or the objects cannot even be cleared away."""
    change(alone)
    with bucket.only(fault(where, times=NEVER_ENDING)):
        code, report = job(alone, "-c", SHORT_PATIENCE, STORAGE_EMULATOR_HOST=bucket.url)
    [entry] = report["tables"]
    assert (code, entry["outcome"]) == (1, "failed")
    batch = extracted(alone)
    assert [b.state for b in alone.state.open_batches(TABLE) if b.state is BatchState.EXTRACTING] == []
    assert opened_loader(alone).handle(event_of(alone, batch)) == "loaded"
    sweep(alone)
    is_loaded_once(alone, batch)


MOVE_FAULTS = {
    "answer of the copy lost": fault(REWRITE, Action.LOSE_ANSWER),
    "answer of the delete lost": fault(DELETE, Action.LOSE_ANSWER),
    "copy answered 503": fault(REWRITE, times=2),
    "delete answered 503": fault(DELETE, times=2),
    "copy closed": fault(REWRITE, Action.CLOSE),
    "answer of the copy cut": fault(REWRITE, Action.CUT_ANSWER),
}


@embedded_only
@pytest.mark.parametrize("case", MOVE_FAULTS)
def test_a_passing_fault_of_the_bucket_is_not_noticed_by_the_archive(
    alone: Client, bucket: FaultProxy, case: str
) -> None:
    batch = extracted(alone)
    with bucket.only(MOVE_FAULTS[case]):
        assert opened_loader(alone, bucket=bucket).handle(event_of(alone, batch)) == "loaded"
    is_loaded_once(alone, batch)


@embedded_only
def test_what_went_through_all_the_faults_is_equal_to_the_source(alone: Client) -> None:
    comes_home(alone)
    assert all(batch.state in (BatchState.MERGED, BatchState.FAILED) for batch in alone.state.batches_of_table(TABLE))


# The sweep's other duties.


@embedded_only
def test_the_sweep_clears_away_what_nobody_needs_and_leaves_young_things_alone(alone: Client) -> None:
    settings, store = alone.settings, alone.state.store
    now = datetime.now(UTC)
    stray = new_batch_id(now - timedelta(days=2))
    parts = [part_object(settings.landing_prefix, TABLE, stray, number) for number in range(2)]
    for name in parts:
        alone.objects.create(settings.landing_bucket, name, io.BytesIO(b"PAR1"), "application/octet-stream")
    nobodys = f"{settings.gcp_project}.{settings.dataset_temp}.{hashed_table(TABLE, stray)}"
    alone.warehouse.create_table(bigquery.Table(nobodys, schema=[bigquery.SchemaField("x", "INT64")]))
    progress = alone.state.progress("installments")
    left = Batch(
        id=new_batch_id(now),
        run_id="dead",
        table="installments",
        mode=Mode.INCREMENTAL,
        window=Window(low=progress.watermark, high=now),
        extracted_at=now,
        started_at=now,
    )
    alone.state.create_batch(left)
    for name in ("extract-installments", "task-dead-0"):
        acquire(store, name, "dead", timedelta(seconds=0.2))
    time.sleep(0.3)

    assert sweep(alone, grace=None) == {}, "all of it is young"
    assert alone.landed() == parts
    assert known(alone, left.id).state is BatchState.EXTRACTING
    held = look(store, "extract-installments")
    assert held is not None
    assert held.holder == "dead"

    done = sweep(alone)
    assert done.pop("lease_cleared") >= 2, "and those of tasks that ended a while ago"
    assert done == {"batch_abandoned": 1, "hashed_table_dropped": 1, "parts_rejected": 1}
    assert alone.landed() == []
    for name in parts:
        moved = mirrored(name, settings.landing_prefix, settings.failed_prefix)
        assert alone.objects.read(settings.landing_bucket, moved) == b"PAR1"
        reason = json.loads(alone.objects.read(settings.landing_bucket, f"{moved}.error.json") or b"{}")
        assert (reason["code"], reason["batch_id"]) == ("orphaned_part", stray)
    assert alone.hashed_tables() == []
    abandoned = known(alone, left.id)
    assert abandoned.error is not None
    assert (abandoned.state, abandoned.open, abandoned.error.code) == (BatchState.FAILED, False, "abandoned")
    cleared = look(store, "extract-installments")
    assert cleared is not None
    assert (cleared.holder, cleared.token) == (None, held.token), "its token goes on growing"
    assert look(store, "task-dead-0") is None

    assert nothing_but_leases(sweep(alone)), "a second sweep finds nothing to do"


def nothing_but_leases(done: dict[str, Any]) -> bool:
    """Leases of tasks that ended before the sweep expire in its very moment."""
    return done.keys() <= {"lease_cleared"}


@embedded_only
def test_parts_of_a_table_that_is_being_extracted_are_left_alone(alone: Client) -> None:
    settings = alone.settings
    stray = part_object(settings.landing_prefix, TABLE, new_batch_id(datetime.now(UTC)), 0)
    alone.objects.create(settings.landing_bucket, stray, io.BytesIO(b"PAR1"), "application/octet-stream")
    lease = acquire(alone.state.store, f"extract-{TABLE}", "at work", timedelta(minutes=1))
    assert nothing_but_leases(sweep(alone))
    assert alone.landed() == [stray]
    lease.release()
    assert sweep(alone)["parts_rejected"] == 1
    at_rest(alone)
