"""The filter language: what it accepts, what it refuses, and that parsing keeps an expression's meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.broker.filters import (
    MAX_FILTER_BYTES,
    Either,
    Equals,
    Every,
    Filter,
    FilterError,
    HasKey,
    HasPrefix,
    Not,
    matches,
    parse,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("attributes:name", HasKey("name")),
        ("  attributes : name\n", HasKey("name")),
        ('attributes:"iana.org/language_tag"', HasKey("iana.org/language_tag")),
        ("attributes:a-b_2", HasKey("a-b_2")),
        ("attributes:NOT", HasKey("NOT")),
        ('attributes.name = "com"', Equals("name", "com")),
        ('attributes.name="com"', Equals("name", "com")),
        ('attributes."a b" = ""', Equals("a b", "")),
        ('attributes.name != "com"', Not(Equals("name", "com"))),
        ('hasPrefix(attributes.name, "co")', HasPrefix("name", "co")),
        ("NOT attributes:a", Not(HasKey("a"))),
        ("-attributes:a", Not(HasKey("a"))),
        ("NOT -attributes:a", HasKey("a")),
        ("attributes:a AND attributes:b AND attributes:c", Every((HasKey("a"), HasKey("b"), HasKey("c")))),
        ("attributes:a OR attributes:b", Either((HasKey("a"), HasKey("b")))),
        ("NOT attributes:a AND attributes:b", Every((Not(HasKey("a")), HasKey("b")))),
        ("attributes:a AND (attributes:b OR attributes:c)", Every((HasKey("a"), Either((HasKey("b"), HasKey("c")))))),
        ("-(attributes:a OR attributes:b)", Not(Either((HasKey("a"), HasKey("b"))))),
        ("((attributes:a))", HasKey("a")),
        (r'attributes:"\u307F\u3093\u306A"', HasKey("みんな")),
        (r'attributes.a = "\\ \" \n \x41 \101 \U0001F600"', Equals("a", '\\ " \n A A \U0001f600')),
    ],
)
def test_an_expression_is_read(text: str, expected: Filter) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "attributes",
        "attributes:",
        "attributes.name",
        "attributes.name = com",
        "attributes.name = 'com'",
        'attributes.name == "com"',
        'attributes.name < "com"',
        '"com" = attributes.name',
        "attributes.name = attributes.website",
        'attributes.name = "com',
        'data = "x"',
        "attributes:a.b",
        "attributes:a attributes:b",
        "attributes:a and attributes:b",
        "attributes:a AND",
        "AND attributes:a",
        "NOT",
        "attributes:a AND attributes:b OR attributes:c",
        "attributes:a OR attributes:b AND attributes:c",
        'attributes.name = "com" AND ("net" OR "org")',
        "(attributes:a",
        "attributes:a)",
        "()",
        'hasSuffix(attributes.a, "b")',
        'hasPrefix(attributes:a, "b")',
        'hasPrefix("b", attributes.a)',
        r"attributes:\u307F",
        r'attributes:"\q"',
        r'attributes:"\uD800"',
        r'attributes:"\U00110000"',
        "(" * MAX_FILTER_BYTES,
        "-(" * (MAX_FILTER_BYTES // 2),
        'attributes.a = "' + "x" * MAX_FILTER_BYTES + '"',
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(FilterError):
        parse(text)


def test_the_limit_counts_bytes() -> None:
    frame = len('attributes:""')
    assert parse('attributes:"' + "ä" * ((MAX_FILTER_BYTES - frame) // 2) + '"')
    with pytest.raises(FilterError, match="bytes"):
        parse('attributes:"' + "ä" * ((MAX_FILTER_BYTES - frame) // 2 + 1) + '"')


@pytest.mark.parametrize(
    ("text", "attributes", "expected"),
    [
        ("attributes:a", {"a": ""}, True),
        ("attributes:a", {"A": "1"}, False),
        ('attributes.a = ""', {"a": ""}, True),
        ('attributes.a = ""', {}, False),
        ('attributes.a = "X"', {"a": "x"}, False),
        ('attributes.a != "1"', {}, True),
        ('attributes.a != "1"', {"a": "2"}, True),
        ('attributes.a != "1"', {"a": "1"}, False),
        ('hasPrefix(attributes.a, "")', {}, False),
        ('hasPrefix(attributes.a, "")', {"a": ""}, True),
        ('hasPrefix(attributes.a, "land")', {"a": "landing/"}, True),
        ('hasPrefix(attributes.a, "landing/")', {"a": "land"}, False),
        ('NOT hasPrefix(attributes.a, "x")', {}, True),
    ],
)
def test_a_comparison_looks_at_one_attribute(text: str, attributes: dict[str, str], expected: bool) -> None:
    assert matches(parse(text), attributes) is expected


keys = st.sampled_from(["a", "b-c", "AND", "iana.org/tag", 'quo"te', "ä"])
values = st.sampled_from(["", "x", "xy", 'y"', "\\", "\n"])
comparisons: st.SearchStrategy[Filter] = (
    st.builds(HasKey, keys) | st.builds(Equals, keys, values) | st.builds(HasPrefix, keys, values)
)


def _compound(terms: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(terms, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, terms) | st.builds(Every, several) | st.builds(Either, several)


@given(
    st.recursive(comparisons, _compound, max_leaves=4),
    st.lists(st.dictionaries(keys, values, max_size=4), min_size=1, max_size=4),
)
def test_a_written_expression_means_what_was_meant(meant: Filter, messages: list[dict[str, str]]) -> None:
    text = written(meant)
    if len(text.encode()) > MAX_FILTER_BYTES:
        with pytest.raises(FilterError):
            parse(text)
        return
    parsed = parse(text)
    for attributes in messages:
        assert matches(parsed, attributes) is meaning(meant, attributes)


@given(st.text(alphabet='attributeshP:.=!(),-"\\ ANDORNOTx0', max_size=80) | st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except FilterError:
        return
    assert isinstance(matches(parsed, {"a": "x"}), bool)


def written(expression: Filter) -> str:
    """Write an expression with every parenthesis there can be."""
    match expression:
        case HasKey(key):
            return f"attributes:{quoted(key)}"
        case Equals(key, value):
            return f"attributes.{quoted(key)} = {quoted(value)}"
        case HasPrefix(key, prefix):
            return f"hasPrefix(attributes.{quoted(key)}, {quoted(prefix)})"
        case Not(term):
            return f"NOT ({written(term)})"
        case Every(terms):
            return " AND ".join(f"({written(term)})" for term in terms)
        case Either(terms):
            return " OR ".join(f"({written(term)})" for term in terms)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def meaning(expression: Filter, attributes: dict[str, str]) -> bool:
    """Say what an expression means, in other words than the parser's module."""
    match expression:
        case HasKey(key):
            return key in attributes
        case Equals(key, value):
            return (key, value) in attributes.items()
        case HasPrefix(key, prefix):
            return any(found == key and text[: len(prefix)] == prefix for found, text in attributes.items())
        case Not(term):
            return not meaning(term, attributes)
        case Every(terms):
            return [meaning(term, attributes) for term in terms].count(False) == 0
        case Either(terms):
            return [meaning(term, attributes) for term in terms].count(True) > 0
