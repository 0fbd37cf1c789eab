"""What a bronze MERGE makes of its target, by Google's reference implementation, which evaluates queries only.

The MERGE of a table with a key is a full join of target and source, by its own ON, WHEN and SET; that of a table
without a key is what it does not delete, and what its USING has.
"""

import re
from collections.abc import Sequence
from typing import Any

from local.googlesql.analysis import GoogleSql
from local.googlesql.evaluation import evaluate
from local.googlesql.names import without_comments

_KEYED = re.compile(
    r"merge into (?P<target>\S+) as `bronze row`\s+using \((?P<using>.*)\) as `batch row`\s+on\s(?P<on>.*?)"
    r"\swhen matched and (?P<condition>.*) then update set(?P<set>.*)"
    r"\swhen not matched then insert \((?P<names>.*)\)\s+values \((?P<values>.*)\)",
    re.DOTALL,
)
_WHOLE = re.compile(
    r"merge into (?P<target>\S+) as `bronze row`\s+using \((?P<using>.*)\) as `batch row`\s+on false"
    r"(?:\s+when not matched by source and (?P<condition>.*) then delete)?"
    r"\s+when not matched by target then insert \((?P<names>.*?)\)\s+values \((?P<values>.*)\)",
    re.DOTALL,
)
_ASSIGNED = re.compile(r"^\s*(`[^`]+`|\w+) = (.*?),?$", re.MULTILINE)


def merged(google: GoogleSql, statement: str, tables: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the target has after a MERGE of dbt/macros/bronze.sql.

    Args:
        google: the engine.
        statement: the MERGE.
        tables: its target and the batches' tables, with their rows before it.
    """
    query = _query(without_comments(statement).strip())
    answer = evaluate(google, query, tables)
    names = [field["name"] for field in answer.fields]
    return [dict(zip(names, row, strict=True)) for row in answer.rows]


def _query(statement: str) -> str:
    if found := _KEYED.fullmatch(statement):
        assigned = dict(_ASSIGNED.findall(found["set"]))
        # A row that is inserted gets what it would be updated to.
        assert _words(found["names"]) == ", ".join(assigned), statement
        assert _words(found["values"]) == ", ".join(map(_words, assigned.values())), statement
        columns = ",\n".join(
            f"case when `batch row`._batch_id is null then `bronze row`.{name}"
            f" when `bronze row`._batch_id is null or {found['condition']} then {value}"
            f" else `bronze row`.{name} end as {name}"
            for name, value in assigned.items()
        )
        joined = f"from {found['target']} as `bronze row` full join ({found['using']}) as `batch row` on {found['on']}"
        return f"select {columns} {joined}"
    found = _WHOLE.fullmatch(statement)
    assert found, statement
    assert _words(found["names"]).split(", ") == [
        value.removeprefix("`batch row`.") for value in _words(found["values"]).split(", ")
    ], statement
    kept = f"select {found['names']} from {found['target']} as `bronze row`"
    kept += f" where not {found['condition']}" if found["condition"] else ""
    return f"{kept} union all select {found['names']} from ({found['using']})"


def _words(text: str) -> str:
    return " ".join(text.split())
