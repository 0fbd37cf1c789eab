"""Two of every service at once: the work is done once, and all ends as if there had been one."""

import base64
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.cycle import Client, extract
from local.sample.changes import changes
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack import services
from local.stack.component import HttpProbe
from local.stack.emulators import emulators_available
from local.stack.environment import pipeline_variables
from local.stack.home import Home
from local.stack.options import StackOptions
from local.stack.ports import HOST, choose_ports
from services.core.batch import Batch, BatchState
from services.core.naming import load_job_id, manifest_object
from tests.chaos.undisturbed import (
    SHORT_LEASES,
    WAIT,
    assert_undisturbed,
    ended,
    notification,
    start_job,
    wait_for_rest,
)
from tests.pipeline import filled, little_dbt, paused
from tests.processes import process

SPEC = SampleSpec(rows=600, seed=29)
MOST_PUSHES = 4
"""Of one event that two handlers compete for."""
PROFILE: Any = os.environ.get("CREDIX_CHAOS_PROFILE", "embedded")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if PROFILE == "emulators" and (reason := emulators_available()):
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("pairs")
    dbt = little_dbt(home.with_name(f"{home.name}-dbt"))
    options = StackOptions(profile=PROFILE, home=home, dbt_project=dbt, ephemeral=True, variables=SHORT_LEASES)
    with filled(options, SPEC) as opened:
        yield opened  # the first test brings everything


@pytest.fixture(autouse=True)
def _changed(client: Client) -> None:
    """Every test has something to bring."""
    with connect(client.stack.postgres) as connection:
        changes(connection, SPEC)


def batch(client: Client, id: str) -> Batch:
    found = client.state.batch(id)
    assert found is not None, id
    return found


def merges(client: Client, id: str) -> int:
    """How many runs of the transformer say that they merged a batch."""
    runs = client.state.runs("transformer")
    return sum(id in merge["batches"] for run in runs for merge in run.details["merges"])


def landed_batches(report: dict[str, Any]) -> list[str]:
    return [entry["batch_id"] for entry in report["tables"] if entry["batch_id"]]


def transform_variables(client: Client, folder: Path) -> dict[str, str]:
    """Every job has a disk of its own, as in containers, and on it what an image has: the parsed project."""
    parsed = Path(client.variables["DBT_TARGET_PATH"])
    if parsed.exists():
        shutil.copytree(parsed, folder / "target")
    return {"DBT_TARGET_PATH": str(folder / "target"), "DBT_LOG_PATH": str(folder / "logs")}


@contextmanager
def second_loader(client: Client) -> Iterator[str]:
    """Another loader with the same settings; yields its address."""
    options, stack = client.stack.options, client.stack
    home, port = Home.at(stack.home), choose_ports(["loader-2"])["loader-2"]
    variables = pipeline_variables(options, stack.ports)
    planned = services.loader(home, options.loader_source, port, variables)
    url = f"http://{HOST}:{port}/"
    with process(
        planned.model_copy(
            update={"name": "loader-2", "log": home.log_of("loader-2"), "probe": HttpProbe(url=url, any_status=True)}
        )
    ):
        yield url


def push_body(client: Client, id: str, name: str) -> dict[str, Any]:
    """What Pub/Sub posts to the loader about an object."""
    message = {
        "attributes": notification(client, name, 1),
        "data": base64.b64encode(b"{}").decode(),
        "messageId": id,
        "publishTime": "2026-11-23T00:00:00Z",
    }
    return {"message": message, "subscription": f"projects/{client.variables['GCP_PROJECT']}/subscriptions/by-hand"}


def push(http: httpx.Client, url: str, body: dict[str, Any]) -> int:
    """Post an event until it is acknowledged, as Pub/Sub would; how often it was posted.

    A handler may find that the other is just moving the same object away; its event then comes again.
    """
    for attempt in range(1, MOST_PUSHES + 1):
        answer = http.post(url, json=body)
        if answer.status_code == 200:
            return attempt
        time.sleep(0.2)
    raise AssertionError(f"{url} answered {answer.status_code} {MOST_PUSHES} times")


def manifests(client: Client, ids: list[str]) -> list[str]:
    prefix = client.settings.landing_prefix
    return [manifest_object(prefix, batch(client, id).table, id) for id in ids]


