"""NUMERIC and BIGNUMERIC are exact, and INT64 ends where it ends.

bqemulator takes NUMERIC without parameters for DuckDB's default decimal, with 18 digits and 3 decimals, divides as
DOUBLE, multiplies into ever more decimals, and sums INT64 beyond its range. In BigQuery NUMERIC has 38 digits, 9 of
them decimals; products, quotients and averages are rounded to the 9th decimal, half away from zero; what does not fit,
and a division by zero, is an error. The same now holds here.

BIGNUMERIC has 76 digits in BigQuery, 38 of them decimals. DuckDB's decimals have 38: here it has 20 digits before the
point and 18 after it. A value, a product or a quotient that needs more is an error, never another value.
"""

import decimal
import math
from decimal import Decimal
from typing import Any

import duckdb
from bqemulator.sql import parameters
from bqemulator.sql.rules import TranslationRule, register
from bqemulator.storage import arrow_bridge, type_map
from duckdb.func import FunctionNullHandling
from sqlglot import exp

from local.warehouse import parquet_schema
from local.warehouse.patches import typed_expressions
from local.warehouse.patches.replace import replace
from local.warehouse.patches.typed_expressions import call, is_type, set_type, type_of

INT64, FLOAT64, STRING = exp.DType.BIGINT, exp.DType.DOUBLE, exp.DType.TEXT
NUMERIC, BIGNUMERIC = exp.DType.DECIMAL, exp.DType.BIGDECIMAL
BIGNUMERIC_DIGITS, BIGNUMERIC_DECIMALS = parquet_schema.BIGNUMERIC.precision, parquet_schema.BIGNUMERIC.scale
NUMERIC_IN_DUCKDB = "DECIMAL(38, 9)"
BIGNUMERIC_IN_DUCKDB = f"DECIMAL({BIGNUMERIC_DIGITS}, {BIGNUMERIC_DECIMALS})"

_LOWEST_INT64 = "9223372036854775808"
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_exact = decimal.Context(prec=160, rounding=decimal.ROUND_HALF_UP)

# Operands are bound to a lambda's parameter, so that each is computed once. A quotient starts with DOUBLE's, adds what
# is missing, then settles the ties; what is too large for that is calculated in Python.
FUNCTIONS = """
CREATE OR REPLACE MACRO credix_nonzero(b) AS CASE
    WHEN b = 0 THEN cast_to_type(credix_refuse('division by zero'), b) ELSE b
END;
CREATE OR REPLACE MACRO credix_multiply(a, b) AS list_transform(
    [{'a': CAST(a AS DECIMAL(38, 9)), 'b': CAST(b AS DECIMAL(38, 9))}],
    lambda s: CASE
        WHEN abs(s['a']) < 9999999999 AND abs(s['b']) < 9999999999 THEN CAST(s['a'] * s['b'] AS DECIMAL(38, 9))
        ELSE credix_wide_product(CAST(s['a'] AS VARCHAR), CAST(s['b'] AS VARCHAR))
    END
)[1];
CREATE OR REPLACE MACRO credix_fits(total) AS CASE
    WHEN abs(total) > CAST('99999999999999999999999999999.999999999' AS DECIMAL(38, 9))
    THEN cast_to_type(credix_refuse('numeric overflow: SUM'), total)
    ELSE total
END;
CREATE OR REPLACE MACRO credix_sign_float64(x) AS CASE WHEN isnan(x) THEN x ELSE CAST(sign(x) AS DOUBLE) END;
CREATE OR REPLACE MACRO credix_remainder(a, b, quotient) AS CAST(a AS DECIMAL(38, 18)) - quotient * b;
CREATE OR REPLACE MACRO credix_near(a, b) AS CAST(CAST(a AS DOUBLE) / CAST(b AS DOUBLE) AS DECIMAL(38, 9));
CREATE OR REPLACE MACRO credix_nearest(a, b) AS
    credix_near(a, b) + credix_near(credix_remainder(a, b, credix_near(a, b)), b);
CREATE OR REPLACE MACRO credix_settled(a, b, quotient) AS CAST(
    quotient + CASE
        WHEN 2 * abs(credix_remainder(a, b, quotient)) = abs(b) * CAST('0.000000001' AS DECIMAL(9, 9))
            AND (credix_remainder(a, b, quotient) > 0) = (a > 0)
        THEN CAST('0.000000001' AS DECIMAL(10, 9)) * sign(a) * sign(b)
        ELSE 0
    END AS DECIMAL(38, 9)
);
CREATE OR REPLACE MACRO credix_divide(a, b) AS list_transform(
    [{'a': CAST(a AS DECIMAL(38, 9)), 'b': CAST(b AS DECIMAL(38, 9))}],
    lambda s: CASE
        WHEN s['a'] IS NULL OR s['b'] IS NULL THEN NULL
        WHEN s['b'] = 0 THEN CAST(credix_refuse('division by zero') AS DECIMAL(38, 9))
        WHEN abs(s['a']) < 1e19 AND abs(s['b']) < 1e19
            AND abs(CAST(s['a'] AS DOUBLE)) < abs(CAST(s['b'] AS DOUBLE)) * 1e18
        THEN list_transform(
            [credix_nearest(s['a'], s['b'])], lambda quotient: credix_settled(s['a'], s['b'], quotient)
        )[1]
        ELSE credix_wide_quotient(CAST(s['a'] AS VARCHAR), CAST(s['b'] AS VARCHAR))
    END
)[1];
"""


