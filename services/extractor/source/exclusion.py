"""Which source columns a table never reads."""

import fnmatch

from services.core.tables import Table


def excluded(name: str, table: Table) -> bool:
    """Whether one of the table's ``exclude`` patterns matches a source column's whole name, case included."""
    return any(fnmatch.fnmatchcase(name, _only_wildcards(pattern)) for pattern in table.exclude)


def _only_wildcards(pattern: str) -> str:
    """The pattern with brackets standing for themselves: tables.yaml promises ``*`` and ``?`` and nothing else."""
    return pattern.replace("[", "[[]")
