"""A statement is parsed and translated once; nothing that a client sees changes by it.

bqemulator parses a statement about fifteen times on its way to DuckDB, each time anew, and translates it whenever it
comes: of a run of dbt's tests, nearly all of the time. Both depend on nothing but the text, the columns of the tables
in it and who asks, and are remembered; a tree is handed out as a copy, because the callers change theirs.
"""

import json
from functools import lru_cache
from typing import Any

from bqemulator.jobs import executor
from bqemulator.sql.table_rewriter import rewrite_table_refs
from bqemulator.sql.translator import SQLTranslator
from sqlglot.dialects.dialect import Dialect

from local.warehouse.patches.replace import replace

REMEMBERED = 1024
"""Most statements remembered; a merge of a wide table is about 20 kB, its tree some 2 MB."""

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


@lru_cache(REMEMBERED)
def _parsed(dialect: type[Dialect], sql: str) -> list[Any]:
    return _parse(dialect(), sql)


def _parse_once(self: Dialect, sql: str, **options: Any) -> list[Any]:
    if options or self.settings or self.normalization_strategy != self.NORMALIZATION_STRATEGY:
        return _parse(self, sql, **options)
    return [tree and tree.copy() for tree in _parsed(type(self), sql)]
