"""Locks that a read takes before its snapshot, so that nobody empties or alters what it reads.

TRUNCATE and some forms of ALTER TABLE are not versioned: a snapshot that is older than their end sees an empty table
(https://www.postgresql.org/docs/current/mvcc-caveats.html). A REPEATABLE READ transaction has such a snapshot when it
waited for the table's lock by reading, because it takes the snapshot first. So each kind of read locks first:

- A session exports its snapshot from a READ COMMITTED transaction in which the statement was planned: planning locks
  tables, partitions, and what is below views, and every later statement has a snapshot of its own.
- A read by one statement plans it, too, in its own READ COMMITTED transaction.
- A view's functions may read tables, each time under a new snapshot if they are volatile. So a view is locked by LOCK
  TABLE, which takes no snapshot, and read in a REPEATABLE READ transaction, where the privileges allow that.
- A foreign table has another lock and another snapshot on its own server, taken together by the first read of a row.
  Only a transaction that begins while another one has the lock there can be sure of what it sees.
"""

from collections.abc import Sequence

WAIT = "5s"
"""How long a lock is waited for: behind somebody who waits for a stronger lock on a table, everybody waits."""

SECOND_WAIT = "2s"
"""How long for a foreign table's lock that another connection of this process has: who waits for that one to end, and
whom this one would wait for, does not get the lock before."""


def opening(statement: str, terms: Sequence[str], snapshot: str | None, view_lock: str) -> list[str]:
    """The statements that begin a read in the engine's REPEATABLE READ transaction.

    Args:
        statement: what is read.
        terms: statements that set the transaction's terms.
        snapshot: literal of the session's snapshot, whose locks hold; None for a read that locks for itself.
        view_lock: LOCK TABLE of a view; may be empty.
    """
    if snapshot is not None:
        return [f"SET TRANSACTION SNAPSHOT {snapshot}", *terms]
    if view_lock:
        return [*terms, view_lock]
    return ["SET TRANSACTION ISOLATION LEVEL READ COMMITTED", *terms, f"EXPLAIN {statement}"]


def foreign_locks(tables: Sequence[str], wait: str) -> list[str]:
    """The statements that lock foreign tables on their own servers, until the transaction's end.

    Args:
        tables: as SQL; with none, there is nothing to do.
        wait: how long at most for each.
    """
    if not tables:
        return []
    # No lock_timeout reaches the other server, but a statement that is cancelled here is cancelled there.
    touch = (f"SELECT FROM {table} LIMIT 1" for table in tables)
    return [f"SET LOCAL statement_timeout = '{wait}'", *touch, "SET LOCAL statement_timeout TO DEFAULT"]
