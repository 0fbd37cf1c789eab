"""`credix status` tells the truth: whatever is broken is in its first line and its exit code within a minute.

Every test breaks one thing of a real stack, looks, mends it, and sees that nothing needs a person any more. What is on
a terminal of 80 columns is looked at, and what a pipe gets.
"""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from local.cycle import Client, extract, run_cycle, settle
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import kill_component, start_component
from services.core.batch import BatchError, BatchState, Step
from services.core.naming import part_object
from services.core.state.extractions import last_extractions
from services.transformer.report.publish import LATEST
from tests.pipeline import filled, little_dbt, paused

SPEC = SampleSpec(rows=300, seed=7)
WAIT = timedelta(seconds=90)
MINUTE = 60.0
TABLE = "cnpj_ws"
RELATION = "oltp.business_case_cnpj_ws"
WRONG = "a-password-that-nobody-prints"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("status")
    dbt = little_dbt(home.with_name(f"{home.name}-dbt"))
    with filled(StackOptions(home=home, dbt_project=dbt, ephemeral=True), SPEC) as opened:
        run_cycle(opened, WAIT)
        yield opened


@pytest.fixture
def source(client: Client) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with connect(client.stack.postgres) as connection:
        connection.autocommit = True
        yield connection


def environment(client: Client, more: Mapping[str, str] | None = None) -> dict[str, str]:
    usual = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **client.variables}
    return {**usual, "LOG_FORMAT": "json", "DEAD_LETTER_SUBSCRIPTIONS": " ", **(more or {})}


@dataclass(frozen=True)
class Seen:
    """What `credix status` says to a pipe."""

    code: int
    told: dict[str, Any]

    @property
    def causes(self) -> list[str]:
        """What needs a person."""
        return [need["cause"] for need in self.told["needs_attention"]]

    @property
    def first(self) -> str:
        """The sentence that a person sees first."""
        return str(self.told["needs_attention"][0]["sentence_now"]) if self.causes else ""


