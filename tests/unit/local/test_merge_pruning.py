"""Whether a MERGE names its target's partitions in constants, as BigQuery's pruning wants it."""

import pytest

from local.googlesql import compiled
from local.googlesql.analysis import GoogleSql
from local.googlesql.engine import Refused
from local.project_check.pruning import not_pruned
from local.project_check.warehouse import Warehouse

BATCH = [{"name": "k", "type": "DATE"}, {"name": "v", "type": "STRING"}]
PRUNED = [
    "b.k = t.k and t.k between cast('2026-03-02' as date) and date '2026-03-09'",
    "t.k >= '2026-03-02' and b.k = t.k",
    "date '2026-03-02' < t.k",
    "t.k in ('2026-03-02', '2026-03-03') and upper(t.v) = b.v",
]
NOT_PRUNED = {
    "b.k = t.k": "there is none",
    "b.k = t.k and t.v = 'x'": "there is none",
    "t.k >= date_sub(date '2026-01-01', interval 1 day)": "what date_sub returns is none",
    "t.k >= current_date()": "what current_date returns is none",
    "date_trunc(t.k, month) = date '2026-01-01'": "what date_trunc returns is none",
    "t.k in (select k from `p`.`d`.`b`)": "a subquery is none",
    "t.k between '2026-03-02' and (select max(k) from `p`.`d`.`b`)": "a subquery is none",
    "t.k between '2026-03-02' and b.k": "what the source has is none",
    "t.k = '2026-01-01' or t.v = 'x'": "what $or returns is none",
}


@pytest.fixture(scope="module")
def warehouse() -> Warehouse:
    compiled.compile_once()
    warehouse = Warehouse(GoogleSql())
    warehouse.put("p.d.b", BATCH)
    warehouse.run("create table `p`.`d`.`t` (k DATE, v STRING) partition by date_trunc(k, month)")
    return warehouse


def reason(warehouse: Warehouse, condition: str) -> str | None:
    warehouse.run(
        f"merge into `p`.`d`.`t` as t using (select * from `p`.`d`.`b`) as b on {condition}"
        " when matched then update set v = b.v"
    )
    return not_pruned(warehouse.merges[-1])


@pytest.mark.parametrize("condition", PRUNED)
def test_constants_prune(warehouse: Warehouse, condition: str) -> None:
    assert reason(warehouse, condition) is None


@pytest.mark.parametrize("condition", NOT_PRUNED)
def test_nothing_else_prunes(warehouse: Warehouse, condition: str) -> None:
    assert (reason(warehouse, condition) or "pruned").endswith(f": {NOT_PRUNED[condition]}")


def test_what_dbt_does_not_send_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(Refused, match="not: truncate"):
        warehouse.run("truncate table `p`.`d`.`t`")
    with pytest.raises(Refused, match="Only columns are added"):
        warehouse.run("alter table `p`.`d`.`t` drop column v")
