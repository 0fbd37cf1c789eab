"""Keys that stand twice in one mapping of a YAML file: YAML forbids them, and PyYAML lets the last one count."""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class DoubledKey:
    """A key that is written more than once in one mapping."""

    path: tuple[str, ...]
    """From the top of the file to the mapping: keys, and entries of lists by their ``name``, or else ``#1``."""
    key: str
    lines: tuple[int, ...]
    """Where it stands; the file's first line is 1."""


def doubled_keys(document: yaml.Node) -> list[DoubledKey]:
    """All doubled keys of a document, from its top down; a mapping with an anchor counts where it is written.

    What a merge (``<<``) brings is not doubled by a key beside it: that is how one overrules it.
    """
    return list(_below(document, (), set()))


def _below(node: yaml.Node, path: tuple[str, ...], seen: set[int]) -> Iterator[DoubledKey]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value, 1):
            yield from _below(entry, (*path, _name(entry) or f"#{number}"), seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], list[int]] = {}
        for key, _ in node.value:
            lines.setdefault((key.tag, str(key.value)), []).append(key.start_mark.line + 1)
        for (_, text), found in lines.items():
            if len(found) > 1:
                yield DoubledKey(path, text, tuple(found))
        for key, value in node.value:
            yield from _below(value, (*path, str(key.value)), seen)


def _name(entry: yaml.Node) -> str | None:
    """The ``name`` of a list's entry."""
    if not isinstance(entry, yaml.MappingNode):
        return None
    names = (value.value for key, value in entry.value if key.value == "name" and isinstance(value, yaml.ScalarNode))
    return next(names, None)
