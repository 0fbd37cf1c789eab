"""Costs on a running stack: `credix cost` says what the warehouse's own statistics of the jobs add up to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from google.cloud.bigquery.job import QueryJob

from local.cycle import Client, extract, run_cycle
from local.sample.changes import changes
from local.sample.spec import MIN_ROWS, SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from services.core.batch import BatchState
from services.core.labels import run_label
from services.core.state.state import Run
from tests.pipeline import filled, paused

Sums = tuple[int, ...]
"""Jobs, untold ones, bytes billed, bytes processed, slot milliseconds."""

CREDIX = Path(sys.executable).parent / "credix"
BEGAN = datetime.now(UTC)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A stack with one cycle done."""
    with filled(
        StackOptions(home=tmp_path_factory.mktemp("costs"), ephemeral=True), SampleSpec(rows=MIN_ROWS)
    ) as opened:
        run_cycle(opened)
        deadline = time.monotonic() + 60
        while not (runs := opened.state.runs("transformer")) or any(not reported(run) for run in runs):
            assert time.monotonic() < deadline, "the last a run notes is what it cost"
            time.sleep(0.2)
        yield opened


def reported(run: Run) -> bool:
    return run.cost is not None and bool(run.cost.lines)


def jobs(client: Client) -> list[Any]:
    """All that the pipeline has sent: whoever looks at the warehouse for a test sets no labels."""
    listed = list(client.warehouse.list_jobs(min_creation_time=BEGAN))
    return [job for job in listed if job.labels or job.job_id.startswith("credix-")]


def run(client: Client, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | client.variables | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def credix(client: Client, *arguments: str, expected: int = 0) -> subprocess.CompletedProcess[str]:
    done = run(client, [str(CREDIX), "cost", *arguments])
    assert done.returncode == expected, done.stderr
    return done


def summed(jobs: list[Any], key: Callable[[Any], str]) -> dict[str, Sums]:
    """By some key, from the jobs' own statistics."""
    sums: dict[str, Sums] = {}
    for job in jobs:
        told = [job.total_bytes_billed, job.total_bytes_processed, job.slot_millis]
        untold = told[0] is None and job.error_result is None  # what ended with an error bills nothing
        mine = (1, int(untold), *(value or 0 for value in told))
        sums[key(job)] = tuple(map(sum, zip(sums.get(key(job), (0, 0, 0, 0, 0)), mine, strict=True)))
    return sums


def shown(row: dict[str, Any]) -> Sums:
    names = ("jobs", "untold_jobs", "billed_bytes", "processed_bytes", "slot_ms")
    return tuple(row[name] for name in names)


def test_every_job_of_the_pipeline_says_its_stage_and_its_run(client: Client) -> None:
    found = jobs(client)
    assert {job.labels.get("credix_stage") for job in found} >= {"load", "stable", "bronze", "downstream"}
    assert [job.job_id for job in found if not job.labels.get("credix_stage")] == []
    transformer = {run_label(run.id) for run in client.state.runs("transformer")}
    extractor = {run_label(run.id) for run in client.state.runs("extractor")}
    for job in found:
        runs = extractor if job.labels["credix_stage"] in ("load", "stable") else transformer
        assert job.labels.get("credix_run") in runs, job.labels
    about = {job.labels["credix_table"] for job in found if "credix_table" in job.labels}
    assert about == {"cnpj_ws", "installments"}
    merges = [job for job in found if job.job_id.startswith("credix-merge-")]
    assert {job.labels["credix_table"] for job in merges} == about


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("stage", lambda labels: labels["credix_stage"]),
        ("table", lambda labels: labels.get("credix_table", "(several tables)")),
        (
            "model",
            lambda labels: labels.get("credix_model") or labels.get("credix_node") or f"({labels['credix_stage']})",
        ),
    ],
)
def test_the_sums_are_those_of_the_jobs_own_statistics(
    client: Client, by: str, key: Callable[[dict[str, str]], str]
) -> None:
    runs = {run_label(run.id) for run in client.state.runs("transformer")}
    sent = [job for job in jobs(client) if job.labels.get("credix_run") in runs]
    assert all(isinstance(job, QueryJob) for job in sent)
    costs = json.loads(credix(client, "--since", "1d", "--by", by, "--json").stdout)
    assert {row["name"]: shown(row) for row in costs["rows"]} == summed(sent, lambda job: key(job.labels))
    assert shown(costs["total"]) == summed(sent, lambda _: "all")["all"]
    assert (costs["runs"], costs["unknown_runs"]) == (len(runs), [])
    assert costs["total"]["usd"] == costs["total"]["billed_bytes"] / 1024**4 * 6.25


def test_with_the_local_meter_every_job_is_told_and_bytes_are_billed(client: Client) -> None:
    """Without Google's SQL engine nothing is metered, and nothing is taken for free."""
    total = json.loads(credix(client, "--since", "1d").stdout)["total"]
    metered = requests.get(f"{client.variables['BIGQUERY_EMULATOR_HOST']}/analysis", timeout=10).ok
    assert (total["untold_jobs"] == 0, total["billed_bytes"] > 0) == (metered, metered)


