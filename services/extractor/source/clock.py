"""The source's clock, and what its open transactions allow a window to cover."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.extractor.source.connection import Connection
from services.extractor.source.terms import APPLICATION

UNSEEN = timedelta(seconds=1)
"""How far behind the source's clock a window ends at least. A transaction takes its time (now()) a moment before
pg_stat_activity shows it, and its process can be paused in between: for less than this, nothing is lost."""

# A backend that has begun a transaction may still write, whether it has a transaction id yet or not. Vacuum's workers,
# walsenders and this pipeline's own reading sessions never write rows, and would hold windows back for as long as they
# run. Between the transactions of one message (a string of several statements) there is none, and the next ones have
# the message's time, query_start. A session with track_activities = off shows no time at all: its state is 'disabled';
# where it was switched on in the middle of a transaction, only the time is missing.
# Prepared transactions have no backend, and only the time of PREPARE is known, not their start. A replica shows no
# transaction of its primary, and rows arrive there with the transaction replayed last.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
_CLOCK = """
WITH others AS NOT MATERIALIZED (
  SELECT * FROM pg_catalog.pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'walsender')
    AND NOT (application_name = %(application)s AND usename = current_user)
)
SELECT
  clock_timestamp() - %(unseen)s,
  (SELECT min(coalesce(xact_start, CASE WHEN state IN ('active', 'fastpath function call') THEN query_start END))
    FROM others),
  (SELECT min(prepared) FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()),
  (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
  (SELECT coalesce(bool_or(state = 'disabled' OR (xact_start IS NULL AND state IS DISTINCT FROM 'idle'
      AND (state LIKE 'idle in transaction%%' OR backend_xid IS NOT NULL OR backend_xmin IS NOT NULL))), false)
    FROM others),
  CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_xact_replay_timestamp(), '-infinity') END
"""


@dataclass(frozen=True)
class SourceClock:
    """The source's time, and what its open transactions allow; all times UTC."""

    now: datetime
    """``UNSEEN`` ago: what began until then is in the list of open transactions, or has ended."""
    oldest_transaction: datetime | None
    """Start of the oldest open transaction that can be seen."""
    oldest_prepared: datetime | None
    """When the oldest prepared transaction was prepared; it began earlier."""
    sees_others: bool
    """Whether other users' transactions can be seen at all."""
    replayed: datetime | None = None
    """On a replica, when the last transaction it has replayed was committed; None on a primary."""
    hidden: bool = False
    """Whether a session is there that does not show when its transaction began (``track_activities = off``)."""


def read_clock(connection: Connection) -> SourceClock:
    """The server's clock and its open transactions, in one statement."""
    # Within a transaction, the list of activities is the one that was looked at first.
    connection.execute("SELECT pg_catalog.pg_stat_clear_snapshot()")
    # -infinity (nothing replayed yet) has no datetime; a text has.
    row = connection.execute(
        _CLOCK.replace("END\n", "END::text\n"), {"unseen": UNSEEN, "application": APPLICATION}
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    now, oldest, prepared, sees_others, hidden, replayed = row
    return SourceClock(
        now=now,
        oldest_transaction=oldest,
        oldest_prepared=prepared,
        sees_others=bool(sees_others),
        replayed=_replayed(replayed, now),
        hidden=bool(hidden),
    )


def _replayed(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    return datetime.min.replace(tzinfo=now.tzinfo) if text == "-infinity" else datetime.fromisoformat(text)
