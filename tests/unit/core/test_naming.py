"""Names are sortable, and what is made can be read back; nothing else can."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.naming import (
    BATCH_ID,
    batch_objects_prefix,
    file_batch_id,
    file_table,
    fingerprints_object,
    fingerprints_prefix,
    hashed_table,
    manifest_object,
    mirrored,
    new_batch_id,
    parse_landed,
    part_object,
)

PREFIX = "business_case/landing"
TABLE_NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,39}", fullmatch=True)
TIMES = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))


@given(TABLE_NAMES, TIMES, st.integers(0, 99_999), st.integers(0, 1_000), st.integers(1, 2**50))
def test_object_names_round_trip(table: str, at: datetime, part: int, piece: int, attempt: int) -> None:
    batch_id = new_batch_id(at)
    landed = parse_landed(PREFIX, part_object(PREFIX, table, batch_id, part, piece, attempt))
    assert landed is not None
    assert (landed.table, landed.batch_id, landed.part) == (table, batch_id, part)
    manifest = parse_landed(PREFIX, manifest_object(PREFIX, table, batch_id))
    assert manifest is not None
    assert manifest.is_manifest
    assert (manifest.table, manifest.batch_id) == (table, batch_id)


@given(TABLE_NAMES, TABLE_NAMES, TIMES)
def test_a_batchs_prefix_holds_no_other_tables_objects(table: str, other: str, at: datetime) -> None:
    batch_id = new_batch_id(at)
    prefix = batch_objects_prefix(PREFIX, table, batch_id)
    assert part_object(PREFIX, other, batch_id, 0).startswith(prefix) == (table == other)


@given(st.lists(TIMES, min_size=2, max_size=5, unique=True))
def test_batch_ids_sort_by_time(times: list[datetime]) -> None:
    ids = [new_batch_id(at) for at in sorted(times)]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "name",
    [
        f"{PREFIX}/notes.txt",
        f"{PREFIX}/ingestion_dt=2026-11-22/installments.parquet",
        f"{PREFIX}/ingestion_dt=2026-11-23/t_20261122T170000123456Z-1a2b3c4d.manifest.json",
        f"{PREFIX}/ingestion_dt=2026-11-22/t_20261122T170000123456Z-1a2b3c4d.part-1.parquet",
        f"{PREFIX}/ingestion_dt=2026-11-22/../t_20261122T170000123456Z-1a2b3c4d.manifest.json",
        "business_case/failed/ingestion_dt=2026-11-22/t_20261122T170000123456Z-1a2b3c4d.manifest.json",
        f"{PREFIX}2/ingestion_dt=2026-11-22/t_20261122T170000123456Z-1a2b3c4d.manifest.json",
    ],
)
def test_other_names_are_strangers(name: str) -> None:
    assert parse_landed(PREFIX, name) is None


def test_hashed_tables_differ_by_batch() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    names = {hashed_table("installments", new_batch_id(at)) for _ in range(200)}
    assert len(names) == 200


def test_mirrored_keeps_the_place_below_the_prefix() -> None:
    assert mirrored(f"{PREFIX}/a/b.parquet", PREFIX, "x/archive") == "x/archive/a/b.parquet"
    with pytest.raises(ValueError, match="is not below"):
        mirrored("elsewhere/a", PREFIX, "x")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("landing/installments.parquet", "installments"),
        ("landing/deep/er/installments-2026.parquet", "installments"),
        ("landing/installments_archive-x.parquet", "installments_archive"),
        ("landing/installments_x.parquet", "installments"),
        ("landing/installments.v2.parquet", "installments"),
        ("landing/installmentsx.parquet", None),
        ("landing/other.parquet", None),
        ("landing/installments.csv", None),
        ("landing/installments/part.parquet", None),
    ],
)
def test_a_file_dropped_by_hand_is_for_the_table_in_its_name(name: str, table: str | None) -> None:
    assert file_table(name, ["installments", "installments_archive"]) == table


@given(TABLE_NAMES, TABLE_NAMES, TIMES)
def test_fingerprints_are_no_landed_object_and_no_other_tables(table: str, other: str, at: datetime) -> None:
    name = fingerprints_object("business_case/fingerprints", table, new_batch_id(at))
    assert parse_landed(PREFIX, name) is None
    assert name.startswith(fingerprints_prefix("business_case/fingerprints", other)) == (table == other)
    assert name < fingerprints_object("business_case/fingerprints", table, new_batch_id(at + timedelta(microseconds=1)))


@given(st.text(), st.integers(0, 2**62), TIMES)
def test_a_file_s_batch_id_depends_on_its_generation_and_is_one(name: str, generation: int, at: datetime) -> None:
    id = file_batch_id("bucket", name, generation, at)
    assert re.fullmatch(BATCH_ID, id)
    assert id == file_batch_id("bucket", name, generation, at)
    assert id != file_batch_id("bucket", name, generation + 1, at)
