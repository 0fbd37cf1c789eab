"""The local warehouse's list of jobs is BigQuery's, seen through Google's own client."""

import datetime as dt
import time
import uuid
from typing import Any

import pytest
import requests
from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from tests.integration.warehouse_fixture import PROJECT, Warehouse


def sent(client: bigquery.Client, statement: str = "SELECT 1", **labels: str) -> str:
    """Send a query; its job id."""
    job_id = f"job-{uuid.uuid4()}"
    config = bigquery.QueryJobConfig(labels=labels)
    client.query(statement, job_id=job_id, job_config=config, job_retry=None).result()
    return job_id


def ids(jobs: Any) -> list[str]:
    return [job.job_id for job in jobs]


def test_a_query_keeps_its_labels_and_its_text(client: bigquery.Client) -> None:
    job_id = sent(client, "SELECT 7", credix_stage="test", credix_run="r")
    asked = client.get_job(job_id)
    [listed] = [job for job in client.list_jobs() if job.job_id == job_id]
    for job in (asked, listed):
        assert isinstance(job, bigquery.QueryJob)
        assert (job.labels, job.query) == ({"credix_stage": "test", "credix_run": "r"}, "SELECT 7")
        assert (job.state, job.parent_job_id) == ("DONE", None)


def test_a_query_by_the_short_way_keeps_its_labels_too(client: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(labels={"credix_stage": "short"})
    rows = client.query_and_wait("SELECT 8", job_config=config)
    assert rows.job_id is not None
    assert client.get_job(rows.job_id).labels == {"credix_stage": "short"}


def test_a_dry_run_is_no_job(client: bigquery.Client) -> None:
    before = ids(client.list_jobs())
    client.query("SELECT 9", job_config=bigquery.QueryJobConfig(dry_run=True))
    assert ids(client.list_jobs()) == before


def test_all_jobs_come_page_by_page_newest_first(client: bigquery.Client) -> None:
    before = dt.datetime.now(dt.UTC)
    time.sleep(0.01)
    mine = [sent(client) for _ in range(7)]
    pages = [ids(page) for page in client.list_jobs(min_creation_time=before, page_size=3).pages]
    assert [len(page) for page in pages] == [3, 3, 1]
    listed = [job_id for page in pages for job_id in page]
    assert sorted(listed) == sorted(mine)
    created = [job.created for job in client.list_jobs(min_creation_time=before, page_size=3)]
    assert created == sorted(created, reverse=True)


def test_a_time_and_a_state_leave_out_the_others(client: bigquery.Client) -> None:
    first = sent(client)
    time.sleep(0.01)
    between = dt.datetime.now(dt.UTC)
    time.sleep(0.01)
    second = sent(client)
    assert second in ids(client.list_jobs(min_creation_time=between))
    assert first not in ids(client.list_jobs(min_creation_time=between))
    assert second not in ids(client.list_jobs(max_creation_time=between))
    assert first in ids(client.list_jobs(max_creation_time=between))
    assert {first, second} <= set(ids(client.list_jobs(state_filter="done")))
    assert ids(client.list_jobs(state_filter="running")) == []
    assert ids(client.list_jobs(parent_job=first)) == [], "a query that is no script has no children"


def test_a_failed_job_tells_its_error(client: bigquery.Client) -> None:
    job_id = f"job-{uuid.uuid4()}"
    job = client.query("SELECT * FROM nowhere.nothing", job_id=job_id, job_retry=None)
    with pytest.raises(NotFound, match="nowhere"):
        job.result()
    [listed] = [job for job in client.list_jobs() if job.job_id == job_id]
    assert listed.error_result is not None


def test_without_full_projection_there_is_no_configuration(client: bigquery.Client, warehouse: Warehouse) -> None:
    sent(client)
    url = f"{warehouse.endpoint}/bigquery/v2/projects/{PROJECT}/jobs"
    for projection, there in ((None, False), ("minimal", False), ("full", True)):
        answer = requests.get(url, params={"projection": projection} if projection else {}, timeout=10).json()
        assert all(("configuration" in job) is there for job in answer["jobs"]), projection
