"""Elementary and dbt docs on a running stack: what is published, what is told, and what never is.

What needs Elementary's packages skips where they are not installed (docs/observability.md).
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import yaml

from local.cycle import Client, run_cycle
from local.sample.spec import MIN_ROWS, SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from services.core.state.lease import acquire
from services.transformer.observability.observation import DOCS, INDEX, LEASE
from services.transformer.observability.packages import (
    SOURCE,
    install_from,
    missing,
    packages_folder,
    wanted_versions,
)
from tests.pipeline import filled

PROJECT = REPOSITORY / "dbt"
VERSIONS = wanted_versions(PROJECT)
BUCKET = "credix-elementary-report"
SENTINEL = "Q7ZPII"
"""What every zipcode, the column tagged pii, begins with."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A stack with one cycle done, in which every company's zipcode is a sentinel."""
    home = tmp_path_factory.mktemp("observed")
    with filled(StackOptions(home=home, ephemeral=True), SampleSpec(rows=MIN_ROWS, seed=5)) as opened:
        with connect(opened.stack.postgres) as connection:
            connection.execute(
                "update oltp.business_case_cnpj_ws set zipcode = %s || right(buyer_tax_id, 4)", [SENTINEL]
            )
        run_cycle(opened)
        yield opened


def job(client: Client, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the transformer as a job."""
    return subprocess.run(
        [sys.executable, "-m", "services.transformer", *arguments],
        cwd=REPOSITORY,
        env=os.environ | client.variables | {"LOG_FORMAT": "json"} | variables,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def messages(done: subprocess.CompletedProcess[str], message: str) -> list[dict[str, Any]]:
    """The lines of a job's log with a message."""
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"] == message]


def described(client: Client, name: str) -> dict[str, Any]:
    """An object of the report bucket as the storage's own API describes it."""
    url = f"{client.variables['STORAGE_EMULATOR_HOST']}/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    said: dict[str, Any] = answer.json()
    return said


def test_without_packages_docs_are_published_and_elementary_says_once_that_it_is_off(
    client: Client, tmp_path: Path
) -> None:
    done = job(client, "--observe", DBT_PACKAGES_FOLDER=str(tmp_path))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["elementary"], said["published"], said["problems"]) == ("off", [DOCS], [])
    [off] = messages(done, "elementary.off")
    assert "elementary 0.25.1 is not there" in off["reason"]
    assert SOURCE in off["install"]
    page = client.objects.read(BUCKET, DOCS)
    assert page is not None
    assert b"payment_analytics_detailed" in page
    assert described(client, DOCS)["contentType"] == "text/html; charset=utf-8"
    assert described(client, DOCS)["cacheControl"] == "no-cache"


def test_of_two_at_once_one_leaves(client: Client) -> None:
    lease = acquire(client.state.store, LEASE, "the first", timedelta(minutes=1))
    try:
        done = job(client, "--observe")
    finally:
        lease.release()
    assert (done.returncode, json.loads(done.stdout)) == (0, {"left_to_another": True})
    assert len(messages(done, "observation.left_to_holder")) == 1


def test_a_failed_observation_does_not_fail_a_reconcile(client: Client, tmp_path: Path) -> None:
    for name, version in VERSIONS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "dbt_project.yml").write_text(yaml.safe_dump({"name": name, "version": version}))
    client.state.note_downstream_due()
    done = job(client, OBSERVE="run", OBSERVE_INTERVAL="0", OBSERVE_TIMEOUT="2", DBT_PACKAGES_FOLDER=str(tmp_path))
    assert done.returncode == 0, done.stderr
    [done_pass] = json.loads(done.stdout)["passes"]
    assert done_pass["outcome"] == "succeeded"
    assert client.state.downstream_due() is None
    [observation] = messages(done, "observation.finished")
    assert (observation["elementary"], observation["published"]) == ("failed", [])
    assert any(problem.startswith("docs: no time left") for problem in observation["problems"])
    assert any(problem.startswith("tables: no time left") for problem in observation["problems"])


@dataclass
class Webhook:
    """A place that alerts are sent to."""

    url: str
    bodies: list[str] = field(default_factory=list)


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook on this machine, for a block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            place.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = Webhook(f"http://127.0.0.1:{server.server_port}/services/T0/hush")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Observed:
    """A real observation."""

    client: Client
    done: subprocess.CompletedProcess[str]
    said: dict[str, Any]
    webhook: Webhook

    def report(self) -> str:
        """What Elementary's page shows: its data are in it in base64."""
        page = self.client.objects.read(BUCKET, INDEX)
        assert page is not None
        text = page.decode()
        [data] = re.findall(r"window\.elementaryData = JSON\.parse\(atob\('([A-Za-z0-9+/=]+)'\)\)", text)
        return text.replace(data, "") + base64.b64decode(data).decode()


def packages(folder: Path) -> Path:
    """The folder of the installed packages; installs them when only their source is named.

    Skips the test, with the reason, where there is neither.
    """
    if source := os.environ.get(SOURCE):
        install_from(Path(source), PROJECT, folder / "packages")
        return folder / "packages"
    installed = packages_folder(PROJECT, None)
    if problems := missing(installed, VERSIONS):
        pytest.skip(f"Elementary's packages are not installed ({'; '.join(problems)}); {SOURCE}=<folder> names them")
    return installed


