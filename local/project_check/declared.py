"""Whether models have the columns that their ymls declare, by Google's types."""

import re
from collections.abc import Mapping
from typing import Any

from local.googlesql.types import name_of
from local.project_check.warehouse import Held

_STANDARD = {"BOOLEAN": "BOOL", "INTEGER": "INT64", "FLOAT": "FLOAT64", "DECIMAL": "NUMERIC"}


def disagreements(declared: Mapping[str, str | None], made: Held) -> list[str]:
    """How a table or view is not what is declared.

    Args:
        declared: types by name, in order; None where only the name is declared.
        made: what the project's SQL makes.
    """
    types = {field["name"]: name_of(field) for field in made.fields}
    found = [f"column {name} is declared and not made" for name in declared if name not in types]
    found += [f"column {name} is made and not declared" for name in types if name not in declared]
    found += [
        f"column {name} is {types[name]}, declared {standard_type(type_)}"
        for name, type_ in declared.items()
        if type_ and name in types and types[name] != standard_type(type_)
    ]
    if not found and list(declared) != list(types):
        found.append(f"its columns come in another order than they are declared in: {', '.join(types)}")
    return found


def declared_columns(node: Any) -> dict[str, str | None]:
    """The columns of a model of dbt's manifest, as its yml declares them."""
    return {column.name: column.data_type for column in node.columns.values()}


def standard_type(type_: str) -> str:
    """A type as a yml writes it, by GoogleSQL's name: ``numeric(38, 9)`` is NUMERIC."""
    name = re.sub(r"\(.*\)", "", type_).strip().upper()
    return _STANDARD.get(name, name)
