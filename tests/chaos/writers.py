"""Writers against a running pipeline: ``python -m tests.chaos.writers [--minutes 5] [--writers 8] [--seed N]``.

Starts a local stack of its own, fills it, and lets writers change both tables, each by transactions that its seed
determines: late commits, rollbacks, savepoints, prepared transactions, null and future cursors, payments taken back,
deletes. Meanwhile the tables are extracted every few seconds, in windows and as snapshots, by one process, by two that
compete, or by two tasks that share the work. When the writers have ended, two quiet runs must have brought every
change, and a snapshot every deletion: source and bronze are compared row by row, value by value.

The table of companies is declared without lookback, and no snapshot of it is taken before the end: nothing repairs a
window that missed a row.

Exit code 0 when nothing was lost, doubled or different; 1 otherwise.
"""

import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from local.comparison import Comparison
from local.cycle import Client, extract, settle
from local.sample.seeding import seed as fill
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import REPOSITORY, StackOptions
from local.stack.stack import running
from services.core.batch import BatchState
from tests.chaos.command import Options, run_command

LONGEST = 30.0
"""Seconds that a transaction is held open at most; in a short run, a sixth of it."""
ROWS = 12_000
CHUNK_PAGES = 4
"""Small, so that a snapshot of some hundred pages is read in many chunks, by two tasks under snapshots of their own."""
SAFETY = 10.0
"""The safety lag in seconds: no transaction is open for longer before it is prepared."""
SETTLE = timedelta(seconds=180)

Connection = psycopg.Connection[tuple[Any, ...]]


def longest(options: Options) -> float:
    """Seconds that a transaction is held open at most."""
    return min(LONGEST, options.seconds / 6)


@dataclass
class Report:
    """What a run was, and what it found; the numbers of a closing note."""

    seconds: float = 0.0
    seed: int = 0
    writers: int = 0
    transactions: Counter[str] = field(default_factory=Counter)
    """How they ended, and what was special about them."""
    longest_open: float = 0.0
    """Seconds, of the transaction that was open longest and committed."""
    rows_written: int = 0
    """By transactions that committed: inserted, changed and deleted."""
    extractions: Counter[str] = field(default_factory=Counter)
    """Per table and run: landed, no_changes, busy."""
    batches: Counter[str] = field(default_factory=Counter)
    """By mode."""
    catch_ups: int = 0
    """Tables that were read by chunks under more than one snapshot, and searched once more for it."""
    rows_extracted: int = 0
    rows_compared: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    not_deleted: int = 0
    """Rows of bronze that are in the source no more, after a snapshot; or that never were, before it."""
    found: list[str] = field(default_factory=list)
    """What is not equal, with examples."""

    @property
    def equal(self) -> bool:
        """Whether source and bronze ended equal."""
        return not (self.lost or self.doubled or self.different or self.not_deleted or self.found)

    @property
    def findings(self) -> list[str]:
        """What is not equal."""
        return self.found


# --- writers ------------------------------------------------------------------------------------------------------

_NOW: dict[str, LiteralString] = {
    "now": "now()",
    "clock": "clock_timestamp()",
    "future": "now() + interval '40 minutes'",
    "null": "NULL",
}
_TODAY: dict[str, LiteralString] = {"now": "current_date", "future": "current_date + 3", "null": "NULL"}

_FOUND: LiteralString = """
INSERT INTO oltp.business_case_cnpj_ws (buyer_tax_id, company_status, share_capital, created_at, updated_at)
VALUES (%(key)s, 'Ativa', %(amount)s, {moment}, {moment})
"""
_CHANGE: LiteralString = """
UPDATE oltp.business_case_cnpj_ws
SET share_capital = %(amount)s, created_at = {created}, updated_at = {moment} WHERE buyer_tax_id = %(key)s
"""
_ISSUE: LiteralString = """
INSERT INTO oltp.business_case_installments
  (asset_id, buyer_tax_id, original_amount_in_cents, expected_amount_in_cents, due_date, invoice_issue_date)
VALUES (%(key)s, 'W', %(amount)s, %(amount)s, current_date + 30, {day})
"""
_PAY: LiteralString = """
UPDATE oltp.business_case_installments SET paid_date = {day}, paid_amount_in_cents = %(amount)s WHERE asset_id = %(key)s
"""
# A cursor may go back as far as the lookback: today's installments, whose day is read again in any case.
_TAKE_BACK: LiteralString = """
UPDATE oltp.business_case_installments SET paid_date = NULL, paid_amount_in_cents = NULL
WHERE asset_id = %(key)s AND (invoice_issue_date >= current_date OR invoice_issue_date IS NULL)
"""
_DELETE: dict[str, LiteralString] = {
    "cnpj_ws": "DELETE FROM oltp.business_case_cnpj_ws WHERE buyer_tax_id = %(key)s",
    "installments": "DELETE FROM oltp.business_case_installments WHERE asset_id = %(key)s",
}


