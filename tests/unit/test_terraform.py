"""What the Terraform tree, the build and the workflow promise. Nothing is planned here: .ci/run does that, offline."""

import ast
import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from local.stack.resources import LANDING_TOPIC, LOADER_SUBSCRIPTION, TRANSFORMER_SUBSCRIPTION
from services.core.settings import (
    LoaderSettings,
    OpsSettings,
    TransformerSettings,
    read_settings,
)
from services.core.state.firestore import FORGET_AFTER
from services.core.tables import load_tables
from services.loader.progress import Progress
from services.ops.configuration import SERVICES, variable
from services.ops.warehouse_schema import declared_tables

REPOSITORY = Path(__file__).parents[2]
TERRAFORM = REPOSITORY / "terraform"
ENVIRONMENTS = ("dev", "prod")

Environment = dict[str, Any]


def environment() -> Environment:
    """What each service is given, as Terraform reads it."""
    declared: Environment = json.loads((TERRAFORM / "modules/services/environment.json").read_text())
    return declared


# ---- the settings and the environment

LEFT_OUT = {
    "TABLES_FILE": "the image has it where the default says",
    "STATE_SQLITE_PATH": "of the sqlite state, which is for one machine",
    "LOG_FORMAT": "auto is JSON where there is no terminal",
    "FAULT_FILE": "tests only",
    "CLOUD_RUN_EXECUTION": "Cloud Run sets it",
    "CLOUD_RUN_TASK_INDEX": "Cloud Run sets it",
    "CLOUD_RUN_TASK_COUNT": "Cloud Run sets it",
    "CLOUD_RUN_TASK_ATTEMPT": "Cloud Run sets it",
    "DBT_PROJECT_DIR": "the image has it where the default says",
    "DBT_PACKAGES_FOLDER": "the image has them where the default says",
    "DBT_TARGET": "the default is Google Cloud",
    "DBT_TARGET_PATH": "the image's only place to write is below /tmp",
    "DBT_LOG_PATH": "the image's only place to write is below /tmp",
}
"""Settings that Terraform gives to no service, and why."""

NO_SETTING = {"BIGQUERY_MAX_BYTES_BILLED": "dbt/profiles.yml"}
"""Variables that something else than a settings class reads, and what."""


def given(declared: Environment, service: str) -> set[str]:
    """Every variable that a service gets, or can get by the environment's values."""
    mine = declared[service]
    groups = {name for group in mine["groups"] for name in declared[group]}
    parts = [groups, set(mine["environment"]), set(mine["secrets"]), set(mine["tuning"])]
    assert sum(map(len, parts)) == len(set().union(*parts)), f"{service}: a variable is given twice"
    return set().union(*parts)


def problems(declared: Environment, services: Mapping[str, type[BaseSettings]]) -> list[str]:
    """Where the settings classes and Terraform's environment differ."""
    found = []
    for service, settings in services.items():
        read = {variable(name, field) for name, field in settings.model_fields.items()}
        desk = {"LOG_LEVEL"} if service == "credix" else set()  # the command runs at a desk, and is given there
        has = given(declared, service)
        found += [f"{service} reads {name}, and is not given it" for name in sorted(read - has - set(LEFT_OUT) - desk)]
        found += [f"{service} is given {name}, and does not read it" for name in sorted(has - read - set(NO_SETTING))]
        found += [f"{service} is given {name}: {LEFT_OUT[name]}" for name in sorted(has & set(LEFT_OUT))]
        found += [
            f"{service}: {variable(name, field)} is a secret, and in its plain environment"
            for name, field in settings.model_fields.items()
            if "SecretStr" in str(field.annotation) and variable(name, field) in has - set(declared[service]["secrets"])
        ]
    known = {variable(n, f) for settings in services.values() for n, f in settings.model_fields.items()}
    found += [f"nothing is left out by the name of {name}" for name in sorted(set(LEFT_OUT) - known)]
    return found


