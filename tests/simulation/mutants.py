"""Faults that this project had, or that its design is there to prevent: put back, one at a time.

Each is a change of the services' code for a while. The simulation has to find each (docs/simulation.md).
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError, NotFound

from services.core import jobs, landing
from services.core.batch import LIFE, Batch, BatchState, Step
from services.core.chain import Covered
from services.core.landing import batch_objects
from services.core.manifest import Manifest
from services.core.naming import LandedObject
from services.core.state import certain, state
from services.core.state.state import PipelineState
from services.core.tables import Table
from services.core.warehouse import hashed_table_id, temp_table
from services.extractor.extraction import leftovers, rows, whole
from services.extractor.planning import preparation
from services.extractor.planning.window import window_high
from services.loader import loading, stable, sweep
from services.loader.manifests import read_manifest
from services.transformer import reconcile
from services.transformer.bronze import appending, compaction, delta, merging, tables, turn
from services.transformer.bronze import round as bronze_round
from services.transformer.bronze.batch_rows import Loaded
from services.transformer.bronze.notes import Done
from tests.simulation.warehouse import Warehouse

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """A fault."""

    name: str
    what: str
    """What it is, in a sentence."""
    put_in: Patch
    hidden: str | None = None
    """Why no schedule shows it; None where some do."""


NOT_SO_FAR = "not found so far: another guard holds, or what would show it does not happen in the schedules"

MUTANTS: list[Mutant] = []


def mutant(what: str, hidden: str | None = None) -> Callable[[Patch], Patch]:
    """Add a mutant."""

    def add(patch: Patch) -> Patch:
        MUTANTS.append(Mutant(patch.__name__, what, patch, hidden))
        return patch

    return add


# --- bronze -----------------------------------------------------------------------------------------------------------


@mutant("A base that seems absent is made by CREATE OR REPLACE: a frozen process empties it.")
def replaced_when_absent(patch: pytest.MonkeyPatch) -> None:
    create = Warehouse.create

    def replacing(self: Warehouse, id_: str, columns: dict[str, str], *, if_absent: bool) -> Any:
        return create(self, id_, columns, if_absent=if_absent and "bronze" not in id_)

    patch.setattr(Warehouse, "create", replacing)


@mutant("A refusal (403) is taken for 'there is no such table'.", hidden=NOT_SO_FAR)
def refusal_is_absence(patch: pytest.MonkeyPatch) -> None:
    asked = tables._asked

    def none(client: Any, table_id: str) -> Any:
        try:
            return asked(client, table_id)
        except GoogleAPICallError:
            return None

    patch.setattr(tables, "_asked", none)


@mutant("The MERGE takes whatever version comes last.")
def merge_takes_the_last(patch: pytest.MonkeyPatch) -> None:
    merge = Warehouse.merge

    def merged(self: Warehouse, name: str, told: dict[str, Any], batches: Any) -> int:
        base = self.there(f"{name}_base")
        new = {row["id"]: row for row in self.rows_of(batches)}
        written = merge(self, name, told, batches)
        base.rows = [new.get(row["id"], row) for row in base.rows]
        return written

    patch.setattr(Warehouse, "merge", merged)


@mutant("A noted job that was never sent is not made void: it is sent late, beside another's.", hidden=NOT_SO_FAR)
def unsent_jobs_are_not_void(patch: pytest.MonkeyPatch) -> None:
    settle = jobs.settle

    def believed(client: Any, job_id: str, wait: timedelta) -> jobs.Settled:
        try:
            client.get_job(job_id)
        except NotFound:
            return jobs.Settled(job_id, sent=False, message="it was never sent")
        return settle(client, job_id, wait)

    patch.setattr(jobs, "settle", believed)
    patch.setattr(turn, "settle", believed)


@mutant("dbt's word counts: a model that 'ran' is merged, whatever became of its job.", hidden=NOT_SO_FAR)
def dbts_word_counts(patch: pytest.MonkeyPatch) -> None:
    outcome = merging.Merging._outcome

    def believed(self: Any, job_id: str | None, node: Any, message: str) -> Any:
        if node is not None and node.status == "success":
            return Done(None, 0.0)
        return outcome(self, job_id, node, message)

    patch.setattr(merging.Merging, "_outcome", believed)


@mutant("An append without an answer is taken for done.")
def no_answer_is_done(patch: pytest.MonkeyPatch) -> None:
    sent = appending.Appending._sent

    def believed(self: Any, append: Any, rows: str) -> Any:
        outcome = sent(self, append, rows)
        return outcome if isinstance(outcome, Done) else Done(None, 0.0)

    patch.setattr(appending.Appending, "_sent", believed)


@mutant("The delta is cleared before the MERGE has run.")
def delta_is_cleared_first(patch: pytest.MonkeyPatch) -> None:
    seen = merging.Merging._seen

    def cleared(self: Any, merge: Any) -> Any:
        failure = seen(self, merge)
        if failure is None and merge.delta:
            self._clear(merge)
            self._compacted[merge.table.name] = []
        return failure

    patch.setattr(merging.Merging, "_seen", cleared)


@mutant("The delta is cleared of all that it has, and not of what the MERGE took.", hidden=NOT_SO_FAR)
def delta_is_emptied(patch: pytest.MonkeyPatch) -> None:
    clear = delta.clear

    def emptied(client: Any, table: Table, name: str, batches: Any) -> None:
        clear(client, table, name, delta.waiting_batches(client, table, name))

    patch.setattr(delta, "clear", emptied)
    patch.setattr(merging.Merging, "_note", _cleared_whatever_came)


def _cleared_whatever_came(self: Any, merge: Any, done: Any) -> None:
    """A MERGE that failed is followed by the clearing, too."""
    if merge.writes:
        self.notes.taken_in(merge.table.name, compaction.Way.MERGE, merge.batches, done)
        if merge.found.delta is not None:
            self._compacted.setdefault(merge.table.name, [])
            self._clear(merge)


@mutant("A snapshot's deletions are not remembered: an older batch brings the rows back.", hidden=NOT_SO_FAR)
def snapshots_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PipelineState, "newest_snapshot", lambda self, table: None)


@mutant("An expired hashed table leaves its batch loaded for ever.")
def expired_batches_stay(patch: pytest.MonkeyPatch) -> None:
    def looked_at(self: Any, batches: list[Batch]) -> list[Any]:
        project, dataset = self.settings.gcp_project, self.settings.dataset_temp
        ids = [hashed_table_id(project, dataset, batch) for batch in batches]
        found = [temp_table(self.client, id_) for id_ in ids]
        return [Loaded(b, t) for b, t in zip(batches, found, strict=True) if t is not None]

    patch.setattr(bronze_round.Bronze, "_looked_at", looked_at)


@mutant("A batch is noted as merged before it is in bronze.")
def noted_too_early(patch: pytest.MonkeyPatch) -> None:
    append = appending.Appending.append_tested

    def early(self: Any, appends: Any, waiting: Any) -> Any:
        for each in appends:
            for loaded in each.batches:
                self.notes.state.step(loaded.batch.id, Step.MERGE)
        return append(self, appends, waiting)

    patch.setattr(appending.Appending, "append_tested", early)


@mutant("Hashed tables are dropped once they are loaded, and not once they are merged.")
def hashed_tables_go_early(patch: pytest.MonkeyPatch) -> None:
    finish = reconcile.Transformer._finish

    def early(self: Any, lease: Any, report: Any) -> None:
        for batch in self.state.batches_in(BatchState.LOADED):
            self.client.delete_table(
                hashed_table_id(self.settings.gcp_project, self.settings.dataset_temp, batch),
                not_found_ok=True,
            )
        finish(self, lease, report)

    patch.setattr(reconcile.Transformer, "_finish", early)


# --- watermark and windows --------------------------------------------------------------------------------------------


@mutant("The watermark goes to the furthest batch, over gaps.")
def watermark_over_gaps(patch: pytest.MonkeyPatch) -> None:
    def furthest(start: Covered, batches: Iterable[Batch]) -> Covered:
        highs = [(batch.window.high, batch.id) for batch in batches if batch.window is not None]
        if start.until is not None:
            highs.append((start.until, start.batch or ""))
        until, batch_id = max(highs, default=(None, None))
        return replace(start, until=until, batch=batch_id)

    patch.setattr(state, "covered", furthest)
    patch.setattr(preparation, "covered", furthest)


@mutant("A window's end ignores transactions that are open: what commits late is passed.")
def late_commits_are_passed(patch: pytest.MonkeyPatch) -> None:
    high = window_high

    def later(clock: Any, origin: Any, cursor: Any, safety_lag: timedelta) -> datetime:
        return high(replace(clock, oldest_transaction=None), origin, cursor, safety_lag)

    patch.setattr(preparation, "window_high", later)


@mutant("Without sight of others' transactions no distance is kept.")
def no_safety_lag(patch: pytest.MonkeyPatch) -> None:
    high = window_high
    patch.setattr(preparation, "window_high", lambda c, o, cursor, _: high(c, o, cursor, timedelta(0)))


@mutant("Fingerprints count though their batch is not in bronze.")
def fingerprints_of_any_batch(patch: pytest.MonkeyPatch) -> None:
    from services.extractor import fingerprints

    patch.setattr(preparation, "void", lambda *_: None)
    if hasattr(fingerprints, "arrived"):
        patch.setattr(fingerprints, "arrived", lambda *_: None)


@mutant("What chunks miss between two snapshots is not caught up.", hidden=NOT_SO_FAR)
def no_catch_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "catch_up_from", lambda results: None)


@mutant("A token that is behind is no reason to stop.", hidden=NOT_SO_FAR)
def tokens_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state, "_check_token", lambda *_: None)


# --- the loader and the bucket ----------------------------------------------------------------------------------------


@mutant("The stable table is copied by whoever comes, and the newest is whoever came last.")
def stable_goes_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stable, "_overtaken", lambda *_: False)


@mutant("Objects are archived before they are loaded.")
def archived_first(patch: pytest.MonkeyPatch) -> None:
    load = loading.Loader._load

    def early(self: Any, table: Any, manifest: Any) -> Any:
        for stored in batch_objects(self.objects, self.settings, manifest.table, manifest.batch_id):
            landing.archive(self.objects, self.settings, stored)
        return load(self, table, manifest)

    patch.setattr(loading.Loader, "_load", early)


@mutant("A batch that failed may still be loaded.")
def failed_batches_are_loaded(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(LIFE, (BatchState.FAILED, Step.LOAD), BatchState.LOADED)


@mutant("Of two movers of an object the second writes a reason for what the first archived.", hidden=NOT_SO_FAR)
def two_movers(patch: pytest.MonkeyPatch) -> None:
    put_away = landing.put_away

    def whatever(objects: Any, stored: Any, bucket: str, name: str) -> str:
        return put_away(objects, stored, bucket, name) or name

    from services.core import rejection

    patch.setattr(rejection, "put_away", whatever)


@mutant("Manifests whose event got lost stay in landing/.")
def sweep_overlooks_manifests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep.Sweep, "_object", lambda *_: None)


@mutant("What is in landing/ and is of no batch stays there.")
def strangers_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loading.Loader, "_handle_file", lambda *_: "ignored")


@mutant("A manifest is believed, whatever batch its own name says.", hidden=NOT_SO_FAR)
def others_manifests_are_believed(patch: pytest.MonkeyPatch) -> None:
    def believing(content: bytes, landed: LandedObject, prefix: str) -> Manifest:
        try:
            told = json.loads(content)
        except ValueError:
            return read_manifest(content, landed, prefix)
        return read_manifest(content, LandedObject(told["table"], told["batch_id"], None), prefix)

    patch.setattr(loading, "read_manifest", believing)


@mutant("Parts of extractions that died stay in landing/.")
def sweep_overlooks_parts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep.Sweep, "_parts", lambda *_: None)
    patch.setattr(leftovers, "abandon", lambda *_: None)


@mutant("The sweep abandons extractions that are still at work.", hidden=NOT_SO_FAR)
def sweep_abandons_the_living(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep.Sweep, "_extracting", lambda *_: False)
    run = sweep.Sweep.run

    def eager(self: Any) -> Any:
        settings = self.loader.settings.model_copy(update={"sweep_grace": timedelta(0)})
        return run(replace(self, loader=replace(self.loader, settings=settings)))

    patch.setattr(sweep.Sweep, "run", eager)


@mutant("Plans and chunks of extractions that died are left behind.")
def plans_are_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PipelineState, "forget_finished_plans", lambda self: 0)
    patch.setattr(leftovers, "shared_plan", lambda *_: None)


@mutant("What a broken attempt left is not cleared away before the manifest.")
def superseded_parts_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(whole, "reject_superseded", lambda *_: None)


# --- the state --------------------------------------------------------------------------------------------------------


@mutant("A write whose answer was lost is taken for another's.")
def lost_answers_are_anothers(patch: pytest.MonkeyPatch) -> None:
    def write(self: Any, write: Callable[[], Any], meant: Any, mark: str) -> Any:
        return self._again(lambda: certain._shown(write()))

    patch.setattr(certain.CertainStore, "_write", write)


@mutant("An extraction's time is taken after the rows were read.", hidden=NOT_SO_FAR)
def time_is_taken_late(patch: pytest.MonkeyPatch) -> None:
    from services.extractor.extraction import extractor

    batch = extractor.Extractor._batch

    def later(self: Any, prepared: Any) -> Batch:
        made = batch(self, prepared)
        return made.model_copy(update={"extracted_at": made.extracted_at + timedelta(seconds=30)})

    patch.setattr(extractor.Extractor, "_batch", later)
