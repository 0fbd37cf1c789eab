"""Plays histories in a simulated outside, and makes a failing one short."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import structlog
from tenacity import wait_none

from services.core import machine
from services.core.state import lease as leases
from services.core.tables import Cursor, Mode, Table
from services.extractor import landing
from services.extractor.extraction import rows, workplace
from services.extractor.planning import preparation
from services.extractor.reading import reading
from services.loader import loading
from tests.simulation.sifting import PlainSieve
from tests.unit.extractor.history.cells import Cells
from tests.unit.extractor.history.history import History
from tests.unit.extractor.history.inventing import Declared, Happening
from tests.unit.extractor.history.judging import Judge
from tests.unit.extractor.history.processes import AT_WORK, Inline, Stepwise, Wall
from tests.unit.extractor.history.source import Reader, Sessions

_ENVIRONMENT = {
    **{"POSTGRES_HOST": "h", "POSTGRES_USER": "u", "GCP_PROJECT": "p", "EXTRACT_PART_ROWS": "2"},
    **{"EXTRACT_LEASE": "PT1H", "TRANSFORM_LEASE": "PT1H", "EXTRACT_CHUNK_PAGES": "1"},
}


@contextmanager
def _asked_source(info: str, hold: ExitStack | None = None, **_: object) -> Iterator[Stepwise]:
    yield AT_WORK.get()


def _one_by_one(given: Iterable[Any], ask: Callable[[Any], Any], **_: object) -> list[Any]:
    return [ask(each) for each in given]


def _load(client: Any, table: Table, manifest: Any, hashed: str, bucket: str, *_: object) -> Any:
    return client.load(manifest, hashed, bucket)


@contextmanager
def simulated_outside() -> Iterator[None]:
    """For a block the outside is simulated, nothing waits, nothing is logged."""
    logged = structlog.get_config()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(preparation, "open_source", _asked_source)
        patch.setattr(rows, "open_source", _asked_source)
        patch.setattr(workplace, "Sessions", Sessions)
        patch.setattr(workplace, "Sieve", PlainSieve)  # the engine of the real one has tests of its own
        patch.setattr(reading, "Reader", Reader)
        patch.setattr(reading, "ThreadPoolExecutor", Inline)
        patch.setattr(reading, "wait_exponential_jitter", lambda **_: wait_none())
        patch.setattr(landing, "ThreadPoolExecutor", Inline)
        patch.setattr(loading, "load", _load)
        patch.setattr(loading, "refresh_stable", lambda *_: True)
        patch.setattr(machine, "side_by_side", _one_by_one)
        patch.setattr(leases, "machine", SimpleNamespace(**{**vars(machine), "now": Wall.now}))
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        try:
            yield
        finally:
            structlog.configure(**logged)


def play(declared: Declared, happenings: list[Happening]) -> None:
    """Let a history happen, checking all the time.

    Raises:
        Exception: something that must not be.
    """
    history = History(declared)
    judge = Judge(history)
    try:
        judge.check()
        for it in happenings:
            history.happens(it)
            judge.check()
        judge.settle()
    finally:
        history.close()


def failure(declared: Declared, happenings: list[Happening]) -> Exception | None:
    """What a history ends with."""
    try:
        play(declared, happenings)
    except Exception as error:  # noqa: BLE001 - any is a find
        return error
    return None


def reduced(declared: Declared, happenings: list[Happening]) -> list[Happening]:
    """A failing history without what its failure does not need."""
    for size in (20, 5, 1):
        for place in reversed(range(0, len(happenings), size)):
            less = [*happenings[:place], *happenings[place + size :]]
            if failure(declared, less) is not None:
                happenings = less
    return happenings


class Told:
    """A history that is told step by step, checked after each."""

    def __init__(
        self,
        cursor: Cursor,
        cells: Cells,
        deletes: Literal["keep", "soft"] = "keep",
        sight: str = "all",
        *,
        by_pages: bool = False,
    ) -> None:
        self.history = History(Declared(cursor, cells, deletes, sight, by_pages))
        self.database = self.history.database
        self.judge = Judge(self.history)

    def __call__(self, what: str, key: int = 0, how: str = "now", *, which: int = 0, mode: Mode = Mode.INCREMENTAL,
                 pause: int = 0, steps: int = 0) -> None:  # fmt: skip
        self.history.happens(Happening(what, which, key, how, by=0, pause=pause, mode=mode, steps=steps))
        self.judge.check()

    def deliver(self, manifest: str) -> None:
        """Let a manifest's batch be loaded and merged."""
        for process in (self.history.loader(manifest), self.history.transformer()):
            process.finish()
        self.judge.check()
