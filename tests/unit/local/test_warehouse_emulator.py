"""The local warehouse keeps BigQuery's promises, seen through Google's own client."""

import datetime as dt
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery import LoadJobConfig, SchemaField, WriteDisposition

from tests.integration.warehouse_fixture import PROJECT, Warehouse, start_warehouse

BUCKET = "lake"
FOLDER = "landing/ingestion_dt=2026-11-22"
SCHEMA = [
    SchemaField("id", "STRING", mode="REQUIRED"),
    SchemaField("amount", "NUMERIC"),
    SchemaField("day", "DATE"),
    SchemaField("at", "TIMESTAMP"),
    SchemaField("flag", "BOOL"),
]
ARROW = pa.schema(
    [
        ("id", pa.string()),
        ("amount", pa.decimal128(18, 2)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("flag", pa.bool_()),
    ]
)
AT = dt.datetime(2026, 11, 22, 17, 0, 0, 123456, tzinfo=dt.UTC)


@pytest.fixture
def dataset(client: bigquery.Client) -> str:
    created = bigquery.Dataset(f"{PROJECT}.temp_{uuid.uuid4().hex[:8]}")
    created.default_table_expiration_ms = 7 * 24 * 3600 * 1000
    client.create_dataset(created)
    return str(created.dataset_id)


def write(warehouse: Warehouse, name: str, table: pa.Table) -> str:
    path = warehouse.gcs_root / BUCKET / FOLDER / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return f"gs://{BUCKET}/{FOLDER}/{name}.parquet"


def table(*ids: str, schema: pa.Schema = ARROW) -> pa.Table:
    rows = [{"id": i, "amount": Decimal("12345678901234.56"), "day": dt.date(2026, 2, 28), "at": AT} for i in ids]
    return pa.Table.from_pylist(rows, schema)


def load(
    client: bigquery.Client,
    uris: str | list[str],
    destination: str,
    *,
    schema: list[SchemaField] | None = SCHEMA,
    disposition: str = WriteDisposition.WRITE_TRUNCATE,
    job_id: str | None = None,
) -> bigquery.LoadJob:
    config = LoadJobConfig(source_format="PARQUET", write_disposition=disposition)
    if schema:
        config.schema = schema
    job = client.load_table_from_uri(uris, destination, job_config=config, job_id=job_id)
    job.result()
    return job


def ids(client: bigquery.Client, destination: str) -> list[str]:
    return sorted(row["id"] for row in client.query_and_wait(f"SELECT id FROM `{PROJECT}.{destination}`"))


def test_several_files_arrive_by_name_and_exactly(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    uris = [
        write(warehouse, "several-1", table("a", "b")),
        write(warehouse, "several-2", table("c").select(["flag", "at", "day", "amount", "id"])),
    ]
    job = load(client, uris, f"{dataset}.t")
    assert job.output_rows == 3
    loaded = client.get_table(f"{dataset}.t")
    assert (loaded.num_rows, [f.name for f in loaded.schema]) == (3, ["id", "amount", "day", "at", "flag"])
    expected = {"amount": Decimal("12345678901234.56"), "day": dt.date(2026, 2, 28), "at": AT, "flag": None}
    for rows in (
        client.list_rows(loaded),
        client.query_and_wait(f"SELECT * FROM `{PROJECT}.{dataset}.t`"),
    ):
        by_id = {row["id"]: dict(row) for row in rows}
        assert by_id == {i: {"id": i} | expected for i in "abc"}


def test_a_missing_nullable_column_is_null(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    load(client, write(warehouse, "narrow", table("a").select(["id"])), f"{dataset}.t")
    assert [tuple(row) for row in client.list_rows(f"{dataset}.t", selected_fields=SCHEMA)] == [("a",) + (None,) * 4]


def with_column(name: str, kind: pa.DataType) -> pa.Table:
    return table("x").append_column(name, pa.array([None], kind))


def with_type(name: str, kind: pa.DataType) -> pa.Table:
    return table("x").set_column(ARROW.get_field_index(name), name, pa.array([None], kind))


@pytest.mark.parametrize(
    "bad",
    [
        with_column("extra", pa.string()),
        table("x").drop_columns(["id"]),
        table("x").set_column(0, "id", pa.array([None], pa.string())),
        with_type("amount", pa.float64()),
        with_type("amount", pa.decimal128(38, 2)),
        with_type("amount", pa.string()),
        with_type("day", pa.string()),
        with_type("at", pa.timestamp("us")),
        with_type("flag", pa.int64()),
        with_type("id", pa.int64()),
    ],
    ids=["extra", "missing", "null", "float", "wide", "text", "day", "naive", "flag", "int"],
)
def test_one_bad_file_changes_nothing(
    bad: pa.Table, client: bigquery.Client, warehouse: Warehouse, dataset: str
) -> None:
    load(client, write(warehouse, "kept", table("old")), f"{dataset}.t")
    uris = [write(warehouse, "good", table("new")), write(warehouse, "bad", bad)]
    for disposition in (WriteDisposition.WRITE_TRUNCATE, WriteDisposition.WRITE_APPEND):
        with pytest.raises(BadRequest, match=r"bad\.parquet"):
            load(client, uris, f"{dataset}.t", disposition=disposition)
    with pytest.raises(BadRequest):
        load(client, uris, f"{dataset}.fresh")
    assert ids(client, f"{dataset}.t") == ["old"]
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.fresh")


def test_a_corrupt_file_is_invalid_and_changes_nothing(
    client: bigquery.Client, warehouse: Warehouse, dataset: str
) -> None:
    good = write(warehouse, "before-corrupt", table("old"))
    load(client, good, f"{dataset}.t")
    uri = write(warehouse, "corrupt", table("x"))
    path = warehouse.gcs_root / uri.removeprefix("gs://")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadRequest) as refused:
        load(client, [good, uri], f"{dataset}.t")
    assert refused.value.errors[0]["reason"] == "invalid"
    assert ids(client, f"{dataset}.t") == ["old"]


def test_a_missing_object_is_not_found(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    good = write(warehouse, "before-missing", table("new"))
    with pytest.raises(NotFound) as refused:
        load(client, [good, f"gs://{BUCKET}/{FOLDER}/nowhere.parquet"], f"{dataset}.t")
    assert refused.value.errors[0]["reason"] == "notFound"
    with pytest.raises(NotFound):
        load(client, good, "no_such_dataset.t")


def test_append_and_write_empty(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    load(client, write(warehouse, "first", table("a")), f"{dataset}.t")
    second = write(warehouse, "second", table("b"))
    assert load(client, second, f"{dataset}.t", disposition=WriteDisposition.WRITE_APPEND).output_rows == 1
    assert client.get_table(f"{dataset}.t").num_rows == 2
    with pytest.raises(Conflict):
        load(client, second, f"{dataset}.t", disposition=WriteDisposition.WRITE_EMPTY)
    assert ids(client, f"{dataset}.t") == ["a", "b"]


def test_truncate_takes_over_the_new_schema(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    load(client, write(warehouse, "wide", table("a")), f"{dataset}.t")
    load(client, write(warehouse, "only-id", table("b").select(["id"])), f"{dataset}.t", schema=SCHEMA[:1])
    assert [field.name for field in client.get_table(f"{dataset}.t").schema] == ["id"]
    assert ids(client, f"{dataset}.t") == ["b"]


def test_a_wildcard_and_a_schema_from_the_file(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    for name in ("wild-1", "wild-2"):
        write(warehouse, name, table(name))
    load(client, f"gs://{BUCKET}/{FOLDER}/wild-*.parquet", f"{dataset}.t", schema=None)
    assert ids(client, f"{dataset}.t") == ["wild-1", "wild-2"]
    types = {field.name: field.field_type for field in client.get_table(f"{dataset}.t").schema}
    assert types == {"id": "STRING", "amount": "NUMERIC", "day": "DATE", "at": "TIMESTAMP", "flag": "BOOLEAN"}


def test_a_load_job_id_is_accepted_once(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    uri = write(warehouse, "once", table("a"))
    job_id = f"load_{uuid.uuid4().hex}"
    append = WriteDisposition.WRITE_APPEND
    load(client, uri, f"{dataset}.t", disposition=append, job_id=job_id)
    with pytest.raises(Conflict) as refused:
        load(client, uri, f"{dataset}.t", disposition=append, job_id=job_id)
    assert refused.value.errors[0]["reason"] == "duplicate"
    assert ids(client, f"{dataset}.t") == ["a"]
    found = client.get_job(job_id)
    assert isinstance(found, bigquery.LoadJob)
    assert (found.state, found.error_result, found.output_rows) == ("DONE", None, 1)


def test_a_failed_job_keeps_its_id_and_its_error(client: bigquery.Client, dataset: str) -> None:
    job_id = f"failed_{uuid.uuid4().hex}"
    for error in (NotFound, Conflict):
        with pytest.raises(error):
            load(client, f"gs://{BUCKET}/none.parquet", f"{dataset}.t", job_id=job_id)
    assert client.get_job(job_id).error_result["reason"] == "notFound"


def test_a_query_and_a_copy_job_id_are_accepted_once(
    client: bigquery.Client, warehouse: Warehouse, dataset: str
) -> None:
    load(client, write(warehouse, "source", table("a")), f"{dataset}.t")
    insert = f"INSERT INTO `{PROJECT}.{dataset}.t` (id) VALUES ('b')"
    job_id = f"query_{uuid.uuid4().hex}"
    client.query(insert, job_id=job_id, job_retry=None).result()
    with pytest.raises(Conflict):
        client.query(insert, job_id=job_id, job_retry=None)
    copy_id = f"copy_{uuid.uuid4().hex}"
    client.copy_table(f"{dataset}.t", f"{dataset}.copy", job_id=copy_id).result()
    with pytest.raises(Conflict):
        client.copy_table(f"{dataset}.t", f"{dataset}.copy", job_id=copy_id)
    assert ids(client, f"{dataset}.copy") == ["a", "b"]
    assert client.get_table(f"{dataset}.t").num_rows == 2


def test_copy_replaces_rows_and_schema(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    load(client, write(warehouse, "stable", table("old").select(["id"])), f"{dataset}.stable", schema=SCHEMA[:1])
    load(client, write(warehouse, "hashed", table("new", "er")), f"{dataset}.hashed")
    with pytest.raises(Conflict):
        client.copy_table(f"{dataset}.hashed", f"{dataset}.stable").result()
    config = bigquery.CopyJobConfig(write_disposition=WriteDisposition.WRITE_TRUNCATE)
    for _ in range(2):
        client.copy_table(f"{dataset}.hashed", f"{dataset}.stable", job_config=config).result()
        stable = client.get_table(f"{dataset}.stable")
        assert (stable.num_rows, len(stable.schema)) == (2, len(SCHEMA))
    assert ids(client, f"{dataset}.stable") == ["er", "new"]
    with pytest.raises(NotFound):
        client.copy_table(f"{dataset}.nowhere", f"{dataset}.stable", job_config=config).result()


def test_delete_table(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    load(client, write(warehouse, "deleted", table("a")), f"{dataset}.t")
    client.delete_table(f"{dataset}.t")
    client.delete_table(f"{dataset}.t", not_found_ok=True)
    with pytest.raises(NotFound):
        client.delete_table(f"{dataset}.t")


def test_patch_adds_nullable_columns_only(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    load(client, write(warehouse, "patched", table("a")), f"{dataset}.t")
    patched = client.get_table(f"{dataset}.t")
    patched.schema = [*patched.schema, SchemaField("note", "STRING")]
    client.update_table(patched, ["schema"])
    assert [row["note"] for row in client.query_and_wait(f"SELECT note FROM `{PROJECT}.{dataset}.t`")] == [None]
    for refused in (patched.schema[1:], [*patched.schema, SchemaField("must", "STRING", mode="REQUIRED")]):
        patched.schema = refused
        with pytest.raises(BadRequest):
            client.update_table(patched, ["schema"])


def test_alter_table_adds_columns_that_the_table_then_has(
    client: bigquery.Client, warehouse: Warehouse, dataset: str
) -> None:
    load(client, write(warehouse, "altered", table("a")), f"{dataset}.t")
    for _ in range(2):
        client.query_and_wait(
            f"alter table `{PROJECT}.{dataset}.t` "
            "add column if not exists note STRING, add column if not exists n INT64"
        )
    altered = client.get_table(f"{dataset}.t")
    assert [field.name for field in altered.schema[-3:]] == ["flag", "note", "n"]
    assert altered.schema[0].mode == "REQUIRED"


def test_a_view_is_deleted_as_a_table_is(client: bigquery.Client, dataset: str) -> None:
    client.query(f"create view {dataset}.v as select 1 as x").result()
    client.delete_table(f"{PROJECT}.{dataset}.v", timeout=20)
    assert list(client.list_tables(dataset)) == []
    client.query(f"create table {dataset}.v as select 2 as x").result()
    assert [row.x for row in client.query(f"select x from {dataset}.v").result()] == [2]


def test_create_table_with_columns_as_a_query_in_parentheses(client: bigquery.Client, dataset: str) -> None:
    name = f"{dataset}.t"
    client.query_and_wait(f"CREATE TABLE `{PROJECT}.{name}` (id STRING, n NUMERIC) AS (SELECT '1' AS id, 2 AS n)")
    created = client.get_table(name)
    assert [(f.name, f.field_type) for f in created.schema] == [("id", "STRING"), ("n", "NUMERIC")]
    assert created.num_rows == 1


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("cast(9007199254740993 as numeric) / 100", "90071992547409.93"),
        ("numeric '94311375.269999997' / 2", "47155687.634999999"),
        ("numeric '-94311375.269999997' / 2", "-47155687.634999999"),
        ("2 / cast(3 as numeric)", "0.666666667"),
        ("cast('12345678901234567890.123456789' as numeric)", "12345678901234567890.123456789"),
        ("(SELECT round(n * 100 / 100, 2) FROM (SELECT numeric '2.345' AS n))", "2.35"),
        ("numeric '0.4' * cast(33.333 as numeric)", "13.3332"),
    ],
)
def test_numeric_is_exact(client: bigquery.Client, expression: str, value: str) -> None:
    (row,) = client.query_and_wait(f"SELECT {expression} AS n")
    assert row["n"] == Decimal(value)


def test_trim_removes_all_white_space(client: bigquery.Client) -> None:
    text = "\\t a\u00a0b \\r\\n\u3000"
    (row,) = client.query_and_wait(f"SELECT trim('{text}') AS t, ltrim('\\n a ') AS l, trim('xax', 'x') AS x")
    assert tuple(row) == ("a\u00a0b", "a ", "a")


def test_a_repeated_statement_follows_the_tables_columns(client: bigquery.Client, dataset: str) -> None:
    """A statement is translated once; with other columns it is another translation, and so is one with other rows."""
    query = f"SELECT avg(x) AS average FROM {dataset}.changed"
    found = []
    for made, value in [("NUMERIC", "1.5"), ("NUMERIC", "2.5"), ("INT64", "3")]:
        client.query_and_wait(f"CREATE OR REPLACE TABLE {dataset}.changed AS SELECT CAST({value} AS {made}) AS x")
        result = client.query_and_wait(query)
        found += [(result.schema[0].field_type, row.average) for row in result]
    assert found == [("NUMERIC", Decimal("1.5")), ("NUMERIC", Decimal("2.5")), ("FLOAT", 3.0)]


def test_a_remembered_tree_is_not_the_one_that_a_caller_changed() -> None:
    """In a process of its own: the patch holds for the whole process."""
    program = """
import sqlglot
from local.warehouse.patches import translation
translation.apply()
sql = "SELECT trim(a) FROM t"
first, second = sqlglot.parse_one(sql, read="bigquery"), sqlglot.parse_one(sql, read="bigquery")
first.find(sqlglot.exp.Trim).replace(sqlglot.exp.column("b"))
third = sqlglot.parse_one(sql, read="bigquery")
assert translation._parsed.cache_info().hits == 2, translation._parsed.cache_info()
print([tree.sql("bigquery") for tree in (first, second, third)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['SELECT b FROM t', 'SELECT TRIM(a) FROM t', 'SELECT TRIM(a) FROM t']"


def test_a_failed_query_is_an_error(client: bigquery.Client) -> None:
    for sql, error in (
        ("SELECT 1/0", BadRequest),
        ("SELECT * FROM `credix-test.no_dataset.t`", NotFound),
        ("SELECT cast('a' AS INT64)", BadRequest),
    ):
        with pytest.raises(error):
            list(client.query_and_wait(sql))
        with pytest.raises(error):
            client.query(sql, job_id=f"failed_{uuid.uuid4().hex}", job_retry=None).result()


BIGNUMERIC = [SchemaField("id", "STRING"), SchemaField("b", "BIGNUMERIC")]


def bignumerics(*values: str | None) -> pa.Table:
    numbers = [None if value is None else Decimal(value) for value in values]
    return pa.table({"id": [*map(str, range(len(values)))], "b": pa.array(numbers, pa.decimal256(76, 38))})


def test_bignumeric_arrives_exactly(client: bigquery.Client, warehouse: Warehouse, dataset: str) -> None:
    values = ["12345678901234567890.123456789012345678", "-0.000000000000000001", None, "0"]
    load(client, write(warehouse, "bignumeric", bignumerics(*values)), f"{dataset}.t", schema=BIGNUMERIC)
    rows = list(client.query_and_wait(f"SELECT b, to_json_string(b) AS json FROM {dataset}.t ORDER BY id"))
    assert [row.b for row in rows] == [None if value is None else Decimal(value) for value in values]
    assert [row.json for row in rows] == [f'"{values[0]}"', f'"{values[1]}"', "null", "0"]
    client.query_and_wait(f"CREATE TABLE {dataset}.copied AS SELECT b, sum(b) OVER () AS s FROM {dataset}.t")
    assert [field.field_type for field in client.get_table(f"{dataset}.copied").schema] == ["BIGNUMERIC", "BIGNUMERIC"]


@pytest.mark.parametrize("value", ["123456789012345678901", "0.1234567890123456789"])
def test_a_bignumeric_of_more_digits_is_an_error_and_no_other_value(
    client: bigquery.Client, warehouse: Warehouse, dataset: str, value: str
) -> None:
    with pytest.raises(
        BadRequest, match="'b' has a BIGNUMERIC of more digits than the local warehouse holds"
    ) as failed:
        load(client, write(warehouse, "wide", bignumerics("1", value)), f"{dataset}.t", schema=BIGNUMERIC)
    assert value not in str(failed.value)
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.t")
    with pytest.raises(BadRequest, match="the local warehouse holds BIGNUMERIC with 20 digits") as refused:
        client.query(f"SELECT bignumeric '{value}'", job_retry=None).result()
    assert "Python" not in str(refused.value)


def test_a_job_shows_the_statement_as_it_was_sent(client: bigquery.Client) -> None:
    sql = """select '''it's''' as a -- it's"""
    job = client.query(sql)
    assert [row.a for row in job.result()] == ["it's"]
    shown = client.get_job(job.job_id)
    assert isinstance(shown, bigquery.QueryJob)
    assert shown.query == sql


def test_the_tables_of_a_dataset_are_listed_for_dbt(
    client: bigquery.Client, warehouse: Warehouse, dataset: str
) -> None:
    load(client, write(warehouse, "listed", table("a", "b")), f"{dataset}.t")
    client.query_and_wait(f"CREATE VIEW {dataset}.v AS SELECT struct(id AS x, 1 AS y) AS s FROM {dataset}.t")
    tables = client.query_and_wait(f"SELECT table_id, row_count, type, project_id FROM {dataset}.__TABLES__ ORDER BY 1")
    assert [tuple(row) for row in tables] == [("t", 2, 1, PROJECT), ("v", 0, 2, PROJECT)]
    paths = client.query_and_wait(
        f"SELECT p.field_path, p.data_type FROM {dataset}.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS AS p "
        f"JOIN {dataset}.INFORMATION_SCHEMA.COLUMNS AS c USING (table_name, column_name) "
        "WHERE trim(c.table_name) = 'v' ORDER BY 1"
    )
    assert [row.field_path for row in paths] == ["s", "s.x", "s.y"]


def test_everything_is_there_after_a_restart_and_after_a_kill(tmp_path: Path) -> None:
    with start_warehouse(tmp_path) as first:
        client = first.client()
        client.create_dataset("d")
        load(client, write(first, "restart", table("a")), "d.t", job_id="before-restart")
    assert first.process.returncode == 0
    with start_warehouse(tmp_path) as second:
        client = second.client()
        uri = write(second, "restart", table("b"))
        with pytest.raises(Conflict):
            load(client, uri, "d.t", job_id="before-restart")
        assert client.get_job("before-restart").state == "DONE"
        load(client, uri, "d.t", disposition=WriteDisposition.WRITE_APPEND, job_id="before-kill")
        query = "SELECT amount * amount AS squared, cast(`at` AS STRING) AS moment FROM d.t"
        client.query_and_wait(f"CREATE VIEW d.v AS {query}")
        second.process.kill()
        second.process.wait()
    with start_warehouse(tmp_path) as third:
        client = third.client()
        assert ids(client, "d.t") == ["a", "b"]
        assert client.get_job("before-kill").state == "DONE"
        expected = (Decimal("152415787532388172687092138.3936"), "2026-11-22 17:00:00.123456+00")
        assert [tuple(row) for row in client.query_and_wait("SELECT squared, moment FROM d.v")] == [expected] * 2
