"""Observations: when they are made, what a command is told, and that no failure and no secret gets out of them."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from google.cloud import bigquery

from services.core.errors import ConfigurationError
from services.core.labels import jobs_of
from services.core.settings import TransformerSettings, read_settings
from services.core.state.lease import acquire
from services.core.state.state import open_state
from services.core.storage import ObjectStore, StoredObject
from services.transformer.observability.commands import EDR, CommandFailed, Commands, dbt_arguments
from services.transformer.observability.elementary import Elementary, edr_config, write_edr_config
from services.transformer.observability.observation import DOCS, INDEX, LEASE, Observer, observe_after_work

SECRET = "http://127.0.0.1:9/services/T0/hush"  # noqa: S105

Settings = Callable[..., TransformerSettings]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings from the given variables; the state is a file of the test."""
    for name in ("SLACK_WEBHOOK", "TEAMS_WEBHOOK", "OBSERVE", "OBSERVE_INTERVAL", "DBT_PACKAGES_FOLDER"):
        monkeypatch.delenv(name, raising=False)

    def read(**variables: str) -> TransformerSettings:
        state = {"STATE_BACKEND": "sqlite", "STATE_SQLITE_PATH": str(tmp_path / "state.sqlite")}
        for name, value in ({"GCP_PROJECT": "p"} | state | variables).items():
            monkeypatch.setenv(name, value)
        return read_settings(TransformerSettings)

    return read


def commands(settings: TransformerSettings, folder: Path, seconds: float = 60) -> Commands:
    return Commands(settings, folder, time.monotonic() + seconds)


def test_one_webhook_at_most(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"TEAMS_WEBHOOK: .*one place") as raised:
        settings(SLACK_WEBHOOK=SECRET, TEAMS_WEBHOOK=f"{SECRET}2")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "where"),
    [
        (None, {}),
        ("SLACK_WEBHOOK", {"slack": {"notification_webhook": SECRET}}),
        ("TEAMS_WEBHOOK", {"teams": {"teams_webhook": SECRET}}),
    ],
)
def test_edr_sends_nothing_home_and_alerts_where_it_is_told(
    settings: Settings, variable: str | None, where: dict[str, Any]
) -> None:
    told = settings(**{variable: SECRET} if variable else {})
    assert yaml.safe_load(edr_config(told)) == where | {
        "anonymous_usage_tracking": False,
        "run_dbt_deps_if_needed": False,
        "disable_elementary_version_check": True,
        "disable_elementary_logo_print": True,
    }


def test_only_this_user_reads_edrs_configuration(settings: Settings, tmp_path: Path) -> None:
    path = write_edr_config(settings(SLACK_WEBHOOK=SECRET), tmp_path)
    assert path == tmp_path / ".edr" / "config.yml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@dataclass(frozen=True)
class Recorded(Commands):
    """Commands that are noted, and not run."""

    told: list[str] = field(default_factory=list)

    def run(
        self,
        name: str,
        program: str,
        arguments: list[str],
        variables: dict[str, str] | None = None,
        accept: tuple[int, ...] = (0,),
    ) -> int:
        self.told.extend([name, program, *arguments, *(self.environment() | (variables or {})).values()])
        return 0


def test_no_command_is_told_the_webhook(settings: Settings, tmp_path: Path) -> None:
    told = Recorded(settings(SLACK_WEBHOOK=SECRET), tmp_path, time.monotonic() + 60)
    elementary = Elementary(told.settings, cast(bigquery.Client, None), told, tmp_path, "0.25.1")
    elementary.build_tables()
    elementary.alert()
    for step in (elementary.test, elementary.report):
        with pytest.raises(CommandFailed):
            step()  # nothing was run, so there is nothing to publish
    assert {"tables", "tests", "report", "alerts"} <= set(told.told)
    assert [each for each in told.told if SECRET in each] == []
    assert told.told.count("--disable-samples") == 2
    assert elementary.alerts
    assert not Elementary(settings(SLACK_WEBHOOK=""), cast(bigquery.Client, None), told, tmp_path, "0").alerts


