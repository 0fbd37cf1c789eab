"""What a stack would start: commands, environments, ports, resources. Nothing is started."""

import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from local.stack.component import Component
from local.stack.emulators import JavaEmulators, emulators_available, find_java_emulators
from local.stack.environment import environment, pipeline_variables, source_variables
from local.stack.errors import NotInstalledError
from local.stack.options import StackOptions
from local.stack.plan import PORT_NAMES, Programs, plan_components
from local.stack.ports import choose_ports
from local.stack.postgres import Cluster, PostgresAccess
from local.stack.postgres_programs import Binaries, find_binaries
from local.stack.record import Stack
from local.stack.resources import ResourceSettings, plan_resources
from local.stack.services import service_variables
from services.core.settings import (
    CoreSettings,
    ExtractorSettings,
    LoaderSettings,
    OpsSettings,
    TransformerSettings,
    read_settings,
)

PORTS = {name: 20000 + number for number, name in enumerate(PORT_NAMES)}
SECRET = "never-on-a-command-line"  # noqa: S105
CLUSTER = Cluster(
    folder=Path("/home/somebody/.credix/postgres"),
    user="postgres",
    superuser_password=SecretStr(SECRET),
    password=SecretStr(SECRET),
)
EMBEDDED = Programs(Path("/bin/gcs"), (Binaries(Path("/opt/pg/bin"), 17), CLUSTER), None)
JAVA = JavaEmulators(Path("/bin/java"), Path("/opt/pubsub.jar"), Path("/opt/firestore.jar"))
EMULATORS = Programs(Path("/bin/gcs"), (Binaries(Path("/opt/pg/bin"), 17), CLUSTER), JAVA)


def planned(options: StackOptions, programs: Programs = EMBEDDED) -> dict[str, Component]:
    return {component.name: component for component in plan_components(options, PORTS, programs)}


def argument(component: Component, name: str) -> str:
    return component.argv[component.argv.index(name) + 1]


def test_the_embedded_profile_starts_each_component_after_those_it_talks_to() -> None:
    names = list(planned(StackOptions(home=Path("/x"))))
    assert names == ["postgres", "bus", "warehouse", "storage", "loader", "transformer"]


def test_the_emulators_profile_adds_firestore_and_google_s_bus() -> None:
    components = planned(StackOptions(profile="emulators", home=Path("/x")), EMULATORS)
    assert list(components) == ["postgres", "bus", "state", "warehouse", "storage", "loader", "transformer"]
    assert components["bus"].argv[:4] == ("/bin/java", "-Xmx256m", "-jar", "/opt/pubsub.jar")
    assert "-Xmx256m" in components["state"].argv


def test_a_given_database_is_not_started() -> None:
    options = StackOptions(home=Path("/x"), postgres_dsn="postgresql://u:p@h/db")
    assert "postgres" not in planned(options, Programs(Path("/bin/gcs"), None, None))


def test_services_can_be_left_out() -> None:
    assert not {"loader", "transformer"} & planned(StackOptions(home=Path("/x"), services=False)).keys()


@pytest.mark.parametrize(("profile", "programs"), [("embedded", EMBEDDED), ("emulators", EMULATORS)])
def test_no_component_holds_a_secret_and_all_listen_on_the_loopback_only(profile: str, programs: Programs) -> None:
    for component in planned(StackOptions.model_validate({"profile": profile, "home": "/x"}), programs).values():
        assert SECRET not in component.model_dump_json()
        assert "0.0.0.0" not in component.command  # noqa: S104
        for port in component.ports.values():
            assert any(str(port) in part for part in component.argv)


def test_the_bucket_announces_landed_objects_only() -> None:
    storage = planned(StackOptions(home=Path("/x")))["storage"]
    assert argument(storage, "-event.bucket") == "data_lake_credix"
    assert argument(storage, "-event.object-prefix") == "business_case/landing/"
    assert argument(storage, "-event.list") == "finalize"
    assert argument(storage, "-event.pubsub-topic") == "credix-landing"
    assert storage.env["PUBSUB_EMULATOR_HOST"] == f"127.0.0.1:{PORTS['bus']}"


def test_the_warehouse_reads_the_bucket_s_files() -> None:
    components = planned(StackOptions(home=Path("/x")))
    assert argument(components["warehouse"], "--gcs-root") == argument(components["storage"], "-filesystem-root")


def test_postgres_runs_as_its_user_and_allows_logical_decoding_and_prepared_transactions() -> None:
    server = planned(StackOptions(home=Path("/x")))["postgres"]
    assert {"--wal_level=logical", "--max_prepared_transactions=16", "--timezone=UTC"} <= set(server.argv)
    assert "--listen_addresses=127.0.0.1" in server.argv
    assert server.user == "postgres"
    assert server.stop_signal == signal.SIGINT


