"""The pipeline's state: a table's progress, its batches, the history of runs."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core import machine
from services.core.batch import Batch, BatchError, BatchState, Step
from services.core.chain import Covered, covered
from services.core.cost.run_cost import RunCost
from services.core.errors import LeaseLost, TransientError
from services.core.settings import CoreSettings
from services.core.state.certain import CertainStore
from services.core.state.store import Document, DocumentChanged, DocumentExists, DocumentStore
from services.core.tables import Mode

PLANS, CHUNKS = "plans", "chunks"
"""Collections of what tasks share while they read a large table; ``services.extractor.reading.work`` fills them."""

RUN_HISTORY = timedelta(days=90)
"""How long a run stays in the history, where the store forgets by itself (Firestore)."""

INTERRUPTED = "interrupted"
"""Outcome of a run that said nothing of its end; another one found its jobs (services/core/cost/interrupted.py)."""

_TRIES = 20
"""How often an update is tried again when another process was faster. Contention is a handful of processes."""


class TableProgress(BaseModel):
    """How far a table is."""

    model_config = ConfigDict(frozen=True)

    watermark: AwareDatetime | None = Field(default=None, description="Cursor up to which bronze is complete.")
    watermark_batch: str | None = Field(default=None, description="The batch whose window ends at the watermark.")
    anew_at: AwareDatetime | None = Field(
        default=None, description="When the snapshot was read with which the watermark last began anew."
    )
    merged_batch: str | None = Field(default=None, description="The newest batch in bronze.")
    merged_snapshot: str | None = Field(default=None, description="The newest snapshot in bronze, by when it was read.")
    merged_snapshot_at: AwareDatetime | None = Field(default=None, description="When that snapshot was read.")
    extracted_at: AwareDatetime | None = Field(default=None, description="The newest batch's extraction; only grows.")
    unannounced: str | None = Field(
        default=None, description="The last batch that no extraction announced (a file, a manifest of nobody)."
    )
    stable_batch: str | None = Field(default=None, description="The batch in the stable temp table.")
    extract_token: int = Field(default=0, description="Newest fencing token that extracted the table.")
    merge_token: int = Field(default=0, description="Newest fencing token that merged the table.")
    stable_token: int = Field(default=0, description="Newest fencing token that copied the stable table.")
    merge_job: str | None = Field(
        default=None, description="The warehouse's job that merges the table now, or that a dead holder left running."
    )
    delta_since: AwareDatetime | None = Field(
        default=None, description="When the first of the rows that wait in the delta was appended; None when none wait."
    )
    stable_job: str | None = Field(
        default=None, description="The warehouse's job that copies the stable table now, or that was left running."
    )

    @property
    def covered(self) -> Covered:
        """How far bronze is complete."""
        return Covered(self.watermark, self.watermark_batch, self.anew_at)


class Downstream(BaseModel):
    """Whether the views of silver and gold are as they are to be."""

    model_config = ConfigDict(frozen=True)

    changed: int = 0
    """How often bronze's columns have changed."""
    built: int = 0
    """Up to which change the views are built."""
    definition: str | None = None
    """Fingerprint of the project's models when they were built."""


