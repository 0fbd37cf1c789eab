"""One suite for the warehouses that tests use: Google's client on the local one, and the simulation's.

What the services rest on is here: a job's id is taken once, a load is whole or nothing, what is not there is said, and
what their own statements do.
"""

import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery

from services.core.batch import Batch
from services.core.jobs import settle
from services.core.tables import Column, ColumnType, Mode, Table
from services.core.warehouse import TempTable, standard_types
from services.transformer.bronze import delta
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, Loaded
from services.transformer.bronze.shrinking import shrinkage
from tests.integration.warehouse_fixture import PROJECT, Warehouse
from tests.simulation import warehouse as simulated
from tests.simulation.buckets import MemoryBuckets
from tests.simulation.choices import Choices
from tests.simulation.client import Client
from tests.simulation.scheduler import Scheduler

pytest_plugins = ["tests.integration.warehouse_fixture"]

BUCKET = "lake"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
COLUMNS = {"id": "INT64", "n": "INT64", "_extracted_at": "TIMESTAMP"}
SCHEMA = [bigquery.SchemaField(name, type_) for name, type_ in COLUMNS.items()]
WAIT = timedelta(seconds=30)
TABLE = Table(
    name="t",
    source="shop.t",
    key=["id"],
    mode=Mode.SNAPSHOT,
    deletes="soft",
    bronze_model="t",
    columns=[Column(name=name, type=ColumnType.INT64, required=True) for name in ("id", "n")],
)


@dataclass(frozen=True)
class Place:
    """A warehouse, and what is done beside its client."""

    client: Any
    dataset: str
    put: Callable[[str, bytes], object]
    """Writes an object into the bucket."""
    create: Callable[[str, dict[str, str]], object]
    """Makes an empty table."""
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def job(self, name: str) -> str:
        """A job's id: no other test has it."""
        return f"{name}-{self.run}"

    def __call__(self, name: str) -> str:
        """A table's full name."""
        return f"{self.dataset}.{name}"

    def load(self, name: str, job_id: str, *objects: str) -> Any:
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=SCHEMA,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        )
        uris = [f"gs://{BUCKET}/{each}" for each in objects]
        job = self.client.load_table_from_uri(uris, self(name), job_id=self.job(job_id), job_config=config)
        settle(self.client, self.job(job_id), WAIT)
        return self.client.get_job(job.job_id, location=self.client.location)

    def batch(self, id_: str, minutes: int, **rows: int) -> Loaded:
        """A batch with rows k<id>=n in its hashed table."""
        read_at = AT + timedelta(minutes=minutes)
        self.put(f"{id_}.parquet", parquet([(int(key[1:]), n, read_at) for key, n in rows.items()]))
        assert self.load(id_, f"load-{id_}", f"{id_}.parquet").error_result is None
        batch = Batch(
            id=id_, run_id="r", table="t", mode=Mode.INCREMENTAL, window=None, extracted_at=read_at, started_at=read_at
        )
        found = self.client.get_table(self(id_))
        return Loaded(batch, TempTable(self(id_), standard_types(found.schema), int(found.num_rows)))


def parquet(rows: list[tuple[int, int, datetime]]) -> bytes:
    ids, numbers, moments = (list(values) for values in zip(*rows, strict=True))
    table = pa.table({"id": ids, "n": numbers, "_extracted_at": pa.array(moments, pa.timestamp("us", tz="UTC"))})
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