def test_two_extractors_at_once(client: Client) -> None:
    """Each table lands at least once; whoever comes second finds it busy, or extracts what is new since."""
    jobs = [start_job(client, "services.extractor", [], "extractor") for _ in range(2)]
    results = [ended(job) for job in jobs]
    assert [code for code, _ in results] == [0, 0]
    entries = [entry for _, report in results for entry in report["tables"]]
    outcomes = {name: sorted(e["outcome"] for e in entries if e["table"] == name) for name in client.tables.names()}
    for name, both in outcomes.items():
        assert "landed" in both, outcomes
        assert set(both) <= {"landed", "busy", "no_changes"}, outcomes
        if both.count("landed") == 2:
            mine = [batch(client, e["batch_id"]) for e in entries if e["table"] == name]
            first, second = sorted(mine, key=lambda b: b.id)
            assert first.window is not None
            assert second.window is not None
            assert second.window.low == first.window.high, "one after the other, without a gap"
    wait_for_rest(client)
    assert_undisturbed(client)


def test_two_loaders_at_once(client: Client) -> None:
    """The same events at the same time, beside those that the bus delivers: every batch is loaded by one job."""
    with second_loader(client) as second, ThreadPoolExecutor(8) as pool, httpx.Client(timeout=90) as http:
        with paused(client, "loader"):
            ids = landed_batches(extract(client))
            first = f"http://{HOST}:{client.stack.ports['loader']}/"
            pushed = [
                pool.submit(push, http, url, push_body(client, f"{number}", name))
                for number, name in enumerate(manifests(client, ids) * 2)
                for url in (first, second)
            ]
        assert min(each.result() for each in pushed) == 1, "somebody was first"
    wait_for_rest(client)
    assert_undisturbed(client)
    jobs = {job.job_id for job in client.warehouse.list_jobs(max_results=1000)}
    for id in ids:
        table = batch(client, id).table
        assert load_job_id(table, id, 1) in jobs
        assert load_job_id(table, id, 2) not in jobs, "no load was done twice"
    log = (client.stack.home / "logs" / "loader-2.log").read_text(errors="replace")
    assert log.count('"event.handled"') == len(pushed) / 2


def test_two_transformers_at_once(client: Client, tmp_path: Path) -> None:
    """One merges, the other leaves it to it; the service gets its events later and finds nothing to do."""
    with paused(client, "transformer"):
        ids = landed_batches(extract(client))
        _wait_loaded(client, ids)
        jobs = [
            start_job(
                client,
                "services.transformer",
                [],
                "transformer-jobs",
                **transform_variables(client, tmp_path / f"{number}"),
            )
            for number in range(2)
        ]
        results = [ended(job) for job in jobs]
        assert [code for code, _ in results] == [0, 0]
        left = [report["left_to_another"] for _, report in results]
        passes = [len(report["passes"]) for _, report in results]
        # Had one ended before the other began, both would have done passes, the second none.
        assert left.count(True) == 1 or min(passes) == 0, results
        assert max(passes) >= 1, results
    wait_for_rest(client)
    assert_undisturbed(client)
    for id in ids:
        assert merges(client, id) == 1, "merged once"


def _wait_loaded(client: Client, ids: list[str]) -> None:
    """Wait until batches are loaded and their objects are archived."""
    deadline = time.monotonic() + WAIT.total_seconds()
    while client.landed() or any(batch(client, id).state is not BatchState.LOADED for id in ids):
        assert time.monotonic() < deadline, [batch(client, id) for id in ids]
        time.sleep(0.1)


def test_two_sweeps_beside_the_handlers(client: Client) -> None:
    """They find what the handlers are just at, and do no harm; a short grace leaves nobody's work alone for long."""
    with paused(client, "loader"):
        ids = landed_batches(extract(client))
        jobs = [start_job(client, "services.loader", ["--sweep"], "sweep", SWEEP_GRACE="5") for _ in range(2)]
    for code, report in map(ended, jobs):
        assert (code, report["problems"]) == (0, []), report
    wait_for_rest(client)
    code, report = ended(start_job(client, "services.loader", ["--sweep"], "sweep", SWEEP_GRACE="5"))
    assert (code, report["problems"]) == (0, [])
    wait_for_rest(client)
    assert_undisturbed(client)
    for id in ids:
        assert merges(client, id) == 1, "merged once"
    jobs_seen = {job.job_id for job in client.warehouse.list_jobs(max_results=1000)}
    assert not any(load_job_id(batch(client, id).table, id, 2) in jobs_seen for id in ids)
