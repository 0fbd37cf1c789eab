"""Pub/Sub's filter language: parse an expression once, then ask whether a message's attributes match it.

    expression = term { "AND" term } | term { "OR" term }
    term       = { "NOT" | "-" } ( "(" expression ")" | comparison )
    comparison = "attributes" ":" key
               | "attributes" "." key ( "=" | "!=" ) string
               | "hasPrefix" "(" "attributes" "." key "," string ")"
    key        = word | string

AND and OR do not mix without parentheses, and an expression has at most 256 bytes. Source:
https://cloud.google.com/pubsub/docs/subscription-message-filter
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, assert_never

MAX_FILTER_BYTES = 256


class FilterError(ValueError):
    """The expression is not in the filter language; the text says where and what was expected."""


@dataclass(frozen=True)
class HasKey:
    """`attributes:key`: the attribute is there, whatever its value."""

    key: str


@dataclass(frozen=True)
class Equals:
    """`attributes.key = "value"`: the attribute is there with exactly this value."""

    key: str
    value: str


@dataclass(frozen=True)
class HasPrefix:
    """`hasPrefix(attributes.key, "prefix")`: the attribute is there and its value starts with the prefix."""

    key: str
    prefix: str


@dataclass(frozen=True)
class Not:
    """`NOT term`, `-term`; `!=` is read as `NOT … =`, so it matches when the attribute is absent, as in Pub/Sub."""

    term: "Filter"


@dataclass(frozen=True)
class Every:
    """`term AND term …`."""

    terms: tuple["Filter", ...]


@dataclass(frozen=True)
class Either:
    """`term OR term …`."""

    terms: tuple["Filter", ...]


Filter: TypeAlias = HasKey | Equals | HasPrefix | Not | Every | Either


@lru_cache(maxsize=256)
def parse(text: str) -> Filter:
    """Read a filter expression.

    Raises:
        FilterError: the text is empty, too long or not in the filter language.
    """
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise FilterError(f"a filter has at most {MAX_FILTER_BYTES} bytes, this one has {len(text.encode())}")
    parser = _Parser(_tokens(text))
    parsed = parser.expression()
    parser.expect_end()
    return parsed


def matches(expression: Filter, attributes: Mapping[str, str]) -> bool:
    """Tell whether a message with these attributes passes the filter."""
    match expression:
        case HasKey(key):
            return key in attributes
        case Equals(key, value):
            return attributes.get(key) == value
        case HasPrefix(key, prefix):
            return key in attributes and attributes[key].startswith(prefix)
        case Not(term):
            return not matches(term, attributes)
        case Every(terms):
            return all(matches(term, attributes) for term in terms)
        case Either(terms):
            return any(matches(term, attributes) for term in terms)
        case _:
            assert_never(expression)


@dataclass(frozen=True)
class _Token:
    kind: str  # "word", "string", "mark" or "end"
    text: str  # a string's text is already unescaped
    at: int  # characters from the expression's start


_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*)|"(?P<string>(?:[^"\\]|\\.)*)"|(?P<mark>!=|[:.=(),-]))""", re.DOTALL
)
_ESCAPE = re.compile(
    r"\\(?:u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8})|[xX](?P<x>[0-9A-Fa-f]{2})|(?P<o>[0-7]{1,3})|(?P<c>.))",
    re.DOTALL,
)
_SIMPLE_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"} | {
    character: character for character in "\\\"'`?"
}


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if not found or not found.lastgroup:
            raise FilterError(f"unexpected text at character {at}: {text[at:]!r}")
        kind, value = found.lastgroup, found[found.lastgroup]
        tokens.append(_Token(kind, _unescaped(value) if kind == "string" else value, found.start(kind)))
        at = found.end()
    return [*tokens, _Token("end", "", len(text))]


def _unescaped(literal: str) -> str:
    def character(found: re.Match[str]) -> str:
        if simple := found["c"]:
            if simple not in _SIMPLE_ESCAPES:
                raise FilterError(f"unknown escape {found[0]!r} in a string")
            return _SIMPLE_ESCAPES[simple]
        number = int(found["o"], 8) if found["o"] else int(found["u"] or found["U"] or found["x"], 16)
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise FilterError(f"{found[0]!r} is not a character")
        return chr(number)

    return _ESCAPE.sub(character, literal)


class _Parser:
    """Recursive descent; two frames per parenthesis, so 256 bytes cannot exhaust the stack."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def expression(self) -> Filter:
        terms = [self._term()]
        operator = self._peek().text if self._peek().kind == "word" else ""
        if operator not in ("AND", "OR"):
            return terms[0]
        while self._accept("word", operator):
            terms.append(self._term())
        if self._peek().kind == "word" and self._peek().text in ("AND", "OR"):
            raise FilterError(f"AND and OR need parentheses to be combined (character {self._peek().at})")
        return Every(tuple(terms)) if operator == "AND" else Either(tuple(terms))

    def expect_end(self) -> None:
        self._expect("end")

    def _term(self) -> Filter:
        negated = False
        while self._accept("word", "NOT") or self._accept("mark", "-"):
            negated = not negated
        if self._accept("mark", "("):
            term = self.expression()
            self._expect("mark", ")")
        else:
            term = self._comparison()
        return Not(term) if negated else term

    def _comparison(self) -> Filter:
        if self._accept("word", "hasPrefix"):
            self._expect("mark", "(")
            self._expect("word", "attributes")
            self._expect("mark", ".")
            key = self._key()
            self._expect("mark", ",")
            prefix = self._expect("string")
            self._expect("mark", ")")
            return HasPrefix(key, prefix)
        self._expect("word", "attributes")
        if self._accept("mark", ":"):
            return HasKey(self._key())
        self._expect("mark", ".")
        key = self._key()
        if self._accept("mark", "!="):
            return Not(Equals(key, self._expect("string")))
        self._expect("mark", "=")
        return Equals(key, self._expect("string"))

    def _key(self) -> str:
        return self._expect("string" if self._peek().kind == "string" else "word")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _accept(self, kind: str, text: str) -> bool:
        found = self._peek().kind == kind and self._peek().text == text
        self._next += found
        return found

    def _expect(self, kind: str, text: str | None = None) -> str:
        token = self._peek()
        if token.kind != kind or (text is not None and token.text != text):
            wanted = repr(text) if text else {"end": "the end", "word": "a key", "string": "a quoted string"}[kind]
            raise FilterError(f"expected {wanted} at character {token.at}, found {token.text or 'the end'!r}")
        self._next += 1
        return token.text
