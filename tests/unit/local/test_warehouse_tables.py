"""Tables and views of the local warehouse: names, sizes, options, as BigQuery has them."""

import uuid

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

from tests.integration.warehouse_fixture import PROJECT


@pytest.fixture
def dataset(client: bigquery.Client) -> str:
    name = f"{PROJECT}.tables_{uuid.uuid4().hex[:8]}"
    client.create_dataset(name)
    return name


def test_a_renamed_table_has_its_rows_and_its_layout(client: bigquery.Client, dataset: str) -> None:
    options = "options (description='a table', labels=[('layer', 'bronze')])"
    client.query_and_wait(f"create table `{dataset}.a` (id int64, day date) partition by day cluster by id {options}")
    client.query_and_wait(f"insert into `{dataset}.a` (id, day) values (1, '2026-03-01'), (2, null)")
    before = client.get_table(f"{dataset}.a")
    client.query_and_wait(f"alter table `{dataset}.a` rename to b")
    renamed = client.get_table(f"{dataset}.b")
    for name in ("schema", "num_rows", "clustering_fields", "time_partitioning", "description"):
        assert getattr(renamed, name) == getattr(before, name), name
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.a")
    assert [row.id for row in client.query_and_wait(f"select id from `{dataset}.b` order by id")] == [1, 2]
    assert [table.table_id for table in client.list_tables(dataset)] == ["b"]
    client.query_and_wait(f"create view `{dataset}.a` as select id from `{dataset}.b`")
    assert client.get_table(f"{dataset}.a").table_type == "VIEW"


def test_a_name_that_is_taken_is_no_new_name_and_a_view_is_not_renamed(client: bigquery.Client, dataset: str) -> None:
    for name in ("a", "b"):
        client.query_and_wait(f"create table `{dataset}.{name}` (id int64)")
    client.query_and_wait(f"create view `{dataset}.v` as select 1 as one")
    with pytest.raises(BadRequest, match="Already Exists"):
        client.query_and_wait(f"alter table `{dataset}.a` rename to b")
    with pytest.raises(BadRequest):
        client.query_and_wait(f"alter table `{dataset}.v` rename to w")
    assert sorted(table.table_id for table in client.list_tables(dataset)) == ["a", "b", "v"]


def test_a_table_says_how_many_bytes_its_rows_have(client: bigquery.Client, dataset: str) -> None:
    client.query_and_wait(f"create table `{dataset}.a` (id int64, text string, amount numeric)")
    assert client.get_table(f"{dataset}.a").num_bytes == 0
    client.query_and_wait(f"insert into `{dataset}.a` (id, text, amount) values (1, 'abc', 2.5), (2, null, null)")
    assert client.get_table(f"{dataset}.a").num_bytes == 8 + (2 + 3) + 16 + 8
    client.query_and_wait(f"delete from `{dataset}.a` where id = 1")
    assert client.get_table(f"{dataset}.a").num_bytes == 8
    client.query_and_wait(f"create view `{dataset}.v` as select * from `{dataset}.a`")
    assert client.get_table(f"{dataset}.v").num_bytes == 0


def test_a_view_keeps_description_and_labels_and_can_be_deleted(client: bigquery.Client, dataset: str) -> None:
    options = "options (description = 'the {1}', labels = [('made', '{1}')])"
    statement = f"create or replace view `{{0}}.v` {options} as select 1 as a"
    for number in ("first", "second"):
        client.query_and_wait(statement.format(dataset, number))
        view = client.get_table(f"{dataset}.v")
        assert (view.description, view.labels) == (f"the {number}", {"made": number})
    client.delete_table(f"{dataset}.v")
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.v")
    client.query_and_wait(f"create table `{dataset}.v` (id int64)")


def test_a_view_is_read_under_an_alias_of_several_words(client: bigquery.Client, dataset: str) -> None:
    client.query_and_wait(f"create view `{dataset}.v` as select 1 as id union all select 2")
    statement = (
        f"select `a row`.id from `{dataset}.v` as `a row` join `{dataset}.v` as `from` on `from`.id = `a row`.id"
    )
    assert sorted(row.id for row in client.query_and_wait(statement)) == [1, 2]
