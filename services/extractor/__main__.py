"""Starts the extractor: ``python -m services.extractor [--table NAME]… [--mode incremental|snapshot] [--dry-run]``.

``--accept-changes --table NAME`` goes on where a run says that the source is not what its watermark rests on.

Exit codes: 0 every table landed, had no changes, or is being extracted by another run; 1 a table failed (the others
went on), or the state cannot be reached; 2 settings, tables.yaml or the command line are wrong and nothing was started.
"""

import argparse
import functools
import json
import os
import sys
import threading
from contextlib import closing
from dataclasses import asdict

import structlog

from services.core import machine
from services.core.errors import ConfigurationError
from services.core.naming import new_batch_id
from services.core.service import end_on_sigterm, start
from services.core.settings import ExtractorSettings
from services.core.state.lease import holding
from services.core.state.state import PipelineState, Run, open_state
from services.core.storage import ObjectStore
from services.core.tables import Mode, Table
from services.core.telling import kind, told, where
from services.extractor.contract.masking import mask_settings
from services.extractor.dry_run import dry_run, show
from services.extractor.extraction.extractor import Extractor
from services.extractor.extraction.helping import help_others
from services.extractor.extraction.outcome import Outcome
from services.extractor.extraction.workplace import Workplace
from services.extractor.memory import keep_little
from services.extractor.progress import open_progress
from services.extractor.reading.engine import Engine
from services.extractor.source.connection import OPTIONS, Connections, conninfo, environment, refuses_options
from services.extractor.source.terms import hashed
from services.extractor.tasks import Task

log = structlog.get_logger()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.extractor", description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="append", default=[], metavar="NAME", help="only this table; repeatable")
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], help="instead of the mode in tables.yaml")
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="accept what changed at the source, as the error of a run said it: a snapshot, from which it goes on",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show the window, the rows expected and the statement; read nothing",
    )
    return parser.parse_args(argv)


def run(
    settings: ExtractorSettings,
    state: PipelineState,
    tables: list[Table],
    mode: Mode | None,
    *,
    accepted: bool = False,
) -> list[Outcome]:
    """Extract this task's tables one after the other, help the other tasks, and note the run in the history."""
    started = machine.now()
    run_id = new_batch_id(started)
    task = Task.of(settings, run_id)
    structlog.contextvars.bind_contextvars(run_id=run_id, task=task.index)

    @functools.cache
    def objects() -> ObjectStore:
        from services.core.gcs import GcsObjectStore

        return GcsObjectStore(settings.gcp_project)

    engine = Engine(conninfo(settings), settings.extract_readers)
    # Beside the first questions. No daemon: ended in the middle of its work, it would abort the process.
    threading.Thread(target=engine.start, name="engine").start()
    with (
        closing(Connections()) as connections,
        open_progress() as progress,
        holding(state.store, task.lease, run_id, settings.extract_lease, settings.extract_lease) as task_lease,
    ):
        state.forget_finished_plans()  # of other runs; once, whatever the number of tables
        place = Workplace(settings, state, objects, run_id, task, task_lease, progress, engine, connections)
        extractor = Extractor(place)
        outcomes = [extractor.extract(table, mode or table.mode, accepted=accepted) for table in task.own(tables)]
        if task.count > 1:
            _help(place, tables)
    failed = any(outcome.outcome == "failed" for outcome in outcomes)
    state.add_run(
        Run(
            id=run_id,
            service="extractor",
            started_at=started,
            finished_at=machine.now(),
            outcome="failed" if failed else "succeeded",
            details={"tables": [asdict(outcome) for outcome in outcomes], "task": asdict(task)},
        )
    )
    print(json.dumps({"run_id": run_id, "tables": [asdict(outcome) for outcome in outcomes]}))  # noqa: T201
    return outcomes


def _help(place: Workplace, tables: list[Table]) -> None:
    """Help the other tasks. Where that fails nothing is lost: a table's own task takes the chunks over."""
    try:
        help_others(place, tables)
    except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
        log.error("extraction.help_failed", reason=told(error), kind=kind(error), where=where(error))


def _source_environment(settings: ExtractorSettings, tables: list[Table]) -> dict[str, str]:
    """What libpq needs in the environment.

    Raises:
        ConfigurationError: a column is masked by hash, and there is no secret to do it with.
    """
    masked = [f"{table.name}.{column}" for table in tables for column in hashed(table)]
    if not masked:
        return environment(settings)
    if not settings.extract_mask_secret.get_secret_value():
        raise ConfigurationError(f"EXTRACT_MASK_SECRET is not set, and masks these columns: {', '.join(masked)}")
    return environment(settings, mask_settings(settings.extract_mask_secret))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _arguments(argv)
    keep_little()
    end_on_sigterm()
    try:
        settings, declared = start(ExtractorSettings, "extractor")
        chosen = arguments.table or [name.strip() for name in settings.extract_tables.split(",") if name.strip()]
        tables = declared.select(chosen)
        secrets = _source_environment(settings, tables)
        os.environ.update(secrets)
        mode = Mode(arguments.mode) if arguments.mode else None
        accepted = bool(arguments.accept_changes)
        if accepted and (not arguments.table or mode is Mode.INCREMENTAL):
            raise ConfigurationError("--accept-changes reads a snapshot of the tables that --table names")
        if mode is Mode.INCREMENTAL and (lacking := [t.name for t in tables if t.cursor is None]):
            raise ConfigurationError(f"mode incremental needs a cursor; none is declared for {', '.join(lacking)}")
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if OPTIONS in secrets and refuses_options(conninfo(settings)):
        del os.environ[OPTIONS]  # tables without such masks are read all the same, and the others say what to do
    try:
        state = open_state(settings)
        try:
            if arguments.dry_run:
                looks = [dry_run(settings, state, table, mode or table.mode, accepted=accepted) for table in tables]
                show(looks)
                return 1 if any(look.error for look in looks) else 0
            outcomes = run(settings, state, tables, mode, accepted=accepted)
            return 1 if any(outcome.outcome == "failed" for outcome in outcomes) else 0
        finally:
            state.store.close()
    except Exception as error:  # noqa: BLE001 - it is logged, but for words that can quote a value
        # Of a table, everything is told with the table; this is the state, or what all tables share.
        log.error("job.failed", reason=told(error), kind=kind(error), where=where(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
