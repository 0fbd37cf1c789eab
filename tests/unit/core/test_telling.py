"""What is told of an error never quotes a value of a row or a secret, and still says what went wrong (invariant 10)."""

import sqlite3

import psycopg
import pyarrow as pa
import pytest
import requests
from google.api_core.exceptions import ServiceUnavailable
from psycopg import errors

from services.core.errors import ConfigurationError, DataError, TransientError
from services.core.telling import MOST_LETTERS, kind, kind_and_words, told, where

VALUE = "a-value-that-nobody-tells"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TransientError("table t: the source broke off"), "table t: the source broke off"),
        (ConfigurationError("two\n  lines"), "two lines"),
        (psycopg.OperationalError('FATAL:  password authentication failed for user "u"'), "authentication failed"),
        (requests.ConnectionError("HTTPConnectionPool(host='h', port=1)"), "HTTPConnectionPool"),
        (ServiceUnavailable("GET http://h/b/o: away"), "503 GET http://h/b/o: away"),  # type: ignore[no-untyped-call]
        (FileNotFoundError(2, "No such file or directory", "/work"), "No such file"),
        (sqlite3.OperationalError("unable to open database file"), "unable to open database file"),
        (SystemExit(143), "told to end"),
    ],
)
def test_what_names_places_is_told(error: BaseException, words: str) -> None:
    assert words in told(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidTextRepresentation(f'invalid input syntax for type integer: "{VALUE}"'),
        errors.UniqueViolation(f"Key (id)=({VALUE}) already exists."),
        errors.RaiseException(VALUE),
        psycopg.DataError(f"timestamp too large (after year 10K): '{VALUE}'"),
        pa.ArrowInvalid(f"Could not convert {VALUE}"),
        KeyError(VALUE),
        ValueError(VALUE),
        AssertionError(VALUE),
    ],
)
def test_what_can_quote_a_value_is_not_told(error: BaseException) -> None:
    assert VALUE not in kind_and_words(error)
    assert type(error).__name__ in kind_and_words(error)


def test_of_a_refused_value_the_sqlstate_is_told() -> None:
    assert "SQLSTATE 22P02" in told(errors.InvalidTextRepresentation(VALUE))


def test_an_address_is_told_without_its_query() -> None:
    """The session of an upload is in it: whoever knows it may write."""
    error = requests.ConnectionError("PUT https://storage/upload/b/o?uploadType=resumable&upload_id=secret refused")
    assert told(error) == "PUT https://storage/upload/b/o?… refused"


def test_a_long_text_is_cut() -> None:
    assert len(told(TransientError("x" * 10_000))) == MOST_LETTERS


def test_a_data_error_has_its_code_for_a_kind() -> None:
    assert kind(DataError("part_missing", "m")) == "part_missing"
    assert kind(TransientError("m")) == "TransientError"


def test_where_it_happened_is_told_without_words() -> None:
    with pytest.raises(ValueError, match=VALUE) as caught:
        raise ValueError(VALUE)
    [place] = where(caught.value)
    assert place.startswith("test_telling.py:")
    assert VALUE not in place


class FromAFunction(errors.LockNotAvailable):
    """What PL/pgSQL's RAISE makes: any code, with any words."""

    class diag:  # noqa: N801 - psycopg's name
        message_primary = VALUE
        context = "PL/pgSQL function f() line 1 at RAISE"


def test_the_words_of_a_function_are_not_told_whatever_its_code() -> None:
    found = told(FromAFunction())
    assert VALUE not in found
    assert "SQLSTATE 55P03" in found
