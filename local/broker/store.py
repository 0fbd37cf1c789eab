"""The broker's SQLite file: resources, messages and their deliveries. No decisions, no clock of its own.

The connection is used by one thread, holds the file exclusively and writes ahead (WAL, synchronous=NORMAL): what a
call has committed survives the end of the process, also by SIGKILL. After a power loss the last commits may be missing.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from local.broker.delivery import Delivery, Message
from local.broker.errors import AlreadyExistsError, NotFoundError

OPEN_TIMEOUT_SECONDS = 10.0
"""How long opening waits for another process to let go of the file."""

_SELECT_DELIVERY = """
SELECT d.subscription, d.ack_id, d.failures, m.id, m.published, m.data, m.attributes, m.ordering_key
FROM deliveries AS d JOIN messages AS m ON m.id = d.message_id
"""
# Ready and, where the subscription orders, not behind an older message of its ordering key.
_READY = """
d.subscription = ? AND d.ack_id IS NULL AND (d.ordering_key = '' OR NOT EXISTS (
  SELECT 1 FROM deliveries AS older
  WHERE older.ordering_key <> '' AND older.subscription = d.subscription
    AND older.ordering_key = d.ordering_key AND older.message_id < d.message_id))
"""


class Store:
    """Resources, messages and deliveries in one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it and its folder when missing.

        Raises:
            sqlite3.OperationalError: another process holds the file, or it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=OPEN_TIMEOUT_SECONDS, isolation_level=None)
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript((files(__package__) / "schema.sql").read_text())
        # Ids start at the file's birth in microseconds: 16 digits, so they sort as text and do not come again when the
        # file is deleted and made anew.
        self._db.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'messages', ? "
            "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'messages')",
            (time.time_ns() // 1000,),
        )

    def close(self) -> None:
        """Checkpoint and let go of the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything in the block together, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- topics and subscriptions ---------------------------------------------------------------------------------

    def create(self, name: str, resource: bytes, topic: str | None = None) -> None:
        """Add a topic, or with `topic` a subscription to it.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        try:
            self._db.execute("INSERT INTO resources VALUES (?, ?, ?)", (name, topic, resource))
        except sqlite3.IntegrityError as error:
            raise AlreadyExistsError(f"Resource already exists (resource={name}).") from error

    def get(self, name: str) -> bytes:
        """Return the serialized resource.

        Raises:
            NotFoundError: there is none of this name.
        """
        row = self._db.execute("SELECT resource FROM resources WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFoundError(f"Resource not found (resource={name}).")
        return bytes(row[0])

    def exists(self, name: str) -> bool:
        """Tell whether a topic or subscription of this name exists."""
        return self._db.execute("SELECT 1 FROM resources WHERE name = ?", (name,)).fetchone() is not None

    def replace(self, name: str, resource: bytes, topic: str | None = None) -> None:
        """Give a resource that exists a new content."""
        self._db.execute("UPDATE resources SET resource = ?, topic = ? WHERE name = ?", (resource, topic, name))

    def delete(self, name: str) -> None:
        """Remove a resource; a subscription's deliveries go with it.

        Raises:
            NotFoundError: there is none of this name.
        """
        if not self._db.execute("DELETE FROM resources WHERE name = ?", (name,)).rowcount:
            raise NotFoundError(f"Resource not found (resource={name}).")

    def resources(self, folder: str, after: str = "", limit: int = -1) -> list[bytes]:
        """List the resources whose name starts with `folder + "/"` and sorts behind `after`, by name."""
        rows = self._db.execute(
            "SELECT resource FROM resources WHERE name > ? AND name > ? AND name < ? ORDER BY name LIMIT ?",
            (after, f"{folder}/", f"{folder}0", limit),  # "0" follows "/"
        )
        return [bytes(row[0]) for row in rows]

    def subscriptions(self, topic: str | None = None) -> list[bytes]:
        """List the subscriptions, all or one topic's, by name."""
        rows = self._db.execute(
            "SELECT resource FROM resources WHERE topic IS NOT NULL AND topic = coalesce(?, topic) ORDER BY name",
            (topic,),
        )
        return [bytes(row[0]) for row in rows]

    # -- messages and deliveries ----------------------------------------------------------------------------------

    def add_message(self, published: int, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> int:
        """Keep a message and return its id; `published` is microseconds since the epoch."""
        cursor = self._db.execute(
            "INSERT INTO messages (published, data, attributes, ordering_key) VALUES (?, ?, ?, ?)",
            (published, data, json.dumps(dict(attributes), ensure_ascii=False), ordering_key),
        )
        assert cursor.lastrowid is not None  # noqa: S101 - always set after an INSERT
        return cursor.lastrowid

    def forget_message(self, message_id: int) -> None:
        """Remove a message that no subscription wants."""
        self._db.execute("DELETE FROM messages WHERE id = ?", (message_id,))

    def add_delivery(self, subscription: str, message_id: int, ordering_key: str, due: float) -> None:
        """Make a message due on a subscription; `ordering_key` is empty where the subscription does not order."""
        self._db.execute(
            "INSERT INTO deliveries (subscription, message_id, ordering_key, due) VALUES (?, ?, ?, ?)",
            (subscription, message_id, ordering_key, due),
        )

    def lease(self, subscription: str, now: float, until: float, limit: int) -> list[Delivery]:
        """Lease up to `limit` messages that are due, the longest due first."""
        with self.transaction():
            rows = self._db.execute(
                f"{_SELECT_DELIVERY} WHERE {_READY} AND d.due <= ? ORDER BY d.due, d.message_id LIMIT ?",
                (subscription, now, limit),
            ).fetchall()
            leased = [_delivery((name, f"{row[1]}-{secrets.token_hex(8)}", *row)) for name, _, *row in rows]
            self._db.executemany(
                "UPDATE deliveries SET ack_id = ?, due = ? WHERE subscription = ? AND message_id = ?",
                [(delivery.ack_id, until, subscription, delivery.message.id) for delivery in leased],
            )
        return leased

    def leased(self, subscription: str, ack_id: str) -> Delivery | None:
        """Return the delivery that this ack id still leases."""
        row = self._db.execute(
            f"{_SELECT_DELIVERY} WHERE d.ack_id = ? AND d.subscription = ?", (ack_id, subscription)
        ).fetchone()
        return _delivery(row) if row else None

    def leased_ack_ids(self, subscription: str) -> set[str]:
        """Return the ack ids of all current leases of a subscription."""
        rows = self._db.execute(
            "SELECT ack_id FROM deliveries WHERE subscription = ? AND ack_id IS NOT NULL", (subscription,)
        )
        return {row[0] for row in rows}

    def expired(self, now: float) -> list[Delivery]:
        """List the leases whose deadline has passed."""
        rows = self._db.execute(f"{_SELECT_DELIVERY} WHERE d.ack_id IS NOT NULL AND d.due <= ? ORDER BY d.due", (now,))
        return [_delivery(row) for row in rows]

    def acknowledge(self, subscription: str, ack_id: str) -> None:
        """Remove the delivery that this ack id still leases; another ack id changes nothing."""
        self._db.execute("DELETE FROM deliveries WHERE ack_id = ? AND subscription = ?", (ack_id, subscription))

    def extend(self, subscription: str, ack_id: str, until: float) -> None:
        """Move a lease's deadline; an ack id that leases nothing changes nothing."""
        self._db.execute(
            "UPDATE deliveries SET due = ? WHERE ack_id = ? AND subscription = ?", (until, ack_id, subscription)
        )

    def postpone(self, delivery: Delivery, failures: int, due: float) -> None:
        """End a lease; the message comes again at `due`."""
        self._db.execute(
            "UPDATE deliveries SET ack_id = NULL, failures = ?, due = ? WHERE ack_id = ?",
            (failures, due, delivery.ack_id),
        )

    def release(self, subscription: str, due: float) -> None:
        """End all leases of a subscription without counting a failure."""
        self._db.execute(
            "UPDATE deliveries SET ack_id = NULL, due = ? WHERE subscription = ? AND ack_id IS NOT NULL",
            (due, subscription),
        )

    def next_due(self, subscription: str) -> float | None:
        """Say when the next message of a subscription is due; in the past when one already is."""
        row = self._db.execute(
            f"SELECT d.due FROM deliveries AS d WHERE {_READY} ORDER BY d.due LIMIT 1",  # noqa: S608
            (subscription,),
        ).fetchone()
        return float(row[0]) if row else None

    def next_deadline(self) -> float | None:
        """Say when the next lease of any subscription ends."""
        row = self._db.execute("SELECT min(due) FROM deliveries WHERE ack_id IS NOT NULL").fetchone()
        return None if row[0] is None else float(row[0])


def _delivery(row: tuple[Any, ...]) -> Delivery:
    subscription, ack_id, failures, message_id, published, data, attributes, ordering_key = row
    message = Message(message_id, published, bytes(data), json.loads(attributes), ordering_key)
    return Delivery(subscription, message, ack_id, failures)
