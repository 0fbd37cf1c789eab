"""How a table is cut into chunks: every page once, whatever the sizes (invariants 1 and 2)."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.core.manifest import ManifestColumn, Part
from services.core.tables import ColumnType
from services.extractor.planning.plan import (
    MOST_CHUNKS,
    ChunkResult,
    Plan,
    catch_up_from,
    page_bounds,
    whole,
)
from services.extractor.source.storage import Storage

AT = datetime(2026, 11, 22, tzinfo=UTC)
CHUNK_PAGES = 8192


def storage(pages: int, largest: int | None = None, *, by_pages: bool = True, rows: float = 1e6) -> Storage:
    return Storage(pages, pages if largest is None else largest, pages * 8192, rows, by_pages, "timeline 1: 1/1")


def plan(bounds: list[int], condition: str = "") -> Plan:
    return Plan(
        batch_id="b",
        table="t",
        execution="e",
        select='SELECT "id" AS c0 FROM "s"."t"',
        condition=condition,
        columns=[ManifestColumn(name="id", type=ColumnType.INT64)],
        flags=[],
        bounds=bounds,
        layout="",
        estimated_rows=1,
    )


def result(chunk: int, seconds: int, oldest_running: int) -> ChunkResult:
    part = Part(object_name="o", rows=1, size=1, crc32c="")
    return ChunkResult(
        chunk=chunk, read_at=AT + timedelta(seconds=seconds), oldest_running=oldest_running, parts=[part]
    )


@given(st.integers(0, 10**8), st.integers(1, 5_000))
def test_chunks_cover_every_page_of_every_partition_once(pages: int, partitions: int) -> None:
    largest = -(-pages // partitions)
    bounds = page_bounds(storage(pages, largest), CHUNK_PAGES, everything=True)
    assert whole(bounds)
    if pages <= CHUNK_PAGES:
        assert bounds == []
        return
    ends = [*bounds[1:], None]
    for page in (0, largest // 2, largest - 1, largest + 7):  # the last is open: pages that were added meanwhile
        read = [first for first, end in zip(bounds, ends, strict=True) if first <= page and (end is None or page < end)]
        assert len(read) == 1, (page, bounds[:3])


@given(st.integers(CHUNK_PAGES + 1, 10**9))
def test_a_large_table_has_larger_chunks_not_more(pages: int) -> None:
    assert 1 <= len(page_bounds(storage(pages), CHUNK_PAGES, everything=True)) <= MOST_CHUNKS + 1


def test_a_narrow_window_is_one_statement() -> None:
    assert page_bounds(storage(10 * CHUNK_PAGES), CHUNK_PAGES, everything=False) == []


def test_a_view_is_one_statement() -> None:
    assert page_bounds(storage(10 * CHUNK_PAGES, by_pages=False), CHUNK_PAGES, everything=True) == []


def test_a_chunks_statement_keeps_the_window() -> None:
    both = plan([0, 100], "(x OR y)")
    assert both.statement(0) == (
        'SELECT "id" AS c0 FROM "s"."t" WHERE ctid >= \'(0,0)\' AND ctid < \'(100,0)\' AND (x OR y)'
    )
    assert both.statement(1) == 'SELECT "id" AS c0 FROM "s"."t" WHERE ctid >= \'(100,0)\' AND (x OR y)'
    assert both.statement() == 'SELECT "id" AS c0 FROM "s"."t" WHERE (x OR y)'
    assert plan([]).statement() == 'SELECT "id" AS c0 FROM "s"."t"'


def test_chunks_of_one_snapshot_need_no_catch_up() -> None:
    assert catch_up_from([result(0, 0, 7), result(1, 0, 7)]) is None
    assert catch_up_from([]) is None


def test_the_catch_up_begins_with_the_earliest_snapshot() -> None:
    assert catch_up_from([result(0, 1, 9), result(1, 0, 7), result(2, 2, 12)]) == 7
