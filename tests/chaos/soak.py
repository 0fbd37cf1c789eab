"""The pipeline under random faults: ``python -m tests.chaos.soak [--minutes 10] [--seed N] [--profile emulators]``.

Starts a local stack of its own, and lets writers change both tables (see ``writers``) while extractors run and
everything goes wrong that can: processes die at fault points and at any moment, the bus, the bucket and the warehouse
are killed or stand still, events come several times and out of order, landed parts are damaged, parts of the archive
are dropped into landing/ again, sweeps and transformer jobs run beside the handlers. What happens, and in which order,
is determined by the seed; when exactly, by the machine.

In the end all troubles stop; extractor, sweep and transformer run until nothing is left to do. Then source and bronze
are compared row by row, and landing/, hashed tables and leases must be empty.

Exit code 0 when nothing was lost, doubled, different or left behind; 1 otherwise.
"""

import io
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.pubsub_v1 import PublisherClient

from local.cycle import Client, CycleFailed, settle
from local.sample.seeding import seed as fill
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.errors import StackError
from local.stack.options import PROJECT, REPOSITORY, StackOptions
from local.stack.resources import LANDING_TOPIC
from local.stack.stack import kill_component, load, running, start_component
from services.core.batch import Batch, BatchState
from services.core.faults import FAULT_POINTS
from services.core.naming import manifest_object
from services.core.state.lease import leases
from tests.chaos import writers
from tests.chaos.command import Options, run_command
from tests.pipeline import paused

ROWS = 4_000
LEASE = "4"
"""Seconds; short, so that the dead are replaced soon."""
GRACE = "6"
QUIET = timedelta(minutes=6)
"""For all to come home once the troubles have stopped."""

_OF_FILES = ("loader.file_part_landed", "loader.file_landed")
_OF_REJECTION = ("loader.failed_noted", "loader.object_rejected")

INFRASTRUCTURE = ("bus", "storage", "warehouse")
SERVICES = ("loader", "transformer")
_PASSING = (GoogleAPICallError, OSError, StackError, psutil.Error)
"""What a trouble may meet of another trouble."""


@dataclass
class Report:
    """What a soak was, and what it found; the numbers of a closing note."""

    seconds: float = 0.0
    seed: int = 0
    profile: str = "embedded"
    troubles: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    """Fault points at which a process died."""
    extractions: Counter[str] = field(default_factory=Counter)
    """By outcome, and by exit code of those that did not end well."""
    transactions: int = 0
    batches: Counter[str] = field(default_factory=Counter)
    """By state and, of the failed, by reason."""
    rows_loaded: int = 0
    quiet_seconds: float = 0.0
    """From the last trouble until all was home."""
    rows_compared: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    not_deleted: int = 0
    left_behind: list[str] = field(default_factory=list)
    """Objects in landing/, hashed tables, leases."""
    found: list[str] = field(default_factory=list)
    """What is not equal, with examples."""

    @property
    def equal(self) -> bool:
        """Whether source and bronze ended equal and nothing was left behind."""
        return not (self.lost or self.doubled or self.different or self.not_deleted or self.left_behind or self.found)

    @property
    def findings(self) -> list[str]:
        """What is not equal, and what was left."""
        return [*self.found, *(f"left behind: {name}" for name in self.left_behind)]


def job(client: Client, *command: str) -> "subprocess.Popen[bytes]":
    """Start one of the services' jobs."""
    log = (client.stack.home / "logs" / "jobs.log").open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", **client.variables},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=log,
        )


