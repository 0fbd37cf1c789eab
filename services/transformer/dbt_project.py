"""dbt in this process: the project is parsed once, every later run reuses the manifest.

Two runs cannot share a process at the same time (dbt's own restriction); the transformer's lease keeps them apart.
"""

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from dbt.cli.main import dbtRunner, dbtRunnerResult

from services.core import machine
from services.core.errors import PipelineError
from services.core.labels import job_labels
from services.core.settings import TransformerSettings
from services.core.tables import Tables
from services.transformer.bronze.contract import BronzeModel, refused
from services.transformer.dbt_jobs import labelled, tell_jobs
from services.transformer.labels import dbt_labels

log = structlog.get_logger()

tell_jobs()


class DbtError(PipelineError):
    """dbt ended without results: the project does not parse, the profile is wrong, or BigQuery cannot be reached."""


@dataclass(frozen=True)
class NodeResult:
    """How one model or test ended."""

    name: str
    resource_type: str
    status: str
    """dbt's word: success, error, skipped; pass, fail, warn for tests."""
    message: str
    seconds: float
    rows_affected: int | None
    failures: int | None
    """Failing rows of a test."""

    @property
    def broken(self) -> bool:
        """Whether it could not be built or run: something a retry may cure."""
        return self.status in ("error", "runtime error", "skipped")


class _ParseState:
    """Whether dbt went on from the parse state that the image brings (``DBT_PARTIAL_PARSE_FILE_PATH``, Dockerfile)."""

    used = False
    why: str | None = None
    """Why not, in dbt's words."""

    def note(self, event: Any) -> None:
        """Take note of an event of dbt."""
        if event.info.name in ("PartialParsingEnabled", "PartialParsingSkipParsing"):
            self.used = True
        elif event.info.name in ("UnableToPartialParse", "PartialParsingError", "PartialParsingNotEnabled"):
            self.why = event.info.msg