def test_every_service_is_given_what_it_reads_and_nothing_else() -> None:
    assert problems(environment(), SERVICES) == []


def _without(path: str) -> Callable[[Environment], None]:
    def change(declared: Environment) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            declared = declared[parent]
        if isinstance(declared, list):
            declared.remove(last)
        else:
            del declared[last]

    return change


def _with(path: str, name: str) -> Callable[[Environment], None]:
    def change(declared: Environment) -> None:
        for parent in path.split("/"):
            declared = declared[parent]
        if isinstance(declared, list):
            declared.append(name)
        else:
            declared[name] = "x"

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("common/LANDING_BUCKET"),
        _without("warehouse/DATASET_GOLD"),
        _without("extractor/environment/POSTGRES_HOST"),
        _without("extractor/secrets/POSTGRES_PASSWORD"),
        _without("loader/environment/LOAD_TIMEOUT"),
        _without("loader/tuning/SWEEP_GRACE"),
        _without("transformer/environment/REPORT_BUCKET"),
        _with("loader/environment", "LOAD_TIMOUT"),
        _with("loader/environment", "POSTGRES_HOST"),
        _with("transformer/tuning", "FAULT_FILE"),
        _with("common", "LOG_FORMAT"),
    ],
)
def test_a_variable_missing_on_either_side_is_noticed(change: Callable[[Environment], None]) -> None:
    declared = copy.deepcopy(environment())
    change(declared)
    assert problems(declared, SERVICES) != []


def test_a_new_setting_is_noticed() -> None:
    class Newer(LoaderSettings):
        newest: str = ""

    assert problems(environment(), SERVICES | {"loader": Newer}) == ["loader reads NEWEST, and is not given it"]


def test_a_secret_in_the_plain_environment_is_noticed() -> None:
    declared = copy.deepcopy(environment())
    declared["extractor"]["secrets"].remove("POSTGRES_PASSWORD")
    declared["extractor"]["environment"]["POSTGRES_PASSWORD"] = "${password}"  # noqa: S105
    assert problems(declared, SERVICES) == [
        "extractor: POSTGRES_PASSWORD is a secret, and in its plain environment",
    ]


@pytest.mark.parametrize(("name", "reader"), NO_SETTING.items())
def test_what_no_settings_class_reads_is_read_where_it_is_said(name: str, reader: str) -> None:
    assert f"env_var('{name}'" in (REPOSITORY / reader).read_text()
    assert f"`{name}`" in (REPOSITORY / "docs/configuration.md").read_text()


DEFAULT_FACTS = {
    "project_id": "p",
    "landing_bucket": "data_lake_credix",
    "archive_bucket": "data_lake_credix_archive",
    "report_bucket": "credix-elementary-report",
    "artifact_bucket": "credix-dbt-artifacts",
    "object_prefix": "business_case",
    "state_namespace": "credix",
    "firestore_database": "(default)",
    "late_after": "93600",
    "bigquery_location": "US",
    **{f"dataset_{layer}": f"business_case_{layer}" for layer in ("temp", "bronze", "silver", "gold", "elementary")},
    "batch_loaded_topic": "credix-batch-loaded",
    "alert_topic": "credix-alerts",
    "temp_table_days": "7",
    "load_timeout": "540",
    "max_bytes_billed": "",
    "usd_per_tib": "6.25",
    "postgres_host": "/cloudsql/p:r:i",
    "postgres_port": "5432",
    "postgres_db": "credix_transactions",
    "postgres_user": "u",
    "postgres_sslmode": "disable",
    "dead_letter_subscriptions": "credix-landing-dead-letter,credix-batch-loaded-dead-letter",
}
"""What Terraform fills in for prod's names, or without values of one's own."""