class Troubles:
    """Makes trouble, one thing after the other."""

    def __init__(self, client: Client, seed: int, report: Report) -> None:
        self.random = random.Random(f"troubles-{seed}")  # noqa: S311 - reproducible, not secret
        self._client, self._report = client, report
        self._fault = Path(client.variables["FAULT_FILE"])
        self._armed: str | None = None
        self._dropped = 0
        self._publisher = PublisherClient()
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "fault point": (30, self._arm),
            "worker killed": (10, self._kill_worker),
            "service killed": (6, lambda: self._restart(self.random.choice(SERVICES))),
            "infrastructure killed": (6, lambda: self._restart(self.random.choice(INFRASTRUCTURE))),
            "infrastructure stands still": (8, self._freeze),
            "events again": (16, self._events_again),
            "part damaged": (6, self._damage),
            "file dropped": (6, self._drop),
            "sweep": (8, lambda: self._job("services.loader", "--sweep")),
            "transformer job": (4, lambda: self._job("services.transformer")),
        }

    def work(self, stop: threading.Event) -> None:
        """Make trouble until told to stop."""
        while not stop.wait(self.random.uniform(0.2, 1.5)):
            self.look_at_the_fault()
            kind = self.random.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])[0]
            try:
                self._kinds[kind][1]()
                self._report.troubles[kind] += 1
            except _PASSING:
                self._report.troubles[f"{kind}, hindered by another"] += 1

    def look_at_the_fault(self) -> None:
        """Note whether somebody died at the armed point."""
        if self._armed is not None and not self._fault.exists():
            self._report.points[self._armed] += 1
            self._armed = None

    def end(self) -> None:
        """Start all that is down, and take the armed fault away."""
        self.look_at_the_fault()
        self._fault.unlink(missing_ok=True)
        for name in (*INFRASTRUCTURE, *SERVICES):
            start_component(self._client.stack, name)

    def _arm(self) -> None:
        """Another point, if nobody came by the last; and what brings somebody there."""
        self._armed = self.random.choice(sorted(FAULT_POINTS))
        self._fault.write_text(self._armed)
        if self._armed in _OF_FILES:
            self._drop()
        elif self._armed in _OF_REJECTION:
            self._damage()

    def _process(self, name: str) -> psutil.Process:
        stack = load(self._client.stack.home)
        assert stack is not None
        return psutil.Process(stack.processes[name].pid)

    def _kill_worker(self) -> None:
        workers = self._process(self.random.choice(SERVICES)).children()
        if workers:
            workers[0].send_signal(signal.SIGKILL)

    def _restart(self, name: str) -> None:
        kill_component(self._client.stack, name)
        time.sleep(self.random.uniform(0, 2))
        start_component(self._client.stack, name)

    def _freeze(self) -> None:
        with paused(self._client, self.random.choice(INFRASTRUCTURE)):
            time.sleep(self.random.uniform(0.2, 3))

    def _batches(self) -> list[Batch]:
        return [b for name in self._client.tables.names() for b in self._client.state.batches_of_table(name)]

    def _events_again(self) -> None:
        settings = self._client.settings
        known = self._batches()
        topic = self._publisher.topic_path(PROJECT, LANDING_TOPIC)
        loaded = self._publisher.topic_path(PROJECT, settings.batch_loaded_topic)
        for batch in self.random.sample(known, min(3, len(known))) * 3:
            name = manifest_object(settings.landing_prefix, batch.table, batch.id)
            attributes = {"eventType": "OBJECT_FINALIZE", "bucketId": settings.landing_bucket, "objectId": name}
            self._publisher.publish(topic, b"{}", objectGeneration="1", **attributes).result(timeout=10)
            self._publisher.publish(loaded, b"{}", eventType="batch.loaded", batchId=batch.id).result(timeout=10)

    def _damage(self) -> None:
        """The first part that lands while the loader stands still."""
        until = time.monotonic() + 6
        with paused(self._client, "loader"):
            parts: list[str] = []
            while not parts and time.monotonic() < until:
                time.sleep(0.1)
                parts = [name for name in self._client.landed() if name.endswith(".parquet")]
            if parts:
                self._client.objects.replace(
                    self._client.settings.landing_bucket, parts[0], b"PAR1 damaged PAR1", "text/plain"
                )

    def _drop(self) -> None:
        """A part of the archive, under another name, as somebody who restores it would."""
        settings = self._client.settings
        parts = [
            (stored, batch.table)
            for batch in self._batches()
            if batch.state is BatchState.MERGED
            for stored in self._client.objects.list(
                settings.archive_bucket, f"{settings.archive_prefix}/ingestion_dt={batch.started_at:%Y-%m-%d}/"
            )
            if batch.id in stored.name and stored.name.endswith(".parquet")
        ]
        if parts:
            stored, table = self.random.choice(parts)
            content = self._client.objects.read(stored.bucket, stored.name)
            if content and content.startswith(b"PAR1") and b"damaged" not in content[:20]:
                self._dropped += 1
                name = f"{settings.landing_prefix}/by_hand/{table}-soak-{self._dropped}.parquet"
                self._client.objects.create(
                    settings.landing_bucket, name, io.BytesIO(content), "application/vnd.apache.parquet"
                )

    def _job(self, *command: str) -> None:
        job(self._client, *command).communicate(timeout=300)


class Extractions:
    """Extracts again and again; some extractors are killed."""

    def __init__(self, client: Client, seed: int, report: Report) -> None:
        self.random = random.Random(f"extractions-{seed}")  # noqa: S311 - reproducible, not secret
        self._client, self._report = client, report

    def work(self, stop: threading.Event) -> None:
        """Extract every few seconds until told to stop."""
        while not stop.is_set():
            arguments = self.random.choice(([], [], [], ["--mode", "snapshot", "--table", "installments"]))
            processes = [job(self._client, "services.extractor", *arguments)]
            if self.random.random() < 0.15:
                processes.append(job(self._client, "services.extractor"))
            if self.random.random() < 0.15:
                time.sleep(self.random.uniform(0.5, 3))
                processes[0].kill()
            for process in processes:
                self._note(process)
            stop.wait(self.random.uniform(0.5, 3))

    def _note(self, process: "subprocess.Popen[bytes]") -> int:
        output, _ = process.communicate(timeout=300)
        if process.returncode:
            self._report.extractions[f"exit code {process.returncode}"] += 1
        for line in output.splitlines():
            for entry in json.loads(line)["tables"]:
                self._report.extractions[entry["outcome"]] += 1
        return process.returncode

    def once(self, *arguments: str) -> bool:
        """Run one to its end; whether it ended well and no table was busy."""
        busy = self._report.extractions["busy"]
        code = self._note(job(self._client, "services.extractor", *arguments))
        return code == 0 and self._report.extractions["busy"] == busy