def credix(client: Client, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.ops", *arguments]
    return subprocess.run(
        command, env=environment(client, more), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def look(client: Client, **more: str) -> Seen:
    """What a program sees now."""
    piped = credix(client, "status", **more)
    seen = Seen(piped.returncode, json.loads(piped.stdout))
    assert seen.code == (1 if seen.causes else 0), piped.stderr
    return seen


def on_terminal(client: Client, **more: str) -> tuple[int, str]:
    """What a person sees on a terminal of 80 columns: the exit code, and the first line, which may need several."""
    terminal, end = pty.openpty()
    variables = environment(client, {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40", **more})
    command = [sys.executable, "-m", "services.ops", "status"]
    child = subprocess.Popen(command, env=variables, cwd=REPOSITORY, stdin=end, stdout=end, stderr=end)
    os.close(end)
    shown = bytearray()
    with suppress(OSError):  # the terminal's other end is closed
        while read := os.read(terminal, 65_536):
            shown += read
    os.close(terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line.rstrip() for line in plain.splitlines()]
    assert [line for line in lines if len(line) > 80] == []
    return child.wait(), " ".join(lines[: lines.index("")])


def within_a_minute(client: Client, what: Callable[[Seen], bool], **more: str) -> Seen:
    """The first look that is as it should be, which comes within a minute."""
    deadline = time.monotonic() + MINUTE
    while not what(found := look(client, **more)):
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert time.monotonic() < deadline, "too late"
    return found


def needs_a_person(client: Client, cause: str, *words: str, **more: str) -> Seen:
    """Within a minute the first line says so, on a terminal too, and the exit code is 1."""
    found = within_a_minute(client, lambda seen: seen.causes[:1] == [cause], **more)
    for word in words:
        assert word in found.first, (word, found.first)
    code, line = on_terminal(client, **more)
    need = found.told["needs_attention"][0]
    assert (code, line.startswith(f"{need['about']}: ")) == (1, True), line
    assert need["cure"] in line
    return found


def needs_nobody(client: Client) -> None:
    assert within_a_minute(client, lambda seen: seen.code == 0).told["needs_attention"] == []


def run_extractor(client: Client, table: str = TABLE, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.extractor", "--table", table]
    return subprocess.run(
        command, env=environment(client, more), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def fails(client: Client, table: str = TABLE, **more: str) -> subprocess.CompletedProcess[str]:
    done = run_extractor(client, table, **more)
    assert done.returncode == 1, done.stderr
    return done


def mended(client: Client, *tables: str) -> None:
    """An extraction that succeeds, all of it merged; then nothing needs a person."""
    report = extract(client, [part for name in tables or (TABLE,) for part in ("--table", name)])
    settle(client, [entry["batch_id"] for entry in report["tables"] if entry["batch_id"]], WAIT)
    needs_nobody(client)


def change(source: psycopg.Connection[tuple[Any, ...]]) -> None:
    source.execute(
        f"UPDATE {RELATION} SET city = %s, updated_at = clock_timestamp() WHERE buyer_tax_id = "
        f"(SELECT min(buyer_tax_id) FROM {RELATION})",
        [f"changed {time.time_ns()}"],
    )


def test_a_pipeline_that_is_well_ends_with_zero(client: Client) -> None:
    needs_nobody(client)
    told = credix(client, "status", DEAD_LETTER_SUBSCRIPTIONS="")
    assert [letters["error"] for letters in json.loads(told.stdout)["dead_letters"]] == [None, None]
    code, line = on_terminal(client)
    assert (code, line.startswith("Nothing needs a person: 2 tables, the furthest behind is ")) == (0, True)


def test_a_wrong_password(client: Client) -> None:
    began = time.monotonic()
    done = fails(client, POSTGRES_PASSWORD=WRONG)
    found = needs_a_person(client, "extraction_failed", f"{TABLE}: the last extraction failed", "password", "UTC")
    assert f"credix extract --table {TABLE}" in found.first
    assert time.monotonic() - began < MINUTE, "with all attempts to connect"
    assert WRONG not in done.stderr + done.stdout + json.dumps(found.told)
    assert {row["table"]: row["state"] for row in found.told["tables"]} == {TABLE: "failing", "installments": "merged"}
    mended(client)


def test_a_database_that_is_stopped(client: Client) -> None:
    kill_component(client.stack, "postgres")
    try:
        fails(client)
        needs_a_person(client, "extraction_failed", "Connection refused")
    finally:
        start_component(client.stack, "postgres")
    mended(client)


def test_a_nan_under_fail(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    source.execute(
        f"UPDATE {RELATION} SET share_capital = 'NaN', city = 'a-value-that-nobody-tells', updated_at = "
        f"clock_timestamp() WHERE buyer_tax_id = (SELECT max(buyer_tax_id) FROM {RELATION})"
    )
    done = fails(client)
    found = needs_a_person(client, "extraction_failed", "value_does_not_fit", "column share_capital", "cannot hold")
    assert "a-value-that-nobody-tells" not in done.stderr + done.stdout + json.dumps(found.told)
    source.execute(
        f"UPDATE {RELATION} SET share_capital = 1, updated_at = clock_timestamp() WHERE share_capital = 'NaN'"
    )
    mended(client)


def test_a_source_table_that_is_gone(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    source.execute("ALTER TABLE oltp.business_case_installments RENAME TO elsewhere")
    fails(client, "installments")
    needs_a_person(client, "extraction_failed", "installments:", "does not exist")
    source.execute("ALTER TABLE oltp.elsewhere RENAME TO business_case_installments")
    mended(client, "installments")


@contextmanager
def locked(client: Client) -> Iterator[None]:
    """Hold everybody off the source's table for a block."""
    with connect(client.stack.postgres) as connection:
        connection.execute(f"LOCK TABLE {RELATION} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def test_an_extractor_that_is_killed_before_it_has_a_batch(client: Client) -> None:
    before = client.state.batches_of_table(TABLE)
    with locked(client):
        command = [sys.executable, "-m", "services.extractor", "--table", TABLE]
        child = subprocess.Popen(command, env=environment(client, {"EXTRACT_LEASE": "5"}), cwd=REPOSITORY)
        deadline = time.monotonic() + MINUTE
        while (last := last_extractions(client.state.store, TABLE)) is None or last.ended_at is not None:
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert client.state.batches_of_table(TABLE) == before
    found = needs_a_person(client, "extraction_interrupted", f"{TABLE}: an extraction ended without a word")
    assert found.causes == ["extraction_interrupted"]
    mended(client)


def test_an_extractor_that_is_killed_with_a_batch(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    change(source)
    Path(client.variables["FAULT_FILE"]).write_text("extractor.read")
    assert run_extractor(client, EXTRACT_LEASE="5").returncode == -signal.SIGKILL
    [batch] = [b for b in client.state.batches_of_table(TABLE) if b.state is BatchState.EXTRACTING]
    found = needs_a_person(client, "extraction_interrupted", f"{TABLE}: an extraction ended without a word")
    assert found.causes == ["extraction_interrupted"]
    mended(client)
    assert client.state.batch(batch.id).state is BatchState.FAILED  # type: ignore[union-attr]


def test_a_read_that_breaks_off_and_is_tried_again(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    """It can go on for minutes before the extraction fails."""
    with locked(client):
        command = [sys.executable, "-m", "services.extractor", "--table", TABLE, "--mode", "snapshot"]
        child = subprocess.Popen(command, env=environment(client), cwd=REPOSITORY)
        found = within_a_minute(client, lambda seen: "lock timeout" in seen.first)
        assert found.causes[0] in ("extraction_in_trouble", "extraction_failed")
    child.wait()
    mended(client)


def test_a_failed_batch(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    change(source)
    settings = client.settings
    with paused(client, "loader"):
        [entry] = extract(client, ["--table", TABLE])["tables"]
        part = part_object(settings.landing_prefix, TABLE, entry["batch_id"], 0)
        client.objects.replace(settings.landing_bucket, part, b"PAR1 this is no Parquet PAR1", "text/plain")
    found = needs_a_person(client, "batch_failed", f"{TABLE}: batch {entry['batch_id']} failed", "part_changed")
    assert found.causes == ["batch_failed"], "its objects in failed/ are told with it"
    mended(client)


def test_a_load_that_is_tried_again_and_again(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> None:
    change(source)
    kill_component(client.stack, "warehouse")
    try:
        [entry] = extract(client, ["--table", TABLE])["tables"]
        needs_a_person(client, "batch_in_trouble", f"{TABLE}: batch {entry['batch_id']} does not get on")
    finally:
        start_component(client.stack, "warehouse")
    settle(client, [entry["batch_id"]], WAIT + WAIT)
    needs_nobody(client)


def held(client: Client, source: psycopg.Connection[tuple[Any, ...]]) -> str:
    """A batch that is held, as the transformer does it."""
    change(source)
    with paused(client, "transformer"):
        [entry] = extract(client, ["--table", TABLE])["tables"]
        id_: str = entry["batch_id"]
        deadline = time.monotonic() + MINUTE
        while (batch := client.state.batch(id_)) is None or batch.state is not BatchState.LOADED:
            assert time.monotonic() < deadline, batch
            time.sleep(0.1)
        client.state.step(id_, Step.HOLD, hold=BatchError(code="too_many_deletes", message="9 of 10 rows"))
    found = needs_a_person(client, "batch_held", f"batch {id_} waits for a person", "too_many_deletes: 9 of 10 rows")
    assert f"credix release {id_}" in found.first
    return id_


def test_a_held_batch_that_is_released_is_merged_at_once(
    client: Client, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """The transformer is told; no sweep runs here."""
    id_ = held(client, source)
    done = credix(client, "release", id_)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Batch {id_} of table {TABLE} is released" in done.stdout
    [batch] = settle(client, [id_], WAIT)
    assert (batch.state, batch.released_by is not None) == (BatchState.MERGED, True)
    needs_nobody(client)
    again = credix(client, "release", id_)
    assert (again.returncode, "is merged, not held: nothing was changed" in again.stderr) == (1, True)


def test_a_held_batch_that_is_discarded_is_read_again(
    client: Client, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    id_ = held(client, source)
    done = credix(client, "discard", id_, "--why", "the source was empty by mistake")
    assert done.returncode == 0, done.stderr
    batch = client.state.batch(id_)
    assert batch is not None
    assert batch.error is not None
    assert (batch.error.code, batch.error.message.endswith("the source was empty by mistake")) == ("discarded", True)
    needs_nobody(client)
    mended(client)
    assert [str(comparison) for comparison in client.compare([TABLE]) if not comparison.equal] == []
    unknown = credix(client, "discard", "20261122T170000000000Z-00000000")
    assert (unknown.returncode, "is not known" in unknown.stderr) == (1, True)


def test_a_bucket_that_is_stopped(client: Client) -> None:
    kill_component(client.stack, "storage")
    try:
        found = needs_a_person(client, "unseen", f"bucket {client.settings.landing_bucket}: it could not be looked at")
        assert [row["table"] for row in found.told["tables"]] == [TABLE, "installments"], "the state is shown"
    finally:
        start_component(client.stack, "storage")
    needs_nobody(client)


def test_a_state_that_cannot_be_read(client: Client, tmp_path: Path) -> None:
    found = needs_a_person(client, "unseen", "state: it could not be looked at", STATE_SQLITE_PATH=str(tmp_path))
    assert found.told["tables"] == []
    done = run_extractor(client, STATE_SQLITE_PATH=str(tmp_path))
    assert done.returncode == 1
    assert '"job.failed"' in done.stderr
    assert "Traceback" not in done.stderr


def test_an_object_that_nobody_can_load(client: Client) -> None:
    settings = client.settings
    name = f"{settings.landing_prefix}/notes.txt"
    client.objects.create(settings.landing_bucket, name, io.BytesIO(b"hello"), "text/plain")
    needs_a_person(client, "objects_failed", "1 object could not be loaded, the newest, notes.txt,")
    for name in client.failed():
        if "notes.txt" in name:
            stored = client.objects.stat(settings.landing_bucket, name)
            assert stored is not None
            client.objects.delete(stored)
    needs_nobody(client)


def reconcile(client: Client) -> list[dict[str, Any]]:
    """The hourly job; returns its log."""
    done = subprocess.run(
        [sys.executable, "-m", "services.transformer"],
        env=environment(client), cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"left_to_another": False, "passes": []}
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


def test_the_report_names_a_failed_extraction_though_nothing_is_merged_any_more(
    client: Client, source: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """And a document of any bytes in failed/ does not stop it (item 13)."""
    settings, bucket = client.settings, client.variables["REPORT_BUCKET"]

    def page() -> str:
        return (client.objects.read(bucket, LATEST) or b"").decode()

    reconcile(client)
    assert re.search('class="verdict (good|way)"', page())
    strange = f"{settings.failed_prefix}/strange.error.json"
    client.objects.replace(settings.landing_bucket, strange, b"\xff\x00 this is no JSON", "application/json")
    source.execute(f"ALTER TABLE {RELATION} RENAME TO elsewhere")
    fails(client)
    assert published(reconcile(client)) == ["report.published"]
    assert 'class="verdict bad" id="verdict">1 table cannot be extracted' in page()
    assert f"{TABLE}: the last extraction failed" in page()
    assert "its reason is no JSON" in page()
    assert published(reconcile(client)) == [], "it says the same"
    source.execute("ALTER TABLE oltp.elsewhere RENAME TO business_case_cnpj_ws")
    mended(client)
    reconcile(client)
    assert "cannot be extracted" not in page()


def published(log: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for line in log if line["message"] in ("report.published", "report.not_published")]


def test_a_broken_bronze_model(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The batches of its table wait; the other table is not stopped, and is not named."""
    home = tmp_path_factory.mktemp("broken")
    dbt = little_dbt(home.with_name(f"{home.name}-dbt"))
    model = dbt / "models" / "bronze" / f"{TABLE}.sql"
    broken = "{% if execute %}{{ exceptions.raise_compiler_error('broken on purpose') }}{% endif %}\n"
    model.write_text(broken + model.read_text())
    with filled(StackOptions(home=home, dbt_project=dbt, ephemeral=True), SPEC) as client:
        extract(client)
        found = within_a_minute(client, lambda seen: "broken on purpose" in seen.first)
        assert found.causes[0] in ("batch_in_trouble", "downstream_failed")
        assert TABLE in found.first
