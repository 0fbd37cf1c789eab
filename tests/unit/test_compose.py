"""What docker-compose.yml promises. Nothing is started; `docker compose config` is checked by .ci/containers."""

import ast
import copy
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from local.stack.resources import LANDING_TOPIC, ResourceSettings
from local.stack.services import service_variables
from services.core.settings import ExtractorSettings, LoaderSettings, TransformerSettings, read_settings
from tests.unit.test_dockerfiles import stages

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docker-compose.yml").read_text()

ONCE = {"setup", "extractor", "sample", "data-loader"}
PROFILES = {"scheduler": ["scheduler"], "audit": ["scheduler"], "sample": ["sample"], "data-loader": ["data-loader"]}
CONFIGURED: dict[str, type[BaseSettings]] = {
    "extractor": ExtractorSettings,
    "scheduler": ExtractorSettings,
    "loader": LoaderSettings,
    "transformer": TransformerSettings,
    "audit": TransformerSettings,
    "setup": ResourceSettings,
}
ENDPOINTS = {
    "extractor": {"STORAGE", "FIRESTORE"},
    "scheduler": {"STORAGE", "FIRESTORE"},
    "loader": {"STORAGE", "FIRESTORE", "BIGQUERY", "PUBSUB"},
    "transformer": {"STORAGE", "FIRESTORE", "BIGQUERY"},
    "audit": {"STORAGE", "FIRESTORE", "BIGQUERY"},
    "setup": {"STORAGE", "BIGQUERY", "PUBSUB"},
    "storage": {"PUBSUB"},
}
"""Whom a service talks to: without one of them it would turn to Google."""

LIBPQ = {"PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD"}
FOREIGN_VARIABLES = {
    "postgres": {"POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"},
    "storage": {"PUBSUB_EMULATOR_HOST"},
    "pubsub": {"JAVA_TOOL_OPTIONS"},
    "firestore": {"JAVA_TOOL_OPTIONS"},
    "sample": LIBPQ | {"SAMPLE_ROWS"},
    "data-loader": LIBPQ,
    "setup": LIBPQ,
}

Compose = dict[str, Any]


def interpolated(value: Any) -> Any:
    """A value as Compose sees it where no variable is set."""
    if isinstance(value, dict):
        return {name: interpolated(each) for name, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each) for each in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", value).replace("$$", "$")


def load() -> Compose:
    compose: Compose = yaml.safe_load(TEXT)
    return compose


def problems(compose: Compose) -> list[str]:
    """What a compose file does not keep."""
    services = compose["services"]
    found = []
    for name, service in services.items():
        found += [f"{name}: {problem}" for problem in _lifetime(name, service) + _isolation(service)]
        for other, needed in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            if needed.get("condition") != wanted:
                found.append(f"{name}: needs {other}, but not by {wanted}")
        found += [f"{name}: {problem}" for problem in _environment(name, interpolated(service), services)]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    for part in (r"\{\w+", r"-\d+"):
        if len({tuple(re.findall(part, port)) for port in ports}) != len(ports):
            found.append("two ports have the same variable or default")
    mounted = {volume.split(":")[0] for s in services.values() for volume in s.get("volumes", []) if ":" in volume}
    if mounted != compose["volumes"].keys():
        found.append(f"volumes declared {sorted(compose['volumes'])}, used {sorted(mounted)}")
    return found


def _lifetime(name: str, service: Compose) -> list[str]:
    found = []
    if name in ONCE and ("restart" in service or "healthcheck" in service):
        found.append("runs once, but is restarted or checked")
    if name not in ONCE and (
        "test" not in service.get("healthcheck", {}) or service.get("restart") != "unless-stopped"
    ):
        found.append("no health check, or not restarted")
    if service.get("profiles", []) != PROFILES.get(name, []):
        found.append("another profile")
    if "container_name" in service:
        found.append("a fixed container name")
    return found


def _isolation(service: Compose) -> list[str]:
    found = [
        f"port {port}"
        for port in service.get("ports", [])
        if not re.fullmatch(r"127\.0\.0\.1:\$\{CREDIX_\w+_PORT:-\d+\}:\d+", port)
    ]
    repository, _, tag = interpolated(service["image"]).rpartition(":")
    if not repository or "/" in tag or tag in ("", "latest"):
        found.append("the image has no tag")
    if "build" in service:
        if not (REPOSITORY / service["build"]["dockerfile"]).exists():
            found.append("no such Dockerfile")
        confined = service.get("read_only") and service.get("cap_drop") == ["ALL"] and "tmpfs" in service
        if not confined or "privileged" in service:
            found.append("not confined")
    if any("docker.sock" in str(volume) for volume in service.get("volumes", [])):
        found.append("may command Docker")
    return found


def _environment(name: str, service: Compose, services: Compose) -> list[str]:
    variables: dict[str, str] = service.get("environment", {})
    known = set(FOREIGN_VARIABLES.get(name, set()))
    found = []
    if settings := CONFIGURED.get(name):
        known |= service_variables(settings, variables).keys()
        for field, info in settings.model_fields.items():
            aliases = getattr(info.validation_alias, "choices", None) or [field.upper()]
            if info.is_required() and not any(variables.get(alias) for alias in aliases):
                found.append(f"{aliases[0]} is required")
    found += [f"nobody reads {variable}" for variable in variables.keys() - known]
    given = {variable.removesuffix("_EMULATOR_HOST") for variable in variables if variable.endswith("_EMULATOR_HOST")}
    if given != ENDPOINTS.get(name, set()):
        found.append(f"emulators {sorted(given)}")
    for kind in given:
        host, port = variables[f"{kind}_EMULATOR_HOST"].removeprefix("http://").split(":")
        if not any(published.endswith(f":{port}") for published in services.get(host, {}).get("ports", [])):
            found.append(f"{kind} is not at {host}:{port}")
    return found


