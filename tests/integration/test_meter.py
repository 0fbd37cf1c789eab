"""What the local warehouse says BigQuery would bill: by the rules of Google's pages, each with its address."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from local.googlesql.compiled import EngineMissing, compile_once
from local.warehouse.__main__ import put_analyzer_in_front
from tests.integration.warehouse_fixture import PROJECT, Warehouse, start_warehouse

PRICING = "https://cloud.google.com/bigquery/pricing"
DML = "https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#on-demand_query_size_calculation"
PRUNING = "https://cloud.google.com/bigquery/docs/querying-partitioned-tables#best_practices_for_partition_pruning"
CACHE = "https://cloud.google.com/bigquery/docs/cached-results#cache-exceptions"
LIMIT = "https://github.com/dbt-labs/dbt-bigquery/issues/487"
METADATA = "https://cloud.google.com/bigquery/docs/information-schema-intro#pricing"
MEGABYTE = 1024 * 1024

try:
    compile_once()
except EngineMissing as missing:
    pytest.skip(f"Google's SQL engine: {missing}", allow_module_level=True)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with start_warehouse(tmp_path_factory.mktemp("meter")) as running:
        yield running


@pytest.fixture(scope="module")
def client(warehouse: Warehouse) -> bigquery.Client:
    client = warehouse.client()
    client.create_dataset(f"{PROJECT}.m")
    for statement in (
        # Ten rows: 80 bytes of id, 45 of name (2 + 3 bytes, one is null), 160 of amount, 80 of day, 10 of flag.
        """create table m.t (id int64, name string, amount numeric, day date, flag bool) partition by day""",
        """insert into m.t
           select n, if(n = 0, null, 'é' || n), n, date_add(date '2026-01-01', interval div(n, 5) day), n > 3
           from unnest(generate_array(0, 9)) n""",
        "create table m.clustered (id int64, other int64) cluster by id",
        "insert into m.clustered select n, n from unnest(generate_array(1, 100)) n",
        "create table m.months (moment timestamp, n int64) partition by timestamp_trunc(moment, month)",
        """insert into m.months select timestamp_add(timestamp '2026-01-31 23:00:00+00', interval n hour), n
           from unnest(generate_array(0, 9)) n""",
        "create table m.ranges (id int64, n int64) partition by range_bucket(id, generate_array(0, 100, 10))",
        "insert into m.ranges select n, n from unnest(generate_array(0, 99)) n",
        """create view m.v as
           select id as key, upper(name) as name, day as d, (select max(n) from m.months) as m from m.t""",
    ):
        client.query(statement).result()
    return client


def cost(client: bigquery.Client, sql: str, **options: Any) -> tuple[int, int]:
    """Bytes processed and megabytes billed of a statement that runs and changes nothing."""
    job = client.query(sql, bigquery.QueryJobConfig(use_query_cache=False, **options))
    job.result()
    again = client.get_job(job.job_id)
    assert isinstance(again, bigquery.QueryJob)
    assert (again.total_bytes_processed, again.total_bytes_billed) == (
        job.total_bytes_processed,
        job.total_bytes_billed,
    )
    assert job.total_bytes_billed % MEGABYTE == 0
    return job.total_bytes_processed, job.total_bytes_billed // MEGABYTE


@pytest.mark.parametrize(
    ("source", "sql", "processed", "billed"),
    [
        # The size of a type's values; NULL is none.
        (f"{PRICING}#data", "select id from m.t", 80, 10),
        (f"{PRICING}#data", "select name from m.t", 9 * (2 + 3), 10),
        (f"{PRICING}#data", "select amount from m.t", 160, 10),
        (f"{PRICING}#data", "select day from m.t", 80, 10),
        (f"{PRICING}#data", "select flag from m.t", 10, 10),
        # Columns, not rows: neither a LIMIT nor a filter makes it cheaper.
        (f"{PRICING}#on_demand_pricing", "select id from m.t where amount > 8 limit 1", 80 + 160, 10),
        (f"{PRICING}#on_demand_pricing", "select * from m.t", 375, 10),
        (f"{PRICING}#on_demand_pricing", "select * except (amount) from m.t", 215, 10),
        # A table that is named twice is read once; each table costs at least 10 MB.
        (f"{PRICING}#on_demand_pricing", "select a.id from m.t a join m.t b on a.id = b.id", 80, 10),
        (f"{PRICING}#on_demand_pricing", "select t.id from m.t join m.ranges r on t.id = r.id", 80 + 800, 20),
        # Nothing is read.
        (f"{PRICING}#free", "select 1", 0, 0),
        (f"{PRICING}#free", "select count(*) from m.t", 0, 0),
        (LIMIT, "select * from m.t limit 0", 0, 0),
        (LIMIT, "insert into m.clustered (id) select id from m.t limit 0", 80, 10),
        # Views: what they read of tables for what is asked of them.
        (f"{PRICING}#on_demand_pricing", "select key from m.v", 80, 10),
        (f"{PRICING}#on_demand_pricing", "select name from m.v", 45, 10),
        (f"{PRICING}#on_demand_pricing", "select m from m.v", 80, 20),
        # Partitions: by constants only.
        (PRUNING, "select id from m.t where day = '2026-01-01'", 5 * 8 + 5 * 8, 10),
        (PRUNING, "select id from m.t where day > '2026-01-02'", 0, 0),
        (PRUNING, "select key from m.v where d >= '2026-01-02'", 5 * 8 + 5 * 8, 10),
        (PRUNING, "select id from m.t where day = (select min(day) from m.t)", 80 + 80, 10),
        (PRUNING, "select id from m.t where date_add(day, interval 1 day) = '2026-01-02'", 80 + 80, 10),
        (PRUNING, "select n from m.months where moment >= timestamp '2026-02-01 00:00:00+00'", 9 * 16, 10),
        (PRUNING, "select n from m.months where moment < timestamp '2026-02-01 00:00:00+00'", 16, 10),
        (PRUNING, "select n from m.months where moment < timestamp '2026-02-01 00:00:01+00'", 10 * 16, 10),
        (PRUNING, "select n from m.ranges where id between 5 and 10", 20 * 16, 10),
        (PRUNING, "select n from m.ranges where id in (1, 99)", 20 * 16, 10),
        # DML: what is read, and for all but inserts the target.
        (DML, "insert into m.clustered (id) select id from m.t where false", 80, 10),
        (DML, "update m.t set flag = true where id = 99", 80 + 375, 10),
        (DML, "delete from m.t where id = 99", 80 + 375, 10),
        (DML, "delete from m.t where id = 99 and day = '2026-01-01'", 5 * 8 * 2 + (5 * 33 + 4 * 5), 10),
        (DML, "merge into m.t using (select 99 id) s on t.id = s.id when matched then delete", 80 + 375, 10),
        (DML, "merge into m.t using m.ranges s on t.id = s.id and s.id > 100"
              " when not matched and false then insert (id) values (s.id)", 80 + 800, 20),
        (DML, "merge into m.t using (select 99 id) s on t.id = s.id and t.day = '2026-01-01' when matched then delete",
         5 * 8 * 2 + (5 * 33 + 4 * 5), 10),
        (f"{PRICING}#free", "create or replace view m.w as select * from m.t", 0, 0),
        (f"{PRICING}#on_demand_pricing", "create or replace table m.copied as select id from m.t", 80, 10),
        (METADATA, "select table_name from m.INFORMATION_SCHEMA.TABLES", 10 * MEGABYTE, 10),
    ],
)  # fmt: skip
def test_a_statement_costs_what_googles_pages_say(
    client: bigquery.Client, source: str, sql: str, processed: int, billed: int
) -> None:
    assert cost(client, sql) == (processed, billed), source


def statistics(client: bigquery.Client, sql: str) -> dict[str, Any]:
    """A job's statistics, as the REST API has them."""
    job = client.query(sql)
    job.result()
    found = client.get_job(job.job_id)
    return dict(found._properties["statistics"]["query"])  # the client has no name for some of them


