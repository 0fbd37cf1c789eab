"""The whole pipeline on real processes: what a table goes through, and what happens when something goes wrong.

Every test starts from where the one before left the stack, and leaves it at rest: ``at_rest`` says what that means.
"""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.cloud.pubsub_v1 import PublisherClient

from local.cycle import Client, extract, run_cycle, settle
from local.sample.changes import changes
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.emulators import emulators_available
from local.stack.options import REPOSITORY, StackOptions
from services.core.batch import BatchState
from services.core.naming import file_batch_id, load_job_id, manifest_object, mirrored, part_object
from services.ops.dead_letters import dead_letters
from tests.pipeline import filled, paused

SPEC = SampleSpec(rows=2_000, seed=11)
WAIT = timedelta(seconds=90)


@pytest.fixture(scope="module", params=["embedded", "emulators"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if request.param == "emulators" and (reason := emulators_available()):
        pytest.skip(reason)
    home = tmp_path_factory.mktemp(request.param)
    with filled(StackOptions(profile=request.param, home=home, ephemeral=True), SPEC) as opened:
        run_cycle(opened, WAIT)
        yield opened


@pytest.fixture
def source(client: Client) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with connect(client.stack.postgres) as connection:
        connection.autocommit = True
        yield connection


def batch_ids(report: dict[str, Any]) -> list[str]:
    return [entry["batch_id"] for entry in report["tables"] if entry["batch_id"]]


def at_rest(client: Client) -> None:
    """Source and bronze are equal, nothing is in landing/, no hashed table is left, every lease is free."""
    assert [str(c) for c in client.compare() if not c.equal] == []
    assert client.landed() == []
    assert client.hashed_tables() == []
    held = [d.id for d in client.state.store.query("leases", {}) if d.data["holder"] is not None]
    deadline = time.monotonic() + 20
    while held and time.monotonic() < deadline:
        time.sleep(0.2)
        held = [d.id for d in client.state.store.query("leases", {}) if d.data["holder"] is not None]
    assert held == []


def cycle(client: Client, *tables: str) -> dict[str, Any]:
    """Extract and wait until all is merged."""
    report = extract(client, [part for name in tables for part in ("--table", name)])
    settle(client, batch_ids(report), WAIT)
    return report


def test_the_first_run_brings_everything(client: Client) -> None:
    at_rest(client)
    counts = {c.table: c.bronze_rows for c in client.compare()}
    assert counts == {"cnpj_ws": SPEC.companies, "installments": SPEC.rows}
    assert client.count(client.settings.dataset_gold, "company_payment_summary") == SPEC.companies
    for name in client.tables.names():
        [batch] = client.state.batches_of_table(name)
        progress = client.state.progress(name)
        assert (batch.state, batch.open, batch.rows) == (BatchState.MERGED, False, counts[name])
        assert batch.window is not None
        assert progress.watermark == batch.window.high <= datetime.now(UTC)
        assert progress.stable_batch == progress.merged_batch == batch.id
        assert client.count(client.settings.dataset_temp, name) == batch.rows, "the stable table, for people"
    assert client.failed() == []


def test_every_landed_object_is_in_the_archive(client: Client) -> None:
    settings = client.settings
    for name in client.tables.names():
        [batch] = client.state.batches_of_table(name)
        for made in (manifest_object, lambda prefix, t, b: part_object(prefix, t, b, 0)):
            archived = mirrored(
                made(settings.landing_prefix, name, batch.id), settings.landing_prefix, settings.archive_prefix
            )
            assert client.objects.stat(settings.archive_bucket, archived) is not None, archived


def test_the_run_s_report_is_in_the_bucket(client: Client) -> None:
    bucket = client.variables["REPORT_BUCKET"]
    runs = client.state.runs("transformer")
    deadline = time.monotonic() + 20
    while (page := client.objects.read(bucket, f"runs/{runs[-1].id}/report.html")) is None:
        assert time.monotonic() < deadline, "it is published just after the run is noted"
        time.sleep(0.2)
    assert client.objects.read(bucket, "pipeline/latest.html") == page
    artifacts = client.variables["ARTIFACT_BUCKET"]
    assert client.objects.stat(artifacts, f"runs/{runs[-1].id}/downstream/run_results.json") is not None
    assert [o.name for o in client.objects.list(bucket, "runs/") if not o.name.endswith("/report.html")] == []
    for shown in ("installments", "not_null", "merged"):
        assert shown in page.decode(), shown
    assert "NO_HISTORY" not in page.decode(), "nobody has audited yet"
    audited = subprocess.run(
        [sys.executable, "-m", "services.transformer", "--audit"],
        env={**os.environ, **client.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert audited.returncode == 0, audited.stderr
    newest = (client.objects.read(bucket, "pipeline/latest.html") or b"").decode()
    for shown in ("Companies by payment tier", "NO_HISTORY", "relationships"):
        assert shown in newest, shown


def test_status_tells_it_all(client: Client) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.ops", "status", "--json"],
        env={"PATH": "", **client.variables},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    tables = {table["table"]: table for table in json.loads(done.stdout)["tables"]}
    assert tables.keys() == {"cnpj_ws", "installments"}
    for table in tables.values():
        assert table["last_batch"]["state"] == "merged"
        assert datetime.fromisoformat(table["watermark"]) == datetime.fromisoformat(table["last_batch"]["window_high"])
        assert (table["pending_batches"], table["landed_objects"], table["failed_objects"]) == (0, 0, 0)


def test_a_second_cycle_moves_only_the_changes(client: Client) -> None:
    with connect(client.stack.postgres) as connection:
        changed = changes(connection, SPEC)
    report = cycle(client)
    at_rest(client)
    rows = {entry["table"]: entry["rows"] for entry in report["tables"]}
    assert rows["cnpj_ws"] >= len(changed.companies.inserted) + len(changed.companies.updated) > 0
    assert rows["cnpj_ws"] < SPEC.companies / 2
    assert rows["installments"] >= len(changed.installments.inserted) + len(changed.installments.updated) > 0
    assert rows["installments"] < SPEC.rows / 2


def test_a_row_that_commits_late_is_not_lost(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Its cursor is older than a watermark that a run in between would have set (invariant 1)."""
    with connect(client.stack.postgres) as late:
        late.execute("INSERT INTO oltp.business_case_cnpj_ws (buyer_tax_id, updated_at) VALUES ('late', now())")
        [(began,)] = late.execute("SELECT now()").fetchall()
        time.sleep(0.1)
        source.execute("INSERT INTO oltp.business_case_cnpj_ws (buyer_tax_id, updated_at) VALUES ('early', now())")
        cycle(client, "cnpj_ws")
        watermark = client.state.progress("cnpj_ws").watermark
        assert watermark is not None
        assert watermark < began, "a window never passes the oldest transaction still open"
        late.commit()
    cycle(client, "cnpj_ws")
    at_rest(client)


def test_duplicated_events_change_nothing(client: Client) -> None:
    """Old and new notifications, three times each and in the wrong order (invariant 2)."""
    before = {name: client.state.progress(name) for name in client.tables.names()}
    batches = {batch.id: batch for name in before for batch in client.state.batches_of_table(name)}
    counts = {c.table: c.bronze_rows for c in client.compare()}
    publisher = PublisherClient()
    topic = publisher.topic_path(client.variables["GCP_PROJECT"], "credix-landing")
    settings = client.settings
    for _ in range(3):
        for batch in sorted(batches.values(), key=lambda b: b.id, reverse=True):
            for name in (
                manifest_object(settings.landing_prefix, batch.table, batch.id),
                part_object(settings.landing_prefix, batch.table, batch.id, 0),
            ):
                publisher.publish(
                    topic,
                    b"{}",
                    eventType="OBJECT_FINALIZE",
                    bucketId=settings.landing_bucket,
                    objectId=name,
                    objectGeneration="1",
                ).result(timeout=30)
    loaded = publisher.topic_path(client.variables["GCP_PROJECT"], settings.batch_loaded_topic)
    publisher.publish(loaded, b"{}", eventType="batch.loaded", batchId=next(iter(batches))).result(timeout=30)
    time.sleep(5)
    assert {name: client.state.progress(name) for name in client.tables.names()} == before
    assert {batch.id: batch for name in before for batch in client.state.batches_of_table(name)} == batches
    assert {c.table: c.bronze_rows for c in client.compare()} == counts
    at_rest(client)


def test_a_loader_killed_during_a_load_and_started_again(client: Client) -> None:
    """The event comes again, the job is looked up by its id, and the end is the same (invariants 2 and 3).

    The process that carries out the load dies with SIGKILL between the job's start and its end, and gunicorn starts
    another, as Cloud Run would.
    """
    with connect(client.stack.postgres) as connection:
        changes(connection, SPEC)
    fault = Path(client.variables["FAULT_FILE"])
    fault.write_text("loader.load_started")
    report = extract(client)
    settle(client, batch_ids(report), WAIT)
    assert not fault.exists(), "nobody died"
    log = (client.stack.home / "logs" / "loader.log").read_text()
    assert "SIGKILL" in log, "gunicorn says how its worker ended"
    at_rest(client)
    jobs = {job.job_id for job in client.warehouse.list_jobs(max_results=1000)}
    for id in batch_ids(report):
        batch = client.state.batch(id)
        assert batch is not None
        assert load_job_id(batch.table, id, 1) in jobs
        assert load_job_id(batch.table, id, 2) not in jobs, "no load was done twice"


def test_a_damaged_part_fails_its_batch_and_is_read_again(client: Client) -> None:
    """To failed/ with the reason; the window is read again and the other table goes on (invariants 1, 6, 8)."""
    with connect(client.stack.postgres) as connection:
        changes(connection, SPEC)
    settings = client.settings
    with paused(client, "loader"):
        report = extract(client)
        by_table = {entry["table"]: entry["batch_id"] for entry in report["tables"]}
        part = part_object(settings.landing_prefix, "installments", by_table["installments"], 0)
        client.objects.replace(settings.landing_bucket, part, b"PAR1 this is no Parquet PAR1", "text/plain")
    settle(client, [by_table["cnpj_ws"]], WAIT)
    failed = client.state.batch(by_table["installments"])
    deadline = time.monotonic() + WAIT.total_seconds()
    while failed is None or failed.state is not BatchState.FAILED or client.landed():
        assert time.monotonic() < deadline, f"{failed}, {client.landed()}"
        time.sleep(0.2)
        failed = client.state.batch(by_table["installments"])
    assert failed.error is not None
    assert failed.error.code == "part_changed"
    reason = client.objects.read(
        settings.landing_bucket, mirrored(part, settings.landing_prefix, settings.failed_prefix) + ".error.json"
    )
    assert reason is not None
    told = json.loads(reason)
    assert (told["code"], told["table"], told["batch_id"]) == ("part_changed", "installments", failed.id)
    assert failed.window is not None
    assert failed.window.low == client.state.progress("installments").watermark, "the watermark did not pass it"
    cycle(client, "installments")
    at_rest(client)


def test_a_sweep_at_rest_finds_nothing_to_do(client: Client) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.ops", "sweep"],
        env={"PATH": "", **client.variables},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    swept, reconciled = map(json.loads, done.stdout.splitlines())
    assert (swept["done"], swept["problems"]) == ({}, [])
    told = [json.loads(line) for line in done.stderr.splitlines() if '"table.progress"' in line]
    assert {line["table"]: line["waiting_seconds"] for line in told} == {"cnpj_ws": 0.0, "installments": 0.0}
    assert all(line["lag_seconds"] > 0 for line in told)
    assert reconciled == {"left_to_another": False, "passes": []}
    at_rest(client)


def test_a_stranger_in_landing_goes_to_failed(client: Client) -> None:
    settings = client.settings
    name = f"{settings.landing_prefix}/ingestion_dt=2026-11-22/notes.txt"
    client.objects.create(settings.landing_bucket, name, io.BytesIO(b"hello"), "text/plain")
    deadline = time.monotonic() + 30
    while client.landed():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    moved = mirrored(name, settings.landing_prefix, settings.failed_prefix)
    assert client.objects.read(settings.landing_bucket, moved) == b"hello"
    reason = json.loads(client.objects.read(settings.landing_bucket, f"{moved}.error.json") or b"{}")
    assert reason["code"] == "unknown_object"


def test_a_part_that_is_brought_back_does_not_go_behind_what_is_newer(
    client: Client, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Copied from the archive (docs/batches.md): its rows keep the time at which they were read (invariant 4)."""
    settings = client.settings
    first = client.state.batches_of_table("cnpj_ws")[0]
    part = part_object(settings.landing_prefix, "cnpj_ws", first.id, 0)
    content = client.objects.read(
        settings.archive_bucket, mirrored(part, settings.landing_prefix, settings.archive_prefix)
    )
    assert content is not None
    source.execute("UPDATE oltp.business_case_cnpj_ws SET share_capital = share_capital + 1, updated_at = now()")
    cycle(client, "cnpj_ws")
    at_rest(client)
    name = f"{settings.landing_prefix}/cnpj_ws-restored.parquet"
    stored = client.objects.create(settings.landing_bucket, name, io.BytesIO(content), "application/vnd.apache.parquet")
    id = file_batch_id(stored.bucket, stored.name, stored.generation, stored.created_at)
    deadline = time.monotonic() + WAIT.total_seconds()
    while (batch := client.state.batch(id)) is None or batch.open:
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
    assert (batch.state, batch.rows) == (BatchState.MERGED, first.rows)
    settle(client, [id], WAIT)
    at_rest(client)


def test_a_run_without_changes_writes_nothing_and_a_snapshot_brings_the_rest(
    client: Client, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    source.execute("UPDATE oltp.business_case_cnpj_ws SET created_at = '2020-01-01', updated_at = '2020-01-01'")
    before = client.state.progress("cnpj_ws")
    batches = client.state.batches_of_table("cnpj_ws")
    report = cycle(client, "cnpj_ws")
    assert report["tables"][0]["outcome"] == "no_changes", "every cursor went back behind the watermark"
    assert client.state.progress("cnpj_ws") == before
    assert client.state.batches_of_table("cnpj_ws") == batches
    assert client.landed() == []
    report = extract(client, ["--table", "cnpj_ws", "--mode", "snapshot"])
    settle(client, batch_ids(report), WAIT)
    at_rest(client)


def test_an_event_that_nobody_can_handle_is_seen_in_status_and_stays(client: Client) -> None:
    """A dead letter is looked at, not taken away."""
    publisher = PublisherClient()
    topic = publisher.topic_path(client.variables["GCP_PROJECT"], "credix-landing-dead-letter")
    publisher.publish(topic, b"{}", eventType="OBJECT_FINALIZE", objectId="landing/x.parquet").result(timeout=30)
    project, subscriptions = client.variables["GCP_PROJECT"], ["credix-landing-dead-letter", "credix-nowhere"]
    for _ in range(2):
        found, nowhere = dead_letters(project, subscriptions)
        assert (found.messages, found.objects, found.error) == (1, ["landing/x.parquet"], None)
        assert nowhere.error is not None
