"""A batch's rows as bronze has them: names, types, times, and what is deleted."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.core.errors import DataError
from services.core.tables import Mode
from services.transformer.bronze.batch_rows import (
    ADDED_COLUMNS,
    Loaded,
    batch_rows,
    bronze_columns,
    quoted,
    text_literal,
)
from tests.unit.transformer.test_handover import HASHED, START, loaded, table

DECLARED = {"id": "INT64", "gone": "DATE"}


def values(each: Loaded, columns: dict[str, str] = DECLARED, **declared: Any) -> dict[str, str]:
    """The expression of each column."""
    rows = batch_rows(table(**declared), columns, each)
    found = re.fullmatch(r"select (.*) from `(.*)`", rows)
    assert found, rows
    assert found[2] == each.temp.id
    split = re.findall(r"(.+?) as (`[^`]+`|_\w+)(?:, |$)", found[1])
    return {name.strip("`"): expression for expression, name in split}


def test_a_batch_has_all_columns_of_bronze_in_bronze_s_order() -> None:
    found = values(loaded("b"), DECLARED | {"old": "STRING"})
    assert list(found) == ["id", "gone", "old", *ADDED_COLUMNS]
    assert (found["id"], found["old"]) == ("`id`", "cast(null as STRING)")
    assert (found["_source_table"], found["_batch_id"]) == ('"s.a"', '"b"')
    assert found["_deleted_at"] == "cast(null as timestamp)"


def test_a_row_is_not_older_than_its_batch_and_not_newer_than_its_arrival() -> None:
    began = f'timestamp("{(START + timedelta(minutes=1)).isoformat()}")'
    assert values(loaded("b"))["_extracted_at"] == f"greatest(coalesce(_extracted_at, {began}), {began})"
    arrived = loaded("b", mode=Mode.INCREMENTAL, arrived_at=datetime(2026, 11, 22, 1, tzinfo=UTC))
    assert values(arrived)["_extracted_at"].endswith(', timestamp("2026-11-22T01:00:00+00:00"))')
    assert values(loaded("b"), key=[])["_extracted_at"] == began


def test_what_nobody_announced_deletes_nothing_and_a_file_does() -> None:
    arrived: dict[str, Any] = {"mode": Mode.INCREMENTAL, "arrived_at": START + timedelta(hours=1)}
    assert values(loaded("b"), deleted_at="gone")["_deleted_at"] == "cast(`gone` as timestamp)"
    assert values(loaded("b", **arrived), deleted_at="gone")["_deleted_at"] == "cast(null as timestamp)"
    file = loaded("b", source="gs://bucket/a.parquet#7", **arrived)
    assert values(file, deleted_at="gone")["_deleted_at"] == "cast(`gone` as timestamp)"
    lacking = loaded("b", {"id": "INT64", "_extracted_at": "TIMESTAMP"})
    assert values(lacking, deleted_at="gone")["_deleted_at"] == "cast(null as timestamp)"


def test_a_type_that_bronze_holds_exactly_is_cast_and_another_is_refused() -> None:
    assert values(loaded("b"), {"id": "NUMERIC", "gone": "STRING"})["gone"] == "cast(`gone` as STRING)"
    with pytest.raises(DataError, match="column gone is DATE in batch b and INT64 in bronze a_model") as refused:
        batch_rows(table(), {"id": "INT64", "gone": "INT64"}, loaded("b"))
    assert (refused.value.code, refused.value.column) == ("type_not_held", "gone")
    with pytest.raises(DataError, match="has no column id, which is in the key"):
        batch_rows(table(), DECLARED, loaded("b", {"gone": "DATE"}))


def test_columns_keep_their_place_and_come_once() -> None:
    assert bronze_columns(table(), {}, []) == DECLARED
    held = {"GONE": "DATE", "_batch_id": "STRING", "old": "STRING"}
    batches = [loaded("b", HASHED | {"Old": "INT64", "new": "BOOL"}), loaded("c", HASHED | {"NEW": "BOOL"})]
    assert list(bronze_columns(table(), held, batches)) == ["GONE", "old", "id", "new"]


@pytest.mark.parametrize("name", ["a`b", "a\\b", "a\nb", ""])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a column"):
        quoted(name)


def test_a_text_ends_where_its_literal_ends() -> None:
    assert text_literal('a"b\\c\n\u2028ção😀') == '"a\\"b\\\\c\\n\\u2028ção😀"'