def test_a_clustered_table_has_a_lower_and_an_upper_bound(client: bigquery.Client) -> None:
    told = statistics(client, "select id from m.clustered where id = 7")
    assert told["totalBytesProcessedAccuracy"] == "UPPER_BOUND"
    assert (told["totalBytesProcessed"], told["leastBytesProcessed"]) == ("800", "0")
    told = statistics(client, "select id from m.clustered where other = 7")
    assert told["totalBytesProcessedAccuracy"] == "PRECISE"
    told = statistics(client, "select c.other from m.clustered c join m.ranges r on c.id = r.id")
    assert (told["totalBytesProcessed"], told["leastBytesProcessed"]) == (str(1600 + 800), "800")


def test_an_answer_from_the_cache_is_free_until_its_tables_change(client: bigquery.Client) -> None:
    """CACHE, and only of the same text, when the client does not ask for a new one."""
    sql = "select sum(n) as n from m.ranges"
    first, second = statistics(client, sql), statistics(client, sql)
    assert (first["cacheHit"], first["totalBytesBilled"]) == (False, str(10 * MEGABYTE))
    assert (second["cacheHit"], second["totalBytesBilled"], second["totalBytesProcessed"]) == (True, "0", "0")
    assert statistics(client, f"{sql} ")["cacheHit"] is False
    assert cost(client, sql) == (800, 10)  # which does not take it from the cache
    client.query("update m.ranges set n = n where false").result()
    assert statistics(client, sql)["cacheHit"] is False
    for changing in ("select current_date() as d, id from m.t", "select rand() as r from m.t"):
        assert [statistics(client, changing)["cacheHit"] for _ in range(2)] == [False, False]