class Writer:
    """One user of the business system; commits and rolls back as its seed has it."""

    def __init__(
        self,
        number: int,
        options: Options,
        access: Any,
        shared: dict[str, list[str]],
        prepares: bool,
        survives: bool = False,
    ) -> None:
        """Be a user.

        Args:
            number: among the users; with the seed it determines everything.
            options: of the run.
            access: to the source.
            shared: keys per table that others change, too.
            prepares: whether some transactions are prepared.
            survives: whether the server may die; the user comes again then.
        """
        self.survives = survives
        self.random = random.Random(f"{options.seed}-{number}")  # noqa: S311 - reproducible, not secret
        self.number, self.longest, self.prepares = number, longest(options), prepares
        self.own: dict[str, list[str]] = {"cnpj_ws": [], "installments": []}
        self.shared = shared
        self.report = Report()
        self.deleted: set[tuple[str, str]] = set()
        """Table and key, of rows that some committed transaction deleted, or may have."""
        self._access, self._made = access, 0

    def work(self, stop: threading.Event) -> None:
        """Write until told to stop; a transaction that is held open then ends at once."""
        while not stop.is_set():
            try:
                with connect(self._access) as connection:
                    self._write(connection, stop)
            except psycopg.OperationalError:
                if not self.survives:
                    raise
                self.report.transactions["broken off"] += 1
                stop.wait(0.3)

    def _write(self, connection: Connection, stop: threading.Event) -> None:
        connection.autocommit = True  # BEGIN and COMMIT are statements here
        connection.execute("SET lock_timeout = '500ms'")
        while not stop.is_set():
            self._transaction(connection, stop)
            stop.wait(self.random.expovariate(1 / 0.03))

    def _transaction(self, connection: Connection, stop: threading.Event) -> None:
        end = self.random.choices(["commit", "rollback", "prepare"], [87, 9, 4 if self.prepares else 0])[0]
        long = self.random.random() < 0.015 and end != "prepare"
        statements = self.random.randint(1, 4)
        pauses = [self.random.uniform(0, self.longest / statements) if long else 0.0 for _ in range(statements)]
        keeps = self.random.random() < 0.6
        holds = self.random.uniform(0, self.longest / 6)
        deleted: set[tuple[str, str]] = set()
        rows, began = 0, time.monotonic()
        gid = f"writer-{self.number}-{began}"
        try:
            connection.execute("BEGIN")
            for pause in pauses:
                if self.random.random() < 0.15:
                    self._savepoint(connection)
                rows += self._statement(connection, deleted)
                stop.wait(pause)
            if end == "prepare" and time.monotonic() - began < SAFETY / 2:
                connection.execute(f"PREPARE TRANSACTION '{gid}'".encode())
                stop.wait(holds)
                end = "commit" if keeps else "rollback"
                connection.execute(f"{end} PREPARED '{gid}'".encode())
                self.report.transactions["prepared"] += 1
            else:
                end = "commit" if end == "prepare" else end
                connection.execute(end.encode())
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            connection.execute("ROLLBACK")
            end = "refused"
        except psycopg.OperationalError:
            self.deleted |= deleted  # perhaps: the server died, and has done the commit, or not
            raise
        self.report.transactions[{"commit": "committed", "rollback": "rolled back"}.get(end, "refused by a lock")] += 1
        if end == "commit":
            self.report.rows_written += rows
            self.deleted |= deleted
            if rows:
                self.report.longest_open = max(self.report.longest_open, time.monotonic() - began)

    def _savepoint(self, connection: Connection) -> None:
        """Something that is taken back within the transaction."""
        connection.execute("SAVEPOINT s")
        self._statement(connection, set())
        connection.execute("ROLLBACK TO SAVEPOINT s")
        self.report.transactions["savepoints rolled back"] += 1

    def _statement(self, connection: Connection, deleted: set[tuple[str, str]]) -> int:
        table = self.random.choice(["cnpj_ws", "installments"])
        kind = self.random.choices(["insert", "change", "take back", "delete"], [50, 35, 10, 5])[0]
        cursor = self.random.choices(["now", "clock", "future", "null"], [75, 15, 5, 5])[0]
        amount = self.random.randint(1, 10_000_000)
        key = self.random.choice(
            self.own[table] if self.own[table] and self.random.random() < 0.8 else self.shared[table]
        )
        if kind == "insert":
            self._made += 1
            key = f"W{self.number}-{self._made}"
            self.own[table].append(key)
        if kind == "delete":
            deleted.add((table, key))
        statement = self._text(table, kind, cursor)
        return max(0, connection.execute(statement, {"key": key, "amount": amount}).rowcount)

    @staticmethod
    def _text(table: str, kind: str, cursor: str) -> LiteralString:
        if kind == "delete":
            return _DELETE[table]
        if table == "cnpj_ws":
            moment = _NOW[cursor]
            if kind == "insert":
                return _FOUND.replace("{moment}", moment)
            created: LiteralString = "NULL" if cursor == "null" else "created_at"
            return _CHANGE.replace("{moment}", moment).replace("{created}", created)
        day = _TODAY.get(cursor, "current_date")
        if kind == "insert":
            return _ISSUE.replace("{day}", day)
        # Without a date it would be the change of a paid installment that no cursor tells of.
        return _TAKE_BACK if kind == "take back" else _PAY.replace("{day}", "current_date" if cursor == "null" else day)


