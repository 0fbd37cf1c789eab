"""What goes wrong in a soak: one thing after the other, in an order that the seed determines."""

import io
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import LiteralString

import psutil
import psycopg
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.pubsub_v1 import PublisherClient

from local.cycle import Client
from local.source import connect
from local.stack.errors import StackError
from local.stack.options import PROJECT
from local.stack.resources import LANDING_TOPIC
from local.stack.stack import kill_component, load, start_component
from services.core.batch import Batch, BatchState
from services.core.errors import PipelineError
from services.core.faults import FAULT_POINTS
from services.core.naming import manifest_object
from tests.chaos.foreign import PARQUET, ForeignObjects
from tests.chaos.jobs import Jobs, frozen
from tests.chaos.proxy import Action, Fault, FaultProxy
from tests.pipeline import paused

_OF_FILES = ("loader.file_part_landed", "loader.file_landed")
_OF_REJECTION = ("loader.failed_noted", "loader.object_rejected")

INFRASTRUCTURE = ("bus", "storage", "warehouse", "postgres")
SERVICES = ("loader", "transformer")

REFUSED: dict[str, tuple[str, str]] = {
    "list of a dataset": ("GET", r"/datasets/[^/?]+/(tables|routines)(\?|$)"),
    "look at a table": ("GET", r"/datasets/[^/?]+/tables/[^/?]+(\?|$)"),
    "look at a dataset": ("GET", r"/datasets(/[^/?]+)?(\?|$)"),
    "job": ("POST", r"/jobs(\?|$)"),
    "query": ("POST", r"/queries(\?|$)"),
    "look at a job": ("GET", r"/(jobs|queries)/"),
    "drop of a table": ("DELETE", r"/tables/"),
    "change of a table": ("PATCH", r"/tables/"),
}
"""Requests to the warehouse that are refused."""

RELOADED: dict[str, LiteralString] = {
    "cnpj_ws": "oltp.business_case_cnpj_ws",
    "installments": "oltp.business_case_installments",
}

BESIDE = 4
"""Kinds of trouble that take long, and go on beside the others."""

_PASSING = (GoogleAPICallError, OSError, StackError, PipelineError, psutil.Error, psycopg.Error)
"""What a trouble may meet of another trouble."""


