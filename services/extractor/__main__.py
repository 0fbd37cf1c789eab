"""Starts the extractor: ``python -m services.extractor [--table NAME]… [--mode incremental|snapshot]``.

Exit codes: 0 every table landed, had no changes, or is being extracted by another run; 1 a table failed (the others
went on); 2 settings, tables.yaml or the command line are wrong and nothing was started.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import structlog

from services.core.errors import ConfigurationError
from services.core.naming import new_batch_id
from services.core.service import end_on_sigterm, start
from services.core.settings import ExtractorSettings
from services.core.state.state import Run, open_state
from services.core.storage import GcsObjectStore
from services.core.tables import Mode, Table
from services.extractor.extraction import Extractor, Outcome

log = structlog.get_logger()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.extractor", description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="append", default=[], metavar="NAME", help="only this table; repeatable")
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], help="instead of the mode in tables.yaml")
    return parser.parse_args(argv)


def run(settings: ExtractorSettings, tables: list[Table], mode: Mode | None) -> list[Outcome]:
    """Extract the tables one after the other and note the run in the history."""
    started = datetime.now(UTC)
    run_id = new_batch_id(started)
    structlog.contextvars.bind_contextvars(run_id=run_id)
    state = open_state(settings)
    extractor = Extractor(settings, state, GcsObjectStore(settings.gcp_project), run_id)
    outcomes = [extractor.extract(table, mode or table.mode) for table in tables]
    failed = any(outcome.outcome == "failed" for outcome in outcomes)
    state.add_run(
        Run(
            id=run_id,
            service="extractor",
            started_at=started,
            finished_at=datetime.now(UTC),
            outcome="failed" if failed else "succeeded",
            details={"tables": [asdict(outcome) for outcome in outcomes]},
        )
    )
    print(json.dumps({"run_id": run_id, "tables": [asdict(outcome) for outcome in outcomes]}))  # noqa: T201
    state.store.close()
    return outcomes


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _arguments(argv)
    end_on_sigterm()
    try:
        settings, declared = start(ExtractorSettings, "extractor")
        os.environ["PGPASSWORD"] = settings.postgres_password.get_secret_value()
        chosen = arguments.table or [name.strip() for name in settings.extract_tables.split(",") if name.strip()]
        tables = declared.select(chosen)
        mode = Mode(arguments.mode) if arguments.mode else None
        if mode is Mode.INCREMENTAL and (lacking := [t.name for t in tables if t.cursor is None]):
            raise ConfigurationError(f"mode incremental needs a cursor; none is declared for {', '.join(lacking)}")
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 1 if any(outcome.outcome == "failed" for outcome in run(settings, tables, mode)) else 0


if __name__ == "__main__":
    sys.exit(main())