def apply() -> None:
    """Add the functions and the rewritings, and the two types to every place where bqemulator translates types."""
    typed_expressions.add(REWRITINGS, FUNCTIONS, _create_exact_functions)
    register(_WideDecimal)
    type_map._BQ_TO_DUCKDB["BIGNUMERIC"] = BIGNUMERIC_IN_DUCKDB
    parameters._BQ_SCALAR_TO_DUCKDB["BIGNUMERIC"] = BIGNUMERIC_IN_DUCKDB
    type_map._DUCKDB_TO_BQ[BIGNUMERIC_IN_DUCKDB] = "BIGNUMERIC"
    replace(type_map, "duckdb_to_bq", _duckdb_to_bq)
    replace(arrow_bridge, "arrow_type_to_bq_type_name", _arrow_type_to_bq)


def wide_product(a: str, b: str) -> Decimal:
    """Return the product of two NUMERIC, rounded to 9 decimals.

    Raises:
        ArithmeticError: it has more than 29 digits before the point.
    """
    return _numeric(_exact.multiply(Decimal(a), Decimal(b)), f"{a} * {b}")


def wide_quotient(a: str, b: str) -> Decimal:
    """Return the quotient of two NUMERIC, rounded to 9 decimals.

    Raises:
        ArithmeticError: it has more than 29 digits before the point.
    """
    return _numeric(_exact.divide(Decimal(a), Decimal(b)), f"{a} / {b}")


def big_product(a: str, b: str) -> Decimal:
    """Return the product of two BIGNUMERIC.

    Raises:
        ArithmeticError: the local warehouse has no digits for it.
    """
    return _bignumeric(_exact.multiply(Decimal(a), Decimal(b)))


def big_quotient(a: str, b: str) -> Decimal:
    """Return the quotient of two BIGNUMERIC.

    Raises:
        ArithmeticError: the divisor is 0, or the local warehouse has no digits for the quotient.
    """
    if not Decimal(b):
        raise ArithmeticError("division by zero")
    return _bignumeric(_exact.divide(Decimal(a), Decimal(b)))


def bignumeric_of_text(text: str | None) -> Decimal | None:
    """Return a text as BIGNUMERIC, None for None.

    Raises:
        ArithmeticError: it is no number, or the local warehouse has no digits for it.
    """
    number = None if text is None else _number(text)
    if number is None and text is not None:
        raise ArithmeticError("Invalid BIGNUMERIC value")
    return None if number is None else _bignumeric(number)


def bignumeric_of_text_if_any(text: str | None) -> Decimal | None:
    """Return a text as BIGNUMERIC, None when it is no number.

    Raises:
        ArithmeticError: it is one, but the local warehouse has no digits for it.
    """
    number = None if text is None else _number(text)
    return None if number is None else _bignumeric(number)


def numeric_of_float(value: float) -> Decimal:
    """Return a FLOAT64 as NUMERIC: its exact value, rounded to 9 decimals.

    Raises:
        ArithmeticError: it is no number, or too large.
    """
    if not math.isfinite(value):
        raise ArithmeticError("Illegal conversion of non-finite floating point number to numeric")
    return _numeric(Decimal(value), "CAST")


def bignumeric_of_float(value: float) -> Decimal:
    """Return a FLOAT64 as BIGNUMERIC.

    Raises:
        ArithmeticError: it is no number, or the local warehouse has no digits for it.
    """
    if not math.isfinite(value):
        raise ArithmeticError("Illegal conversion of non-finite floating point number to bignumeric")
    return _bignumeric(Decimal(value))


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal("_" if "_" in text else text.strip())
    except decimal.InvalidOperation:
        return None
    return number if number.is_finite() else None


def _numeric(number: Decimal, what: str) -> Decimal:
    rounded = number.quantize(Decimal("1e-9"), context=_exact)
    if abs(rounded) >= Decimal("1e29"):
        raise ArithmeticError(f"numeric overflow: {what}")
    return rounded


