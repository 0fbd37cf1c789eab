"""A statement is parsed and translated once; nothing that a client sees changes by it.

bqemulator parses a statement about fifteen times on its way to DuckDB, each time anew, and translates it whenever it
comes: of a run of dbt's tests, nearly all of the time. Both depend on nothing but the text, the columns of the tables
in it and who asks, and are remembered; a tree is handed out as a copy, because the callers change theirs. Where a name
stood in the text is in no copy: nobody asks, and copying it takes time. Scripts are split once, and a statement's kind
is found once, too. What looks only for a CREATE, a DROP or a change of rows does not look into a statement that has no
such word.
"""

import functools
import json
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from bqemulator.api.routes import jobs
from bqemulator.catalog import ddl_sync
from bqemulator.jobs import executor
from bqemulator.sql import translator
from bqemulator.sql.table_rewriter import rewrite_table_refs
from bqemulator.sql.translator import SQLTranslator
from sqlglot.dialects.dialect import Dialect

from local.warehouse.patches.replace import replace

REMEMBERED = 1024
"""Most statements remembered; a merge of a wide table is about 20 kB, its tree some 2 MB."""

_POSITION = frozenset({"line", "col", "start", "end"})
"""What sqlglot notes of where a name or literal stood."""

_LOOKING_FOR = {
    "_detect_catalog_drop": "DROP",
    "_detect_create_schema": "CREATE",
    "_detect_plain_create_table": "CREATE",
}
"""What these functions of ``ddl_sync`` look for in a statement; they answer None when it is not there."""

_CHANGES = ("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE")
"""The words of which a statement that changes rows has one; ``executor._is_dml`` knows no other."""

_parse = Dialect.parse


def apply() -> None:
    """Replace the parser's entry and the translator's, as other patches left it."""
    translate = SQLTranslator.translate

    @lru_cache(REMEMBERED)
    def translated(translator: Any, bq_sql: str, schema: str, caller: Any) -> Any:
        return translate(translator, bq_sql, schema=json.loads(schema), caller=caller)

    def once(self: Any, bq_sql: str, *, schema: Any = None, caller: Any = None, **_reserved: Any) -> Any:
        return translated(self, bq_sql, json.dumps(schema), caller)

    replace(SQLTranslator, "translate", once)
    replace(executor, "rewrite_table_refs", lru_cache(REMEMBERED)(rewrite_table_refs))
    replace(Dialect, "parse", _parse_once)
    replace(executor, "_parse_script_or_raise", lru_cache(REMEMBERED)(executor._parse_script_or_raise))
    kind = lru_cache(REMEMBERED)(executor.classify_statement_type)
    for module in (executor, jobs):
        replace(module, "classify_statement_type", kind)
    for name, word in _LOOKING_FOR.items():
        replace(ddl_sync, name, _if_there(word, getattr(ddl_sync, name), lambda _: None))
    bare = "rewrite_create_table_schema_ctas"
    replace(translator, bare, _if_there("CREATE", getattr(translator, bare), lambda sql: sql))
    replace(executor, "_reject_dml_on_immutable", _reject_if_changes(executor._reject_dml_on_immutable))
    replace(executor, "_capture_dml_snapshots", _capture_if_changes(executor._capture_dml_snapshots))


def _if_there(word: str, look: Callable[..., Any], else_: Callable[[str], Any]) -> Callable[..., Any]:
    """Look into a statement only if a word is anywhere in it."""

    @functools.wraps(look)
    def looked(bq_sql: str, *args: Any) -> Any:
        return look(bq_sql, *args) if word in bq_sql.upper() else else_(bq_sql)

    return looked


def may_change_rows(bq_sql: str) -> bool:
    """Whether a statement has a word without which it changes no rows."""
    text = bq_sql.upper()
    return any(word in text for word in _CHANGES)


def _reject_if_changes(reject: Callable[[str, str, Any], None]) -> Callable[[str, str, Any], None]:
    @functools.wraps(reject)
    def rejected(project_id: str, bq_sql: str, ctx: Any) -> None:
        if may_change_rows(bq_sql):
            reject(project_id, bq_sql, ctx)

    return rejected


def _capture_if_changes(capture: Callable[[str, str, Any], Awaitable[None]]) -> Callable[[str, str, Any], Any]:
    @functools.wraps(capture)
    async def captured(project_id: str, bq_sql: str, ctx: Any) -> None:
        if may_change_rows(bq_sql):
            await capture(project_id, bq_sql, ctx)

    return captured


@lru_cache(REMEMBERED)
def _parsed(dialect: type[Dialect], sql: str) -> list[Any]:
    trees = _parse(dialect(), sql)
    for tree in trees:
        for node in tree.walk() if tree else ():
            if node._meta:
                node._meta = {name: value for name, value in node._meta.items() if name not in _POSITION} or None
    return trees


def _parse_once(self: Dialect, sql: str, **options: Any) -> list[Any]:
    if options or self.settings or self.normalization_strategy != self.NORMALIZATION_STRATEGY:
        return _parse(self, sql, **options)
    return [tree and tree.copy() for tree in _parsed(type(self), sql)]
