"""What a pipeline must look like after any disturbance: the same as after none. Also the disturbances' common tools."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.cloud.pubsub_v1 import PublisherClient

from local.cycle import Client
from local.stack.options import REPOSITORY
from local.stack.resources import LANDING_TOPIC
from services.core.batch import Batch, BatchState
from services.core.chain import Covered, covered
from services.core.manifest import Manifest
from services.core.naming import manifest_object, mirrored
from services.core.state.lease import leases
from services.core.state.state import CHUNKS, PLANS
from services.ops.dead_letters import dead_letters

WAIT = timedelta(seconds=90)
SHORT_LEASES = {"EXTRACT_LEASE": "2", "TRANSFORM_LEASE": "2"}
"""A dead holder is replaced fast; a living one is still renewed in time on a busy machine."""

MOST_TRIES = 4
"""Of an extraction; each dies at most at one point."""


# --- jobs and events ----------------------------------------------------------------------------------------------


def start_job(client: Client, module: str, arguments: list[str], log: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start a service's job as Cloud Run would, its log appended to the stack's logs."""
    with (client.stack.home / "logs" / f"{log}.log").open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **client.variables, **variables},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )


def ended(job: subprocess.Popen[bytes]) -> tuple[int, dict[str, Any]]:
    """Wait for a job; its exit code and what it printed, which is nothing when it was killed."""
    try:
        printed, _ = job.communicate(timeout=WAIT.total_seconds())
    finally:
        job.kill()  # no effect when it has ended
    return job.returncode, json.loads(printed) if printed else {}


@dataclass
class Extraction:
    """What the tries of one extraction did."""

    deaths: int = 0
    tables: list[dict[str, Any]] = field(default_factory=list)

    @property
    def batches(self) -> list[str]:
        """Ids of the batches that the last try landed."""
        return [entry["batch_id"] for entry in self.tables if entry["batch_id"]]


def extract_until_done(client: Client, execution: str, *arguments: str) -> Extraction:
    """Extract, and again as Cloud Run does when the task's process dies: under the same execution, the next attempt."""
    done = Extraction()
    for attempt in range(MOST_TRIES):
        cloud_run = {"CLOUD_RUN_EXECUTION": execution, "CLOUD_RUN_TASK_ATTEMPT": str(attempt)}
        code, report = ended(start_job(client, "services.extractor", [*arguments], "extractor", **cloud_run))
        if code == 0:
            done.tables = report["tables"]
            assert {entry["outcome"] for entry in done.tables} <= {"landed", "no_changes"}, done.tables
            return done
        assert code == -9, f"the extractor ended with {code}, see {client.stack.home / 'logs' / 'extractor.log'}"
        done.deaths += 1
    raise AssertionError(f"the extractor died {MOST_TRIES} times")


def landed_ever(client: Client) -> dict[str, int]:
    """Every object that landed, by its name in landing/, with a generation, wherever it is now."""
    settings, found = client.settings, dict[str, int]()
    places = (  # landing/ first: an object is copied before it is deleted there
        (settings.landing_bucket, settings.landing_prefix),
        (settings.landing_bucket, settings.failed_prefix),
        (settings.archive_bucket, settings.archive_prefix),
    )
    for bucket, prefix in places:
        for stored in client.objects.list(bucket, f"{prefix}/"):
            if not stored.name.endswith(".error.json"):
                found.setdefault(mirrored(stored.name, prefix, settings.landing_prefix), stored.generation)
    return found


def all_batches(client: Client) -> list[Batch]:
    """Every batch that the state knows."""
    return [batch for name in client.tables.names() for batch in client.state.batches_of_table(name)]


def repeat_events(client: Client, objects: dict[str, int], batches: list[str], seed: int) -> set[str]:
    """Publish landing notifications and batch.loaded events three times more, in a random order; the message ids."""
    settings, publisher = client.settings, PublisherClient()
    project = client.variables["GCP_PROJECT"]
    landing = publisher.topic_path(project, LANDING_TOPIC)
    loaded = publisher.topic_path(project, settings.batch_loaded_topic)
    events = [(landing, notification(client, name, generation)) for name, generation in objects.items()]
    events += [(loaded, {"eventType": "batch.loaded", "batchId": id}) for id in batches]
    events *= 3
    random.Random(seed).shuffle(events)  # noqa: S311 - reproducible, not secret
    published = [publisher.publish(topic, b"{}", **attributes) for topic, attributes in events]
    return {str(future.result(timeout=30)) for future in published}


def notification(client: Client, name: str, generation: int) -> dict[str, str]:
    """Attributes of the bucket's notification about an object."""
    return {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": client.settings.landing_bucket,
        "objectId": name,
        "objectGeneration": str(generation),
    }


def killed_workers(client: Client, name: str) -> int:
    """How many workers of a service have died by SIGKILL so far, as gunicorn says."""
    return (client.stack.home / "logs" / f"{name}.log").read_text(errors="replace").count("SIGKILL")