def test_a_view_that_depends_on_the_day_is_not_taken_from_the_cache(client: bigquery.Client) -> None:
    client.query("create or replace view m.today as select id from m.t where day < current_date()").result()
    assert [statistics(client, "select id from m.today")["cacheHit"] for _ in range(2)] == [False, False]


def test_a_dry_run_says_the_cost_and_does_nothing(client: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    assert client.query("delete from m.t where true", config).total_bytes_processed == 375
    assert client.query("select id from m.t", config).total_bytes_processed == 80
    with pytest.raises(BadRequest, match="Unrecognized name: gone"):
        client.query("delete from m.t where gone", config)
    job = client.query("select cast(name as int64) as n from m.t", config)  # which fails on the rows
    assert (job.total_bytes_processed, [(field.name, field.field_type) for field in job.schema or []]) == (
        45,
        [("n", "INT64")],
    )


def test_a_job_names_the_tables_that_it_reads_and_its_slots(client: bigquery.Client) -> None:
    told = statistics(client, "select key, m from m.v")
    assert sorted(table["tableId"] for table in told["referencedTables"]) == ["months", "t"]
    assert int(told["totalSlotMs"]) > 0


def test_what_bigquery_refuses_is_refused_in_its_words(client: bigquery.Client) -> None:
    refused = {
        "select id as qualify from m.t": r"Syntax error: Unexpected keyword QUALIFY at \[1:14\]",
        "select id from m.t join m.ranges using (id) where n = name": "No matching signature for operator = ",
        "select t.id, r.id from m.t t join m.ranges r on t.id = r.id": "Duplicate column names in the result",
        "select id from m.t group by name": "neither grouped nor aggregated",
        "create view m.bad as select nothing from m.t": "Unrecognized name: nothing",
    }
    for sql, words in refused.items():
        with pytest.raises(BadRequest, match=words):
            client.query(sql).result()
    assert not [table for table in client.list_tables("m") if table.table_id == "bad"]


def test_an_answer_has_googles_names_and_types(client: bigquery.Client) -> None:
    sql = "select sign(numeric '2'), countif(true) as n, cast(null as json) as j, id as ID from m.t group by id"
    assert [(field.name, field.field_type) for field in client.query(sql).result().schema] == [
        ("f0_", "NUMERIC"),
        ("n", "INTEGER"),
        ("j", "JSON"),
        ("ID", "INTEGER"),
    ]


def test_what_was_analyzed_is_counted(warehouse: Warehouse, client: bigquery.Client) -> None:
    def counts() -> dict[str, Any]:
        with urllib.request.urlopen(f"{warehouse.endpoint}/analysis", timeout=5) as answer:  # noqa: S310  loopback
            return dict(json.load(answer))

    before = counts()
    for _ in range(2):
        client.query("select id + 12345 as n from m.t").result()
    with pytest.raises(BadRequest):
        client.query("select 12345 as at").result()
    after = counts()
    assert [after[name] - before[name] for name in ("statements", "distinct", "refused")] == [3, 1, 1]


def test_the_layout_that_sql_gives_a_table_is_known(client: bigquery.Client) -> None:
    clustered, months = client.get_table("m.clustered"), client.get_table("m.months")
    assert clustered.clustering_fields == ["id"]
    assert (months.time_partitioning.type_, months.time_partitioning.field) == ("MONTH", "moment")
    ranges = client.get_table("m.ranges").range_partitioning
    assert (ranges.field, ranges.range_.start, ranges.range_.end, ranges.range_.interval) == ("id", 0, 100, 10)
    client.query("create table if not exists m.clustered (id int64)").result()
    assert client.get_table("m.clustered").clustering_fields == ["id"]


def test_the_analyzer_can_be_switched_off(tmp_path: Path) -> None:
    with start_warehouse(tmp_path, "--analyzer", "off") as plain:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{plain.endpoint}/analysis", timeout=5)  # noqa: S310  loopback
        job = plain.client().query("select 1 as one")
        assert [row.one for row in job.result()] == [1]
        assert not job.total_bytes_billed


def test_without_the_engine_the_warehouse_says_so_once_and_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> Path:
        raise EngineMissing("zetasql is not installed")

    monkeypatch.setattr("local.googlesql.compiled.kept_path", missing)
    assert put_analyzer_in_front("auto") is None
    assert capsys.readouterr().out.count("zetasql is not installed") == 1
    with pytest.raises(EngineMissing):
        put_analyzer_in_front("on")


def test_a_view_has_googles_columns(client: bigquery.Client) -> None:
    client.query(
        "create or replace view m.typed as select sign(amount) as s, sum(flag_count) n from"
        " (select amount, countif(flag) as flag_count from m.t group by amount) group by s"
    ).result()
    assert [(field.name, field.field_type) for field in client.get_table("m.typed").schema] == [
        ("s", "NUMERIC"),
        ("n", "INTEGER"),
    ]