class Run(BaseModel):
    """One run of a service, for the history."""

    model_config = ConfigDict(frozen=True)

    id: str
    service: Literal["extractor", "transformer", "sweep", "report", "observer", "audit"]
    """report: an older version's, of a report that was published without a run of the transformer."""
    started_at: AwareDatetime
    finished_at: AwareDatetime
    outcome: str
    details: dict[str, Any] = Field(default_factory=dict)
    cost: RunCost | None = None
    """What its jobs in BigQuery cost; None when it sends none, and of a run whose costs nobody read."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.finished_at - self.started_at).total_seconds()


class PipelineState:
    """Typed access to the document store. Every method is one read, or one write that keeps its precondition."""

    def __init__(self, store: DocumentStore) -> None:
        self.store = store

    def progress(self, table: str) -> TableProgress:
        """How far a table is; the beginning when nothing is known."""
        document = self.store.get("tables", table)
        return TableProgress.model_validate(document.data) if document else TableProgress()

    def all_progress(self) -> dict[str, TableProgress]:
        """How far the tables are, by name, of which anything is known."""
        return {each.id: TableProgress.model_validate(each.data) for each in self.store.query("tables", {})}

    def _change_progress(self, table: str, change: Callable[[TableProgress], TableProgress]) -> TableProgress:
        for _ in range(_TRIES):
            document = self.store.get("tables", table)
            before = TableProgress.model_validate(document.data) if document else TableProgress()
            after = change(before)
            if document and after == before:
                return before
            try:
                if document is None:
                    self.store.create("tables", table, after.model_dump(mode="json"))
                else:
                    self.store.update(document, after.model_dump(mode="json"))
            except (DocumentExists, DocumentChanged):
                continue
            return after
        raise TransientError(f"table {table}: its progress changed {_TRIES} times while it was updated")

    def begin_extraction(self, table: str, extracted_at: datetime, token: int) -> TableProgress:
        """Note an extraction's time, under its fencing token.

        Raises:
            LeaseLost: a later holder has extracted the table.
        """

        def change(progress: TableProgress) -> TableProgress:
            _check_token(table, "extract", progress.extract_token, token)
            newest = max(extracted_at, progress.extracted_at or extracted_at)  # a helping task may have taken a later
            return progress.model_copy(update={"extracted_at": newest, "extract_token": token})

        return self._change_progress(table, change)

    def take_time(self, table: str, now: datetime) -> datetime:
        """A time that orders row versions: ``now``, or just after the last that was taken, if that is later."""
        taken = now

        def change(progress: TableProgress) -> TableProgress:
            nonlocal taken
            taken = now
            if progress.extracted_at is not None:
                taken = max(now, progress.extracted_at + timedelta(microseconds=1))
            return progress.model_copy(update={"extracted_at": taken})

        self._change_progress(table, change)
        return taken

    def newest_snapshot(self, table: str) -> Batch | None:
        """The newest snapshot of a table that is in bronze, by when it was read: no older batch goes behind it."""
        noted = self.progress(table).merged_snapshot
        known = [batch] if noted is not None and (batch := self.batch(noted)) is not None else []
        merged = [batch for batch in self.open_batches(table) if batch.state is BatchState.MERGED]
        snapshots = [*known, *(batch for batch in merged if batch.mode is Mode.SNAPSHOT)]
        return max(snapshots, key=lambda batch: (batch.extracted_at, batch.id), default=None)

    def set_stable_batch(self, table: str, batch_id: str) -> None:
        """Note which batch the stable table holds; never an older one."""

        def change(progress: TableProgress) -> TableProgress:
            if progress.stable_batch is not None and progress.stable_batch >= batch_id:
                return progress
            return progress.model_copy(update={"stable_batch": batch_id})

        self._change_progress(table, change)

    def advance(self, table: str, token: int) -> TableProgress:
        """Move the watermark over all merged batches that leave no gap, and close those it has passed.

        A snapshot with which it begins anew can move it back.

        Raises:
            LeaseLost: a later holder has merged the table.
        """
        merged = [batch for batch in self.open_batches(table) if batch.state is BatchState.MERGED]

        def change(progress: TableProgress) -> TableProgress:
            _check_token(table, "merge", progress.merge_token, token)
            newest = max((batch.id for batch in merged), default="")
            snapshots = [(b.extracted_at, b.id) for b in merged if b.mode is Mode.SNAPSHOT]
            if progress.merged_snapshot is not None and progress.merged_snapshot_at is not None:
                snapshots.append((progress.merged_snapshot_at, progress.merged_snapshot))
            snapshot_at, snapshot = max(snapshots, default=(None, None))
            reached = covered(progress.covered, merged)
            return progress.model_copy(
                update={
                    "merged_snapshot": snapshot,
                    "merged_snapshot_at": snapshot_at,
                    "watermark": reached.until,
                    "watermark_batch": reached.batch,
                    "anew_at": reached.anew_at,
                    "merged_batch": max(progress.merged_batch or "", newest) or None,
                    "merge_token": token,
                }
            )

        progress = self._change_progress(table, change)
        for batch in merged:
            passed = progress.watermark is not None and batch.window and batch.window.high <= progress.watermark
            replaced = progress.anew_at is not None and batch.extracted_at < progress.anew_at
            if passed or replaced or batch.window is None:
                self.change_batch(batch.id, lambda b: b.model_copy(update={"open": False}))
        return progress

    def note_merge_job(self, table: str, job_id: str | None, token: int, after: str | None) -> bool:
        """Note the job that is about to merge the table, so that a later holder can wait for it.

        Args:
            table: the table.
            job_id: the job; None when the noted one has ended.
            token: fencing token of the lease under which the table is merged.
            after: the job that was noted before, and that is known to have ended.

        Returns:
            False when another job than ``after`` is noted: it has to end first.

        Raises:
            LeaseLost: a later holder has merged the table.
        """

        def change(progress: TableProgress) -> TableProgress:
            _check_token(table, "merge", progress.merge_token, token)
            return _after_job(progress, "merge_job", after, {"merge_job": job_id, "merge_token": token})

        return self._change_progress(table, change).merge_job == job_id

    def note_delta(self, table: str, since: datetime | None, token: int) -> None:
        """Note that rows wait in the table's delta, from when on, or that none do any more (None).

        Args:
            table: the table.
            since: noted only if nothing is noted yet; None clears it.
            token: fencing token of the lease under which the table is merged.

        Raises:
            LeaseLost: a later holder has merged the table.
        """

        def change(progress: TableProgress) -> TableProgress:
            _check_token(table, "merge", progress.merge_token, token)
            begun = (progress.delta_since or since) if since is not None else None
            return progress.model_copy(update={"delta_since": begun, "merge_token": token})

        self._change_progress(table, change)

    def note_stable_job(self, table: str, job_id: str | None, token: int, after: str | None) -> bool:
        """Note the job that is about to copy the stable table, as ``note_merge_job`` does of a merge.

        Raises:
            LeaseLost: a later holder has copied the table.
        """

        def change(progress: TableProgress) -> TableProgress:
            _check_token(table, "stable", progress.stable_token, token)
            return _after_job(progress, "stable_job", after, {"stable_job": job_id, "stable_token": token})

        return self._change_progress(table, change).stable_job == job_id

    def create_batch(self, batch: Batch) -> bool:
        """Note a new batch; False when the state has it already."""
        try:
            self.store.create("batches", batch.id, batch.model_dump(mode="json"))
        except DocumentExists:
            return False
        return True

    def batch(self, batch_id: str) -> Batch | None:
        """A batch, or None."""
        document = self.store.get("batches", batch_id)
        return Batch.model_validate(document.data) if document else None

    def change_batch(self, batch_id: str, change: Callable[[Batch], Batch]) -> Batch:
        """Apply a pure change to a batch, again when another process was faster; whatever ``change`` raises passes.

        Raises:
            KeyError: the state does not know the batch.
        """
        for _ in range(_TRIES):
            document = self.store.get("batches", batch_id)
            if document is None:
                raise KeyError(batch_id)
            before = Batch.model_validate(document.data)
            after = change(before)
            if after == before:
                return before
            try:
                self.store.update(document, after.model_dump(mode="json"))
            except DocumentChanged:
                continue
            return after
        raise TransientError(f"batch {batch_id} changed {_TRIES} times while it was updated")

    def step(self, batch_id: str, step: Step, **facts: Any) -> Batch:
        """Note what happened to a batch; returns it as it is now, unchanged where the step has no effect.

        Raises:
            KeyError: the state does not know the batch.
        """
        return self.change_batch(batch_id, lambda batch: batch.after(step, machine.now(), **facts))

    def abandon(self, batch_id: str, error: BatchError) -> bool:
        """Fail a batch whose extraction came to no end; whether it has failed now.

        It has not when its manifest landed meanwhile, or when the extraction, which was believed dead, found no rows
        and has removed it: then there is nothing to clear away.
        """
        try:
            return self.step(batch_id, Step.ABANDON, error=error).state is BatchState.FAILED
        except KeyError:
            return False

    def announce(self, batch_id: str, manifest_sha256: str, **facts: Any) -> None:
        """Note which manifest is about to be written: the loader takes no other for the batch's.

        Args:
            batch_id: the batch.
            manifest_sha256: fingerprint of its manifest.
            facts: fields that are known from now on.

        Raises:
            KeyError: the state does not know the batch.
        """
        self.change_batch(batch_id, lambda b: b.model_copy(update={"manifest_sha256": manifest_sha256, **facts}))

    def note_unannounced(self, table: str, batch_id: str) -> None:
        """Note that a batch comes which no extraction announced, before it is noted itself.

        From then on the table's bronze can have other rows than the extractor landed.
        """
        self._change_progress(table, lambda progress: progress.model_copy(update={"unannounced": batch_id}))

    def forget_plan(self, batch_id: str) -> None:
        """Remove a batch's plan and chunks, the plan first: nobody claims any more. Safe to repeat."""
        plan = self.store.get(PLANS, batch_id)
        for document in [*([plan] if plan else []), *self.store.query(CHUNKS, {"batch": batch_id})]:
            self._remove(document)

    def _remove(self, document: Document) -> None:
        """Delete a document, whatever others do to it meanwhile."""
        current: Document | None = document
        for _ in range(_TRIES):
            if current is None:
                return
            try:
                self.store.delete(current)
            except DocumentChanged:
                current = self.store.get(document.collection, document.id)
            else:
                return
        raise TransientError(f"{document.collection}/{document.id} changed {_TRIES} times while it was deleted")

    def forget_finished_plans(self) -> int:
        """Remove plans and chunks of batches that nobody extracts any more; returns of how many."""
        plans = {document.id for document in self.store.query(PLANS, {})}
        chunks = {str(document.data["batch"]) for document in self.store.query(CHUNKS, {})}
        finished = [id_ for id_ in sorted(plans | chunks) if self._state(id_) is not BatchState.EXTRACTING]
        for batch_id in finished:
            self.forget_plan(batch_id)
        return len(finished)

    def _state(self, batch_id: str) -> BatchState | None:
        batch = self.batch(batch_id)
        return batch.state if batch else None

    def forget_batch(self, batch_id: str) -> None:
        """Remove a batch that turned out to have no rows, as if it had never begun.

        It stays when it is extracted no longer: it failed meanwhile, and that must be seen, or somebody loads it.
        """
        for _ in range(_TRIES):
            document = self.store.get("batches", batch_id)
            if document is None or Batch.model_validate(document.data).state is not BatchState.EXTRACTING:
                return
            try:
                self.store.delete(document)
            except DocumentChanged:
                continue
            return
        raise TransientError(f"batch {batch_id} changed {_TRIES} times while it was removed")

    def open_batches(self, table: str) -> list[Batch]:
        """Batches of a table that the watermark has not passed and that did not fail, oldest first."""
        return _batches(self.store.query("batches", {"table": table, "open": True}))

    def batches_in(self, state: BatchState) -> list[Batch]:
        """Open batches of all tables in a state, oldest first."""
        return _batches(self.store.query("batches", {"state": state.value, "open": True}))

    def batches_of_table(self, table: str, since: datetime | None = None) -> list[Batch]:
        """Batches of a table, all or those begun since a time, oldest first."""
        return _batches(self.store.query("batches", {"table": table}, _id_from(since)))

    def batches_since(self, since: datetime) -> list[Batch]:
        """Batches of all tables that were begun since a time, oldest first."""
        return _batches(self.store.query("batches", {}, _id_from(since)))

    def all_open_batches(self) -> list[Batch]:
        """Batches of all tables that their watermarks have not passed and that did not fail, oldest first."""
        return _batches(self.store.query("batches", {"open": True}))

    def all_failed_batches(self) -> list[Batch]:
        """Batches of all tables that failed, oldest first."""
        return _batches(self.store.query("batches", {"state": BatchState.FAILED.value}))

    def note_downstream_due(self) -> None:
        """Note that bronze's columns are about to change: the views of silver and gold are to be built from then on."""
        self._change_downstream(lambda noted: noted.model_copy(update={"changed": max(noted.changed, noted.built) + 1}))

    def downstream_due(self, definition: str | None = None) -> int | None:
        """The change of bronze up to which the views of silver and gold are to be built; None when they are.

        Asked before they are built; what is noted as built is what was asked.

        Args:
            definition: fingerprint of how the project defines them now; None when it is not known.
        """
        noted = _downstream(self.store.get("pipeline", "downstream"))
        due = noted.built < noted.changed or (definition is not None and definition != noted.definition)
        return max(noted.changed, noted.built) if due else None

    def note_downstream_built(self, up_to: int, definition: str) -> None:
        """Note that silver and gold are built up to a change of bronze; harmless when it comes late.

        Args:
            up_to: what ``downstream_due`` said before they were built.
            definition: fingerprint of how they were defined.
        """
        self._change_downstream(
            lambda noted: noted.model_copy(update={"built": max(noted.built, up_to), "definition": definition})
        )

    def _change_downstream(self, change: Callable[["Downstream"], "Downstream"]) -> None:
        for _ in range(_TRIES):
            document = self.store.get("pipeline", "downstream")
            before = _downstream(document)
            after = change(before)
            if document is not None and after == before:
                return
            content = after.model_dump()
            try:
                if document is None:
                    self.store.create("pipeline", "downstream", content)
                else:
                    self.store.update(document, content)
            except (DocumentExists, DocumentChanged):
                continue
            return
        raise TransientError(f"the note on silver and gold changed {_TRIES} times while it was updated")

    def add_run(self, run: Run) -> None:
        """Note a run in the history.

        A run that was taken for interrupted, and has ended all the same, says itself how.

        Raises:
            DocumentExists: the history has the run.
        """
        data = run.model_dump(mode="json")
        for _ in range(_TRIES):
            try:
                self.store.create("runs", run.id, data, forget_after=run.finished_at + RUN_HISTORY)
            except DocumentExists:
                document = self.store.get("runs", run.id)
                if document is None or document.data["outcome"] != INTERRUPTED or run.outcome == INTERRUPTED:
                    raise
                try:
                    self.store.update(document, {**data, "cost": data["cost"] or document.data.get("cost")})
                except DocumentChanged:
                    continue
            return
        raise TransientError(f"run {run.id} changed {_TRIES} times while it was noted")

    def run(self, run_id: str) -> Run | None:
        """A run in the history, or None."""
        document = self.store.get("runs", run_id)
        return Run.model_validate(document.data) if document else None

    def note_cost(self, run_id: str, cost: RunCost) -> RunCost | None:
        """Note what a run in the history cost, and return what is noted then; None when there is no such run.

        What was noted before stays when it is not known what came after it.
        """
        for _ in range(_TRIES):
            document = self.store.get("runs", run_id)
            if document is None:
                return None
            noted = Run.model_validate(document.data).cost
            known = (
                cost if cost.unknown is None or noted is None else noted.model_copy(update={"unknown": cost.unknown})
            )
            try:
                self.store.update(document, {**document.data, "cost": known.model_dump(mode="json")})
            except DocumentChanged:
                continue
            return known
        raise TransientError(f"run {run_id} changed {_TRIES} times while it was updated")

    def runs(self, service: str, since: datetime | None = None) -> list[Run]:
        """Runs of a service, all or those begun since a time, oldest first."""
        return [Run.model_validate(d.data) for d in self.store.query("runs", {"service": service}, _id_from(since))]