class DbtProject:
    """The project, parsed when it is first needed."""

    def __init__(self, settings: TransformerSettings, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables
        self.parse_state: str | None = None
        """Whether dbt went on from a parse state, and if not, why; None before it has parsed."""
        self.refused: dict[str, str] = {}
        """Tables whose bronze model is not what tables.yaml declares, with the reason; known once dbt has parsed."""
        self._manifest: Any = None
        self._lock = threading.Lock()

    @property
    def target_path(self) -> Path:
        """Where dbt writes run_results.json and manifest.json."""
        return self._settings.dbt_target_path

    def _invoke(self, runner: dbtRunner, arguments: list[str], **parameters: Any) -> dbtRunnerResult:
        settings = self._settings
        os.environ.update(settings.dbt_variables(os.environ))
        common = [
            "--project-dir", str(settings.dbt_project_dir),
            "--profiles-dir", str(settings.dbt_project_dir),
            "--target", settings.dbt_target,
            "--target-path", str(settings.dbt_target_path),
            "--log-path", str(settings.dbt_log_path),
            "--log-level", "none",
            "--log-level-file", "info",
            "--no-use-colors",
        ]  # fmt: skip
        # A fresh thread: dbt inspects its call stack often, and a request's is deep (0.3 s became 1.8 s under pytest).
        with ThreadPoolExecutor(1, thread_name_prefix="dbt") as thread:
            return thread.submit(runner.invoke, [*arguments, *common], **parameters).result()

    def parsed(self) -> Any:
        """The manifest. What does not fit the declared tables is in ``refused`` from then on.

        Raises:
            DbtError: the project does not parse.
        """
        if self._manifest is None:
            started = machine.monotonic()
            state = _ParseState()
            result = self._invoke(dbtRunner(callbacks=[state.note]), ["parse"])
            if not result.success:
                raise DbtError(f"dbt parse of {self._settings.dbt_project_dir} failed: {result.exception}")
            self.parse_state = "used" if state.used else f"not used: {state.why}"
            log.info("dbt.parsed", seconds=round(machine.monotonic() - started, 3), parse_state=self.parse_state)
            manifest: Any = result.result
            models = {
                node.name: BronzeModel(
                    node.name,
                    str(node.config.materialized),
                    {column.name: str(column.data_type or "") for column in node.columns.values()},
                    _names(node.config.get("cluster_by")),
                )
                for node in manifest.nodes.values()
                if node.resource_type == "model"
            }
            self.refused = refused(self._tables, models)
            for name, reason in self.refused.items():
                log.error("table.refused", table=name, reason=reason)
            self._manifest = manifest
        return self._manifest

    def described(self, model: str) -> str:
        """How the project describes a bronze model: what its view is made with beside its columns.

        Raises:
            DbtError: the project does not parse.
        """
        node = self.parsed().nodes[f"model.{self.parsed().metadata.project_name}.{model}"]
        columns = {column.name: column.description for column in node.columns.values()}
        return json.dumps([node.description, columns, dict(node.config.get("labels") or {})], sort_keys=True)

    def definition(self) -> str:
        """Fingerprint of what the views of silver and gold are made of: models, macros, dbt, and where all is.

        Raises:
            DbtError: the project does not parse.
        """
        manifest = self.parsed()
        project = manifest.metadata.project_name
        models = {
            node.unique_id: [
                node.raw_code,
                node.relation_name,
                node.description,
                {column.name: [column.data_type, column.description] for column in node.columns.values()},
                node.config.to_dict(),
            ]
            for node in manifest.nodes.values()
            if node.resource_type == "model"
        }
        macros = {id_: macro.macro_sql for id_, macro in manifest.macros.items() if macro.package_name == project}
        made_of = json.dumps([manifest.metadata.dbt_version, models, macros], sort_keys=True, default=str)
        return hashlib.sha256(made_of.encode()).hexdigest()[:32]

    def run(self, stage: str, arguments: list[str], variables: dict[str, Any] | None = None) -> list[NodeResult]:
        """Run a dbt command on the parsed project.

        Args:
            stage: what its jobs in BigQuery are for, as their labels say.
            arguments: the command.
            variables: dbt's, beside the labels.

        Raises:
            DbtError: dbt ended without results. Failed models and tests are results, not errors.
        """
        return [_node_result(result) for result in self._executed(stage, arguments, variables)]

    def compiled(self, *select: str) -> list[Any]:
        """Compile some nodes, without a question to the warehouse.

        Args:
            select: which, as dbt's ``--select`` names them.

        Returns:
            dbt's results: each has its ``node`` with ``compiled_code``, or a ``message`` that says why there is none.

        Raises:
            DbtError: dbt ended without results.
        """
        command = ["compile", "--select", *select, "--indirect-selection", "empty", "--no-introspect"]
        return self._executed("compile", [*command, "--no-populate-cache", "--no-write-json", "--quiet"], None)

    def _executed(self, stage: str, arguments: list[str], variables: dict[str, Any] | None) -> list[Any]:
        with self._lock:
            runner = dbtRunner(manifest=self.parsed())
            # As an object, not as the text of `--vars`: YAML refuses, or changes, some characters of names.
            given = {"credix": dbt_labels(stage, self._tables.tables), **(variables or {})}
            with labelled(job_labels(stage)):
                result = self._invoke(runner, arguments, vars=given)
            if result.exception is not None or result.result is None:
                raise DbtError(f"dbt {' '.join(arguments)} ended without results: {result.exception}")
            execution: Any = result.result
            return list(execution.results)


def _names(configured: str | list[str] | None) -> list[str]:
    """A model's cluster_by: dbt takes one name, too."""
    return [configured] if isinstance(configured, str) else configured or []


def _node_result(result: Any) -> NodeResult:
    rows = (result.adapter_response or {}).get("rows_affected")
    return NodeResult(
        name=result.node.name,
        resource_type=str(result.node.resource_type),
        status=str(result.status),
        message=str(result.message or ""),
        seconds=round(float(result.execution_time), 3),
        rows_affected=int(rows) if rows is not None else None,
        failures=result.failures,
    )