def _bignumeric(number: Decimal) -> Decimal:
    rounded = number.quantize(Decimal(1).scaleb(-BIGNUMERIC_DECIMALS), context=_exact)
    if rounded != number or abs(rounded) >= Decimal(10) ** (BIGNUMERIC_DIGITS - BIGNUMERIC_DECIMALS):
        raise ArithmeticError(
            f"the local warehouse holds BIGNUMERIC with {BIGNUMERIC_DIGITS - BIGNUMERIC_DECIMALS} digits before the "
            f"point and {BIGNUMERIC_DECIMALS} after it"
        )
    return rounded


def _create_exact_functions(connection: duckdb.DuckDBPyConnection) -> None:
    text: Any = "VARCHAR"
    made: Any
    for name, made in {"credix_wide_product": wide_product, "credix_wide_quotient": wide_quotient}.items():
        connection.create_function(name, made, [text, text], NUMERIC_IN_DUCKDB)
    for name, made in {"credix_big_product": big_product, "credix_big_quotient": big_quotient}.items():
        connection.create_function(name, made, [text, text], BIGNUMERIC_IN_DUCKDB)
    double: Any = "DOUBLE"
    connection.create_function("credix_float_numeric", numeric_of_float, [double], NUMERIC_IN_DUCKDB)
    connection.create_function("credix_float_bignumeric", bignumeric_of_float, [double], BIGNUMERIC_IN_DUCKDB)
    parsers = {"credix_bignumeric": bignumeric_of_text, "credix_safe_bignumeric": bignumeric_of_text_if_any}
    for name, made in parsers.items():
        connection.create_function(name, made, [text], BIGNUMERIC_IN_DUCKDB, null_handling=FunctionNullHandling.SPECIAL)


class _WideDecimal(TranslationRule):
    """DuckDB's types that sqlglot makes of NUMERIC and BIGNUMERIC become those that they are stored in.

    By then the parameters of NUMERIC(p, s) in a cast are lost, so that too has 9 decimals.
    """

    name = "WIDE_DECIMAL"

    def applies_to(self, node: Any) -> bool:
        """Whether it is sqlglot's decimal for one of the two."""
        return isinstance(node, exp.DataType) and node.this == exp.DType.DECIMAL and self._stored(node) is not None

    def rewrite(self, node: Any) -> Any:
        """Return the type that is stored."""
        return exp.DataType.build(str(self._stored(node)))

    @staticmethod
    def _stored(node: Any) -> str | None:
        parameters = tuple(parameter.name for parameter in node.expressions)
        return {(): NUMERIC_IN_DUCKDB, ("18", "3"): NUMERIC_IN_DUCKDB, ("38", "5"): BIGNUMERIC_IN_DUCKDB}.get(
            parameters
        )


_map_duckdb_type = type_map.duckdb_to_bq
_map_arrow_type = arrow_bridge.arrow_type_to_bq_type_name


def _duckdb_to_bq(duckdb_type: str) -> str:
    if duckdb_type.strip().upper() in (BIGNUMERIC_IN_DUCKDB, BIGNUMERIC_IN_DUCKDB.replace(" ", "")):
        return "BIGNUMERIC"
    return str(_map_duckdb_type(duckdb_type))


def _arrow_type_to_bq(arrow_type: Any) -> str:
    name = str(_map_arrow_type(arrow_type))
    return "BIGNUMERIC" if name == "NUMERIC" and arrow_type.scale > 9 else name


def _to(kind: str, node: Any) -> Any:
    return set_type(exp.cast(node, kind, dialect="bigquery"), kind)


def _is_float_literal(node: Any) -> bool:
    if isinstance(node, exp.Neg):
        return _is_float_literal(node.this)
    return isinstance(node, exp.Literal) and not node.is_string and any(c in node.this for c in ".eE")


def _is_integer_literal(node: Any) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit()


def _multiplied(node: Any) -> Any:
    if is_type(node, BIGNUMERIC):
        return _of_texts("credix_big_product", node)
    if is_type(node, NUMERIC):
        return call("credix_multiply", node.this, node.expression)
    return _calculated(node)


def _divided(node: Any) -> Any:
    if is_type(node, BIGNUMERIC):
        return _of_texts("credix_big_quotient", node)
    return call("credix_divide", node.this, node.expression) if is_type(node, NUMERIC) else None


def _safely_divided(node: Any) -> Any:
    if not is_type(node, NUMERIC, BIGNUMERIC):
        return None
    divisor = exp.Nullif(this=node.expression.copy(), expression=exp.Literal.number(0))
    return _divided(set_type(exp.Div(this=node.this.copy(), expression=divisor), type_of(node)))


def _of_texts(function: str, node: Any) -> Any:
    operands = (node.this, node.expression)
    made = call(function, *(exp.cast(operand.copy(), "STRING", dialect="bigquery") for operand in operands))
    return _to("BIGNUMERIC", made)