class Troubles:
    """Makes trouble."""

    def __init__(self, client: Client, jobs: Jobs, proxy: FaultProxy, seed: int, lease_seconds: float) -> None:
        """Prepare it.

        Args:
            client: of the stack.
            jobs: that run.
            proxy: before the warehouse.
            seed: determines what happens, and in which order.
            lease_seconds: of the leases beyond which processes stand still.
        """
        self.counts: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        """Fault points at which a process died."""
        self.damaged: set[str] = set()
        """Objects in landing/ that were written over."""
        self.foreign = ForeignObjects(client, random.Random(f"foreign-{seed}"))  # noqa: S311 - reproducible, not secret
        self._random = random.Random(f"troubles-{seed}")  # noqa: S311 - reproducible, not secret
        self._client, self._jobs, self._proxy, self._lease_seconds = client, jobs, proxy, lease_seconds
        self._fault = Path(client.variables["FAULT_FILE"])
        self._armed: str | None = None
        self._dropped = 0
        self._publisher = PublisherClient()
        self._pool = ThreadPoolExecutor(BESIDE, thread_name_prefix="aside")
        self._beside: dict[str, Future[None]] = {}
        """What goes on beside the other troubles, one of a kind at a time."""
        self._kinds: dict[str, tuple[int, Callable[[], str]]] = {
            "fault point": (26, self._arm),
            "worker killed": (8, self._kill_worker),
            "killed": (14, lambda: self._restart(self._random.choice((*INFRASTRUCTURE, *SERVICES)))),
            "stands still": (8, lambda: self._freeze(self._random.choice(INFRASTRUCTURE))),
            "stands still beyond its lease": (8, self._freeze_beyond_lease),
            "events again": (12, self._events_again),
            "part damaged": (6, self._damage),
            "file dropped": (6, self._drop),
            "foreign object": (14, self._foreign),
            "warehouse refuses": (14, self._refuse),
            "truncated and loaded again": (8, self._reload),
            "sweep": (8, lambda: self._job("sweep", "services.loader", "--sweep")),
            "transformer job": (4, lambda: self._job("transformer job", "services.transformer")),
        }

    def work(self, stop: threading.Event) -> None:
        """Make trouble until told to stop: first one of each kind, then as their weights have it."""
        kinds, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        first = self._random.sample(kinds, len(kinds))
        while not stop.wait(self._random.uniform(0.2, 1.5)):
            self.look_at_the_fault()
            kind = first.pop() if first else self._random.choices(kinds, weights)[0]
            try:
                which = self._kinds[kind][1]()
                self.counts[f"{kind}: {which}" if which else kind] += 1
            except _PASSING:
                self.counts[f"{kind}, hindered by another"] += 1

    def look_at_the_fault(self) -> None:
        """Note whether somebody died at the armed point."""
        if self._armed is not None and not self._fault.exists():
            self.points[self._armed] += 1
            self._armed = None

    def end(self) -> None:
        """Start all that is down, let go of all that stands, and take the armed fault away."""
        self._pool.shutdown(wait=True)
        self._proxy.clear()
        self.look_at_the_fault()
        self._fault.unlink(missing_ok=True)
        for name in (*INFRASTRUCTURE, *SERVICES):
            start_component(self._client.stack, name)

    # processes

    def _arm(self) -> str:
        """Another point, if nobody came by the last; and what brings somebody there."""
        self._armed = self._random.choice(sorted(FAULT_POINTS))
        self._fault.write_text(self._armed)
        if self._armed in _OF_FILES:
            self._drop()
        elif self._armed in _OF_REJECTION:
            self._damage()
        return ""

    def _process(self, name: str) -> psutil.Process:
        stack = load(self._client.stack.home)
        assert stack is not None
        return psutil.Process(stack.processes[name].pid)

    def _kill_worker(self) -> str:
        name = self._random.choice(SERVICES)
        for worker in self._process(name).children()[:1]:
            worker.send_signal(signal.SIGKILL)
        return name

    def _restart(self, name: str) -> str:
        kill_component(self._client.stack, name)
        time.sleep(self._random.uniform(0, 2))
        start_component(self._client.stack, name)
        return name

    def _freeze(self, name: str) -> str:
        with paused(self._client, name):
            time.sleep(self._random.uniform(0.2, 3))
        return name

    def _freeze_beyond_lease(self) -> str:
        who = self._random.choice([*SERVICES, "extractor", "transformer job"])
        begins = self._random.uniform(0.3, 3)
        seconds = self._lease_seconds + self._random.uniform(1, 8)
        return self._aside("stands still beyond its lease", who, lambda: self._stand(who, begins, seconds))

    def _stand(self, who: str, begins: float, seconds: float) -> None:
        if who in SERVICES:
            with paused(self._client, who):
                time.sleep(seconds)
            return
        own = self._jobs.start("services.transformer") if who == "transformer job" else None
        job = own or self._jobs.running("services.extractor", 10)
        if job is not None:
            time.sleep(begins)
            with frozen(job):
                time.sleep(seconds)
        if own is not None:
            self._jobs.ended(own)

    def _job(self, kind: str, module: str, *arguments: str) -> str:
        def run() -> None:
            self._jobs.run(module, *arguments)

        return self._aside(kind, "", run)

    def _aside(self, kind: str, which: str, work: Callable[[], None]) -> str:
        """Do something that takes long beside the other troubles: the world goes on meanwhile."""
        if kind in self._beside and not self._beside[kind].done():
            return "not yet, the last one goes on"

        def quietly() -> None:
            try:
                work()
            except _PASSING:
                self.counts[f"{kind}, hindered by another"] += 1

        self._beside[kind] = self._pool.submit(quietly)
        return which

    # the warehouse and the source

    def _refuse(self) -> str:
        """As BigQuery does when a quota is used up; what was to be refused and never came is refused no more."""
        what = self._random.choice(sorted(REFUSED))
        reason = self._random.choice(["quotaExceeded", "quotaExceeded", "rateLimitExceeded"])
        self._proxy.clear()
        self._proxy.add(
            Fault(*REFUSED[what], Action.ANSWER, times=self._random.randint(1, 3), status=403, reason=reason)
        )
        return what

    def _reload(self) -> str:
        """As a nightly load does, in one transaction: nobody may ever see the table empty."""
        name = self._random.choice(sorted(RELOADED))
        relation, pause = RELOADED[name], self._random.uniform(0, 1.5)

        def reload() -> None:
            with connect(self._client.stack.postgres) as connection, connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '20s'")  # writers hold theirs for long
                connection.execute(f"LOCK TABLE {relation} IN ACCESS EXCLUSIVE MODE")
                connection.execute(f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM {relation}")
                connection.execute(f"TRUNCATE {relation}")
                time.sleep(pause)
                connection.execute(f"INSERT INTO {relation} SELECT * FROM kept")

        return self._aside("truncated and loaded again", name, reload)

    # events and objects

    def _batches(self) -> list[Batch]:
        return [b for name in self._client.tables.names() for b in self._client.state.batches_of_table(name)]

    def _events_again(self) -> str:
        settings = self._client.settings
        known = self._batches()
        topic = self._publisher.topic_path(PROJECT, LANDING_TOPIC)
        loaded = self._publisher.topic_path(PROJECT, settings.batch_loaded_topic)
        for batch in self._random.sample(known, min(3, len(known))) * 3:
            name = manifest_object(settings.landing_prefix, batch.table, batch.id)
            attributes = {"eventType": "OBJECT_FINALIZE", "bucketId": settings.landing_bucket, "objectId": name}
            self._publisher.publish(topic, b"{}", objectGeneration="1", **attributes).result(timeout=10)
            self._publisher.publish(loaded, b"{}", eventType="batch.loaded", batchId=batch.id).result(timeout=10)
        return ""

    def _damage(self) -> str:
        """The first part that lands while the loader stands still."""
        until = time.monotonic() + 6
        with paused(self._client, "loader"):
            parts: list[str] = []
            while not parts and time.monotonic() < until:
                time.sleep(0.1)
                parts = [name for name in self._client.landed() if name.endswith(".parquet")]
            if parts:
                self.damaged.add(parts[0])
                self._client.objects.replace(
                    self._client.settings.landing_bucket, parts[0], b"PAR1 damaged PAR1", "text/plain"
                )
        return ""

    def _foreign(self) -> str:
        for _ in range(self._random.randint(1, 3)):
            self.foreign.drop()
        return ""

    def _drop(self) -> str:
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
            stored, table = self._random.choice(parts)
            content = self._client.objects.read(stored.bucket, stored.name)
            if content and content.startswith(b"PAR1") and b"damaged" not in content[:20]:
                self._dropped += 1
                name = f"{settings.landing_prefix}/by_hand/{table}-soak-{self._dropped}.parquet"
                self._client.objects.create(settings.landing_bucket, name, io.BytesIO(content), PARQUET)
        return ""
