"""Literals by BigQuery's lexical rules, in one plain form."""

import pytest
import sqlglot
from bqemulator.domain.errors import InvalidQueryError
from sqlglot import exp

from local.warehouse.patches.literals import plain_literals

PLAIN = {
    "select 'a'": "select 'a'",
    'select "it\'s"': "select 'it\\'s'",
    r'select "\u00e3\U0001F600\x41\101"': "select 'ã😀AA'",
    "select '''a'b\n'''": "select 'a\\'b\\n'",
    'select """a"b"""': "select 'a\"b'",
    r"select r'\d\'', R'\u00e3'": r"select '\\d\\\'', '\\u00e3'",
    r"select b'\x00é', rb'\x'": r"select b'\x00\xc3\xa9', b'\x5c\x78'",
    "select'a'": "select'a'",
    "select 1 -- it's\n, 2 # it's\n, /* ' */ 3": "select 1  \n, 2  \n,   3",
    "select `a'b`, '`', @b": "select `a'b`, '`', @b",
    "select '', \"\"": "select '', ''",
    "select '--', '/*', '#'": "select '--', '/*', '#'",
}


@pytest.mark.parametrize("sent", PLAIN)
def test_every_form_becomes_the_plain_one(sent: str) -> None:
    assert plain_literals(sent) == PLAIN[sent]
    assert plain_literals(PLAIN[sent]) == PLAIN[sent], "and stays so"


@pytest.mark.parametrize("text", ["a\\b", 'it\'s "so"', "line\nfeed\r\ttab", "\x07\x1f\x85\u2028", "ã😀", ""])
def test_a_parser_reads_the_plain_form(text: str) -> None:
    escaped = "".join(f"\\U{ord(character):08x}" for character in text)
    parsed = sqlglot.parse_one(plain_literals(f'select "{escaped}"'), read="bigquery")
    assert [literal.this for literal in parsed.find_all(exp.Literal)] == [text]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (r"select '\/'", r"Illegal escape sequence: \\/ \[at 1:8\]"),
        ("select 1,\n  '\\ud83d\\ude00'", r"Unicode value \\ud83d is invalid \[at 2:3\]"),
        (r"select '\U00110000'", "is invalid"),
        (r"select '\8'", "Illegal escape"),
        (r"select b'\u00e3'", "Illegal escape"),
        ("select 'it''s'", r"Unexpected string literal \[at 1:12\]"),
        (r"select '\x00'", r"U\+0000"),
    ],
)
def test_what_bigquery_refuses_is_refused(sent: str, said: str) -> None:
    with pytest.raises(InvalidQueryError, match=said):
        plain_literals(sent)
