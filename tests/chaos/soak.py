"""The pipeline under random faults: ``python -m tests.chaos.soak [--minutes 10] [--seed N] [--profile emulators]``.

Starts a local stack of its own, and lets writers change both tables (see ``writers``) while extractors run and
everything goes wrong that can (see ``troubles`` and ``foreign``): processes die at fault points and at any moment, or
stand still for longer than their leases; the bus, the bucket, the warehouse and PostgreSQL are killed or stand still;
the warehouse refuses requests as it does when a quota is used up; a table is truncated and loaded again in one
transaction; events come several times and out of order; landed parts are damaged; parts of the archive, rubbish, forged
manifests and files with odd names are dropped into landing/; sweeps and transformer jobs run beside the handlers. What
happens, and in which order, is determined by the seed; when exactly, by the machine.

In the end all troubles stop; extractor, sweep and transformer run until nothing is left to do, and what is held is
released, as a person would. Then source and bronze are compared row by row; landing/, hashed tables, plans and leases
must be empty, failed/ must have a reason for everything, the archive must hold what was merged.

Exit code 0 when nothing was lost, doubled, different or left behind; 1 otherwise.
"""

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.comparison import Comparison
from local.cycle import Client, CycleFailed, settle
from local.sample.seeding import seed as fill
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.home import Home
from local.stack.options import REPOSITORY, StackOptions
from local.stack.plan import PORT_NAMES
from local.stack.ports import HOST, choose_ports
from local.stack.record import Keepsake, write_record
from local.stack.stack import running
from services.core.batch import BatchState, Step
from services.core.state.lease import leases
from services.core.tables import Mode
from tests.chaos import writers
from tests.chaos.command import Options, run_command
from tests.chaos.foreign import OF_THE_SOURCE, ForeignObjects
from tests.chaos.jobs import Jobs
from tests.chaos.proxy import Action, FaultProxy
from tests.chaos.troubles import Troubles
from tests.chaos.undisturbed import assert_archived, left_plans, without_reason

ROWS = 4_000
LEASE = "4"
"""Seconds; short, so that the dead are replaced soon."""
GRACE = "6"
QUIET = timedelta(minutes=6)
"""For all to come home once the troubles have stopped."""


@dataclass
class Report:
    """What a soak was, and what it found; the numbers of a closing note."""

    seconds: float = 0.0
    seed: int = 0
    profile: str = "embedded"
    troubles: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    """Fault points at which a process died."""
    foreign_objects: Counter[str] = field(default_factory=Counter)
    """What was dropped into landing/, by kind."""
    refused: int = 0
    """Requests that the warehouse refused."""
    extractions: Counter[str] = field(default_factory=Counter)
    """By outcome, and by exit code of those that did not end well."""
    transactions: int = 0
    batches: Counter[str] = field(default_factory=Counter)
    """By state and, of the failed, by reason."""
    released: int = 0
    """Batches that were held, and that the person on call released."""
    rows_loaded: int = 0
    quiet_seconds: float = 0.0
    """From the last trouble until all was home."""
    rows_compared: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    not_deleted: int = 0
    left_behind: list[str] = field(default_factory=list)
    """Objects in landing/ or, without a reason, in failed/; hashed tables, plans, leases."""
    found: list[str] = field(default_factory=list)
    """What is not equal, with examples, and what else is not as it should be."""

    @property
    def equal(self) -> bool:
        """Whether source and bronze ended equal and nothing was left behind."""
        return not (self.lost or self.doubled or self.different or self.not_deleted or self.left_behind or self.found)

    @property
    def findings(self) -> list[str]:
        """What is not equal, and what was left."""
        return [*self.found, *(f"left behind: {name}" for name in self.left_behind)]


class Extractions:
    """Extracts again and again; some extractors are killed."""

    def __init__(self, jobs: Jobs, seed: int, report: Report) -> None:
        self.random = random.Random(f"extractions-{seed}")  # noqa: S311 - reproducible, not secret
        self._jobs, self._report = jobs, report

    def work(self, stop: threading.Event) -> None:
        """Extract every few seconds until told to stop."""
        while not stop.is_set():
            table = self.random.choice(["installments", "installments", "cnpj_ws"])
            arguments = self.random.choice(([], [], [], ["--mode", "snapshot", "--table", table]))
            processes = [self._jobs.start("services.extractor", *arguments)]
            if self.random.random() < 0.15:
                processes.append(self._jobs.start("services.extractor"))
            if self.random.random() < 0.15:
                time.sleep(self.random.uniform(0.5, 3))
                processes[0].kill()
            for process in processes:
                self._note(process)
            stop.wait(self.random.uniform(0.5, 3))

    def _note(self, process: "subprocess.Popen[bytes]") -> int:
        code, printed = self._jobs.ended(process)
        if code:
            self._report.extractions[f"exit code {code}"] += 1
        for line in printed.splitlines():
            for entry in json.loads(line)["tables"]:
                self._report.extractions[entry["outcome"]] += 1
        return code

    def once(self, *arguments: str) -> bool:
        """Run one to its end; whether it ended well and no table was busy."""
        busy = self._report.extractions["busy"]
        code = self._note(self._jobs.start("services.extractor", *arguments))
        return code == 0 and self._report.extractions["busy"] == busy


