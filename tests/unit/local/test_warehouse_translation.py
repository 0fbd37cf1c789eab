"""What the local warehouse does not look for in a statement is not there."""

import pytest
import sqlglot
from bqemulator.jobs.executor import _is_dml

from local.warehouse.patches.translation import may_change_rows

CHANGES = [
    "insert into d.t (a) values (1)",
    "INSERT d.t (a) SELECT 1",
    "Update d.t SET a = 1 WHERE true",
    "delete d.t where true",
    "DELETE FROM d.t WHERE a = 1",
    "merge d.t using d.u on false when not matched then insert row",
    "truncate table d.t",
    "/* of dbt */ TRUNCATE TABLE `p.d.t`",
]


@pytest.mark.parametrize("sql", CHANGES)
def test_every_statement_that_changes_rows_is_looked_into(sql: str) -> None:
    assert _is_dml(sqlglot.parse_one(sql, read="bigquery")), "the case is one"
    assert may_change_rows(sql)


@pytest.mark.parametrize("sql", ["select 1", "create or replace view d.v as select a from d.t", "drop table d.t"])
def test_a_statement_that_only_reads_or_defines_is_not(sql: str) -> None:
    assert not may_change_rows(sql)