DIFFERENT = {
    "gcp_project": "of the environment",
    "postgres_host": "of the environment",
    "postgres_user": "of the environment",
    "postgres_sslmode": "the socket of Cloud SQL encrypts by itself",
}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_what_it_is_given_and_the_names_are_its_own_defaults(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SERVICES[service]
    for name, field in settings.model_fields.items():
        monkeypatch.delenv(variable(name, field), raising=False)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    filled = json.loads(Template(json.dumps(environment())).substitute(DEFAULT_FACTS))
    for group in (*(filled[group] for group in filled[service]["groups"]), filled[service]["environment"]):
        for name, value in group.items():
            monkeypatch.setenv(name, value)
    read = read_settings(settings)
    changed = {n for n, f in settings.model_fields.items() if not f.is_required() and getattr(read, n) != f.default}
    assert changed - set(DIFFERENT) == set()


def test_terraform_fills_in_every_fact() -> None:
    facts = re.search(r"  facts = \{\n(.*?)\n  \}\n", (TERRAFORM / "modules/pipeline/main.tf").read_text(), re.DOTALL)
    assert facts
    named = set(re.findall(r"^    (\w+) +=", facts[1], re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)\}", json.dumps(environment())))
    assert used <= named
    assert set(DEFAULT_FACTS) == named


# ---- the tree


def blocks(kind: str, text: str) -> dict[str, str]:
    """The blocks `kind "name" {` of a formatted file, by name."""
    found = re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', text, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_environments_differ_in_values_and_in_nothing_else() -> None:
    texts = [(TERRAFORM / f"environments/{name}/main.tf").read_text().replace(name, "NAME") for name in ENVIRONMENTS]
    assert texts[0] == texts[1]
    for name in ENVIRONMENTS:
        root = TERRAFORM / "environments" / name
        assert (root / "variables.tf").resolve() == (TERRAFORM / "modules/pipeline/variables.tf").resolve()
        assert (root / "tests/environment.tftest.hcl").resolve() == (
            TERRAFORM / "tests/environment.tftest.hcl"
        ).resolve()


def test_an_environment_hands_on_every_variable() -> None:
    declared = blocks("variable", (TERRAFORM / "modules/pipeline/variables.tf").read_text())
    for name in ENVIRONMENTS:
        handed = re.findall(
            r"^  (\w+) += var\.(\w+)$", (TERRAFORM / f"environments/{name}/main.tf").read_text(), re.MULTILINE
        )
        assert all(left == right for left, right in handed if left in declared)
        assert {left for left, _ in handed} >= declared.keys()


UNCHECKED = {"deletion_protection": "a bool", "report_public": "a bool"}


def test_every_variable_is_described_and_checked() -> None:
    declared = blocks("variable", (TERRAFORM / "modules/pipeline/variables.tf").read_text())
    assert len(declared) > 20
    unchecked = {name for name, text in declared.items() if "validation {" not in text}
    assert unchecked == set(UNCHECKED)
    for file in TERRAFORM.glob("modules/**/*.tf"):
        for name, text in blocks("variable", file.read_text()).items():
            assert "description =" in text, f"{file}: variable {name}"
        for name, text in blocks("output", file.read_text()).items():
            assert "description =" in text, f"{file}: output {name}"


def test_only_googles_provider_and_no_key_of_an_account() -> None:
    text = "\n".join(file.read_text() for file in TERRAFORM.glob("**/*.tf"))
    assert set(re.findall(r'source = "(hashicorp/[\w-]+)", version = "([^"]+)"', text)) == {
        ("hashicorp/google", "~> 8.7")
    }
    assert set(re.findall(r'^resource "(\w+?)_', text, re.MULTILINE)) == {"google"}
    for never in ("google_service_account_key", "google_secret_manager_secret_version", "allAuthenticatedUsers"):
        assert never not in text
    assert text.count('"allUsers"') == 1, "the report, when it is asked for"


def test_the_names_are_those_of_the_local_stack() -> None:
    """terraform/tests asserts these very names; here they are compared with the local stack's."""
    text = (TERRAFORM / "tests/modules.tftest.hcl").read_text()
    fields = LoaderSettings.model_fields
    for name in (
        LANDING_TOPIC,
        LOADER_SUBSCRIPTION,
        TRANSFORMER_SUBSCRIPTION,
        fields["batch_loaded_topic"].default,
        fields["alert_topic"].default,
        *OpsSettings.model_fields["dead_letter_subscriptions"].default.split(","),
    ):
        assert f'"{name}"' in text
    prod = (TERRAFORM / "environments/prod/terraform.tfvars").read_text()
    for field in ("landing_bucket", "archive_bucket", "report_bucket", "artifact_bucket"):
        assert f'"{TransformerSettings.model_fields[field].default}"' in prod


def test_the_stable_tables_have_the_declared_columns() -> None:
    declared = declared_tables(load_tables(REPOSITORY / "config/tables.yaml"))
    assert (TERRAFORM / "modules/warehouse/declared_tables.json").read_text() == declared, "make docs"


def test_firestore_forgets_by_the_field_that_is_written() -> None:
    text = (TERRAFORM / "modules/state/main.tf").read_text()
    assert re.search(rf'field      = "{FORGET_AFTER}"\n  ttl_config \{{\}}', text)
    assert 'collection = "${var.namespace}-runs"' in text


# ---- metrics from the log


def log_calls() -> Iterator[tuple[str, set[str]]]:
    """Every line that a service logs: its name and the fields it is given by name."""
    for file in (REPOSITORY / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
            if not named or not isinstance(node, ast.Call) or not isinstance(node.args[0], ast.Constant):
                continue
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "log":
                fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                if any("table_progress" in ast.unparse(k.value) for k in node.keywords if not k.arg):
                    fields |= set(Progress.__dataclass_fields__)
                yield str(node.args[0].value), fields


def test_every_metric_is_of_a_line_that_is_logged_with_its_fields() -> None:
    text = (TERRAFORM / "modules/observability/metrics.tf").read_text()
    counted = re.findall(r'message = "([\w.]+)", label = (?:"(\w+)"|null)', text)
    measured = re.findall(r'message = "([\w.]+)", field = "(\w+)"', text)
    assert len(counted) == 10
    assert len(measured) == 2
    calls = list(log_calls())
    for message, field in [*counted, *measured, *((message, "table") for message, _ in measured)]:
        lines = [fields for name, fields in calls if name == message]
        assert lines, f"nobody logs {message}"
        assert all(not field or field in fields for fields in lines), f"{message} without {field}"


def test_every_alert_has_its_paragraph_in_the_runbook() -> None:
    text = (TERRAFORM / "modules/observability/alerts.tf").read_text()
    titles = re.findall(r'title += "([^"]+)"', text)
    assert len(titles) == 14
    runbook = (REPOSITORY / "docs/operations.md").read_text()
    assert [title for title in titles if f"\n### {title}\n" not in runbook] == []


def test_every_account_is_in_the_table_of_identities() -> None:
    accounts = re.search(
        r"  accounts += \{ for purpose in \[(.*?)\]", (TERRAFORM / "modules/names/main.tf").read_text()
    )
    assert accounts
    documented = (REPOSITORY / "docs/security.md").read_text()
    assert [name for name in re.findall(r'"(\w+)"', accounts[1]) if f"| `{name}` |" not in documented] == []


def test_an_instance_takes_as_many_requests_as_it_has_threads() -> None:
    variables = blocks("variable", (TERRAFORM / "modules/pipeline/variables.tf").read_text())
    for service in ("loader", "transformer"):
        threads = re.search(r"THREADS=(\d+)", (REPOSITORY / f"services/{service}/Dockerfile").read_text())
        assert threads
        assert f"concurrency   = optional(number, {threads[1]})" in re.sub(r" += ", "   = ", variables[service])
        assert f"var.{service}.concurrency <= {threads[1]}" in variables[service]


def test_status_and_alert_are_late_at_the_same_time() -> None:
    variables = blocks("variable", (TERRAFORM / "modules/pipeline/variables.tf").read_text())
    hours = LoaderSettings.model_fields["late_after"].default.total_seconds() / 3600
    assert re.search(rf"lag_hours +=\s+optional\(number, {hours:.0f}\)", variables["alerts"])
    assert (
        "late_after         = tostring(var.alerts.lag_hours * 3600)"
        in (TERRAFORM / "modules/pipeline/main.tf").read_text()
    )


def test_the_loaders_own_limit_is_terraforms_default() -> None:
    variables = blocks("variable", (TERRAFORM / "modules/pipeline/variables.tf").read_text())
    seconds = LoaderSettings.model_fields["load_timeout"].default.total_seconds()
    assert re.search(rf"load_timeout += optional\(number, {seconds:.0f}\)", variables["loader"])


# ---- the build and the workflow


def build() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "cloudbuild.yaml").read_text())
    return loaded