def failed_deliveries(client: Client) -> int:
    """How many deliveries of events have failed and came again so far; only our own broker's log tells, else 0."""
    return (client.stack.home / "logs" / "bus.log").read_text(errors="replace").count(", attempt ")


# --- at rest ------------------------------------------------------------------------------------------------------


def unhandled(client: Client, events: set[str]) -> set[str]:
    """Those of the events, by message id, that no service has acknowledged, as the services' logs tell."""
    left = set(events)
    for name in ("loader", "transformer"):
        for line in (client.stack.home / "logs" / f"{name}.log").read_text(errors="replace").splitlines():
            if '"event.handled"' in line or '"event.ignored"' in line:
                left.discard(json.loads(line).get("message_id"))
    return left


def _held(client: Client) -> list[str]:
    return [f"{name} by {lease.holder}" for name, lease in leases(client.state.store).items() if lease.holder]


def unrest(client: Client, events: set[str] | None = None) -> list[str]:
    """What is still going on, or was left behind, events that are not acknowledged among it; nothing at rest."""
    found = [f"{b.table}: batch {b.id} is {b.state}" for b in all_batches(client) if b.open]
    found += [f"landed: {name}" for name in client.landed()]
    found += [f"event not acknowledged: {id}" for id in unhandled(client, events or set())]
    found += [f"hashed table: {name}" for name in client.hashed_tables()]
    found += [f"lease held: {name}" for name in _held(client)]
    if client.state.downstream_due() is not None:
        found.append("silver and gold are due")
    return found


def wait_for_rest(client: Client, events: set[str] | None = None) -> None:
    """Wait until nothing is going on any more, and these events are acknowledged.

    Raises:
        AssertionError: it did not come to rest in time; says what is left.
    """
    quiet = 0
    deadline = time.monotonic() + WAIT.total_seconds()
    while quiet < 2:
        found = unrest(client, events)
        quiet = 0 if found else quiet + 1
        assert time.monotonic() < deadline, f"not at rest: {found}; logs in {client.stack.home / 'logs'}"
        time.sleep(0.2)


def left_plans(client: Client) -> list[str]:
    """Plans and chunks of extractions; none is left when no extraction is under way."""
    return [f"{name}/{document.id}" for name in (PLANS, CHUNKS) for document in client.state.store.query(name, {})]


def assert_undisturbed(client: Client) -> None:
    """Everything is as if nothing had happened: see the messages.

    An event of before that comes once more, because its first handler died, may hold a lease for a moment: it is waited
    for.

    Raises:
        AssertionError: something is not.
    """
    wait_for_rest(client)
    assert [str(c) for c in client.compare() if not c.equal] == [], "source and bronze are not equal"
    for name in client.tables.names():
        batches = client.state.batches_of_table(name)
        for batch in batches:
            assert batch.state in (BatchState.MERGED, BatchState.FAILED), batch
            assert not batch.open, batch
            assert (batch.error is not None) == (batch.state is BatchState.FAILED), batch
        merged = [batch for batch in batches if batch.state is BatchState.MERGED]
        progress = client.state.progress(name)
        assert progress.watermark == covered(Covered(), merged).until, "a gap, or not advanced"
        assert progress.merged_batch == max(batch.id for batch in merged)
        for batch in merged:
            assert_archived(client, batch)
    assert without_reason(client) == []
    fault = Path(client.variables["FAULT_FILE"])
    assert not fault.exists(), f"not reached: {fault.read_text(encoding='utf-8')}"
    subscriptions = client.settings.dead_letter_subscriptions.split(",")
    letters = dead_letters(client.settings.gcp_project, subscriptions)
    assert [letter for letter in letters if letter.messages or letter.error] == []


def without_reason(client: Client) -> list[str]:
    """Objects in failed/ beside which no reason lies."""
    failed = set(client.failed())
    objects = sorted(name for name in failed if not name.endswith(".error.json"))
    return [f"{name}, without a reason" for name in objects if f"{name}.error.json" not in failed]


def assert_archived(client: Client, batch: Batch) -> None:
    """The manifest and all parts that it names are in the archive, as they landed.

    Raises:
        AssertionError: one is not.
    """
    settings = client.settings

    def archived(name: str) -> str:
        return mirrored(name, settings.landing_prefix, settings.archive_prefix)

    name = archived(manifest_object(settings.landing_prefix, batch.table, batch.id))
    content = client.objects.read(settings.archive_bucket, name)
    assert content is not None, f"{name} is not in the archive"
    manifest = Manifest.model_validate_json(content)
    assert (manifest.batch_id, manifest.rows) == (batch.id, batch.rows)
    for part in manifest.parts:
        stored = client.objects.stat(settings.archive_bucket, archived(part.object_name))
        assert stored is not None, f"{part.object_name} is not in the archive"
        there = (stored.size, stored.crc32c)
        assert there == (part.size, part.crc32c), f"{stored.name} has other content than {part.object_name} had"