# --- the pipeline meanwhile ---------------------------------------------------------------------------------------


@dataclass
class Extractions:
    """Extracts again and again, in changing ways; the services load and merge behind it."""

    client: Client
    report: Report
    random: random.Random
    batches: list[str] = field(default_factory=list)
    executions: int = 0

    def work(self, stop: threading.Event) -> None:
        """Extract every few seconds until told to stop."""
        with ThreadPoolExecutor(2) as pool:
            while not stop.is_set():
                way = self.random.choices(["one", "two", "snapshot", "tasks"], [60, 15, 10, 15])[0]
                if way == "one":
                    self.once([])
                elif way == "two":
                    list(pool.map(self.once, [[], []]))
                elif way == "snapshot":
                    self.once(["--mode", "snapshot", "--table", "installments"])
                else:  # one table, so that the second task has nothing to do but to help the first
                    self.executions += 1
                    shared = ["--mode", "snapshot", "--table", "installments"]
                    list(pool.map(lambda index: self.once(shared, self._task(index)), range(2)))  # noqa: B023
                stop.wait(self.random.uniform(0.5, 3))

    def _task(self, index: int) -> dict[str, str]:
        execution = f"execution-{self.executions}"
        return {"CLOUD_RUN_EXECUTION": execution, "CLOUD_RUN_TASK_COUNT": "2", "CLOUD_RUN_TASK_INDEX": str(index)}

    def once(self, arguments: list[str], variables: dict[str, str] | None = None) -> None:
        """Run the extractor.

        Raises:
            CycleFailed: it ended with an error.
        """
        report = extract(replace(self.client, variables={**self.client.variables, **(variables or {})}), arguments)
        for entry in report["tables"]:
            self.report.extractions[entry["outcome"]] += 1
            self.report.rows_extracted += entry["rows"]
            if entry["batch_id"]:
                self.batches.append(entry["batch_id"])

    def quiet_run(self, arguments: list[str]) -> None:
        """Extract, and wait until all that ever landed is merged."""
        self.once(arguments)
        settle(self.client, self.batches, SETTLE)


