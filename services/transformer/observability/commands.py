"""dbt and edr as processes of their own: where they work, what they are told, how long they may take."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from services.core import machine
from services.core.errors import PipelineError
from services.core.labels import job_labels
from services.core.settings import TransformerSettings
from services.transformer.labels import dbt_labels

LABELS = "CREDIX_JOB_LABELS"
"""Variable of the labels of dbt's and edr's jobs, as JSON."""

_LABELLED = f"""
import json, os
from dbt.adapters.bigquery.connections import BigQueryConnectionManager
labels, of_comment = json.loads(os.environ["{LABELS}"]), BigQueryConnectionManager.get_labels_from_query_comment
BigQueryConnectionManager.get_labels_from_query_comment = lambda connections: {{**of_comment(connections), **labels}}
"""
"""The run is a label and in no comment, as in services/transformer/dbt_jobs.py. What edr runs by itself, dbt on a
project of its own, has no other labels than these."""
DBT = f"{_LABELLED}from dbt.cli.main import cli; cli()"
EDR = f"{_LABELLED}from elementary.cli.cli import cli; cli()"

_SAID = 1500
"""Characters of a failed command's output that go into the error."""


class CommandFailed(PipelineError):
    """A command of dbt or Elementary failed, or took too long; its last words are in the message."""


@dataclass(frozen=True)
class Commands:
    """Runs commands in a folder, all of them within one time limit."""

    settings: TransformerSettings
    folder: Path
    """Working folder and home of the commands; whoever made it, removes it."""
    ends_at: float
    """By ``time.monotonic``."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each took."""

    def run(
        self,
        name: str,
        program: str,
        arguments: list[str],
        variables: dict[str, str] | None = None,
        accept: tuple[int, ...] = (0,),
    ) -> int:
        """Run a program of this environment; returns its exit code.

        Args:
            name: what to call it in ``seconds``, in errors and its log.
            program: DBT or EDR.
            arguments: never a secret: every user of the machine can read them.
            variables: beyond those of :meth:`environment`.
            accept: exit codes that are no failure.

        Raises:
            CommandFailed: another exit code, or no time left.
        """
        started = machine.monotonic()
        output = self.folder / f"{name}.log"
        try:
            with output.open("wb") as log:
                # On an exception, SIGTERM's among them, the process is killed and waited for.
                done = subprocess.run(
                    [sys.executable, "-c", program, *arguments],
                    cwd=self.folder,
                    env=self.environment() | (variables or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=max(self.ends_at - started, 0.1),
                    check=False,
                )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{name}: no time left (OBSERVE_TIMEOUT); {self._last_words(output)}") from error
        finally:
            self.seconds[name] = round(machine.monotonic() - started, 1)
        if done.returncode not in accept:
            raise CommandFailed(f"{name}: exit code {done.returncode}; {self._last_words(output)}")
        return done.returncode

    def environment(self) -> dict[str, str]:
        """The variables of a command: this process's without dbt's and the webhooks, and what profiles.yml reads."""
        left_out = ("DBT_", "SLACK_WEBHOOK", "TEAMS_WEBHOOK")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        # The home is the folder, where edr looks for its configuration. A developer's credentials stay where they are.
        inherited.setdefault("CLOUDSDK_CONFIG", str(Path.home() / ".config" / "gcloud"))
        own = {
            "HOME": str(self.folder),
            LABELS: json.dumps(job_labels("observe")),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_USE_COLORS": "false",
        }
        return inherited | self.settings.dbt_variables(inherited) | own

    def _last_words(self, output: Path) -> str:
        said = output.read_text(errors="replace").strip()
        for secret in (self.settings.slack_webhook, self.settings.teams_webhook):
            said = _without(said, secret)
        return f"it said: …{said[-_SAID:]}" if said else "it said nothing"


def _without(text: str, secret: SecretStr) -> str:
    return text.replace(secret.get_secret_value(), str(secret)) if secret.get_secret_value() else text


def dbt_arguments(commands: Commands, project: Path, target_path: Path) -> list[str]:
    """The arguments that every command of dbt gets."""
    return [
        "--project-dir", str(project.absolute()),
        "--profiles-dir", str(commands.settings.dbt_project_dir.absolute()),
        "--target", commands.settings.dbt_target,
        "--target-path", str(target_path),
        "--log-path", str(commands.folder / "logs"),
        "--log-level-file", "none",
        "--vars", json.dumps({"credix": dbt_labels("observe")}),
    ]  # fmt: skip
