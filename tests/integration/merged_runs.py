"""Runs of the extractor whose batches are merged at once, and the bronze that they make."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.extractor_harness import Bench, Connection, Database, Finished, Landed, newest

ITEM = {"id": "INT64", "v": "STRING"}
"""Columns of the tables whose bronze is looked at."""


@contextmanager
def open_transaction(database: Database, **parameters: str) -> Iterator[Connection]:
    """A transaction that stays open for a block, and is committed after it."""
    with database.connect(autocommit=False, **parameters) as connection:
        connection.execute("SELECT now()")
        yield connection
        connection.commit()


class Runs:
    """Runs of the extractor, each merged at once."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.landed: list[Landed] = []

    def run(self, *arguments: str, **variables: str) -> Finished:
        finished = self.bench.extract(*arguments, **variables)
        self.landed += self.bench.landed()
        self.bench.merge()
        return finished

    def bronze(self, table: str) -> dict[int, str]:
        batches = [batch for batch in self.landed if batch.manifest.table == table]
        return {row["id"]: row["v"] for row in newest(batches, "id").values()}