@pytest.fixture(scope="module")
def observed(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A real observation of a project with tests that fail on personal data, with a place for alerts."""
    folder = tmp_path_factory.mktemp("packages")
    installed = packages(folder)
    project = folder / "dbt"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("dbt_packages", "target", "logs"))
    silver = project / "models" / "silver" / "silver.yml"
    columns = yaml.safe_load(silver.read_text())
    [clean] = [model for model in columns["models"] if model["name"] == "cnpj_ws_clean"]
    [zipcode] = [column for column in clean["columns"] if column["name"] == "zipcode"]
    zipcode["data_tests"] = [
        {"accepted_values": {"name": "zipcodes_that_nobody_has", "arguments": {"values": ["none"]}}}
    ]
    silver.write_text(yaml.safe_dump(columns, sort_keys=False))
    (project / "tests" / "whole_rows.sql").write_text("select * from {{ ref('cnpj_ws') }}")
    (project / "tests" / "both_layers.sql").write_text(
        "select b.zipcode as a, s.* from {{ ref('cnpj_ws') }} b join {{ ref('cnpj_ws_clean') }} s using (buyer_tax_id)"
    )
    with webhook() as place:
        done = job(
            client,
            "--observe",
            DBT_PROJECT_DIR=str(project),
            DBT_PACKAGES_FOLDER=str(installed),
            SLACK_WEBHOOK=place.url,
        )
        assert done.returncode == 0, done.stderr
        yield Observed(client, done, json.loads(done.stdout), place)


def test_the_report_is_the_buckets_main_page_and_is_kept(observed: Observed) -> None:
    said, client = observed.said, observed.client
    kept = f"elementary/{said['id']}/index.html"
    assert said["elementary"] == "published"
    assert said["published"] == [DOCS, kept, INDEX]
    assert said["problems"] == []
    assert client.objects.read(BUCKET, kept) == client.objects.read(BUCKET, INDEX)
    assert described(client, INDEX)["contentType"] == "text/html; charset=utf-8"
    assert described(client, INDEX)["cacheControl"] == "no-cache"
    assert "immutable" in described(client, kept)["cacheControl"]


def test_the_report_names_our_models_and_how_their_tests_ended(observed: Observed) -> None:
    report = observed.report()
    for name in ("company_payment_summary", "cnpj_ws_clean", "not_null_installments_asset_id", "volume_anomalies"):
        assert name in report
    for name in ("zipcodes_that_nobody_has", "whole_rows", "both_layers"):
        assert name in report
    assert observed.said["tests"]["fail"] == 3
    assert observed.said["tests"]["pass"] > 30
    assert "error" not in observed.said["tests"]
    assert '"tracking": null' in report, "no telemetry from who reads it"


def test_a_failed_test_is_told_at_the_webhook_and_the_webhook_nowhere(observed: Observed) -> None:
    told = "\n".join(observed.webhook.bodies)
    assert observed.said["alerts"] == "sent"
    assert "zipcodes_that_nobody_has" in told or "accepted_values" in told
    assert "whole_rows" in told
    for text in (observed.done.stdout, observed.done.stderr, observed.report()):
        assert observed.webhook.url not in text


def test_no_value_of_a_column_tagged_pii_is_in_what_elementary_keeps_shows_or_tells(observed: Observed) -> None:
    client = observed.client
    bronze = client.warehouse.query_and_wait(
        f"select count(*) as n from `{client.bronze('cnpj_ws')}` where starts_with(zipcode, '{SENTINEL}')"
    )
    assert next(iter(bronze))["n"] > 0, "the failing tests failed on sentinels"
    texts = {"report": observed.report(), "alerts": "\n".join(observed.webhook.bodies), "log": observed.done.stderr}
    texts["docs"] = (client.objects.read(BUCKET, DOCS) or b"").decode()
    tables = 0
    for dataset in ("business_case_elementary", "business_case_elementary__tests"):
        for table in client.warehouse.list_tables(dataset):
            rows = client.warehouse.query_and_wait(f"select * from `{dataset}.{table.table_id}`")
            texts[f"{dataset}.{table.table_id}"] = repr([tuple(row.values()) for row in rows])
            tables += 1
    assert tables >= 30
    assert "zipcodes_that_nobody_has" in texts["business_case_elementary.elementary_test_results"]
    assert [name for name, text in texts.items() if SENTINEL.lower() in text.lower()] == []


def test_the_next_observation_builds_no_tables_and_keeps_the_history(observed: Observed) -> None:
    assert "tables" in observed.said["seconds"]
    before = datetime.now(UTC)
    done = job(observed.client, "--observe", DBT_PACKAGES_FOLDER=str(packages(Path(observed.client.stack.home))))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "tables" not in said["seconds"]
    assert said["alerts"] == "off"
    index = observed.client.objects.stat(BUCKET, INDEX)
    assert index is not None
    assert index.created_at > before
    assert observed.client.objects.read(BUCKET, f"elementary/{observed.said['id']}/index.html") is not None
    invocations = observed.client.warehouse.query_and_wait(
        "select count(distinct invocation_id) as n from `business_case_elementary.elementary_test_results`"
    )
    assert next(iter(invocations))["n"] == 2
