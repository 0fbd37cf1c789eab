"""docs/invariants.md: all thirteen are there, and every test that it names exists."""

import ast
import re
from functools import cache

import pytest

from local.stack.options import REPOSITORY

INVARIANTS = 13
LEAST_TESTS = 5
"""Of an invariant: none is so small that fewer show it from more than one side."""

_HEADING = re.compile(r"^## (\d+)\. .+$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_FILE = re.compile(r"`(tests/[\w/]+\.py)`")

PAGE = (REPOSITORY / "docs" / "invariants.md").read_text(encoding="utf-8")


def sections(page: str) -> dict[int, str]:
    """The invariants' texts, by number."""
    parts = _HEADING.split(page)[1:]
    return {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}


@cache
def known_in(file: str) -> frozenset[str]:
    """Names of the tests that pytest finds in a file: functions, and classes by definition or by assignment."""
    path = REPOSITORY / file
    if not path.is_file():
        return frozenset()
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in found if name.startswith(("test_", "Test")))


def missing(page: str) -> list[str]:
    """Tests and files that the page names and that are not there."""
    tests = [f"{file}::{name}" for file, name in _TEST.findall(page) if name not in known_in(file)]
    return tests + [file for file in _FILE.findall(page) if not (REPOSITORY / file).is_file()]


def test_all_thirteen_are_there_in_order_each_with_its_tests() -> None:
    found = sections(PAGE)
    assert list(found) == list(range(1, INVARIANTS + 1))
    few = {number: len(tests) for number, text in found.items() if len(tests := set(_TEST.findall(text))) < LEAST_TESTS}
    assert few == {}


def test_every_named_test_exists() -> None:
    assert missing(PAGE) == []


@pytest.mark.parametrize(
    "named",
    [
        "tests/unit/test_invariants.py::test_that_nobody_wrote",
        "tests/unit/test_of_nothing.py::test_every_named_test_exists",
        "tests/unit/test_of_nothing.py",
    ],
)
def test_a_test_that_does_not_exist_is_noticed(named: str) -> None:
    assert missing(f"- `{named}`") == [named]
    assert missing("- `tests/unit/test_invariants.py::test_every_named_test_exists`") == []