def test_the_file_keeps_what_it_promises() -> None:
    assert problems(load()) == []


def _set(path: str, value: Any) -> Callable[[Compose], None]:
    def change(compose: Compose) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            compose = compose[parent]
        if value is None:
            del compose[last]
        else:
            compose[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("services/loader/healthcheck", None),
        _set("services/scheduler/restart", None),
        _set("services/setup/restart", "always"),
        _set("services/loader/container_name", "loader"),
        _set("services/sample/profiles", None),
        _set("services/extractor/depends_on", {"setup": {"condition": "service_started"}}),
        _set("services/loader/depends_on", {"storage": {"condition": "service_started"}}),
        _set("services/postgres/ports", ["5432:5432"]),
        _set("services/postgres/ports", ["127.0.0.1:5432:5432"]),
        _set("services/postgres/ports", ["127.0.0.1:${CREDIX_STORAGE_PORT:-5432}:5432"]),
        _set("services/postgres/ports", ["127.0.0.1:${CREDIX_POSTGRES_PORT:-4443}:5432"]),
        _set("services/postgres/image", "postgres"),
        _set("services/postgres/image", "postgres:latest"),
        _set("services/loader/read_only", False),
        _set("services/loader/cap_drop", None),
        _set("services/scheduler/volumes", ["/var/run/docker.sock:/var/run/docker.sock"]),
        _set("services/extractor/environment/POSTGRES_HOST", None),
        _set("services/extractor/environment/POSTGRESS_PORT", "5432"),
        _set("services/loader/environment/DBT_TARGET", "emulator"),
        _set("services/loader/environment/BIGQUERY_EMULATOR_HOST", None),
        _set("services/loader/environment/BIGQUERY_EMULATOR_HOST", "http://warehouse:9999"),
        _set("services/transformer/environment/STORAGE_EMULATOR_HOST", "http://bucket:4443"),
        _set("volumes/storage", None),
        _set("volumes/other", {}),
    ],
)
def test_a_promise_not_kept_is_noticed(change: Callable[[Compose], None]) -> None:
    compose = copy.deepcopy(load())
    change(compose)
    assert problems(compose) != []


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_service_can_read_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    for variable, value in interpolated(load()["services"][name]["environment"]).items():
        monkeypatch.setenv(variable, value)
    settings = read_settings(CONFIGURED[name])
    assert getattr(settings, "dbt_target", "emulator") == ("emulator" if name != "setup" else "gcp")
    assert getattr(settings, "state_backend", None) == "firestore"


def test_the_bucket_tells_the_loaders_topic_about_what_lands() -> None:
    services = interpolated(load()["services"])
    flags = dict(flag.removeprefix("-").split("=", 1) for flag in services["storage"]["command"])
    fields = LoaderSettings.model_fields
    assert flags["event.pubsub-topic"] == LANDING_TOPIC
    assert flags["event.pubsub-project-id"] == services["loader"]["environment"]["GCP_PROJECT"]
    assert flags["event.bucket"] == fields["landing_bucket"].default
    assert flags["event.object-prefix"] == f"{fields['landing_prefix'].default}/"
    assert flags["external-url"] == services["loader"]["environment"]["STORAGE_EMULATOR_HOST"]


def test_the_warehouse_reads_the_files_that_the_bucket_writes() -> None:
    services = interpolated(load()["services"])
    final = dict(stages((REPOSITORY / "local/warehouse/Dockerfile").read_text())[-1])
    root = "/volumes/storage"
    assert f"-filesystem-root={root}" in services["storage"]["command"]
    assert f'"--gcs-root", "{root}"' in final["CMD"]
    assert f"storage:{root}" in services["storage"]["volumes"]
    assert f"storage:{root}" in services["warehouse"]["volumes"]
    assert services["storage"]["user"] == final["USER"]


def test_events_are_pushed_to_the_services() -> None:
    services = load()["services"]
    for name in ("loader", "transformer"):
        assert f"--{name}-url=http://{name}:8080/" in services["setup"]["command"]
        assert services[name]["ports"][0].endswith(":8080")


def test_the_source_has_logical_wal() -> None:
    assert "wal_level=logical" in load()["services"]["postgres"]["command"]


def test_data_files_are_read_only_and_never_made() -> None:
    [mount] = load()["services"]["data-loader"]["volumes"]
    assert (mount["type"], mount["target"], mount["read_only"]) == ("bind", "/data", True)
    assert mount["bind"] == {"create_host_path": False}


def test_the_password_is_one_variable_with_one_default() -> None:
    values = re.findall(r"PASSWORD: (.+)", TEXT)
    assert len(values) == 3
    assert set(values) == {"${POSTGRES_PASSWORD:-only-on-this-machine}"}


@pytest.mark.parametrize("name", ["setup", "sample", "data-loader"])
def test_a_program_in_the_file_uses_what_is_there(name: str) -> None:
    program = load()["services"][name]["command"][2]
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def test_every_variable_is_documented() -> None:
    documented = (REPOSITORY / "docs" / "docker.md").read_text()
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    assert {variable for variable in variables if f"`{variable}`" not in documented} == set()
