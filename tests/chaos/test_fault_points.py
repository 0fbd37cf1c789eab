"""Processes that die with SIGKILL at every fault point, and events that come four times in any order.

Each round changes the source, arms some points, extracts, repeats all events, and must end as if nothing had happened.
Rounds arm points of every service at once; with CREDIX_CHAOS=full every point has a round of its own.
CREDIX_CHAOS_PROFILE=emulators runs on Google's emulators.
"""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
import yaml

from local.cycle import Client, run_cycle
from local.sample.changes import changes
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.emulators import emulators_available
from local.stack.options import REPOSITORY, StackOptions
from services.core.batch import BatchState
from services.core.faults import FAULT_POINTS
from services.core.naming import mirrored, part_object
from services.core.parquet import whole_file
from services.core.tables import EXTRACTED_AT
from tests.chaos.undisturbed import (
    SHORT_LEASES,
    WAIT,
    all_batches,
    assert_undisturbed,
    extract_until_done,
    failed_deliveries,
    killed_workers,
    landed_ever,
    left_plans,
    repeat_events,
    wait_for_rest,
)
from tests.pipeline import filled, little_dbt, paused

SPEC = SampleSpec(rows=600, seed=23)
PROFILE: Any = os.environ.get("CREDIX_CHAOS_PROFILE", "embedded")
FULL = os.environ.get("CREDIX_CHAOS") == "full"

FILE_POINTS = {"loader.file_part_landed", "loader.file_noted", "loader.file_landed"}
"""Reached by a file that is dropped into landing/ only."""
VIEW_POINTS = {"transformer.downstream_noted", "transformer.downstream_built"}
"""Reached when a view of bronze is not there only."""
REJECTION_POINTS = {"loader.failed_noted", "loader.object_rejected"}
"""Reached by a batch that cannot be loaded only."""


@dataclass(frozen=True)
class Round:
    """What is armed at once."""

    points: tuple[str, ...]
    chunked: bool = False
    """Read installments first, as a snapshot in chunks, with which another try of the same task can go on."""

    @property
    def disturbance(self) -> Literal["none", "file", "damage"]:
        """What the points need beside changes in the source."""
        if FILE_POINTS & set(self.points):
            return "file"
        return "damage" if REJECTION_POINTS & set(self.points) else "none"

    def __str__(self) -> str:
        return "+".join(self.points) + ("-chunked" if self.chunked else "")


COMBINED = [
    Round(
        (
            *("extractor.remembered", "extractor.batch_noted", "loader.load_started"),
            # Here the delta is still empty: so the batch is appended for sure, and not merged.
            *("transformer.append_noted", "transformer.appended", "transformer.downstream_noted", "transformer.merged"),
        )
    ),
    Round(
        (
            *("extractor.part_landed", "extractor.manifest_announced", "loader.load_done"),
            *("loader.stable_copied", "loader.object_archived"),
            *("transformer.bronze_built", "transformer.advanced"),
        ),
        chunked=True,
    ),
    Round(
        (
            *("extractor.read", "loader.failed_noted", "loader.object_rejected"),
            *("transformer.merge_noted", "transformer.base_merged", "transformer.run_unnoted"),
        ),
        chunked=True,
    ),
    Round(
        (
            *("extractor.fingerprints_kept", "extractor.manifest_landed"),
            *("loader.file_part_landed", "loader.file_noted", "loader.file_landed"),
            "transformer.downstream_built",
        )
    ),
    Round(
        (
            *("extractor.landed", "loader.stable_noted", "loader.loaded_unnoted", "loader.loaded", "loader.archived"),
            *("transformer.tested", "transformer.hashed_dropped"),
        ),
        chunked=True,
    ),
]
"""A process reaches its second point when it does the work again that it died of."""
SINGLE = [Round((point,)) for point in FAULT_POINTS] + [
    Round((point,), chunked=True) for point in FAULT_POINTS if point.startswith("extractor.")
]


