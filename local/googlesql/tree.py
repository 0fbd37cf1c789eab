"""Resolved trees: protocol buffers in which a node of any kind is wrapped once for each kind that it is of."""

from collections.abc import Iterator
from typing import Any


def unwrapped(node: Any) -> Any:
    """The node itself."""
    while node.DESCRIPTOR.name.startswith("Any"):
        inner = node.WhichOneof("node")
        if inner is None:
            return node
        node = getattr(node, inner)
    return node


def is_a(node: Any, kind: str) -> bool:
    """Whether an unwrapped node is of a kind, as ``ColumnRef``, ``Literal`` or ``FunctionCall``."""
    return bool(node.DESCRIPTOR.name == f"Resolved{kind}Proto")


def below(node: Any) -> Iterator[Any]:
    """A node and all nodes below it."""
    yield node
    for descriptor, value in node.ListFields():
        if descriptor.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from below(each)


def column_references(node: Any) -> Iterator[Any]:
    """All references to columns in a part of a tree; each has its ``column``."""
    return (each for each in below(node) if is_a(each, "ColumnRef"))


def function_of(node: Any) -> str | None:
    """The function that an unwrapped node calls, as GoogleSQL names it (``$equal``); None when it calls none."""
    return node.parent.function.name.removeprefix("ZetaSQL:") if is_a(node, "FunctionCall") else None


def arguments_of(node: Any) -> list[Any]:
    """What a call of a function is given."""
    return [unwrapped(each) for each in node.parent.argument_list]
