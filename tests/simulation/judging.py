"""What must hold in every schedule: after each step, and when it has come to rest (invariants 1 to 6 and 11)."""

from datetime import datetime, timedelta

from google.api_core.exceptions import GoogleAPICallError

from services.core.batch import Batch, BatchState
from services.core.errors import PipelineError
from services.core.rejection import REASON
from services.core.settings import LoaderSettings
from services.core.state.lease import leases
from services.core.tables import Cursor
from services.core.warehouse import hashed_table_id
from tests.simulation.world import BRONZE, ExtractionFailed, Held, World, configured
from tests.unit.extractor.history.judging import promised, reach
from tests.unit.extractor.history.source import Version

EXPECTED = (PipelineError, GoogleAPICallError, ExtractionFailed)
"""What a process may end with when something befell it; anything else is a mistake."""


class Judge:
    """Looks at a world, again and again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._furthest: dict[int, int] = {}
        """Per key the place in its history of the version that bronze has."""
        self._seen: tuple[int, int] | None = None
        self._held: dict[int, Held] = {}
        self._copies = 0

    # --- at any time --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at any time; nothing is asked while nothing has changed."""
        world = self._world
        if world.errors:
            for error in world.errors:
                if not isinstance(error, EXPECTED):
                    raise error
            world.errors.clear()
        now = (world.warehouse.changes, world.store.judged)
        if now == self._seen:
            return
        if self._seen is None or now[0] != self._seen[0]:
            self._bronze_has_gone_on()
            self._stable_has_gone_on()
        self._seen = now
        self._what_is_noted_is_there()

    def _bronze_has_gone_on(self) -> None:
        """Nothing that bronze had is gone, and no version was replaced by an older one (invariants 4 and 11)."""
        held = self._world.bronze
        for key in self._held.keys() - held.keys():
            raise AssertionError(f"bronze had row {key}, and has it no more")
        for key, row in held.items():
            if row == self._held.get(key):
                continue
            places = self._places(key, row.n, deleted=row.deleted)
            later = [place for place in places if place >= self._furthest.get(key, 0)]
            assert later, f"a newer version of row {key} was replaced by n = {row.n}"
            self._furthest[key] = later[0]
        self._held = held

    def _stable_has_gone_on(self) -> None:
        """No older batch was copied over a newer one."""
        world = self._world
        for copied in world.warehouse.copied.values():
            if len(copied) > self._copies:
                ids = {hashed_table_id("p", "business_case_temp", b): b.id for b in world.state.batches_of_table("t")}
                one, other = [ids.get(name, "") for name in ["", *copied][-2:]]
                assert not one or not other or one <= other, f"batch {other} was copied over {one}, which is newer"
                self._copies = len(copied)

    def _places(self, key: int, n: int, *, deleted: bool = False) -> list[int]:
        """Which versions of a key's history a row can be: one that was changed back is like an older one."""
        versions = self._world.database.history[key]
        found = [place for place, version in enumerate(versions) if version.n == n and not version.deleted]
        if deleted:
            gone = [next((p for p, v in enumerate(versions) if p > place and v.deleted), None) for place in found]
            found = [place for place in gone if place is not None]
        return found

    def _what_is_noted_is_there(self) -> None:
        """Batches that are noted as merged are in bronze, whole; no watermark has passed a gap, or a row."""
        world = self._world
        merged = [b for b in world.state.batches_of_table("t") if b.state is BatchState.MERGED]
        places = {
            key: max(self._places(key, row.n, deleted=row.deleted), default=-1) for key, row in self._held.items()
        }
        for batch in merged:
            for row in world.rows_of(batch):
                place = self._places(row["id"], row["n"])[0]
                assert places.get(row["id"], -1) >= place, f"batch {batch.id} is noted as merged, and not in bronze"
        progress = world.state.progress("t")
        if progress.watermark is None:
            return
        counting = [b for b in merged if progress.anew_at is None or b.extracted_at >= progress.anew_at]
        reached = reach([(b.window.low, b.window.high) for b in counting if b.window])
        assert progress.watermark <= world.cells.place(world.database.peak), "it passed the moment of extraction"
        assert reached is not None, "there is a watermark, and no batch"
        assert progress.watermark <= reached, "the watermark passed a gap"
        self._watermark_has_passed_nothing(progress.watermark, places, merged)

    def promised(self, version: Version, cursor: Cursor | None = None) -> bool:
        """Whether incremental runs bring a version, once the source is at rest (``promised`` of the histories)."""
        world = self._world
        return promised(version, cursor or world.cursor, world.cells, world.sight, timedelta(minutes=2))

    def _watermark_has_passed_nothing(self, watermark: datetime, places: dict[int, int], merged: list[Batch]) -> None:
        world = self._world
        raised = world.raised_at
        anew = raised is not None and any(b.anew and int(b.run_id.removeprefix("run-")) > raised for b in merged)
        cursor, cells = world.cursor if anew else world.declared.cursor, world.cells
        for key, version in world.database.current().items():
            if version.moment is None or not self.promised(version, cursor):
                continue
            honest = version.moment >= version.by.latest_clock - cursor.lag
            passed = watermark if honest else watermark - cursor.lookback
            if cells.place(version.moment) <= passed:
                versions = world.database.history[key]
                assert places.get(key, -1) >= len(versions) - 1, f"the watermark passed a change of row {key}"

    # --- at rest ------------------------------------------------------------------------------------------------------

    def all_is_home(self) -> None:
        """What incremental runs promise is in bronze."""
        world = self._world
        promised = {key: v.n for key, v in world.database.current().items() if self.promised(v)}
        bronze = self._bronze()
        assert {key: bronze.get(key) for key in promised} == promised, "lost, though all has come to rest"

    def equals_the_source(self) -> None:
        """After a snapshot, bronze is as the source is."""
        world = self._world
        source = {key: v.n for key, v in world.database.current().items()}
        bronze = self._bronze()
        assert {key: bronze.get(key) for key in source} == source, "lost, though a snapshot was merged"
        assert world.table.deletes == "keep" or bronze == source, "a deleted row is still there after a snapshot"

    def _bronze(self) -> dict[int, int]:
        return {key: held.n for key, held in self._world.bronze.items() if not held.deleted}

    def nothing_is_left(self) -> None:
        """Every landed object is in the archive or in failed/ with a reason; no batch, table, lease or plan waits."""
        world, settings = self._world, configured(LoaderSettings)
        left = [each.name for each in world.buckets.list(settings.landing_bucket, f"{settings.landing_prefix}/")]
        assert left == [], "left in landing/"
        archived = self._names(settings.archive_bucket, settings.archive_prefix)
        failed = self._names(settings.landing_bucket, settings.failed_prefix)
        for name in world.landed:
            own = name.removeprefix(f"{settings.landing_prefix}/")
            there = [each for each in failed if each == own or each.startswith(f"{own}~")]
            assert own in archived or there, f"{name} is neither in the archive nor in failed/"
            assert f"{own}{REASON}" not in failed or there, f"{name} was refused, and is not in failed/"
            for each in there:
                assert f"{each}{REASON}" in failed or each.endswith(REASON), f"failed/{each} has no reason"
        states = {batch.state for batch in world.state.batches_of_table("t")}
        assert states <= {BatchState.MERGED, BatchState.FAILED}, "a batch waits"
        hashed = [name for name in world.warehouse.names("p.business_case_temp") if "__" in name]
        assert hashed == [], "a hashed table is left"
        now = world.scheduler.now()
        held = [name for name, lease in leases(world.store).items() if lease.held(now)]
        assert held == [], "a lease is held"
        assert [each.id for each in world.store.query("plans", {})] == [], "a plan is left"
        if BatchState.MERGED in states:  # before the first batch there is nothing to build them on
            assert world.state.downstream_due(world.definition) is None, "silver and gold are not built"
        view = world.warehouse.table(BRONZE)
        assert view is None or view.view is not None, "bronze is no view"

    def _names(self, bucket: str, prefix: str) -> set[str]:
        return {each.name.removeprefix(f"{prefix}/") for each in self._world.buckets.list(bucket, f"{prefix}/")}
