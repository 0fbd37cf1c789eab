"""A job: ``python -m services.transformer``, one reconcile.

With ``--audit`` all tests on everything (docs/quality.md), with ``--observe`` the reports (docs/observability.md).
``--check`` reads settings, tables.yaml and the dbt project, as a reconcile does first, and touches nothing.

Exit codes: 0 all that was due is done, or is off, or another process is at it; 1 something could not be done, the log
says what; 2 settings or tables.yaml are wrong. An audit in which tests fail is done: `credix audit` says what failed.
"""

import argparse
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog

from services.core.errors import ConfigurationError, LeaseBusy, PipelineError
from services.core.service import end_on_sigterm, start
from services.core.settings import TransformerSettings
from services.core.tables import Tables
from services.transformer.dbt_project import DbtProject
from services.transformer.observability.observation import observe_after_work
from services.transformer.quality.row_tests import RowTests
from services.transformer.wiring import open_auditor, open_observer, open_reports, open_transformer

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job once; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.transformer", description=__doc__)
    parser.add_argument("--audit", action="store_true", help="run all tests on everything instead, in one statement")
    parser.add_argument(
        "--observe", action="store_true", help="publish Elementary's report and dbt's docs instead, and send the alerts"
    )
    parser.add_argument(
        "--check", action="store_true", help="only see whether settings, tables and dbt project are right"
    )
    options = parser.parse_args(arguments)
    end_on_sigterm()
    holder = f"{socket.gethostname()}-{os.getpid()}"
    try:
        settings, tables = start(TransformerSettings, "transformer")
        if options.check:
            done, code = _check(settings, tables)
        elif options.audit:
            done, code = _audit(settings, tables, holder)
        elif options.observe:
            done, code = _observe(settings, holder)
        else:
            done, code = _reconcile(settings, tables, holder)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PipelineError as error:
        log.error("job.failed", reason=str(error))
        return 1
    print(json.dumps(done))  # noqa: T201
    return code


def _check(settings: TransformerSettings, tables: Tables) -> tuple[dict[str, Any], int]:
    project = DbtProject(settings, tables)
    project.parsed()
    if project.refused:
        reasons = [f"  table {name}: {reason}" for name, reason in project.refused.items()]
        raise ConfigurationError("\n".join([f"{len(reasons)} table(s) do not fit the dbt project", *reasons]))
    planned = RowTests(project)
    misplaced = {name: why for table in tables.tables for name, why in planned.planned(table).misplaced.items()}
    if misplaced:
        reasons = [f"  test {name}: {why}" for name, why in misplaced.items()]
        raise ConfigurationError("\n".join([f"{len(reasons)} row test(s) cannot be asked of rows alone", *reasons]))
    return {"checked": tables.names(), "parse_state": project.parse_state}, 0


def _reconcile(settings: TransformerSettings, tables: Tables, holder: str) -> tuple[dict[str, Any], int]:
    reports = open_transformer(settings, tables).reconcile_or_leave(holder)
    if reports == []:
        open_reports(settings, tables).refresh()
    if reports:
        observe_after_work(settings, lambda: open_observer(settings), holder)
    passes = [{"run_id": r.run_id, "outcome": r.outcome(), "merges": r.merges} for r in reports or []]
    code = 1 if any(report.problems for report in reports or []) else 0
    return {"left_to_another": reports is None, "passes": passes}, code


def _audit(settings: TransformerSettings, tables: Tables, holder: str) -> tuple[dict[str, Any], int]:
    transformer = open_transformer(settings, tables)
    try:
        transformer.maintain(holder)
    except LeaseBusy as busy:
        log.info("maintenance.left_to_holder", reason=str(busy))
    report = open_auditor(settings, tables, transformer.dbt).audit(holder)
    if report is None:
        return {"left_to_another": True}, 0
    open_reports(settings, tables).refresh()
    tests = Counter(node.status for node in report.nodes)
    told = {"left_to_another": False, "run_id": report.id, "outcome": report.outcome(), "tests": dict(tests)}
    return told | {"problems": report.problems}, 1 if report.problems else 0


def _observe(settings: TransformerSettings, holder: str) -> tuple[dict[str, Any], int]:
    if settings.observe == "off":
        return {"observe": "off"}, 0
    observation = open_observer(settings).observe(holder)
    if observation is None:
        return {"left_to_another": True}, 0
    return {"left_to_another": False} | observation.as_dict(), 1 if observation.problems else 0


if __name__ == "__main__":
    sys.exit(main())
