"""Labels are what BigQuery takes, whatever the names are, and tell the names apart."""

import re
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.labels import job_labels, jobs_of, label, run_label
from services.core.naming import new_batch_id
from services.core.tables import load_tables
from tests.integration.warehouse_fixture import REPOSITORY

VALUE = re.compile(r"[a-z0-9_-]{0,63}")
"""https://cloud.google.com/bigquery/docs/labels-intro#requirements, without letters of other alphabets."""
NAMES = st.text(max_size=200)


@given(NAMES)
def test_any_name_makes_a_label_that_bigquery_takes(name: str) -> None:
    assert VALUE.fullmatch(label(name))


@given(st.from_regex(VALUE, fullmatch=True))
def test_a_name_that_can_be_one_is_its_own_label(name: str) -> None:
    assert label(name) == name


@given(NAMES, NAMES)
def test_names_that_differ_have_labels_that_differ(one: str, other: str) -> None:
    assert (label(one) == label(other)) is (one == other)


def test_names_that_differ_only_where_a_label_ends_or_in_case_are_told_apart() -> None:
    names = ["a" * 63 + "1", "a" * 63 + "2", "Company", "COMPANY", "company", "a.b", "a_b", "a b"]
    assert len({label(name) for name in names}) == len(names)
    assert label("Company_payment_summary").startswith("company_payment_summary-"), "people recognise it"


def test_a_run_s_label_is_its_id_in_lower_case() -> None:
    assert run_label("20261126T143000000000Z-0123abcd") == "20261126t143000000000z-0123abcd"


def test_a_job_has_the_labels_of_what_it_is_for() -> None:
    assert job_labels("load") == {"credix_stage": "load"}, "what is sent by hand is of no run"
    with jobs_of("20261126T143000000000Z-0123abcd"):
        run = {"credix_run": "20261126t143000000000z-0123abcd"}
        assert job_labels("report") == {"credix_stage": "report"} | run
        assert job_labels("hold", "cnpj_ws") == {"credix_stage": "hold", "credix_table": "cnpj_ws"} | run
        with jobs_of("inner"):
            assert job_labels("load")["credix_run"] == "inner"
        assert job_labels("load")["credix_run"] == run["credix_run"]
    assert job_labels("load") == {"credix_stage": "load"}


def test_a_run_s_jobs_are_its_thread_s() -> None:
    """A service handles several events side by side."""
    seen: list[dict[str, str]] = []
    with jobs_of("mine"):
        other = threading.Thread(target=lambda: seen.append(job_labels("load")))
        other.start()
        other.join()
    assert seen == [{"credix_stage": "load"}]


@pytest.mark.parametrize("table", load_tables(REPOSITORY / "config" / "tables.yaml").names())
def test_a_declared_table_is_its_own_label(table: str) -> None:
    assert label(table) == table


def test_an_id_that_is_made_now_is_its_own_label_in_lower_case() -> None:
    made = new_batch_id(datetime.now(UTC))
    assert run_label(made) == made.lower()
