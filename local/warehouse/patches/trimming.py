"""TRIM removes every kind of white space.

DuckDB's TRIM, LTRIM and RTRIM without characters remove spaces; BigQuery's remove all that Unicode calls white space
(https://cloud.google.com/bigquery/docs/reference/standard-sql/string_functions#trim). The characters are now named.
"""

import sqlglot
from bqemulator.sql import translator
from bqemulator.sql.rewriter.string_helpers import rewrite_string_helpers as _rewrite_strings
from sqlglot import exp

from local.warehouse.patches.replace import replace

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Unicode's property White_Space."""


def apply() -> None:
    """Replace the rewriting of string functions."""
    replace(translator, "rewrite_string_helpers", _rewrite)


def _rewrite(bq_sql: str) -> str:
    return name_white_space(_rewrite_strings(bq_sql))


def name_white_space(bq_sql: str) -> str:
    """Give every TRIM, LTRIM and RTRIM without characters those that BigQuery means."""
    if "TRIM" not in bq_sql.upper():
        return bq_sql
    try:
        tree = sqlglot.parse_one(bq_sql, read="bigquery")
    except sqlglot.ParseError:
        return bq_sql  # bqemulator parses it again, and reports it
    for trim in tree.find_all(exp.Trim):
        if trim.args.get("expression") is None:
            trim.set("expression", exp.Literal.string(WHITE_SPACE))
    return tree.sql("bigquery")