def _come_home(client: Client, extractions: Extractions, *arguments: str) -> None:
    """Run extractor, sweep and transformer until nothing is left to do.

    Raises:
        CycleFailed: it took too long; says what is missing.
    """
    deadline = time.monotonic() + QUIET.total_seconds()
    extracted = False
    while True:
        extracted = extracted or extractions.once(*arguments)
        job(client, "services.loader", "--sweep").communicate(timeout=300)
        job(client, "services.transformer").communicate(timeout=300)
        ids = [batch.id for name in client.tables.names() for batch in client.state.open_batches(name)]
        try:
            settle(client, ids, timedelta(seconds=5))
        except CycleFailed:
            if time.monotonic() > deadline:
                raise
            continue
        if extracted and not _left_behind(client):
            return
        if time.monotonic() > deadline:
            raise CycleFailed(f"not home after {QUIET}: extracted {extracted}, left {_left_behind(client)}")


def _left_behind(client: Client) -> list[str]:
    now = datetime.now(UTC)
    held = [f"lease {name}" for name, lease in leases(client.state.store).items() if lease.held(now)]
    return [*client.landed(), *client.hashed_tables(), *held]


def _disturb(options: Options, client: Client, report: Report) -> tuple[Extractions, set[tuple[str, str]]]:
    """Let writers, extractors and troubles at it for the time given."""
    with connect(client.stack.postgres) as connection:
        shared = {
            table: [str(key) for (key,) in connection.execute(query).fetchall()]
            for table, query in (
                ("cnpj_ws", "SELECT buyer_tax_id FROM oltp.business_case_cnpj_ws ORDER BY 1 LIMIT 40"),
                ("installments", "SELECT asset_id FROM oltp.business_case_installments ORDER BY 1 LIMIT 40"),
            )
        }
    users = [
        writers.Writer(number, options, client.stack.postgres, shared, prepares=False)
        for number in range(options.writers)
    ]
    extractions, troubles = Extractions(client, options.seed, report), Troubles(client, options.seed, report)
    stop = threading.Event()
    started = time.monotonic()
    with ThreadPoolExecutor(options.writers + 2) as pool:
        work: list[Callable[[threading.Event], None]] = [extractions.work, troubles.work]
        futures = [pool.submit(each, stop) for each in [*(user.work for user in users), *work]]
        try:
            while time.monotonic() - started < options.seconds and not any(future.done() for future in futures):
                time.sleep(0.1)
        finally:
            stop.set()
        for future in futures:
            future.result()
    troubles.end()
    report.seconds = round(time.monotonic() - started, 1)
    report.transactions = sum(user.report.transactions["committed"] for user in users)
    return extractions, {each for user in users for each in user.deleted}


def run(options: Options, folder: Path) -> Report:
    """Run a soak in a folder, of which the logs stay.

    Raises:
        StackError: the stack did not start, or what landed did not come home.
    """
    report = Report(seed=options.seed, profile=options.profile)
    home = folder / "stack"
    stack_options = StackOptions(
        profile=options.profile,  # type: ignore[arg-type]  # checked by pydantic
        home=home,
        tables_file=writers.declared(folder),
        variables={"TRANSFORM_LEASE": LEASE, "EXTRACT_LEASE": LEASE, "SWEEP_GRACE": GRACE},
        ephemeral=True,
    )
    with running(stack_options) as stack:
        client = Client.of(stack)
        client.variables |= {"EXTRACT_SAFETY_LAG": "PT10S", "EXTRACT_CHUNK_PAGES": str(writers.CHUNK_PAGES)}
        try:
            with connect(stack.postgres) as connection:
                fill(connection, SampleSpec(rows=ROWS, seed=options.seed))
            extractions, deleted = _disturb(options, client, report)
            quiet = time.monotonic()
            for _ in range(2):
                _come_home(client, extractions)
            _note(report, client.compare(), deleted)
            _come_home(client, extractions, "--mode", "snapshot")
            report.quiet_seconds = round(time.monotonic() - quiet, 1)
            _note(report, client.compare(), set())
            report.left_behind = _left_behind(client)
            _count(report, client)
        finally:
            shutil.copytree(home / "logs", folder / "logs", dirs_exist_ok=True)
    return report


def _note(report: Report, compared: list[Any], deleted: set[tuple[str, str]]) -> None:
    found = writers.Report()
    writers.note(found, compared, deleted)
    for name in ("rows_compared", "lost", "doubled", "different", "not_deleted", "found"):
        setattr(report, name, getattr(report, name) + getattr(found, name))


def _count(report: Report, client: Client) -> None:
    for name in client.tables.names():
        for batch in client.state.batches_of_table(name):
            report.batches[f"failed: {batch.error.code}" if batch.error else batch.state.value] += 1
            report.rows_loaded += batch.rows if batch.loaded_at else 0


if __name__ == "__main__":
    sys.exit(run_command("soak", (__doc__ or "").split("\n")[0], Options(600, 4), run))
