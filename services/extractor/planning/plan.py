"""What one batch reads: the statement, cut into chunks of pages where that helps. Pure functions and data.

Chunks may be read under different snapshots: by several tasks, or after a connection was lost. A row that was rewritten
in between can then have moved from a chunk that was read late to one that was read early, and be in neither. So the
pages that were read under an earlier snapshot than the last are searched once more, under the last, for row versions
that the earliest snapshot cannot have seen (by ``xmin``): the *catch-up*. Proof: take a row version that the last
snapshot sees. If its chunk was read under a snapshot that sees it too, it was read. If not, its transaction was still
running, or had not begun, at that snapshot, so its id is not less than that snapshot's oldest running transaction, and
the catch-up reads it. Of two versions of one key, the one read under the later snapshot has the later
``_extracted_at``, and any version that one snapshot sees and an earlier one does not is read under the last, too.
"""

from collections.abc import Iterable
from itertools import pairwise

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.core.manifest import ManifestColumn, Part
from services.extractor.source.server import Server
from services.extractor.source.storage import Storage

MOST_CHUNKS = 512
"""A larger table has larger chunks: each is a document in the state while it is read."""

_XIDS = 2**32


class Plan(BaseModel):
    """What a batch reads. Kept in the state while tasks share the work."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    table: str
    execution: str = Field(description="Cloud Run execution whose tasks may work on it.")
    select: str = Field(description="SELECT list and FROM, no WHERE.")
    relation: str = Field(default="", description="The source relation, as SQL.")
    key: list[str] = Field(default=[], description="Its key's columns, as SQL.")
    checks: dict[str, str] = Field(
        default={},
        description="Per column whose type lacks some values, the SQL condition of those; they fail the batch.",
    )
    condition: str = Field(description="The window as an SQL condition; empty for the whole table.")
    columns: list[ManifestColumn] = Field(description="The columns that the SELECT gives, in order.")
    flags: list[str] = Field(description="Columns whose flag 'could not be held' follows them, in order.")
    again: bool = Field(default=False, description="Whether an ``Again`` follows, the last column.")
    tip: str | None = Field(default=None, description="The batch before it, whose fingerprints tell what is no news.")
    unannounced: str | None = Field(
        default=None, description="The table's last batch that no extraction announced, when it was planned."
    )
    bounds: list[int] = Field(description="First page of every chunk; empty when the table is read by one statement.")
    layout: str = Field(description="Storage's layout that the bounds belong to.")
    server: Server | None = Field(default=None, description="The server that it was made on; it is read there.")
    hashed: list[str] = Field(default=[], description="Columns that are masked by hash, which needs the key.")
    view_lock: str = Field(default="", description="LOCK TABLE of a view, where it can be locked so.")
    foreign_tables: list[str] = Field(default=[], description="Foreign tables that it reads, as SQL.")
    estimated_rows: int = Field(description="What PostgreSQL's planner expects.")

    def statement(self, chunk: int | None = None, newer_than: int | None = None) -> str:
        """The SELECT of a chunk, or of everything.

        Args:
            chunk: number of the chunk; None for everything.
            newer_than: only row versions by transactions that are not older than this one (the catch-up).
        """
        conditions = [self._pages(chunk)] if chunk is not None else []
        if newer_than is not None:
            conditions.append(not_older(newer_than))
        if self.condition:
            conditions.append(self.condition)
        return self.select + (f" WHERE {' AND '.join(conditions)}" if conditions else "")

    def presence(self) -> str:
        """A SELECT of all that is read, without its values."""
        return f"SELECT 1 AS present FROM {self.relation}" + (f" WHERE {self.condition}" if self.condition else "")  # noqa: S608

    def failing(self, column: str) -> str:
        """The SQL condition of what is read and has a value that a column's type lacks."""
        return " AND ".join(condition for condition in (self.condition, f"({self.checks[column]})") if condition)

    def _pages(self, chunk: int) -> str:
        first, last = self.bounds[chunk], chunk == len(self.bounds) - 1
        # The last one is open: pages that were added since the size was asked for belong to it.
        return f"ctid >= '({first},0)'" + ("" if last else f" AND ctid < '({self.bounds[chunk + 1]},0)'")


class ChunkResult(BaseModel):
    """What reading a chunk gave."""

    model_config = ConfigDict(frozen=True)

    chunk: int
    read_at: AwareDatetime = Field(description="Of the snapshot that it was read under; no two have the same.")
    oldest_running: int = Field(description="Oldest transaction that was running at that snapshot.")
    parts: list[Part]
    unrepresentable: dict[str, int] = Field(default_factory=dict)
    known: int = Field(default=0, description="Rows that did not land, because they are no news.")


def not_older(transaction: int) -> str:
    """SQL condition of row versions by transactions that are not older than one.

    Their ids have 32 bits in rows, and wrap around: half of the circle is newer.
    """
    return f"(xmin::text::bigint - {transaction % _XIDS} + {_XIDS}) % {_XIDS} < {_XIDS // 2}"


def page_bounds(storage: Storage, chunk_pages: int, *, everything: bool) -> list[int]:
    """First pages of the chunks in which a table is read; empty when one statement is better.

    The bounds hold for every partition alike: page n of each belongs to one chunk.

    Args:
        storage: how the table is stored.
        chunk_pages: pages of a chunk, all partitions together.
        everything: whether most of the table is read; a narrow window is one statement over the cursor's index.
    """
    if not (everything and storage.by_pages) or storage.pages <= chunk_pages:
        return []
    pages = max(chunk_pages, storage.pages // MOST_CHUNKS)
    width = max(1, pages * storage.largest // storage.pages)
    return list(range(0, storage.largest, width))


def catch_up_from(results: Iterable[ChunkResult]) -> int | None:
    """The transaction id from which on the catch-up searches; None when one snapshot gave all the chunks.

    All chunks are searched, under a snapshot that is later than all of theirs.
    """
    results = list(results)
    if len({result.read_at for result in results}) <= 1:
        return None
    return min(result.oldest_running for result in results)


def whole(bounds: list[int]) -> bool:
    """Whether bounds cover all pages, each once: they start at 0 and grow."""
    return not bounds or (bounds[0] == 0 and all(a < b for a, b in pairwise(bounds)))