def test_by_run_each_run_has_its_own(client: Client) -> None:
    costs = json.loads(credix(client, "--by", "run").stdout)
    queries = [job for job in jobs(client) if isinstance(job, QueryJob)]
    by_label = summed(queries, lambda job: job.labels["credix_run"])
    runs = client.state.runs("transformer")
    assert {row["name"]: shown(row) for row in costs["rows"]} == {
        f"{run.id} transformer": by_label[run_label(run.id)] for run in runs
    }


def test_a_run_from_before_costs_were_kept_is_unknown_and_not_nothing(client: Client) -> None:
    at = datetime.now(UTC) - timedelta(days=20)
    old = Run(id=f"{at:%Y%m%dT%H%M%S%f}Z-0", service="transformer", started_at=at, finished_at=at, outcome="succeeded")
    client.state.add_run(old)
    costs = json.loads(credix(client, "--since", f"{at:%Y-%m-%d}").stdout)
    assert [run["id"] for run in costs["unknown_runs"]] == [old.id]
    assert costs["runs"] == 1 + len(client.state.runs("transformer", at + timedelta(seconds=1)))


def test_a_price_of_ones_own_and_a_wrong_command_line(client: Client) -> None:
    client.variables["BIGQUERY_USD_PER_TIB"] = "10"
    try:
        costs = json.loads(credix(client, "--since", "1d").stdout)
    finally:
        del client.variables["BIGQUERY_USD_PER_TIB"]
    assert costs["total"]["usd"] == costs["total"]["billed_bytes"] / 1024**4 * 10
    assert "neither a span" in credix(client, "--since", "yesterday", expected=2).stderr
    assert "--by" in credix(client, "--by", "colour", expected=2).stderr


def test_an_observation_is_in_the_history_with_its_cost(client: Client, tmp_path: Path) -> None:
    """Without Elementary's packages it makes dbt's docs, which asks the warehouse for its catalog."""
    command = [sys.executable, "-m", "services.transformer", "--observe"]
    done = run(client, command, LOG_FORMAT="json", DBT_PACKAGES_FOLDER=str(tmp_path))
    assert done.returncode == 0, done.stderr
    [observed] = client.state.runs("observer")
    sent = [job for job in jobs(client) if job.labels.get("credix_run") == run_label(observed.id)]
    assert sent
    assert {job.labels["credix_stage"] for job in sent} == {"observe"}
    assert observed.cost is not None
    assert (observed.cost.unknown, observed.cost.total.jobs) == (None, len(sent))
    [line] = [line for line in map(json.loads, done.stderr.splitlines()) if line["message"] == "run.cost"]
    assert (line["run_id"], line["jobs"], line["billed_bytes"]) == (observed.id, len(sent), observed.cost.total.billed)


def test_what_a_killed_run_billed_is_not_lost(client: Client, tmp_path: Path) -> None:
    """It dies after bronze was built, before the history knows of it; the next one finds its jobs."""
    known = {each.id for each in client.state.runs("transformer")}
    fault_file = tmp_path / "fault"
    fault_file.write_text("transformer.advanced")
    reconcile = [sys.executable, "-m", "services.transformer"]
    with connect(client.stack.postgres) as connection:
        changes(connection, SampleSpec(rows=MIN_ROWS))
    with paused(client, "transformer"):
        load(client)
        assert run(client, reconcile, FAULT_FILE=str(fault_file), TRANSFORM_LEASE="2").returncode == -signal.SIGKILL
        done = run(client, reconcile, TRANSFORM_LEASE="2")
        assert done.returncode == 0, done.stderr
    interrupted, finished = [each for each in client.state.runs("transformer") if each.id not in known]
    assert (interrupted.outcome, finished.outcome) == ("interrupted", "succeeded")
    for each, stages in ((interrupted, {"bronze", "tests"}), (finished, set())):
        sent = [job for job in jobs(client) if job.labels.get("credix_run") == run_label(each.id)]
        assert {job.labels["credix_stage"] for job in sent} == stages
        assert each.cost is not None
        assert (each.cost.unknown, each.cost.total.jobs) == (None, len(sent))


def load(client: Client) -> None:
    """Extract, and wait until the batches wait for the transformer."""
    batches = [entry["batch_id"] for entry in extract(client)["tables"] if entry["batch_id"]]
    assert batches
    deadline = time.monotonic() + 60
    while {batch.state for id_ in batches if (batch := client.state.batch(id_))} != {BatchState.LOADED}:
        assert time.monotonic() < deadline, batches
        time.sleep(0.2)


def test_an_audit_is_a_job_in_the_history_with_its_cost_and_asks_once(client: Client) -> None:
    known = {each.id for each in client.state.runs("audit")}
    done = run(client, [str(CREDIX), "audit", "--run", "--json"])
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    [made] = [each for each in client.state.runs("audit") if each.id not in known]
    assert (shown["run_id"], made.outcome) == (made.id, "succeeded")
    assert {test["name"] for test in shown["tests"]} == {node["name"] for node in made.details["nodes"]}
    assert {test["status"] for test in shown["tests"]} <= {"pass", "warn"}
    assert {"tiers", "rejected"} == shown["figures"].keys()
    [sent] = [job for job in jobs(client) if job.labels.get("credix_run") == run_label(made.id)]
    assert made.cost is not None
    assert (made.cost.total.jobs, made.cost.total.billed) == (1, sent.total_bytes_billed)
    report = client.objects.stat(client.variables["REPORT_BUCKET"], "pipeline/latest.html")
    assert report is not None
    assert report.created_at > made.started_at, "it has the new figures"