def _release_held(client: Client, report: Report) -> None:
    """As the person on call does, who has looked at the source: it is what it is."""
    for batch in client.state.batches_in(BatchState.HELD):
        client.state.step(batch.id, Step.RELEASE, released_by="soak")
        report.released += 1


def _come_home(client: Client, jobs: Jobs, extractions: Extractions, report: Report, *arguments: str) -> None:
    """Run extractor, sweep and transformer until nothing is left to do.

    Raises:
        CycleFailed: it took too long; says what is missing.
    """
    deadline = time.monotonic() + QUIET.total_seconds()
    extracted = False
    while True:
        extracted = extracted or extractions.once(*arguments)
        jobs.run("services.loader", "--sweep")
        _release_held(client, report)
        jobs.run("services.transformer")
        ids = [batch.id for name in client.tables.names() for batch in client.state.open_batches(name)]
        try:
            settle(client, ids, timedelta(seconds=5))
        except CycleFailed:
            if time.monotonic() > deadline:
                raise
            continue
        if extracted and not _left_behind(client):
            return
        if time.monotonic() > deadline:
            raise CycleFailed(f"not home after {QUIET}: extracted {extracted}, left {_left_behind(client)}")


def _left_behind(client: Client) -> list[str]:
    now = datetime.now(UTC)
    held = [f"lease {name}" for name, lease in leases(client.state.store).items() if lease.held(now)]
    return [*client.landed(), *client.hashed_tables(), *held]


def _fill(client: Client, seed: int) -> dict[str, list[str]]:
    """Fill the source; returns keys per table that several writers change."""
    with connect(client.stack.postgres) as connection:
        fill(connection, SampleSpec(rows=ROWS, seed=seed))
        for key in OF_THE_SOURCE:
            connection.execute(
                "INSERT INTO oltp.business_case_cnpj_ws (buyer_tax_id, share_capital, created_at, updated_at) "
                "VALUES (%s, 1, now(), now())",
                [key],
            )
            connection.execute(
                "INSERT INTO oltp.business_case_installments (asset_id, expected_amount_in_cents, invoice_issue_date) "
                "VALUES (%s, 1, current_date)",
                [key],
            )
        return {
            table: [str(key) for (key,) in connection.execute(query).fetchall()]
            for table, query in (
                ("cnpj_ws", "SELECT buyer_tax_id FROM oltp.business_case_cnpj_ws ORDER BY 1 LIMIT 40"),
                ("installments", "SELECT asset_id FROM oltp.business_case_installments ORDER BY 1 LIMIT 40"),
            )
        }


def _disturb(
    options: Options,
    client: Client,
    shared: dict[str, list[str]],
    extractions: Extractions,
    troubles: Troubles,
    report: Report,
) -> set[tuple[str, str]]:
    """Let writers, extractors and troubles at it for the time given; returns what was deleted, or may have been."""
    users = [
        writers.Writer(number, options, client.stack.postgres, shared, prepares=False, survives=True)
        for number in range(options.writers)
    ]
    stop = threading.Event()
    started = time.monotonic()
    with ThreadPoolExecutor(options.writers + 2) as pool:
        work: list[Callable[[threading.Event], None]] = [extractions.work, troubles.work]
        futures = [pool.submit(each, stop) for each in [*(user.work for user in users), *work]]
        try:
            while time.monotonic() - started < options.seconds and not any(future.done() for future in futures):
                time.sleep(0.1)
        finally:
            stop.set()
        for future in futures:
            future.result()
    troubles.end()
    report.seconds = round(time.monotonic() - started, 1)
    report.transactions = sum(user.report.transactions["committed"] for user in users)
    report.troubles, report.points = troubles.counts, troubles.points
    report.foreign_objects = troubles.foreign.counts
    return {each for user in users for each in user.deleted}


def _planned_warehouse(home: Path) -> str:
    """Address that the warehouse of a stack to come will have: its services are to meet a proxy before it."""
    place = Home.at(home)
    place.make()
    ports = choose_ports(PORT_NAMES)
    write_record(place.keepsake, Keepsake(ports=ports, cluster=None))
    return f"http://{HOST}:{ports['warehouse-rest']}"