def build_problems(build: dict[str, Any]) -> list[str]:
    """What a build does not keep."""
    steps = {step["id"]: step for step in build["steps"]}
    found = []
    known = {"id", "name", "waitFor", "script", "env"}
    found += [f"{step['id']}: {sorted(step.keys() - known)}" for step in build["steps"] if step.keys() - known]
    before: dict[str, set[str]] = {}
    """Of each step, all that has ended before it."""
    for step in build["steps"]:
        direct = set(step.get("waitFor", [])) - {"-"}
        if not direct <= before.keys() or "waitFor" not in step:
            found.append(f"{step['id']}: waits for what does not come before it, or for nothing that is said")
        before[step["id"]] = direct.union(*(before.get(each, set()) for each in direct))
        if not re.search(r"#!/bin/(sh -eu|bash\nset -euo pipefail)\n", step["script"]):
            found.append(f"{step['id']}: goes on after a failure")
        if re.search(r":[^:/]*latest|^[^:]+$", step["name"]):
            found.append(f"{step['id']}: an image without a version")

    order = {"scan": {"build-extractor", "build-loader", "build-transformer"}, "push": {"lint-and-test", "scan"}}
    order |= {"deploy": {"push", "plan"}, "smoke": {"deploy"}}
    for step, needed in order.items():
        if step not in steps or not needed <= before[step]:
            found.append(f"{step}: not after {sorted(needed)}")
    used = set(re.findall(r"\$\{?(_[A-Z]+(?:_[A-Z]+)*)", json.dumps(build)))
    if used != build["substitutions"].keys():
        found.append(f"substitutions that are not the used ones: {sorted(used ^ build['substitutions'].keys())}")
    if ".digest" not in steps["deploy"]["script"] or "$COMMIT_SHA" in steps["deploy"]["script"]:
        found.append("deployed by tag")
    return found