def _calculated(node: Any) -> Any:
    """A float literal beside a NUMERIC is a NUMERIC; two integer literals are INT64, not INTEGER."""
    operands = [node.this, node.expression]
    for operand, other in (operands, operands[::-1]):
        if _is_float_literal(operand) and is_type(other, NUMERIC, BIGNUMERIC):
            kind = "NUMERIC" if is_type(other, NUMERIC) else "BIGNUMERIC"
            operand.replace(_to(kind, exp.Literal.string(operand.sql("bigquery"))))
            return node
    if all(map(_is_integer_literal, operands)) and not isinstance(node, _COMPARISONS):
        operands[0].replace(_to("INT64", operands[0].copy()))
        return node
    return None


def _divisor_is_not_zero(node: Any) -> Any:
    divisor = node.expression
    if _is_integer_literal(divisor) and int(divisor.this):
        return None
    divisor.replace(set_type(call("credix_nonzero", divisor), type_of(divisor)))
    return node


def _negated(node: Any) -> Any:
    if _is_integer_literal(node.this):
        return _to("INT64", node.copy()) if node.this.this == _LOWEST_INT64 else None
    return (
        exp.Paren(this=exp.Sub(this=exp.Literal.number(0), expression=node.this.copy()))
        if is_type(node, INT64)
        else None
    )


def _kept_in_type(node: Any) -> Any:
    """DuckDB's result has another scale, and so more room."""
    if isinstance(node.parent, exp.Window):
        return None
    if is_type(node.this, INT64):
        return _to("FLOAT64", node.copy())
    if is_type(node, NUMERIC):
        return _to("NUMERIC", node.copy())
    return _to("BIGNUMERIC", node.copy()) if is_type(node, BIGNUMERIC) else None


def _summed(node: Any) -> Any:
    aggregate = node.this if isinstance(node, exp.Window) else node
    if isinstance(node.parent, exp.Window | exp.Filter) or node.find_ancestor(exp.Pivot):
        return None
    if isinstance(aggregate, exp.Sum | exp.CountIf) and is_type(aggregate, INT64):
        return _to("INT64", node.copy())
    if isinstance(aggregate, exp.Sum) and is_type(aggregate, NUMERIC):
        return call("credix_fits", node)
    if isinstance(aggregate, exp.Avg) and is_type(aggregate, NUMERIC, BIGNUMERIC):
        parts: list[Any] = [kind(this=aggregate.this.copy()) for kind in (exp.Sum, exp.Count)]
        if isinstance(node, exp.Window):
            windows = [node.copy(), node.copy()]
            for window, part in zip(windows, parts, strict=True):
                window.set("this", part)
            parts = windows
        return _divided(set_type(exp.Div(this=parts[0], expression=parts[1]), type_of(aggregate)))
    return None


def _signed(node: Any) -> Any:
    if is_type(node.this, FLOAT64):
        return call("credix_sign_float64", node.this)
    return None if is_type(node.this, INT64) else _kept_in_type(node)


def _cast(node: Any) -> Any:
    """A literal is read as it stands, not by way of the FLOAT64 that it would be."""
    safe, source, target = isinstance(node, exp.TryCast), node.this, node.to.this
    if target not in (NUMERIC, BIGNUMERIC):
        return None
    kind = "NUMERIC" if target == NUMERIC else "BIGNUMERIC"
    if _is_float_literal(source):
        source = set_type(exp.Literal.string(source.sql("bigquery")), "STRING")
        if target == NUMERIC:
            copy = node.copy()
            copy.set("this", source)
            return copy
    if is_type(source, FLOAT64):
        made = call("credix_float_numeric" if target == NUMERIC else "credix_float_bignumeric", source)
        return _to(kind, exp.Anonymous(this="try", expressions=[made]) if safe else made)
    if target == BIGNUMERIC and is_type(source, STRING):
        return _to(kind, call("credix_safe_bignumeric" if safe else "credix_bignumeric", source))
    return None


REWRITINGS: dict[Any, typed_expressions.Rewriting] = {
    exp.Mul: _multiplied,
    exp.Div: _divided,
    exp.SafeDivide: _safely_divided,
    exp.Add: _calculated,
    exp.Sub: _calculated,
    **dict.fromkeys(_COMPARISONS, _calculated),
    exp.IntDiv: _divisor_is_not_zero,
    exp.Mod: _divisor_is_not_zero,
    exp.Neg: _negated,
    exp.Round: _kept_in_type,
    exp.Ceil: _kept_in_type,
    exp.Floor: _kept_in_type,
    exp.Trunc: _kept_in_type,
    exp.Sum: _summed,
    exp.CountIf: _summed,
    exp.Avg: _summed,
    exp.Window: _summed,
    exp.Sign: _signed,
    exp.Cast: _cast,
    exp.TryCast: _cast,
}