def test_nothing_of_the_user_s_shell_reaches_a_component(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned(StackOptions(home=Path("/x")))
    monkeypatch.setenv("PATH", "/somewhere/else")
    monkeypatch.setenv("LANDING_BUCKET", "of-another-project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/real/key.json")
    assert planned(StackOptions(home=Path("/x"))) == before


def test_a_service_gets_its_own_variables_and_no_other_s() -> None:
    components = planned(StackOptions(home=Path("/x")))
    loader, transformer = components["loader"].env, components["transformer"].env
    assert not any(name.startswith("POSTGRES_") for name in (*loader, *transformer))
    assert loader["STATE_SQLITE_PATH"] == "/x/state.sqlite"
    assert loader["BIGQUERY_EMULATOR_HOST"] == f"http://127.0.0.1:{PORTS['warehouse-rest']}"
    assert loader["WORKERS"] == "1"
    assert int(loader["THREADS"]) > 1
    assert "DBT_PROFILES_DIR" not in loader
    assert transformer["DBT_PROFILES_DIR"].endswith("/dbt")
    assert transformer["DBT_TARGET"] == "emulator"


def test_a_setting_that_a_service_does_not_have_is_left_out() -> None:
    variables = {"LANDING_BUCKET": "l", "REPORT_BUCKET": "r", "UNKNOWN": "u", "STORAGE_EMULATOR_HOST": "s"}
    assert service_variables(LoaderSettings, variables) == {"LANDING_BUCKET": "l", "STORAGE_EMULATOR_HOST": "s"}
    assert service_variables(TransformerSettings, variables).keys() >= {"REPORT_BUCKET"}


@pytest.mark.parametrize("settings", [ExtractorSettings, LoaderSettings, TransformerSettings, OpsSettings])
@pytest.mark.parametrize("profile", ["embedded", "emulators"])
def test_the_variables_satisfy_every_service_s_settings(
    settings: type[CoreSettings], profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = StackOptions.model_validate({"profile": profile, "home": "/x"})
    access = PostgresAccess(host="h", port=1, database="d", user="u", password=SecretStr("p"), sslmode="disable")
    for name, value in (pipeline_variables(options, PORTS) | source_variables(access)).items():
        monkeypatch.setenv(name, value)
    read = read_settings(settings)
    assert read.gcp_project == "credix-local"
    assert read.state_backend == ("sqlite" if profile == "embedded" else "firestore")


def test_a_setting_given_reaches_the_service_that_has_it() -> None:
    given = planned(StackOptions(home=Path("/x"), variables={"TRANSFORM_LEASE": "3", "SWEEP_GRACE": "0"}))
    assert given["transformer"].env["TRANSFORM_LEASE"] == "3"
    assert "SWEEP_GRACE" not in given["transformer"].env
    assert given["loader"].env["SWEEP_GRACE"] == "0"


def test_only_the_emulators_profile_names_firestore() -> None:
    embedded = pipeline_variables(StackOptions(home=Path("/x")), PORTS)
    emulators = pipeline_variables(StackOptions(home=Path("/x"), profile="emulators"), PORTS)
    assert "FIRESTORE_EMULATOR_HOST" not in embedded
    assert emulators["FIRESTORE_EMULATOR_HOST"] == f"127.0.0.1:{PORTS['state']}"
    assert "STATE_SQLITE_PATH" not in emulators


def test_options_are_absolute_and_keep_a_connection_string_out_of_sight(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    options = StackOptions(postgres_dsn=f"postgresql://u:{SECRET}@h/db", tables_file=Path("tables.yaml"))
    assert options.home == tmp_path / ".credix"
    assert options.tables_file == tmp_path / "tables.yaml"
    assert SECRET not in repr(options) + options.model_dump_json()


def test_ports_are_free_distinct_and_not_the_kernel_s_to_give_away() -> None:
    ports = choose_ports(PORT_NAMES)
    assert list(ports) == list(PORT_NAMES)
    assert len(set(ports.values())) == len(PORT_NAMES)
    assert all(1024 < port < 32768 for port in ports.values())
    for port in ports.values():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_ports_of_an_earlier_run_are_used_again_unless_taken_meanwhile() -> None:
    first = choose_ports(["a", "b", "c"])
    with socket.socket() as other, socket.socket() as own:
        for taken, name in ((other, "b"), (own, "c")):
            taken.bind(("127.0.0.1", first[name]))
            taken.listen()
        second = choose_ports(["a", "b", "c"], preferred=first, keep=frozenset({"c"}))
    assert second["a"] == first["a"]
    assert second["b"] != first["b"]
    assert second["c"] == first["c"]


def test_a_port_remembered_twice_is_given_once() -> None:
    port = choose_ports(["a"])["a"]
    chosen = choose_ports(["a", "b"], preferred={"a": port, "b": port})
    assert chosen["a"] == port
    assert chosen["b"] != port


def test_every_topic_that_is_pushed_has_a_dead_letter_that_is_kept() -> None:
    plan = plan_resources(ResourceSettings.model_validate({"GCP_PROJECT": "p"}), "http://loader", "http://transformer")
    assert {(push.name, push.topic, push.endpoint) for push in plan.push} == {
        ("credix-loader", "credix-landing", "http://loader"),
        ("credix-transformer", "credix-batch-loaded", "http://transformer"),
    }
    for push in plan.push:
        assert push.dead_letter_topic == f"{push.topic}-dead-letter"
        assert {push.topic, push.dead_letter_topic} <= set(plan.topics)
        assert push.dead_letter_topic in {pull.topic for pull in plan.pull}
    assert {pull.name for pull in plan.pull} == {
        "credix-landing-dead-letter",
        "credix-batch-loaded-dead-letter",
        "credix-alerts",
    }
    assert plan.delivery.ack_deadline == timedelta(minutes=10)
    assert plan.delivery.maximum_attempts == 20


def test_only_temporary_tables_expire() -> None:
    plan = plan_resources(ResourceSettings.model_validate({"GCP_PROJECT": "p"}), "http://l", "http://t")
    assert {d.name: d.expiration for d in plan.datasets if d.expiration} == {"business_case_temp": timedelta(days=7)}
    assert {"business_case_bronze", "business_case_silver", "business_case_gold", "business_case_elementary"} <= {
        d.name for d in plan.datasets
    }
    assert plan.buckets == (
        "data_lake_credix",
        "data_lake_credix_archive",
        "credix-elementary-report",
        "credix-dbt-artifacts",
    )


def test_missing_emulators_are_named_with_the_way_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("JAVA_HOME", "CLOUDSDK_ROOT_DIR", "FIRESTORE_EMULATOR_JAR"):
        monkeypatch.delenv(name, raising=False)
    jar = tmp_path / "pubsub.jar"
    jar.touch()
    monkeypatch.setenv("PUBSUB_EMULATOR_JAR", str(jar))
    reason = emulators_available()
    assert reason is not None
    assert "Java 11" in reason
    assert "FIRESTORE_EMULATOR_JAR" in reason
    assert "PUBSUB_EMULATOR_JAR" not in reason


def test_emulators_are_found_in_the_cloud_cli_s_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    pubsub = tmp_path / "platform/pubsub-emulator/lib/cloud-pubsub-emulator-0.8.20-all.jar"
    firestore = tmp_path / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
    for file in (java, pubsub, firestore):
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.write_text("#!/bin/sh\n")
    gcloud.chmod(0o755)
    link = tmp_path / "elsewhere"
    link.mkdir()
    (link / "gcloud").symlink_to(gcloud)
    (link / "java").symlink_to(java)
    monkeypatch.setenv("PATH", str(link))
    for name in ("JAVA_HOME", "CLOUDSDK_ROOT_DIR", "FIRESTORE_EMULATOR_JAR", "PUBSUB_EMULATOR_JAR"):
        monkeypatch.delenv(name, raising=False)
    assert find_java_emulators() == JavaEmulators(link / "java", pubsub, firestore)
    assert emulators_available() is None


def fake_postgres(folder: Path, major: int) -> Path:
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {major}.4 (Debian)'\n")
        program.chmod(0o755)
    return folder


def test_data_is_started_with_the_version_that_made_it(tmp_path: Path) -> None:
    folders = [tmp_path / "empty", fake_postgres(tmp_path / "a", 18), fake_postgres(tmp_path / "b", 15)]
    assert find_binaries(None, None, folders) == Binaries(folders[1], 18)
    assert find_binaries(None, 15, folders) == Binaries(folders[2], 15)
    with pytest.raises(NotInstalledError, match=r"PostgreSQL 14.*\(18\).*\(15\)"):
        find_binaries(None, 14, folders)


def test_the_client_s_environment_is_the_pipeline_s_and_the_source_s() -> None:
    access = PostgresAccess(host="h", port=1, database="d", user="u", password=SecretStr("p"), sslmode="disable")
    stack = Stack(
        options=StackOptions(home=Path("/x")),
        ports=PORTS,
        postgres=access,
        components=(),
        processes={},
        started=datetime.now(UTC),
    )
    variables = environment(stack)
    assert variables["POSTGRES_PASSWORD"] == "p"  # noqa: S105
    assert variables["DBT_LOG_PATH"] == "/x/dbt/logs"
    assert variables["GOOGLE_CLOUD_PROJECT"] == variables["GCP_PROJECT"] == "credix-local"


@pytest.mark.parametrize("analyzer", ["auto", "on", "off"])
def test_the_warehouse_is_told_whether_to_analyze(tmp_path: Path, analyzer: Literal["auto", "on", "off"]) -> None:
    warehouse = planned(StackOptions(home=tmp_path, analyzer=analyzer))["warehouse"]
    assert argument(warehouse, "--analyzer") == analyzer
