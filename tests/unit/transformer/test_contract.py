"""A bronze model that is not what tables.yaml declares is refused by name; the shipped ones are as declared."""

from pathlib import Path

import pytest
import yaml

from services.core.tables import BRONZE_COLUMNS, Column, ColumnType, Mode, Table, load_tables
from services.transformer.bronze.contract import BronzeModel, disagreements

REPOSITORY = Path(__file__).parents[3]
PLACES = {
    "config/tables.yaml": "dbt/models/bronze/bronze.yml",
    "examples/nycflights13/tables.yaml": "examples/nycflights13/bronze/flights.yml",
}
TABLES = [(place, table) for place in PLACES for table in load_tables(REPOSITORY / place).tables]

TABLE = Table(
    name="a",
    source="s.a",
    key=["id"],
    mode=Mode.SNAPSHOT,
    bronze_model="a",
    columns=[Column(name="id", type=ColumnType.INT64, required=True), Column(name="paid", type=ColumnType.NUMERIC)],
)
ADDED = dict(zip(BRONZE_COLUMNS, ("timestamp", "string", "string", "timestamp", "timestamp"), strict=True))
AS_DECLARED = {"id": "int64", "paid": "numeric"} | ADDED


def model(columns: dict[str, str], materialized: str = "bronze") -> BronzeModel:
    return BronzeModel("a", materialized, columns)


def test_a_model_as_declared_is_not_refused() -> None:
    assert disagreements(TABLE, model(AS_DECLARED)) == []
    assert disagreements(TABLE, model(AS_DECLARED | {"id": "INTEGER"})) == [], "BigQuery's other name of the type"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "bronze_model a is not in the dbt project; add models/bronze/a.sql"),
        (model({}), "model a has no columns in any yml; is the model's name misspelt there"),
        (model({k: v for k, v in AS_DECLARED.items() if k != "paid"}), "the yml of model a lacks paid"),
        (model({k: v for k, v in AS_DECLARED.items() if k != "_deleted_at"}), "the yml of model a lacks _deleted_at"),
        (model(AS_DECLARED | {"more": "string"}), "has more, which tables.yaml does not declare"),
        (model(AS_DECLARED | {"paid": "float64"}), "column paid is NUMERIC in tables.yaml, FLOAT64 in the yml of a"),
        (model(AS_DECLARED | {"paid": ""}), "column paid is NUMERIC in tables.yaml, without data_type in the yml of a"),
        (model(AS_DECLARED, "incremental"), "materialized as 'incremental', not as 'bronze'"),
        (model(AS_DECLARED, "table"), "materialized as 'table', not as 'bronze'"),
    ],
)
def test_a_difference_is_named(found: BronzeModel | None, said: str) -> None:
    [difference] = disagreements(TABLE, found)
    assert said in difference


def test_a_table_too_wide_for_any_merge_is_refused() -> None:
    columns = [Column(name=f"{'c' * 290}_{number}", type=ColumnType.STRING) for number in range(1_000)]
    wide = TABLE.model_copy(update={"columns": [*TABLE.columns, *columns]})
    described = AS_DECLARED | {column.name: "string" for column in columns}
    [difference] = disagreements(wide, model(described))
    assert "its 1002 columns make a MERGE of up to" in difference


KINDS = {f"{type_.lower()}_column": type_ for type_ in ColumnType}
OF_ALL_TYPES = TABLE.model_copy(
    update={"columns": [*TABLE.columns, *(Column(name=name, type=type_) for name, type_ in KINDS.items())]}
)


def clustered_by(*columns: str) -> list[str]:
    return disagreements(OF_ALL_TYPES, BronzeModel("a", "bronze", AS_DECLARED | KINDS, columns))


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_clustered_only_by_what_bigquery_clusters_by(name: str) -> None:
    found = clustered_by("id", name.upper())
    if KINDS[name] in ("FLOAT64", "BYTES", "TIME"):
        [difference] = found
        assert f"clustered by {name.upper()}, a {KINDS[name]}, by which BigQuery clusters no table" in difference
    else:
        assert found == []


def test_a_model_is_clustered_by_at_most_four_columns_that_there_are() -> None:
    assert clustered_by("id", "paid", "_batch_id", "_extracted_at") == []
    [many] = clustered_by("id", "paid", "_batch_id", "_extracted_at", "date_column")
    assert "has 5 columns in cluster_by, and BigQuery takes 4" in many
    [unknown] = clustered_by("ident")
    assert "clustered by ident, which tables.yaml does not declare" in unknown


@pytest.mark.parametrize(("place", "table"), TABLES, ids=[table.name for _, table in TABLES])
def test_the_shipped_models_are_as_declared(place: str, table: Table) -> None:
    models = yaml.safe_load((REPOSITORY / PLACES[place]).read_text())["models"]
    [described] = [each for each in models if each["name"] == table.bronze_model]
    columns = {column["name"]: column["data_type"] for column in described["columns"]}
    assert disagreements(table, BronzeModel(table.bronze_model, "bronze", columns)) == []
    text = (REPOSITORY / PLACES[place]).parent.joinpath(f"{table.bronze_model}.sql").read_text()
    assert "{{ bronze() }}" in text