def declared(folder: Path) -> Path:
    """The declared tables, with soft deletes and without a lookback that could hide a window's mistake."""
    document = yaml.safe_load((REPOSITORY / "config" / "tables.yaml").read_text(encoding="utf-8"))
    for table in document["tables"]:
        table["deletes"] = "soft"
        if table["cursor"]["type"] == "timestamp":
            table["cursor"]["lookback"] = "PT0S"
    file = folder / "tables.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def note(report: Report, compared: list[Comparison], deleted: set[tuple[str, str]]) -> None:
    """Add what a comparison found; rows of bronze that were deleted in the source are as expected."""
    for comparison in compared:
        strange = [key for key in comparison.foreign if (comparison.table, key[0]) not in deleted]
        report.rows_compared += comparison.source_rows
        report.lost += len(comparison.lost)
        report.doubled += len(comparison.doubled)
        report.different += len({key for key, *_ in comparison.different})
        report.not_deleted += len(strange)
        if comparison.lost or comparison.doubled or comparison.different or strange:
            report.found.append(str(comparison))


@contextmanager
def _shown(seconds: float) -> Iterator[None]:
    """A bar on a terminal while the writers write."""
    with Progress(
        TextColumn("writers"), BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task("", total=seconds)
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(0.5):
                progress.advance(task, 0.5)

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _write_and_extract(options: Options, client: Client, report: Report) -> tuple[Extractions, set[tuple[str, str]]]:
    with connect(client.stack.postgres) as connection:
        [(most_prepared,)] = connection.execute("SELECT current_setting('max_prepared_transactions')::int").fetchall()
        shared = {
            table: [str(key) for (key,) in connection.execute(query).fetchall()]
            for table, query in (
                ("cnpj_ws", "SELECT buyer_tax_id FROM oltp.business_case_cnpj_ws ORDER BY 1 LIMIT 40"),
                ("installments", "SELECT asset_id FROM oltp.business_case_installments ORDER BY 1 LIMIT 40"),
            )
        }
    writers = [
        Writer(number, options, client.stack.postgres, shared, most_prepared >= options.writers)
        for number in range(options.writers)
    ]
    extractions = Extractions(client, report, random.Random(options.seed))  # noqa: S311 - reproducible, not secret
    stop = threading.Event()
    started = time.monotonic()
    with ThreadPoolExecutor(options.writers + 1) as pool:
        work = [*(writer.work for writer in writers), extractions.work]
        futures = [pool.submit(each, stop) for each in work]
        try:
            while time.monotonic() - started < options.seconds and not any(future.done() for future in futures):
                time.sleep(0.1)
        finally:
            stop.set()
        for future in futures:
            future.result()
    report.seconds = round(time.monotonic() - started, 1)
    for writer in writers:
        report.transactions += writer.report.transactions
        report.rows_written += writer.report.rows_written
        report.longest_open = round(max(report.longest_open, writer.report.longest_open), 1)
    return extractions, {each for writer in writers for each in writer.deleted}


def run(options: Options, folder: Path) -> Report:
    """Run it all in a folder, of which the logs stay.

    Raises:
        StackError: the stack did not start, or a stage failed.
    """
    report = Report(seed=options.seed, writers=options.writers)
    home = folder / "stack"
    stack_options = StackOptions(
        profile=options.profile,  # type: ignore[arg-type]  # checked by pydantic
        home=home,
        tables_file=declared(folder),
        ephemeral=True,
    )
    with running(stack_options) as stack:
        client = Client.of(stack)
        client.variables |= {
            "EXTRACT_SAFETY_LAG": f"PT{SAFETY:.0f}S",
            "EXTRACT_CHUNK_PAGES": str(CHUNK_PAGES),
        }
        try:
            with connect(stack.postgres) as connection:
                fill(connection, SampleSpec(rows=ROWS, seed=options.seed))
            with _shown(options.seconds):
                extractions, deleted = _write_and_extract(options, client, report)
            for _ in range(2):
                extractions.quiet_run([])
            note(report, client.compare(), deleted)
            extractions.quiet_run(["--mode", "snapshot"])
            note(report, client.compare(), set())
            for name in client.tables.names():
                for batch in client.state.batches_of_table(name):
                    report.batches[batch.mode.value] += 1
                    report.batches["failed"] += batch.state is BatchState.FAILED
            log = (home / "logs" / "extractor.log").read_text(errors="replace")
            report.catch_ups = log.count("read.catch_up")
            report.found += [f"left behind: {name}" for name in (*client.landed(), *client.hashed_tables())]
        finally:
            shutil.copytree(home / "logs", folder / "logs", dirs_exist_ok=True)
    return report


if __name__ == "__main__":
    sys.exit(run_command("writers", (__doc__ or "").split("\n")[0], Options(), run))