def _after_job(progress: TableProgress, field: str, after: str | None, update: dict[str, Any]) -> TableProgress:
    return progress.model_copy(update=update) if getattr(progress, field) == after else progress


def _check_token(table: str, what: str, newest: int, token: int) -> None:
    if newest > token:
        raise LeaseLost(f"table {table}: {what} token {token} is behind {newest}, another process has gone on")


def _downstream(document: Document | None) -> Downstream:
    """What is noted of silver and gold. A document from before it was counted says only whether they are due."""
    data = document.data if document else {}
    return Downstream(
        changed=data.get("changed", int(data.get("due", False))),
        built=data.get("built", 0),
        definition=data.get("definition"),
    )


def _id_from(since: datetime | None) -> str:
    """The least id of what began at that time or later: ids begin with it."""
    return f"{since.astimezone(UTC):%Y%m%dT%H%M%S%f}" if since else ""


def _batches(documents: Iterable[Document]) -> list[Batch]:
    return [Batch.model_validate(document.data) for document in documents]


def open_state(settings: CoreSettings) -> PipelineState:
    """Open the state that the settings name. Imports only the client that is needed: containers start cold."""
    if settings.state_backend == "sqlite":
        from services.core.state.sqlite import SqliteStore

        return PipelineState(CertainStore(SqliteStore(settings.state_sqlite_path)))
    from services.core.state.firestore import FirestoreStore

    store = FirestoreStore(settings.gcp_project, settings.firestore_database, settings.state_namespace)
    return PipelineState(CertainStore(store))
