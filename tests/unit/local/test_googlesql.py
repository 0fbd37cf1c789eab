"""Google's SQL engine: what it says of statements, and what it answers."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from local.googlesql import compiled
from local.googlesql.analysis import GoogleSql
from local.googlesql.compiled import EngineMissing
from local.googlesql.engine import Instance, Refused
from local.googlesql.evaluation import evaluate
from local.googlesql.metadata import metadata_views
from local.googlesql.names import pieces, with_paths_apart, without_comments
from local.googlesql.types import name_of

TABLE = {
    "id": "p.d.t",
    "fields": [
        {"name": "key", "type": "STRING"},
        {"name": "amount", "type": "NUMERIC"},
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
    ],
}
VIEW = {"id": "p.d.v", "fields": [], "view": "select key, amount * 2 as twice from `p.d.t`"}


@pytest.fixture(scope="module")
def google() -> GoogleSql:
    compiled.compile_once()
    return GoogleSql()


def test_a_query_has_googles_types(google: GoogleSql) -> None:
    (statement,) = google.analyze("select count(*) n, avg(amount) a, any_value(tags) t from `p.d.t`", [TABLE])
    assert statement.kind == "query"
    assert [(field["name"], name_of(field)) for field in statement.fields] == [
        ("n", "INT64"),
        ("a", "NUMERIC"),
        ("t", "ARRAY<STRING>"),
    ]


def test_all_statements_of_a_text_are_analyzed(google: GoogleSql) -> None:
    statements = google.analyze("select 1; delete from d.t where key = 'é;';\n", [TABLE])
    assert [statement.kind for statement in statements] == ["query", "delete"]


def test_a_view_has_the_columns_of_its_query(google: GoogleSql) -> None:
    view_of_view = {"id": "p.d.w", "fields": [], "view": "select twice from `p`.d.v"}
    tables = google.with_views([view_of_view, VIEW, TABLE])
    (statement,) = google.analyze("select * from `p.d.w`", tables)
    assert statement.fields == [{"name": "twice", "type": "NUMERIC"}]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select nothing from `p.d.t`", "Unrecognized name: nothing"),
        ("select * from `p.d.other`", "Table not found"),
        ("select key as qualify from `p.d.t`", "Unexpected keyword QUALIFY"),
        ("select key from `p.d.t` a join `p.d.t` b on a.key = b.key", "Column name key is ambiguous"),
        ("select nullifzero(1)", "Function not found: nullifzero"),
        ("select '\\ud800'", "Illegal escape sequence"),
    ],
)
def test_what_bigquery_refuses_is_refused_in_its_words(google: GoogleSql, sql: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        google.analyze(sql, [TABLE])


def test_parameters_and_a_default_dataset_are_known(google: GoogleSql) -> None:
    (statement,) = google.analyze(
        "select key, @day as day from t", [TABLE], [("day", {"name": "", "type": "DATE"})], ("p", "d")
    )
    assert statement.fields[1]["type"] == "DATE"


def test_views_of_metadata_are_found_where_a_statement_names_them(google: GoogleSql) -> None:
    sql = "select table_name from `p`.d.INFORMATION_SCHEMA.TABLES where table_name = 'x.INFORMATION_SCHEMA.COLUMNS'"
    found = metadata_views(sql)
    assert [view["path"] for view in found] == [["p", "d", "INFORMATION_SCHEMA", "TABLES"]]
    assert google.analyze(sql, found)[0].fields[0]["name"] == "table_name"
    assert [view["path"] for view in metadata_views("select * from p.`d`.__TABLES__")] == [["p", "d", "__TABLES__"]]


VALUES: list[tuple[str, Any]] = [
    ("STRING", "é\0"),
    ("INT64", -(2**63)),
    ("FLOAT64", 1e-300),
    ("NUMERIC", Decimal("-99999999999999999999999999999.999999999")),
    ("BIGNUMERIC", Decimal("0.00000000000000000000000000000000000001")),
    ("BOOL", False),
    ("DATE", date(1, 1, 1)),
    ("TIMESTAMP", datetime(1, 1, 1, tzinfo=UTC)),
    ("TIMESTAMP", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ("DATETIME", datetime(2026, 2, 3, 4, 5, 6, 7)),
    ("TIME", time(23, 59, 59, 999999)),
    ("BYTES", b"\0\xff"),
]


@pytest.mark.parametrize(("type_", "value"), VALUES)
def test_values_pass_through_the_evaluator(google: GoogleSql, type_: str, value: object) -> None:
    table = {"id": "p.d.t", "fields": [{"name": "v", "type": type_}], "rows": [{"v": value}, {"v": None}]}
    answer = evaluate(google, "select v from `p.d.t`", [table])
    assert sorted(answer.rows, key=lambda row: row[0] is None) == [[value], [None]]
    assert answer.fields == [{"name": "v", "type": type_}]


def test_arrays_and_structs_pass_through_the_evaluator(google: GoogleSql) -> None:
    fields = [
        {"name": "a", "type": "INT64", "mode": "REPEATED"},
        {"name": "s", "type": "STRUCT", "fields": [{"name": "x", "type": "STRING"}]},
    ]
    table = {"id": "p.d.t", "fields": fields, "rows": [{"a": [1, 2], "s": {"x": "y"}}]}
    assert evaluate(google, "select a, s from `d.t`", [table]).rows == [[[1, 2], {"x": "y"}]]


def test_a_decimal_that_does_not_fit_is_no_value(google: GoogleSql) -> None:
    table = {"id": "p.d.t", "fields": [{"name": "v", "type": "NUMERIC"}], "rows": [{"v": "0.0000000001"}]}
    with pytest.raises(ValueError, match="9 decimals"):
        evaluate(google, "select v from `p.d.t`", [table])


def test_views_are_evaluated_from_the_rows_of_their_tables(google: GoogleSql) -> None:
    table = TABLE | {"rows": [{"key": "k", "amount": "1.5"}]}
    answer = evaluate(google, "select v.key, v.twice from `p.d.v` where v.key = '`p.d.t`' or true", [table, VIEW])
    assert answer.rows == [["k", Decimal(3)]]


def test_a_query_that_fails_at_a_row_is_refused(google: GoogleSql) -> None:
    with pytest.raises(Refused, match="division by zero"):
        evaluate(google, "select 1 / x from unnest([0]) x")


def test_texts_and_comments_are_told_from_names() -> None:
    sql = """select `a.b`, r'\\`c.d`', '''it's `e.f`''' -- `g.h`\n from `i.j.k` /* `l.m` */"""
    assert "".join(part for _, part in pieces(sql)) == sql
    assert with_paths_apart(sql) == sql.replace("`a.b`", "`a`.`b`").replace("`i.j.k`", "`i`.`j`.`k`")
    assert "g.h" not in without_comments(sql)


def test_an_engine_that_is_not_compiled_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(compiled, "kept_path", lambda: tmp_path / "none.cwasm")
    with pytest.raises(EngineMissing, match=r"python -m local\.googlesql"):
        Instance()


def test_what_was_not_compiled_here_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "other.cwasm").write_bytes(b"not machine code")
    monkeypatch.setattr(compiled, "kept_path", lambda: tmp_path / "other.cwasm")
    with pytest.raises(EngineMissing, match="of no use here"):
        Instance()