def test_a_command_gets_its_own_home_and_not_this_process_dbt(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_TARGET_PATH", "/elsewhere")
    made = commands(settings(DATASET_ELEMENTARY="watched"), tmp_path)
    made.run("env", "import json, os; json.dump(dict(os.environ), open('env.json', 'w'))", [])
    told = yaml.safe_load((tmp_path / "env.json").read_text())
    assert told["HOME"] == str(tmp_path)
    assert told["CLOUDSDK_CONFIG"] == os.environ.get("CLOUDSDK_CONFIG", str(Path.home() / ".config" / "gcloud"))
    assert told["DATASET_ELEMENTARY"] == "watched"
    assert told["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"
    assert "DBT_TARGET_PATH" not in told


def test_what_a_failed_command_said_is_told_without_the_webhook(settings: Settings, tmp_path: Path) -> None:
    made = commands(settings(TEAMS_WEBHOOK=SECRET), tmp_path)
    with pytest.raises(CommandFailed, match="said: exit code 3; it said: …refused by") as raised:
        made.run("said", f"print('refused by {SECRET}'); raise SystemExit(3)", [])
    assert SECRET not in str(raised.value)
    assert made.run("accepted", "raise SystemExit(1)", [], accept=(0, 1)) == 1
    assert made.seconds.keys() == {"said", "accepted"}


def test_a_command_ends_when_the_time_is_over(settings: Settings, tmp_path: Path) -> None:
    made = commands(settings(), tmp_path, seconds=1.5)
    started = time.monotonic()
    with pytest.raises(CommandFailed, match="slow: no time left"):
        made.run("slow", "import time; print('begun', flush=True); time.sleep(60)", [])
    with pytest.raises(CommandFailed, match="next: no time left"):
        made.run("next", "import time; time.sleep(60)", [])
    assert time.monotonic() - started < 20


@dataclass
class Bucket:
    """What an observer asks of a bucket."""

    ages: dict[str, timedelta] = field(default_factory=dict)
    asked: int = 0

    def stat(self, bucket: str, name: str) -> StoredObject | None:
        self.asked += 1
        if name not in self.ages:
            return None
        return StoredObject(bucket, name, 1, 1, "", datetime.now(UTC) - self.ages[name])


def observer(settings: TransformerSettings, bucket: Bucket) -> Observer:
    return Observer(settings, open_state(settings), cast(ObjectStore, bucket), cast(bigquery.Client, None))


HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("ages", "due"),
    [
        ({}, True),
        ({INDEX: 2 * HOUR, DOCS: 2 * HOUR}, True),
        ({INDEX: MINUTE, DOCS: MINUTE}, False),
        # Elementary is off, or failed a minute ago: not at every event.
        ({DOCS: MINUTE}, False),
        ({INDEX: 2 * HOUR, DOCS: MINUTE}, False),
    ],
)
def test_an_observation_is_due_when_what_is_published_is_old(
    settings: Settings, tmp_path: Path, ages: dict[str, timedelta], due: bool
) -> None:
    # No time for docs, no packages: an observation is begun, and says so.
    told = settings(OBSERVE="run", OBSERVE_TIMEOUT="0", DBT_PACKAGES_FOLDER=str(tmp_path / "none"))
    made = observer(told, Bucket(ages)).observe_when_due("test")
    assert (made is not None) == due
    if made:
        assert made.elementary == "off"
        assert made.problems[0].startswith("docs: no time left (OBSERVE_TIMEOUT)")
        assert made.published == []


def test_a_second_observer_leaves_it_to_the_first(settings: Settings) -> None:
    told = settings()
    state = open_state(told)
    lease = acquire(state.store, LEASE, "first", HOUR)
    bucket = Bucket()
    assert observer(told, bucket).observe("second") is None
    assert bucket.asked == 0
    lease.release()


@pytest.mark.parametrize("observe", ["off", "job", "run"])
def test_only_run_observes_after_work_and_no_failure_gets_out(settings: Settings, observe: str) -> None:
    opened = []

    def fail() -> Observer:
        opened.append(observe)
        raise RuntimeError("no bucket")

    observe_after_work(settings(OBSERVE=observe), fail, "test")
    assert opened == (["run"] if observe == "run" else [])


def test_the_jobs_of_a_command_are_labelled_as_the_observation_s(settings: Settings, tmp_path: Path) -> None:
    """Its stage by a variable that dbt's project reads, too; the run by the adapter, and in no statement."""
    mine = commands(settings(), tmp_path)
    with jobs_of("20261126T143000000000Z-0123abcd"):
        arguments = dbt_arguments(mine, tmp_path, tmp_path)
        variables = mine.environment()
    labels = {"credix_stage": "observe", "credix_run": "20261126t143000000000z-0123abcd"}
    assert json.loads(arguments[arguments.index("--vars") + 1])["credix"]["labels"] == {"credix_stage": "observe"}
    said = """
import sys, types
cli = types.ModuleType("elementary.cli.cli")
nothing_of_its_own = types.SimpleNamespace(profile=None)
cli.cli = lambda: print(json.dumps(BigQueryConnectionManager.get_labels_from_query_comment(nothing_of_its_own)))
sys.modules |= {"elementary": types.ModuleType("elementary"), "elementary.cli": cli, "elementary.cli.cli": cli}
"""
    done = subprocess.run(
        [sys.executable, "-c", said + EDR], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == labels