def test_the_build_keeps_what_it_promises() -> None:
    assert build_problems(build()) == []


@pytest.mark.parametrize(
    ("step", "key", "value"),
    [
        ("push", "waitFor", ["lint-and-test"]),
        ("deploy", "waitFor", ["push"]),
        ("deploy", "waitFor", ["smoke"]),
        ("smoke", "waitFor", ["plan"]),
        ("scan", "script", "gcloud artifacts docker images scan"),
        ("scan", "name", "gcr.io/google.com/cloudsdktool/google-cloud-cli"),
        ("deploy", "script", '#!/bin/sh -eu\ngcloud run services update --image="$_IMAGES/loader:$COMMIT_SHA"'),
        ("plan", "args", ["plan"]),
    ],
)
def test_a_promise_of_the_build_not_kept_is_noticed(step: str, key: str, value: object) -> None:
    changed = build()
    next(each for each in changed["steps"] if each["id"] == step)[key] = value
    assert build_problems(changed) != []


@pytest.mark.parametrize("step", build()["steps"], ids=lambda step: str(step["id"]))
def test_a_script_of_the_build_is_one(step: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(step["script"])
    shell = "bash" if step["script"].startswith("#!/bin/bash") else "sh"
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SUBSTITUTIONS = {
    "_ENVIRONMENT": "dev",
    "_REGION": "region",
    "_PREFIX": "credix",
    "_SUFFIX": "-dev",
    "_IMAGES": "registry/images",
    "_SEVERITY": "CRITICAL",
    "_BIGQUERY_LOCATION": "US",
    "_DATASETS": "business_case",
    "_MAX_BYTES_BILLED": "1000",
    "PROJECT_ID": "p",
    "COMMIT_SHA": "c0ffee",
}


def run_step(step: str, folder: Path, program: str, answers: str, **changed: str) -> tuple[int, list[str]]:
    """Run a step's script in a folder with a stand-in for the program that it calls; returns its end and the calls."""
    stand_in = folder / "bin" / program
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/calls"\n{answers}\n')
    stand_in.chmod(0o755)
    script = folder / "script"
    script.write_text(next(each["script"] for each in build()["steps"] if each["id"] == step))
    script.chmod(0o755)
    environment = {"PATH": f"{stand_in.parent}:/usr/bin:/bin", **SUBSTITUTIONS, **changed}
    done = subprocess.run([str(script)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    calls = folder / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_the_transformers_image_is_built_for_the_names_that_it_will_be_given(tmp_path: Path) -> None:
    """Only where they are the same, dbt goes on from the image's parse state."""
    ended, [call] = run_step("build-transformer", tmp_path, "docker", "", IMAGE="transformer")
    assert ended == 0
    arguments = dict(re.findall(r"--build-arg (\w+)=(\S+)", call))
    dockerfile = (REPOSITORY / "services/transformer/Dockerfile").read_text()
    taken = set(re.findall(r"\b([A-Z_]+)(?:=\S+)?", " ".join(re.findall(r"^ARG (.*)$", dockerfile, re.MULTILINE))))
    assert arguments.keys() <= taken
    assert arguments["DATASET_GOLD"] == "business_case_gold_dev"
    assert (arguments["GCP_PROJECT"], arguments["DBT_TARGET"]) == ("p", "gcp")
    assert "--file services/transformer/Dockerfile --tag registry/images/transformer:c0ffee" in call


def test_the_other_images_are_the_same_everywhere(tmp_path: Path) -> None:
    ended, [call] = run_step("build-loader", tmp_path, "docker", "", IMAGE="loader")
    assert ended == 0
    assert "--build-arg" not in call


@pytest.mark.parametrize(
    ("severity", "found", "code"),
    [
        ("CRITICAL", "MEDIUM\nHIGH", 0),
        ("CRITICAL", "LOW\nCRITICAL", 1),
        ("HIGH", "LOW\nCRITICAL", 1),
        ("HIGH", "HIGH", 1),
        ("HIGH", "MEDIUM", 0),
        ("CRITICAL", "", 0),
    ],
)
def test_a_scan_stops_the_build_from_its_severity_on(severity: str, found: str, code: int, tmp_path: Path) -> None:
    answers = f"case \"$*\" in *list-vuln*) printf '{found}\\n';; *) echo scans/1;; esac"
    ended, calls = run_step("scan", tmp_path, "gcloud", answers, _SEVERITY=severity)
    assert ended == code
    assert len(calls) == (2 if code else 6), "all images, or up to the one that is refused"


def test_a_scan_that_cannot_be_made_stops_the_build(tmp_path: Path) -> None:
    assert run_step("scan", tmp_path, "gcloud", "exit 1")[0] == 1


def test_a_push_leaves_the_digests(tmp_path: Path) -> None:
    answers = 'case "$*" in *inspect*) image=${5%:*}; echo "other/$image@sha256:0"; echo "$image@sha256:1";; esac'
    assert run_step("push", tmp_path, "docker", answers)[0] == 0
    for image in ("extractor", "loader", "transformer"):
        assert (tmp_path / f"{image}.digest").read_text() == f"registry/images/{image}@sha256:1\n"


def test_a_push_without_a_digest_stops_the_build(tmp_path: Path) -> None:
    assert run_step("push", tmp_path, "docker", "")[0] != 0


def test_a_deployment_is_by_digest(tmp_path: Path) -> None:
    for image in ("extractor", "loader", "transformer"):
        (tmp_path / f"{image}.digest").write_text(f"registry/images/{image}@sha256:1\n")
    ended, calls = run_step("deploy", tmp_path, "gcloud", "")
    assert ended == 0
    options = "--region=region --image=registry/images"
    assert f"run services update credix-loader-dev {options}/loader@sha256:1 --quiet" in calls
    assert f"run jobs update credix-sweep-dev {options}/loader@sha256:1 --quiet" in calls
    assert len(calls) == 7


@pytest.mark.parametrize(("code", "ended"), [(0, 0), (1, 1), (2, 0)])
def test_a_plan_with_changes_waits_for_a_person_and_one_that_fails_stops_the_build(
    code: int, ended: int, tmp_path: Path
) -> None:
    (tmp_path / "terraform/environments/dev").mkdir(parents=True)
    answers = f'case "$1" in plan) exit {code};; esac'
    assert run_step("plan", tmp_path, "terraform", answers)[0] == ended


def test_the_build_deploys_every_service_and_job() -> None:
    names = (TERRAFORM / "modules/names/main.tf").read_text()
    wanted = set()
    for kind in ("services", "jobs"):
        purposes = re.search(rf"  {kind} += \{{ for purpose in \[(.*?)\]", names)
        assert purposes
        wanted |= {(kind, purpose) for purpose in re.findall(r'"(\w+)"', purposes[1])}
    script = next(step["script"] for step in build()["steps"] if step["id"] == "deploy")
    deployed = re.findall(r"^deploy (\w+) (\w+) (\w+)$", script, re.MULTILINE)
    assert {(kind, purpose) for kind, purpose, _ in deployed} == wanted
    jobs = re.findall(r'(\w+) += merge\(.*?of = "(\w+)"', (TERRAFORM / "modules/services/main.tf").read_text())
    assert {purpose: image for kind, purpose, image in deployed if kind == "jobs"} == dict(jobs)


def test_a_pull_request_is_linted_tested_and_planned_without_a_key() -> None:
    text = (REPOSITORY / ".github/workflows/pull-request.yaml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    pooler = "sudo apt-get update -qq && sudo apt-get install -qq -y --no-install-recommends pgbouncer"
    checks, plan = workflow["jobs"]["lint-and-test"], workflow["jobs"]["plan"]
    assert [step["run"] for step in checks["steps"] if "run" in step] == [pooler, "make setup lint", "make test"]
    assert plan["permissions"] == {"contents": "read", "id-token": "write"}
    assert {each["environment"] for each in plan["strategy"]["matrix"]["include"]} == set(ENVIRONMENTS)
    [auth] = [step["with"] for step in plan["steps"] if step.get("uses", "").startswith("google-github-actions/auth@")]
    assert auth.keys() == {"workload_identity_provider", "service_account"}
    assert "terraform plan -input=false -lock=false" in [step.get("run") for step in plan["steps"]]
    assert "apply" not in text
    assert "secrets." not in text


def test_one_version_of_terraform() -> None:
    build_version = next(step["name"] for step in build()["steps"] if step["id"] == "plan").split(":")[1]
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/pull-request.yaml").read_text())
    [setup] = [s["with"] for s in workflow["jobs"]["plan"]["steps"] if "setup-terraform" in s.get("uses", "")]
    assert setup["terraform_version"] == build_version
