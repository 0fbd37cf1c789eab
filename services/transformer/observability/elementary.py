"""Elementary: its tables, the tests with their results kept, the report, the alerts; one process for each."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog
import yaml
from google.api_core.exceptions import NotFound
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from services.core.settings import TransformerSettings
from services.transformer.observability.commands import DBT, EDR, CommandFailed, Commands, dbt_arguments
from services.transformer.observability.packages import observability_project

ALERT_AGAIN_HOURS = 24
"""How long a test that goes on failing is not told again."""

_RETRY = DEFAULT_RETRY.with_timeout(60.0)

log = structlog.get_logger()


def edr_config(settings: TransformerSettings) -> str:
    """Elementary's config.yml: no telemetry, no look for newer versions, nothing fetched, and where alerts go."""
    config: dict[str, object] = {
        "anonymous_usage_tracking": False,
        "run_dbt_deps_if_needed": False,
        "disable_elementary_version_check": True,
        "disable_elementary_logo_print": True,
    }
    if slack := settings.slack_webhook.get_secret_value():
        config["slack"] = {"notification_webhook": slack}
    if teams := settings.teams_webhook.get_secret_value():
        config["teams"] = {"teams_webhook": teams}
    return yaml.safe_dump(config)


def write_edr_config(settings: TransformerSettings, home: Path) -> Path:
    """Write it where edr looks, for this user only; a webhook's address is all it takes to write there."""
    path = home / ".edr" / "config.yml"
    path.parent.mkdir(mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(edr_config(settings))
    return path


@dataclass(frozen=True)
class Elementary:
    """Elementary's steps, given its packages."""

    settings: TransformerSettings
    client: bigquery.Client
    commands: Commands
    packages: Path
    """Folder of the installed ones."""
    version: str
    """Of the package."""

    def prepare(self) -> None:
        """Give each project the packages it asks for, and edr its configuration, all in the commands' folder."""
        own = {name: self.packages / name for name in ("elementary", "dbt_utils")}
        for folder, packages in {
            "packages": own | {"credix": self.settings.dbt_project_dir.absolute()},
            "edr_packages": own,
        }.items():
            (self.commands.folder / folder).mkdir()
            for name, path in packages.items():
                (self.commands.folder / folder / name).symlink_to(path, target_is_directory=True)
        write_edr_config(self.settings, self.commands.folder)

    def tables_due(self) -> bool:
        """Whether Elementary's tables are missing, some of them, or are another version's."""
        dataset = f"{self.settings.gcp_project}.{self.settings.dataset_elementary}"
        try:
            there = {item.table_id for item in self.client.list_tables(dataset, retry=_RETRY)}
            if not {path.stem for path in (self.packages / "elementary" / "models").rglob("*.sql")} <= there:
                return True
            rows = self.client.list_rows(f"{dataset}.metadata", max_results=1, retry=_RETRY)
            return [row["dbt_pkg_version"] for row in rows] != [self.version]
        except NotFound:
            return True

    def build_tables(self) -> None:
        """Build Elementary's tables and views; what is in them stays.

        Raises:
            CommandFailed: one could not be built.
        """
        self._dbt("tables", ["run", "--selector", "elementary"])

    def test(self) -> dict[str, int]:
        """Run the tests of all layers and Elementary's; returns how many ended how. A failed test is a result.

        Raises:
            CommandFailed: dbt ended without results, or they could not be kept.
        """
        self._dbt("tests", ["test", "--selector", "tests"], accept=(0, 1))
        path = self._target / "run_results.json"
        if not path.exists():
            raise CommandFailed("tests: dbt ended without results")
        results = json.loads(path.read_text())["results"]
        hooks = [result for result in results if result["unique_id"].startswith("operation.")]
        for hook in hooks:
            if hook["status"] not in ("success", "pass"):
                raise CommandFailed(f"tests: {hook['unique_id']} {hook['status']}: {hook['message']}")
        tests = [result for result in results if result not in hooks]
        if not tests or not hooks:
            raise CommandFailed(f"tests: {len(tests)} tests and {len(hooks)} of Elementary's hooks were run")
        return dict(Counter(result["status"] for result in tests))

    def report(self) -> Path:
        """Make the report; returns its file.

        Raises:
            CommandFailed: there is none.
        """
        page = self.commands.folder / "report.html"
        arguments = ["--file-path", str(page), "--open-browser", "false", "--project-name", "credix"]
        self._edr("report", ["report", *arguments])
        if not page.exists():
            raise CommandFailed("report: edr wrote no page")
        return page

    @property
    def alerts(self) -> bool:
        """Whether there is somewhere to send alerts to."""
        return bool(self.settings.slack_webhook.get_secret_value() or self.settings.teams_webhook.get_secret_value())

    def alert(self) -> None:
        """Send the alerts that were not sent yet.

        Raises:
            CommandFailed: the webhook, or the warehouse, refused.
        """
        self._edr("alerts", ["monitor", "--suppression-interval", str(ALERT_AGAIN_HOURS)])

    @property
    def _target(self) -> Path:
        return self.commands.folder / "target"

    def _dbt(self, name: str, arguments: list[str], accept: tuple[int, ...] = (0,)) -> None:
        project = observability_project(self.settings.dbt_project_dir)
        common = dbt_arguments(self.commands, project, self._target)
        packages = str(self.commands.folder / "packages")
        self.commands.run(name, DBT, [*arguments, *common], {"DBT_PACKAGES_FOLDER": packages}, accept)

    def _edr(self, name: str, arguments: list[str]) -> None:
        folder = self.commands.folder
        common = [
            "--profiles-dir", str(self.settings.dbt_project_dir.absolute()),
            "--profile-target", self.settings.dbt_target,
            "--target-path", str(folder / "edr"),
            "--config-dir", str(folder / ".edr"),
            "--env", self.settings.dbt_target,
            "--disable-samples", "true",
        ]  # fmt: skip
        variables = {
            "DBT_PACKAGES_FOLDER": str(folder / "edr_packages"),
            "EDR_INTERNAL_TARGET_PATH": str(folder / "edr_dbt"),
        }
        self.commands.run(name, EDR, [*arguments, *common], variables)
