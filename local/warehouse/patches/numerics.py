"""NUMERIC is exact.

bqemulator takes NUMERIC without parameters for DuckDB's default decimal, with 18 digits and 3 decimals, and divides two
of them as DOUBLE. In BigQuery it has 38 digits, 9 of them decimals, and a quotient is rounded to the 9th decimal, half
away from zero. The same now holds here, for dividends below 10^20; DuckDB refuses larger ones. AVG of NUMERIC is still
DOUBLE's: write SUM / COUNT where that matters.
"""

from typing import Any

from bqemulator.jobs import executor
from bqemulator.sql.rules import TranslationRule, register
from bqemulator.sql.rules.aggregate_types import DivDecimalRule
from bqemulator.sql.translator import SQLTranslator
from bqemulator.storage.engine import DuckDBEngine
from sqlglot import exp

from local.warehouse.patches.replace import replace

# Start with DOUBLE's quotient, add what is missing as DECIMAL, then settle the ties.
MACROS = """
CREATE OR REPLACE MACRO credix_remainder(a, b, quotient) AS CAST(a AS DECIMAL(38, 18)) - quotient * b;
CREATE OR REPLACE MACRO credix_near(a, b) AS CAST(CAST(a AS DOUBLE) / CAST(b AS DOUBLE) AS DECIMAL(38, 9));
CREATE OR REPLACE MACRO credix_nearest(a, b) AS
    credix_near(a, b) + credix_near(credix_remainder(a, b, credix_near(a, b)), b);
CREATE OR REPLACE MACRO credix_divide(a, b) AS CAST(
    credix_nearest(a, b) + CASE
        WHEN 2 * abs(credix_remainder(a, b, credix_nearest(a, b))) = abs(b) * CAST('0.000000001' AS DECIMAL(9, 9))
            AND (credix_remainder(a, b, credix_nearest(a, b)) > 0) = (a > 0)
        THEN CAST('0.000000001' AS DECIMAL(10, 9)) * sign(a) * sign(b)
        ELSE 0
    END AS DECIMAL(38, 9)
);
"""

_translate = SQLTranslator.translate
_register_builtins = DuckDBEngine._register_builtin_udfs


def apply() -> None:
    """Add a rule for the type, replace the one for division, and add functions to those made at start."""
    replace(DuckDBEngine, "_register_builtin_udfs", _register_functions)
    register(_WideNumeric)
    replace(executor, "_translator", SQLTranslator())
    replace(SQLTranslator, "translate", _translate_with_types)
    replace(DivDecimalRule, "rewrite", _exact_division)


def _translate_with_types(self: Any, bq_sql: str, *, schema: Any = None, **kwargs: Any) -> Any:
    """Let the operands' types be found out also in a query that reads no table, which bqemulator leaves out."""
    if schema is None and "/" in bq_sql and "NUMERIC" in bq_sql.upper():
        schema = {}
    return _translate(self, bq_sql, schema=schema, **kwargs)


def _register_functions(self: Any) -> None:
    _register_builtins(self)
    self.execute(MACROS)


class _WideNumeric(TranslationRule):
    """DECIMAL(18, 3), which is how sqlglot reads DuckDB's DECIMAL, becomes DECIMAL(38, 9).

    By then the parameters of NUMERIC(p, s) in a cast are lost, so that too has 9 decimals.
    """

    name = "WIDE_NUMERIC"

    def applies_to(self, node: Any) -> bool:
        """Whether it is DuckDB's default decimal."""
        if not isinstance(node, exp.DataType) or node.this != exp.DataType.Type.DECIMAL:
            return False
        return [parameter.name for parameter in node.expressions] in ([], ["18", "3"])

    def rewrite(self, node: Any) -> Any:
        """Return BigQuery's NUMERIC."""
        return exp.DataType.build("DECIMAL(38, 9)")


def _exact_division(self: Any, node: Any) -> Any:
    operands = [exp.cast(operand.copy(), "DECIMAL(38, 9)") for operand in (node.this, node.expression)]
    return exp.cast(exp.Anonymous(this="credix_divide", expressions=operands), "DECIMAL(38, 9)")
