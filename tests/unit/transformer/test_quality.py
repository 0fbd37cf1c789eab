"""Which tests are of single rows, how they become one statement, and what their answers mean."""

from dataclasses import replace
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError, ServiceUnavailable

from services.core.batch import BatchError
from services.core.tables import Column, ColumnType, Mode, OnFailedTests, Table
from services.transformer.dbt_project import NodeResult
from services.transformer.quality.asking import ask
from services.transformer.quality.compiled import Compiled, DataTest, Model
from services.transformer.quality.fused import Answered, Groups, Part, fused, judged, told_by_guard
from services.transformer.quality.row_tests import plan, why_held

TABLE = Table(
    name="orders",
    source="s.orders",
    key=["id"],
    mode=Mode.SNAPSHOT,
    bronze_model="orders",
    columns=[Column(name="id", type=ColumnType.INT64, required=True)],
)


def model(name: str, *reads: str, rows_of: str | None = None, sql: str | None = "") -> Model:
    relations = " join ".join(f"`p`.`d`.`{each}`" for each in reads)
    return Model(
        id=f"model.{name}",
        name=name,
        relation=f"`p`.`d`.`{name}`",
        sql=f"select * from {relations}" if sql == "" else sql,
        reads=frozenset(f"model.{each}" for each in reads),
        rows_of=rows_of,
    )


def data_test(name: str, *reads: str, kind: str | None = "not_null", **facts: Any) -> DataTest:
    told: dict[str, Any] = {
        "sql": f"select x from {', '.join(f'`p`.`d`.`{each}`' for each in reads)} where x is null",
        "about": reads[0],
        "kind": kind,
        "reads": frozenset(f"model.{each}" for each in reads),
    }
    return DataTest(name=name, **(told | facts))


MODELS = {
    each.id: each
    for each in (
        model("orders", "orders"),
        model("orders_clean", "orders", rows_of="orders"),
        model("cleaner", "orders_clean", "orders", rows_of="orders"),
        model("orders_joined", "orders", "other", rows_of="orders"),
        model("summary", "orders_clean"),
        model("other", "other"),
    )
}


def planned(*tests: DataTest) -> Any:
    return plan(Compiled(MODELS, list(tests)), TABLE)


@pytest.mark.parametrize(
    ("test", "is_one"),
    [
        (data_test("t", "orders"), True),
        (data_test("t", "orders_clean"), True),
        (data_test("t", "cleaner", kind="accepted_values"), True),
        (data_test("t", "orders", kind="unique"), False),
        (data_test("t", "orders", kind="relationships"), False),
        (data_test("t", "orders", kind="own", row_test=True), True),
        (data_test("t", "orders", row_test=False), False),
        (data_test("t", "orders", kind=None, about=None, row_test=True), True),
        (data_test("t", "summary"), False),
        (data_test("t", "other"), False),
    ],
)
def test_which_tests_are_of_rows(test: DataTest, is_one: bool) -> None:
    found = planned(test)
    assert ([each.name for each in found.tests], found.misplaced) == (["t"] if is_one else [], {})


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (
            data_test("t", "orders_joined"),
            "model orders_joined says rows_of: orders, but is not made from its rows alone",
        ),
        (
            data_test("t", "orders", "other", row_test=True),
            "it reads more than rows of orders: take its meta.row_test off",
        ),
        (data_test("t", "orders", sql=None, why_not="no macro x"), "dbt could not compile it: no macro x"),
    ],
)
def test_what_cannot_be_asked_of_the_rows_says_why(test: DataTest, why: str) -> None:
    found = planned(test)
    assert found.tests == []
    assert found.misplaced["t"].startswith(why)


def test_relations_become_queries_of_the_rows_each_after_what_it_reads() -> None:
    found = planned(data_test("t", "cleaner"), data_test("u", "orders"))
    counts = "cast(null as string) as name, cast(count(*) as int64) as number, "
    counts += "count(*) != 0 as warns, count(*) != 0 as fails"
    statement = found.statement(found.tests, "select 1 as x")
    assert (
        statement
        == f"""with `rows of orders` as (
select 1 as x
),
`rows of orders_clean` as (
select * from `rows of orders`
),
`rows of cleaner` as (
select * from `rows of orders_clean` join `rows of orders`
)
select 0 as part, {counts}
from (
select x from `rows of cleaner` where x is null
) as dbt_internal_test
union all
select 1 as part, {counts}
from (
select x from `rows of orders` where x is null
) as dbt_internal_test"""
    )
    assert "rows of cleaner" not in found.statement(found.tests[1:], "select 1 as x")


def test_groups_are_counted_beside_tests() -> None:
    statement = fused([data_test("t", "orders", limit=3), Groups("tiers", "`p`.`d`.`g`", "tier")])
    assert "limit 3\n) as dbt_internal_test\nunion all\nselect 1 as part, cast(`tier` as string) as name" in statement
    assert statement.endswith("from `p`.`d`.`g`\ngroup by cast(`tier` as string)")