@dataclass(frozen=True)
class Ended:
    """How a round ended."""

    seconds: float
    deaths: dict[str, int]
    """Processes that died, by service."""
    events: int
    """Events published once more."""
    failures: int
    """Deliveries that failed and came again."""
    recovery: float
    """Seconds from the last event to rest."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if PROFILE == "emulators" and (reason := emulators_available()):
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("points")
    variables = {**SHORT_LEASES, "EXTRACT_CHUNK_PAGES": "4", "TABLES_FILE": str(_with_delta(home.with_suffix(".yaml")))}
    dbt = little_dbt(home.with_name(f"{home.name}-dbt"))
    options = StackOptions(profile=PROFILE, home=home, dbt_project=dbt, ephemeral=True, variables=variables)
    with filled(options, SPEC) as opened:
        run_cycle(opened, WAIT)
        yield opened


def _with_delta(path: Path) -> Path:
    """The declared tables, with a delta for installments, small as it is here; companies are merged."""
    declared = yaml.safe_load((REPOSITORY / "config" / "tables.yaml").read_text())
    [installments] = [each for each in declared["tables"] if each["name"] == "installments"]
    installments["compaction"] = {"min_base": 0, "max_share": 1}
    path.write_text(yaml.safe_dump(declared))
    return path


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[dict[Round, Ended | None]]:
    """How each round ended; None for one that did not come to its end. Printed when all have run."""
    rounds: dict[Round, Ended | None] = {}
    yield rounds
    lines = [_line(each, ended) for each, ended in rounds.items()]
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stdout.write("\n" + "\n".join(["fault points → outcome", *lines]) + "\n")


def _line(each: Round, ended: Ended | None) -> str:
    if ended is None:
        return f"{each} → failed, or did not come to its end"
    deaths = ", ".join(f"{count} {service}" for service, count in ended.deaths.items() if count)
    return (
        f"{each} → undisturbed in {ended.seconds:.1f} s ({ended.recovery:.1f} s after the last event); died: {deaths}; "
        f"{ended.events} events repeated, {ended.failures} deliveries failed and came again"
    )


@pytest.mark.parametrize("each", SINGLE if FULL else COMBINED, ids=str)
def test_after_deaths_all_is_as_if_nothing_had_happened(
    client: Client, table: dict[Round, Ended | None], each: Round
) -> None:
    table[each] = None
    started = time.monotonic()
    dead_before = {service: killed_workers(client, service) for service in ("loader", "transformer")}
    failures_before = failed_deliveries(client)
    known, known_batches = landed_ever(client), {batch.id for batch in all_batches(client)}
    with connect(client.stack.postgres) as connection:
        changes(connection, SPEC)
    execution = f"round-{len(table)}"
    chunked = ("--table", "installments", "--mode", "snapshot") if each.chunked else ()
    if VIEW_POINTS & set(each.points):
        client.warehouse.delete_table(client.bronze("cnpj_ws"))
    Path(client.variables["FAULT_FILE"]).write_text("\n".join(each.points))
    damaged = None
    if each.disturbance == "file":
        _drop_file(client, len(table))
    if each.disturbance == "damage":
        with paused(client, "loader"):
            extraction = extract_until_done(client, execution, *(chunked or ("--table", "installments")))
            damaged = _damage(client, extraction.tables)
    else:
        extraction = extract_until_done(client, execution, *chunked)
        if each.chunked:
            extract_until_done(client, f"{execution}-others", "--table", "cnpj_ws")
    if not FULL:
        _await_loaders_death(client)
    objects = {name: generation for name, generation in landed_ever(client).items() if name not in known}
    batches = [batch.id for batch in all_batches(client) if batch.id not in known_batches]
    events = repeat_events(client, objects, batches, seed=len(table))
    last = time.monotonic()
    wait_for_rest(client, events)
    if damaged is not None:
        _assert_rejected(client, damaged)
        extract_until_done(client, f"{execution}-again")
        wait_for_rest(client)
    recovery = time.monotonic() - last
    assert_undisturbed(client)
    if each.disturbance == "file":
        files = [batch for batch in all_batches(client) if f"{_file(len(table))}#" in (batch.source or "")]
        assert [batch.state for batch in files] == [BatchState.MERGED]
    deaths = {service: killed_workers(client, service) - count for service, count in dead_before.items()}
    deaths["extractor"] = extraction.deaths
    for service, count in deaths.items():
        armed = sum(point.startswith(f"{service}.") for point in each.points)
        assert (count > 0) == (armed > 0), f"{service}: {armed} points armed, {count} processes died"
    failures = failed_deliveries(client) - failures_before
    table[each] = Ended(time.monotonic() - started, deaths, len(events), failures, recovery)


def _await_loaders_death(client: Client) -> None:
    """Wait a while until the loader has reached its points.

    A loader that dies of one event while it copies the stable table for another leaves that table's lease held for the
    30 s that services/loader/stable.py gives it. With all events at once, as in the long form, that often happens.
    """
    fault = Path(client.variables["FAULT_FILE"])
    deadline = time.monotonic() + 10
    with suppress(FileNotFoundError):  # the last point was reached
        while "loader." in fault.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)


def _archived_part(client: Client) -> bytes:
    """A part of the newest merged batch of installments."""
    settings = client.settings
    batch = [b for b in client.state.batches_of_table("installments") if b.state is BatchState.MERGED][-1]
    landed = next(name for name in landed_ever(client) if batch.id in name and name.endswith(".parquet"))
    archived = mirrored(landed, settings.landing_prefix, settings.archive_prefix)
    content = client.objects.read(settings.archive_bucket, archived)
    assert content is not None
    return content


def _drop(client: Client, name: str, content: bytes) -> None:
    """Put a file into landing/, as a person would."""
    settings = client.settings
    client.objects.create(
        settings.landing_bucket, f"{settings.landing_prefix}/{name}", io.BytesIO(content), "application/octet-stream"
    )


def _drop_file(client: Client, number: int) -> None:
    """Drop rows that the source has had; they count as read now, and the extraction that follows wins over them."""
    rows = whole_file(_archived_part(client)).drop_columns([EXTRACTED_AT.name])
    file = io.BytesIO()
    pq.write_table(rows, file)
    _drop(client, _file(number), file.getvalue())


def _file(number: int) -> str:
    """The name of the file that a round drops."""
    return f"installments-{number}.parquet"


def _damage(client: Client, extracted: list[dict[str, Any]]) -> str:
    """Damage a part of the batch of installments; the batch's id."""
    settings = client.settings
    batch_id = next(str(entry["batch_id"]) for entry in extracted if entry["table"] == "installments")
    part = part_object(settings.landing_prefix, "installments", batch_id, 0)
    client.objects.replace(settings.landing_bucket, part, b"PAR1 this is no Parquet PAR1", "text/plain")
    return batch_id


