"""What expressions become by their types, before they are translated to DuckDB's SQL."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from local.warehouse.patches import floats, moments, numerics, texts, typed_expressions
from local.warehouse.patches.typed_expressions import rewrite

COLUMNS = {
    "i": "INT64",
    "n": "NUMERIC",
    "b": "BIGNUMERIC",
    "f": "FLOAT64",
    "s": "STRING",
    "t": "TIMESTAMP",
    "r": "STRUCT<a NUMERIC, `b c` ARRAY<INT64>>",
}
TABLES = {"p": {"d": {"t": COLUMNS}}}


@pytest.fixture(scope="module", autouse=True)
def _rewritings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typed_expressions, "_REWRITINGS", {})
        patch.setattr(typed_expressions, "_SETUPS", [])
        for subject in (numerics, texts, moments, floats):
            typed_expressions.add(subject.REWRITINGS, "")
        yield


REWRITTEN = {
    "n * n": "credix_multiply(n, n)",
    "n * i": "credix_multiply(n, i)",
    "n * 0.4": "credix_multiply(n, 0.4)",
    "i / n": "credix_divide(i, n)",
    "safe_divide(n, i)": "credix_divide(n, NULLIF(i, 0))",
    "n + 0.5": "n + CAST('0.5' AS NUMERIC)",
    "n >= -0.5": "n >= CAST('-0.5' AS NUMERIC)",
    "b * n": "CAST(credix_big_product(CAST(b AS STRING), CAST(n AS STRING)) AS BIGNUMERIC)",
    "2000000000 + 2000000000": "CAST(2000000000 AS INT64) + 2000000000",
    "mod(i, 0)": "MOD(i, credix_nonzero(0))",
    "-i": "(0 - i)",
    "round(n, 2)": "CAST(round(n, 2) AS NUMERIC)",
    "sum(i)": "CAST(sum(i) AS INT64)",
    "sum(n) over (partition by s)": "credix_fits(sum(n) OVER (PARTITION BY s))",
    "avg(distinct n)": "credix_divide(SUM(DISTINCT n), COUNT(DISTINCT n))",
    "avg(n) over (order by i)": "credix_divide(SUM(n) OVER (ORDER BY i), COUNT(n) OVER (ORDER BY i))",
    "cast(f as numeric)": "CAST(credix_float_numeric(f) AS NUMERIC)",
    "safe_cast(f as numeric)": "CAST(try(credix_float_numeric(f)) AS NUMERIC)",
    "cast(-1.5 as numeric)": "CAST('-1.5' AS NUMERIC)",
    "cast(s as bignumeric)": "CAST(credix_bignumeric(s) AS BIGNUMERIC)",
    "round(i)": "CAST(round(i) AS FLOAT64)",
    "string(t)": "credix_text_timestamp(t)",
    "cast(n as string)": "credix_text_numeric(n)",
    "cast(t as string)": "credix_text_timestamp(t)",
    "cast(s as int64)": "credix_int64_string(s)",
    "safe_cast(s as bool)": "credix_safe_bool_string(s)",
    "cast(f as int64)": "CAST(round(f) AS INT64)",
    "to_json_string(i)": "credix_json_or_null(credix_json_int64(i))",
    "f = 1": "credix_equal(f, 1)",
    "f != f": "credix_unequal(f, f)",
    "f between 0 and 1": "credix_between(f, 0, 1)",
    "f in (1.5, 2.5)": "(credix_equal(f, 1.5) OR credix_equal(f, 2.5))",
    "min(f)": "credix_least(MIN(f), MAX(f))",
    "timestamp_diff(t, t, hour)": "credix_whole_units(t, t, 3600000000)",
    "extract(week from t)": "credix_week_number(t)",
    "date_trunc(date '2026-11-22', week(tuesday))": "credix_week_of_date(CAST('2026-11-22' AS DATE), 2)",
    r"b'\x00\xff'": "unhex('00ff')",
}
STAYING = [
    "i * i",
    "f * n",
    "f / 2",
    "i + 1",
    "s = 'a'",
    "n = i",
    "cast(i as string)",
    "sum(f)",
    "min(n)",
    "-5",
    "t < t",
]


@pytest.mark.parametrize("expression", REWRITTEN)
def test_an_expression_becomes_bigquerys(expression: str) -> None:
    assert (
        rewrite(f"select {expression} as x from `p.d.t`", TABLES) == f"SELECT {REWRITTEN[expression]} AS x FROM `p.d.t`"
    )


@pytest.mark.parametrize("expression", STAYING)
def test_what_duckdb_does_alike_stays(expression: str) -> None:
    sql = f"select {expression} as x from `p.d.t`"
    assert rewrite(sql, TABLES) == sql


def test_types_are_found_through_subqueries_stars_and_views_of_them() -> None:
    first = "with a as (select *, n * 2 as m from d.t), b as (select * from a) select m * m from b"
    sql = f"{first} union all select x.r.a * 2 from d.t as x"
    assert rewrite(sql, TABLES).count("credix_multiply") == 3


def test_a_struct_becomes_json_by_its_fields() -> None:
    made = rewrite('select to_json_string(struct(s, r as `a "b"`)) from `p.d.t`', TABLES)
    assert "credix_json_member('\"s\"', credix_json_string(s))" in made
    assert r"""credix_json_member('"a \\"b\\""', CASE WHEN r IS NOT NULL THEN""" in made
    assert "credix_json_numeric(r.`a`)" in made
    assert "credix_json_array_int64(r.`b c`)" in made


def test_nan_comes_first_in_an_order() -> None:
    made = rewrite("select s from `p.d.t` order by f, s desc", TABLES)
    assert made == "SELECT s FROM `p.d.t` ORDER BY isnan(f) DESC NULLS FIRST, f, s DESC"


def test_an_assignment_is_no_comparison() -> None:
    sql = "update `p.d.t` set f = 1.0 where i = 1"
    assert rewrite(sql, TABLES) == sql


@pytest.mark.parametrize("sql", ["select from", "drop table `p.d.t`", "select nobody from nowhere"])
def test_what_has_no_types_stays(sql: str) -> None:
    assert rewrite(sql, {}) == sql


EXACT = {
    ("wide_product", "99999999999999999999999999999.999999999", "0.1"): "10000000000000000000000000000",
    ("wide_product", "0.0000000005", "-1"): "-0.000000001",
    ("wide_quotient", "1", "3"): "0.333333333",
    ("wide_quotient", "-2", "3"): "-0.666666667",
    ("big_product", "1.5", "1.5"): "2.25",
    ("big_quotient", "1", "4"): "0.25",
}


@pytest.mark.parametrize("call", EXACT, ids=str)
def test_what_duckdb_cannot_calculate_is_exact(call: tuple[str, str, str]) -> None:
    name, *operands = call
    assert getattr(numerics, name)(*operands) == Decimal(EXACT[call])


@pytest.mark.parametrize(
    ("name", "operands", "said"),
    [
        ("wide_product", ("1e28", "10"), "numeric overflow: 1e28 \\* 10"),
        ("wide_quotient", ("1e28", "0.1"), "numeric overflow"),
        ("big_quotient", ("1", "3"), "18 after it"),
        ("big_quotient", ("1", "0"), "division by zero"),
        ("big_product", ("1e19", "10"), "20 digits before the point"),
        ("bignumeric_of_text", ("1_0",), "Invalid BIGNUMERIC value"),
        ("bignumeric_of_text", ("nan",), "Invalid BIGNUMERIC value"),
        ("bignumeric_of_text", ("0.1234567890123456789",), "18 after it"),
        ("bignumeric_of_text_if_any", ("1e20",), "20 digits before the point"),
    ],
)
def test_what_does_not_fit_is_an_error(name: str, operands: tuple[str, ...], said: str) -> None:
    with pytest.raises(ArithmeticError, match=said):
        getattr(numerics, name)(*operands)


def test_text_that_is_no_number_is_null_for_safe_cast() -> None:
    assert [numerics.bignumeric_of_text_if_any(text) for text in ("x", "", "inf", " 1.5 ", None)] == [
        None,
        None,
        None,
        Decimal("1.5"),
        None,
    ]
