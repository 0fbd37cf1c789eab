"""The tables and columns that a statement reads: views followed down to their tables, views of metadata left out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from local.googlesql.analysis import Statement
from local.googlesql.catalog import path_of
from local.googlesql.reads import Read, Reads, reads_of


def scanned(statement: Statement, tables: Sequence[Any]) -> Reads:
    """What a statement reads of tables, and which it changes.

    Args:
        statement: as the analyzer resolved it.
        tables: the tables and views that it names, as :meth:`GoogleSql.with_views` gives them.
    """
    by_name = {".".join(path_of(table)): table for table in tables}
    reads = reads_of(statement.tree)
    return Reads(tuple(_of_tables(reads.scans, by_name)), reads.target)


def _of_tables(scans: Iterable[Read], by_name: dict[str, Any]) -> Iterator[Read]:
    for scan in scans:
        table = by_name[scan.table]
        if "statement" in table:
            view = table["statement"]
            yield from _of_tables(reads_of(view.tree, scan.columns, scan.bounds).scans, by_name)
        elif "path" not in table:
            yield scan
