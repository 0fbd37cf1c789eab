"""The two halves of a table's contract agree: config/tables.yaml and the bronze models' declared columns."""

from pathlib import Path

import pytest
import yaml

from services.core.tables import BRONZE_COLUMNS, Table, load_tables

REPOSITORY = Path(__file__).parents[2]
PLACES = {
    "config/tables.yaml": "dbt/models/bronze/bronze.yml",
    "examples/nycflights13/tables.yaml": "examples/nycflights13/bronze/flights.yml",
}
TABLES = [(place, table) for place in PLACES for table in load_tables(REPOSITORY / place).tables]


@pytest.mark.parametrize(("place", "table"), TABLES, ids=[table.name for _, table in TABLES])
def test_bronze_declares_the_same_columns(place: str, table: Table) -> None:
    models = yaml.safe_load((REPOSITORY / PLACES[place]).read_text())["models"]
    [model] = [model for model in models if model["name"] == table.bronze_model]
    declared = [(column["name"], column["data_type"].upper()) for column in model["columns"]]
    expected = [(column.name, column.type.value) for column in table.landed_columns]
    assert declared[: len(expected)] == expected
    added = declared[len(expected) :]
    texts = ("_source_table", "_batch_id")
    assert added == [(name, "STRING" if name in texts else "TIMESTAMP") for name in BRONZE_COLUMNS]


@pytest.mark.parametrize(("place", "table"), TABLES, ids=[table.name for _, table in TABLES])
def test_bronze_merges_on_the_declared_key(place: str, table: Table) -> None:
    folder = (REPOSITORY / PLACES[place]).parent
    text = (folder / f"{table.bronze_model}.sql").read_text()
    quoted = ", ".join(f"'{name}'" for name in table.key)
    # Without a key, dbt is told of none, and bronze holds the newest snapshot.
    assert f"unique_key=[{quoted}]" in text if table.key else "unique_key" not in text
    assert "{{ bronze() }}" in text