def run(options: Options, folder: Path, dbt_project: Path = REPOSITORY / "dbt") -> Report:
    """Run a soak.

    Args:
        options: how long, and which.
        folder: its place, of which the logs stay.
        dbt_project: whose models are built.

    Raises:
        StackError: the stack did not start.
    """
    report = Report(seed=options.seed, profile=options.profile)
    home = folder / "stack"
    with FaultProxy(_planned_warehouse(home)) as proxy:
        stack_options = StackOptions(
            profile=options.profile,  # type: ignore[arg-type]  # checked by pydantic
            home=home,
            tables_file=writers.declared(folder),
            dbt_project=dbt_project,
            variables={
                "TRANSFORM_LEASE": LEASE,
                "EXTRACT_LEASE": LEASE,
                "SWEEP_GRACE": GRACE,
                "BIGQUERY_EMULATOR_HOST": proxy.url,
            },
            ephemeral=True,
        )
        with running(stack_options) as stack:
            client = Client.of(stack)
            client.variables |= {"EXTRACT_SAFETY_LAG": "PT10S", "EXTRACT_CHUNK_PAGES": str(writers.CHUNK_PAGES)}
            try:
                shared = _fill(client, options.seed)
                jobs = Jobs(client)
                extractions = Extractions(jobs, options.seed, report)
                troubles = Troubles(client, jobs, proxy, options.seed, float(LEASE))
                deleted = _disturb(options, client, shared, extractions, troubles, report)
                report.refused = proxy.counts()[Action.ANSWER.value]
                _quiet_phase(client, jobs, extractions, troubles.foreign, deleted, report)
                report.left_behind = [*_left_behind(client), *left_plans(client), *without_reason(client)]
                _look_at_batches(report, client, troubles)
                report.found += [f"hung: {name}; its stacks are in jobs.log" for name in jobs.hung]
            finally:
                shutil.copytree(home / "logs", folder / "logs", dirs_exist_ok=True)
    return report


def _quiet_phase(
    client: Client,
    jobs: Jobs,
    extractions: Extractions,
    foreign: ForeignObjects,
    deleted: set[tuple[str, str]],
    report: Report,
) -> None:
    """All comes home: by windows alone, then by a snapshot, which also finds what was deleted."""
    started = time.monotonic()
    try:
        for _ in range(2):
            _come_home(client, jobs, extractions, report)
        _note(report, [foreign.tolerated(each) for each in client.compare()], deleted)
        _come_home(client, jobs, extractions, report, "--mode", "snapshot")
    except CycleFailed as error:
        report.found.append(f"stuck: {error}")
    report.quiet_seconds = round(time.monotonic() - started, 1)
    _note(report, client.compare(), set())


def _note(report: Report, compared: list[Comparison], deleted: set[tuple[str, str]]) -> None:
    found = writers.Report()
    writers.note(found, compared, deleted)
    for name in ("rows_compared", "lost", "doubled", "different", "not_deleted", "found"):
        setattr(report, name, getattr(report, name) + getattr(found, name))


def _look_at_batches(report: Report, client: Client, troubles: Troubles) -> None:
    """Count them, and see what a comparison in the end cannot: a later snapshot repairs what an earlier one broke."""
    for name in client.tables.names():
        watermark = client.state.progress(name).watermark
        if watermark is not None and watermark > datetime.now(UTC):
            report.found.append(f"table {name}: its watermark is in the future: {watermark.isoformat()}")
        for batch in client.state.batches_of_table(name):
            report.batches[f"failed: {batch.error.code}" if batch.error else batch.state.value] += 1
            report.rows_loaded += batch.rows if batch.loaded_at else 0
            if batch.id in troubles.foreign.batches:
                continue
            if batch.mode is Mode.SNAPSHOT and batch.loaded_at and batch.rows < _least_rows(name):
                report.found.append(f"table {name}: snapshot {batch.id} saw {batch.rows} rows of a full table")
            # What was written over between its load and its archive is there no more.
            if batch.state is BatchState.MERGED and not any(batch.id in name for name in troubles.damaged):
                try:
                    assert_archived(client, batch)
                except AssertionError as error:
                    report.found.append(f"table {name}: batch {batch.id}: {error}")


def _least_rows(table: str) -> int:
    """Fewer rows than that a table never had: writers delete one row in twenty statements, and insert ten."""
    return {"cnpj_ws": SampleSpec(rows=ROWS).companies, "installments": ROWS}[table] // 2


if __name__ == "__main__":
    sys.exit(run_command("soak", (__doc__ or "").split("\n")[0], Options(600, 4), run))