def _assert_rejected(client: Client, batch_id: str) -> None:
    """The batch has failed, and all its objects are in failed/, each with the reason."""
    batch = client.state.batch(batch_id)
    assert batch is not None
    assert batch.state is BatchState.FAILED
    assert batch.error is not None
    assert batch.error.code == "part_changed"
    failed = [name for name in client.failed() if batch_id in name]
    assert len([name for name in failed if name.endswith(".manifest.json")]) == 1
    assert len([name for name in failed if name.endswith(".parquet")]) >= batch.parts >= 1
    assert len([name for name in failed if name.endswith(".error.json")]) * 2 == len(failed)


def test_extractors_that_died_left_no_plan(client: Client, table: dict[Round, Ended | None]) -> None:
    if not any(each.chunked and "extractor.landed" in each.points for each in table):
        pytest.skip("the round in which an extractor dies with a plan did not run")
    assert left_plans(client) == []


def test_an_archived_part_is_brought_back_by_a_copy(client: Client) -> None:
    """Its rows keep the time at which they were read, so that nothing newer is lost (docs/batches.md)."""
    name = "installments-archived.parquet"
    log = client.stack.home / "logs" / "loader.log"
    before = len(log.read_text(errors="replace").splitlines())
    _drop(client, name, _archived_part(client))
    deadline = time.monotonic() + 20
    while client.landed() and time.monotonic() < deadline:
        said = log.read_text(errors="replace").splitlines()[before:]
        assert [line for line in said if name in line and '"event.failed"' in line] == []
        time.sleep(0.2)
    wait_for_rest(client)
    assert_undisturbed(client)


@pytest.mark.parametrize("rounds", [COMBINED, SINGLE], ids=["combined", "single"])
def test_the_rounds_cover_every_point(rounds: list[Round]) -> None:
    assert {point for each in rounds for point in each.points} == set(FAULT_POINTS)
    assert len({str(each) for each in rounds}) == len({replace(each) for each in rounds}) == len(rounds)