@pytest.mark.parametrize(
    ("facts", "answer", "expected"),
    [
        ({}, (0, False, False), ("pass", 0, "")),
        ({}, (1, True, True), ("fail", 1, "Got 1 result, configured to fail if != 0")),
        ({"severity": "warn"}, (2, True, True), ("warn", 2, "Got 2 results, configured to warn if != 0")),
        ({"error_if": "> 5"}, (2, True, False), ("warn", 2, "Got 2 results, configured to warn if != 0")),
        ({"warn_if": "> 5", "error_if": "> 9"}, (2, False, False), ("pass", 0, "")),
        (
            {"fail_calc": "max(x)"},
            (None, None, None),
            ("error", None, "its fail_calc, max(x), gives null on these rows"),
        ),
    ],
)
def test_an_answer_means_what_it_means_to_dbt(facts: Any, answer: Any, expected: Any) -> None:
    found = judged(data_test("t", "orders", **facts), Answered(0, None, *answer), 0.1)
    assert (found.status, found.failures, found.message) == expected


class Job:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def result(self, **_: Any) -> list[dict[str, Any]]:
        return self.rows


class Client:
    """Answers statements of tests by their numbers; refuses those with a bad one."""

    def __init__(self, bad: set[str], error: Any = BadRequest, by_text: bool = True) -> None:
        self.bad, self.error, self.by_text = bad, error, by_text
        self.sent: list[str] = []

    def query(self, sql: str, job_config: Any, **_: Any) -> Job:
        if job_config.dry_run and not self.by_text:
            return Job([])
        self.sent += [] if job_config.dry_run else [sql]
        if any(f"`{name}`" in sql for name in self.bad):
            raise self.error("Bad int64 value: a secret")
        parts = sql.count(" as part")
        return Job([{"part": n, "name": None, "number": 0, "warns": False, "fails": False} for n in range(parts)])


NAMES = [f"m{number}" for number in range(11)]


def asked(client: Client) -> dict[str, str | None]:
    tests: list[Part] = [data_test(name, name) for name in NAMES]
    answers = ask(client, tests, fused, {})  # type: ignore[arg-type]
    assert all(len(answer.rows) == (answer.refused is None) for answer in answers)
    return {name: answer.refused for name, answer in zip(NAMES, answers, strict=True)}


def test_all_are_asked_at_once() -> None:
    client = Client(set())
    assert set(asked(client).values()) == {None}
    assert len(client.sent) == 1
    assert ask(client, [], fused, {}) == []  # type: ignore[arg-type]
    assert len(client.sent) == 1


@pytest.mark.parametrize("bad", [{"m0"}, {"m10"}, {"m3", "m7"}, set(NAMES)])
def test_what_is_refused_is_found_by_halves(bad: set[str]) -> None:
    client = Client(bad)
    assert {name for name, refused in asked(client).items() if refused} == bad
    assert len(client.sent) <= (9 if len(bad) == 1 else 2 * len(NAMES) - 1)


def test_what_fails_on_the_rows_quotes_none_of_them() -> None:
    """The dry run does not fail, so it was the rows: the message may have a value."""
    assert "a secret" in str(asked(Client({"m1"}))["m1"])
    refused = str(asked(Client({"m1"}, by_text=False))["m1"])
    assert "a secret" not in refused
    assert "run the test by hand" in refused


def test_a_warehouse_that_is_away_is_no_result() -> None:
    client = Client({"m1"}, ServiceUnavailable)
    with pytest.raises(GoogleAPICallError):
        asked(client)
    assert len(client.sent) == 1


# ---- hold


def node(status: str, failures: int | None = 0, name: str = "t") -> NodeResult:
    return NodeResult(name, "test", status, "", 0.1, None, failures)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([node("pass"), node("warn", 4)], None),
        ([], None),
        ([node("pass"), node("fail", 1_234)], "1 test does not pass on its rows: t (1,234 rows)"),
        (
            [node("fail", 1), node("error", None, "u")],
            "2 tests do not pass on its rows: t (1 row), u (could not be run)",
        ),
    ],
)
def test_hold_waits_for_what_fails_or_is_not_known(results: list[NodeResult], message: str | None) -> None:
    held = why_held(TABLE.model_copy(update={"on_failed_tests": OnFailedTests.HOLD}), results)
    assert held == (BatchError(code="tests_failed", message=message) if message else None)
    assert why_held(TABLE, results) is None, "report, the default, holds nothing"


def test_a_reason_names_ten_tests_at_most() -> None:
    held = why_held(
        TABLE.model_copy(update={"on_failed_tests": OnFailedTests.HOLD}),
        [replace(node("fail", 1), name=f"t{number}") for number in range(12)],
    )
    assert held is not None
    assert held.message.endswith("t9 (1 row) and 2 more")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("row tests that do not pass: 0 2 true true;", {0: Answered(0, None, 2, True, True)}),
        (
            "Query error: row tests that do not pass: 3 null null null, 12 -1 true false; at [1:2]",
            {3: Answered(3, None, None, None, None), 12: Answered(12, None, -1, True, False)},
        ),
        ("row tests that do not pass: 0 2 true true, 1 3 tr", None),
        ("row tests that do not pass: ;", None),
        ("Bad int64 value: 0 2 true true;", None),
    ],
    ids=["one", "several", "cut short", "none", "another error"],
)
def test_an_error_tells_what_does_not_pass_or_nothing(message: str, told: dict[int, Answered] | None) -> None:
    assert told_by_guard(message) == told