@pytest.fixture(params=["local", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "simulated":
        scheduler = Scheduler(Choices())
        buckets = MemoryBuckets(scheduler.now, lambda event: None)
        warehouse = simulated.Warehouse(scheduler, buckets)

        def put(name: str, content: bytes) -> object:
            return buckets.replace(BUCKET, name, content, "")

        def create(id_: str, columns: dict[str, str]) -> object:
            return warehouse.create(id_, columns, if_absent=True)

        yield Place(Client(scheduler, warehouse), "p.contract", put, create)
        return
    local: Warehouse = request.getfixturevalue("warehouse_endpoint")
    client, name = local.client(), f"contract_{tmp_path.name}".replace("-", "_")[:60]
    client.create_dataset(name, exists_ok=True)
    (local.gcs_root / BUCKET).mkdir(exist_ok=True)

    def write(object_name: str, content: bytes) -> object:
        return (local.gcs_root / BUCKET / object_name).write_bytes(content)

    def make(id_: str, columns: dict[str, str]) -> object:
        schema = [bigquery.SchemaField(column, type_) for column, type_ in columns.items()]
        return client.create_table(bigquery.Table(id_, schema=schema))

    yield Place(client, f"{PROJECT}.{name}", write, make)
    client.delete_dataset(name, delete_contents=True)


def test_a_load_is_whole_and_its_id_is_taken_once(place: Place) -> None:
    place.put("a.parquet", parquet([(1, 10, AT), (2, 20, AT)]))
    place.put("b.parquet", parquet([(3, 30, AT)]))
    job = place.load("t", "one", "a.parquet", "b.parquet")
    assert (job.state, job.error_result, job.output_rows) == ("DONE", None, 3)
    assert isinstance(job, bigquery.LoadJob)
    with pytest.raises(Conflict):
        place.load("t", "one", "a.parquet")
    found = place.client.get_table(place("t"))
    assert (found.num_rows, standard_types(found.schema)) == (3, COLUMNS)
    place.load("t", "two", "b.parquet")
    assert place.client.get_table(place("t")).num_rows == 1, "in the place of what was there"


@pytest.mark.parametrize("content", [None, b"PAR1 this is no Parquet PAR1"])
def test_a_load_that_fails_changes_nothing(place: Place, content: bytes | None) -> None:
    place.put("a.parquet", parquet([(1, 10, AT)]))
    place.load("t", "one", "a.parquet")
    if content is not None:
        place.put("bad.parquet", content)
    job = place.load("t", "two", "a.parquet", "bad.parquet")
    assert job.error_result["reason"] == ("notFound" if content is None else "invalid")
    assert place.client.get_table(place("t")).num_rows == 1


def test_what_is_not_there_is_said(place: Place) -> None:
    with pytest.raises(NotFound):
        place.client.get_table(place("none"))
    with pytest.raises(NotFound):
        place.client.get_job("none", location=place.client.location)
    place.client.delete_table(place("none"), not_found_ok=True)
    with pytest.raises(NotFound):
        place.client.copy_table(place("none"), place("t"), job_id=place.job("copy")).result()


def test_a_job_that_was_never_sent_is_void_and_refused_when_it_comes_late(place: Place) -> None:
    assert not settle(place.client, place.job("late"), WAIT).sent
    assert not settle(place.client, place.job("late"), WAIT).sent, "however often it is asked"
    with pytest.raises(Conflict):
        place.client.query("select distinct _batch_id from `p.d.t`", job_id=place.job("late"), job_retry=None)


def test_a_copy_takes_the_place_of_what_was_there(place: Place) -> None:
    place.put("a.parquet", parquet([(1, 10, AT)]))
    place.load("one", "load-1", "a.parquet")
    config = bigquery.CopyJobConfig(write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE)
    for job_id in ("copy-1", "copy-2"):
        place.client.copy_table(place("one"), place("stable"), job_id=place.job(job_id), job_config=config).result()
    assert place.client.get_table(place("stable")).num_rows == 1
    assert settle(place.client, place.job("copy-2"), WAIT).done
    with pytest.raises(Conflict):
        place.client.copy_table(place("one"), place("stable"), job_id=place.job("copy-2"), job_config=config)


def test_a_table_expires_when_it_is_told_to_and_is_listed_until_it_is_dropped(place: Place) -> None:
    place.create(place("t"), COLUMNS)
    table = place.client.get_table(place("t"))
    table.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    place.client.update_table(table, ["expires"])
    assert place.client.get_table(place("t")).expires == table.expires
    assert [each.table_id for each in place.client.list_tables(place.dataset)] == ["t"]
    place.client.delete_table(place("t"), not_found_ok=True)
    assert list(place.client.list_tables(place.dataset)) == []


def test_a_delta_takes_batches_and_lets_them_go(place: Place) -> None:
    columns = {"id": "INT64", "n": "INT64"}
    place.create(place("t_delta"), columns | ADDED_COLUMNS)
    batches = [place.batch("b1", 1, k1=10, k2=20), place.batch("b2", 2, k1=11)]
    statement = delta.insertion(place("t_delta"), columns, delta.rows_of(TABLE, columns, batches))
    delta.send(place.client, TABLE, statement, place.job("append"))
    ended = settle(place.client, place.job("append"), WAIT)
    assert (ended.done, ended.rows) == (True, 3)
    delta.send(place.client, TABLE, statement, place.job("append"))
    assert place.client.get_table(place("t_delta")).num_rows == 3, "its id was taken"
    assert sorted(delta.waiting_batches(place.client, TABLE, place("t_delta"))) == ["b1", "b2"]
    delta.clear(place.client, TABLE, place("t_delta"), ["b1"])
    delta.clear(place.client, TABLE, place("t_delta"), ["b1", "b0"])
    assert delta.waiting_batches(place.client, TABLE, place("t_delta")) == ["b2"]


def test_an_append_of_a_batch_that_is_gone_appends_nothing(place: Place) -> None:
    columns = {"id": "INT64", "n": "INT64"}
    place.create(place("t_delta"), columns | ADDED_COLUMNS)
    batches = [place.batch("b1", 1, k1=10), place.batch("b2", 2, k1=11)]
    statement = delta.insertion(place("t_delta"), columns, delta.rows_of(TABLE, columns, batches))
    place.client.delete_table(place("b2"), not_found_ok=True)
    try:
        delta.send(place.client, TABLE, statement, place.job("append"))
    except NotFound:
        assert place.client.get_table(place("t_delta")).num_rows == 0
        return
    ended = settle(place.client, place.job("append"), WAIT)
    assert (ended.done, ended.reason) == (False, "notFound")
    assert place.client.get_table(place("t_delta")).num_rows == 0


def test_how_many_rows_a_snapshot_would_find_gone(place: Place) -> None:
    snapshot = place.batch("s", 5, k1=10, k3=30)
    assert shrinkage(place.client, TABLE, place("t"), snapshot).there == 0, "there is no bronze yet"
