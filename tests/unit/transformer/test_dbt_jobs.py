"""A MERGE runs under the job id that is noted for it, nothing else does; every job has the labels of its run."""

from typing import Any

import pytest
from dbt.adapters.bigquery.connections import BigQueryConnectionManager

from services.transformer import dbt_jobs

COMMENT = '/* {"credix_stage": "dbt", "credix_node": "a"} */\n'
MERGE = "/* job: credix-merge-a-1 */\nmerge into `p`.`d`.`a` as `bronze row` using (select 1) as `batch row` on false"


@pytest.mark.parametrize(
    ("statement", "job_id"),
    [
        (MERGE, "credix-merge-a-1"),
        (COMMENT + MERGE, "credix-merge-a-1"),
        (f"{COMMENT}\n    {MERGE}", "credix-merge-a-1"),
        ("select 1", None),
        (COMMENT + "select 1", None),
        (COMMENT + 'select "/* job: credix-merge-b-1 */"', None),
        ("select 1 /* job: credix-merge-a-1 */", None),
        ("/* job: not an id! */ select 1", None),
    ],
)
def test_only_a_statement_that_begins_with_its_job_asks_for_one(statement: str, job_id: str | None) -> None:
    assert dbt_jobs.job_of(statement) == job_id


def test_dbt_sends_the_merge_under_its_id_and_others_under_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def send(manager: Any, conn: Any, sql: str, job_params: Any, job_id: str, limit: int | None = None) -> None:
        sent.append(job_id)

    monkeypatch.setattr(dbt_jobs, "_send", send)
    dbt_jobs.tell_jobs()
    manager = BigQueryConnectionManager.__new__(BigQueryConnectionManager)
    for statement in (COMMENT + MERGE, COMMENT + "select 1"):
        manager._query_and_results(None, statement, {}, "dbt's own")
    assert sent == ["credix-merge-a-1", "dbt's own"]


def test_a_run_is_a_label_of_its_jobs_and_of_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []

    def send(manager: Any, conn: Any, sql: str, job_params: Any, job_id: str, limit: int | None = None) -> None:
        assert "r-1" not in sql
        sent.append(job_params["labels"])

    monkeypatch.setattr(dbt_jobs, "_send", send)
    dbt_jobs.tell_jobs()
    manager = BigQueryConnectionManager.__new__(BigQueryConnectionManager)
    given = {"labels": {"credix_node": "a"}}
    with dbt_jobs.labelled({"credix_run": "r-1"}):
        manager._query_and_results(None, COMMENT + "select 1", given, "1")
    manager._query_and_results(None, COMMENT + "select 1", given, "2")
    assert sent == [{"credix_node": "a", "credix_run": "r-1"}, {"credix_node": "a"}]
    assert given == {"labels": {"credix_node": "a"}}
