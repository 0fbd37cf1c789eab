"""One suite for every document store: SQLite, Firestore, Firestore whose answers get lost, and the simulation's.

Behind ``lossy_firestore`` every third write and every tenth read does not go well: who uses the store must not notice.

The fixtures are in conftest.py: ``store`` is any of them, ``place`` is where one is that another process can open, too.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import Pool

import pytest

from services.core.errors import LeaseBusy, LeaseLost
from services.core.state.lease import acquire, holding, look
from services.core.state.store import DocumentChanged, DocumentExists, DocumentStore
from tests.contract.store_place import Place, open_store

RACES = 300
RACERS = 4


@pytest.fixture
def placed(place: Place) -> Iterator[DocumentStore]:
    """The store at that place."""
    opened = open_store(place)
    yield opened
    opened.close()


def test_create_then_get(store: DocumentStore) -> None:
    data = {"text": "São Paulo", "number": 2**53 - 1, "flag": True, "nothing": None, "nested": {"list": [1, "a", None]}}
    created = store.create("things", "one", data)
    found = store.get("things", "one")
    assert found is not None
    assert found.data == data
    assert found.version == created.version


def test_a_document_that_may_be_forgotten_is_as_any_other_until_then(store: DocumentStore) -> None:
    created = store.create("things", "one", {"kind": "a"}, forget_after=datetime.now(UTC) + timedelta(days=1))
    found = store.get("things", "one")
    assert found is not None
    assert (found.data, found.version) == ({"kind": "a"}, created.version)
    assert [document.data for document in store.query("things", {"kind": "a"})] == [{"kind": "a"}]
    assert store.update(found, {"kind": "b"}).data == {"kind": "b"}


def test_get_of_nothing(store: DocumentStore) -> None:
    assert store.get("things", "absent") is None


def test_collections_are_apart(store: DocumentStore) -> None:
    store.create("a", "same", {"in": "a"})
    store.create("b", "same", {"in": "b"})
    assert [d.data["in"] for d in (store.get("a", "same"), store.get("b", "same")) if d] == ["a", "b"]


def test_create_refuses_what_exists_and_leaves_it(store: DocumentStore) -> None:
    store.create("things", "one", {"n": 1})
    with pytest.raises(DocumentExists):
        store.create("things", "one", {"n": 2})
    found = store.get("things", "one")
    assert found is not None
    assert found.data == {"n": 1}


def test_update_of_what_is_unchanged(store: DocumentStore) -> None:
    first = store.create("things", "one", {"n": 1, "kept": "k", "nested": {"a": 1, "b": 2}})
    second = store.update(first, {"n": 2, "nested": {"a": 9}})
    found = store.get("things", "one")
    assert found is not None
    assert found.data == {"n": 2, "kept": "k", "nested": {"a": 9}} == second.data
    assert found.version == second.version != first.version


def test_update_refuses_what_changed(store: DocumentStore) -> None:
    first = store.create("things", "one", {"n": 1})
    store.update(first, {"n": 2})
    with pytest.raises(DocumentChanged):
        store.update(first, {"n": 3})
    found = store.get("things", "one")
    assert found is not None
    assert found.data == {"n": 2}


def test_update_refuses_what_is_gone_or_was_made_anew(store: DocumentStore) -> None:
    first = store.create("things", "one", {"n": 1})
    store.delete(first)
    with pytest.raises(DocumentChanged):
        store.update(first, {"n": 2})
    store.create("things", "one", {"n": 1})
    with pytest.raises(DocumentChanged):
        store.update(first, {"n": 2})


def test_delete_refuses_what_changed(store: DocumentStore) -> None:
    first = store.create("things", "one", {"n": 1})
    second = store.update(first, {"n": 2})
    with pytest.raises(DocumentChanged):
        store.delete(first)
    store.delete(second)
    assert store.get("things", "one") is None


def test_delete_of_what_is_gone_is_done(store: DocumentStore) -> None:
    """Nobody can tell who deleted it: perhaps this process, by a try whose answer was lost."""
    first = store.create("things", "one", {"n": 1})
    second = store.update(first, {"n": 2})
    store.delete(second)
    store.delete(second)
    store.delete(first)
    store.create("things", "one", {"n": 1})
    with pytest.raises(DocumentChanged):
        store.delete(second)
    assert store.get("things", "one") is not None, "made anew by another"


def test_query_by_equality_in_order_of_ids(store: DocumentStore) -> None:
    for number in (3, 1, 2):
        store.create("things", f"id{number}", {"table": "a", "open": number != 2, "rank": number})
    store.create("things", "other", {"table": "b", "open": True, "rank": 9})
    assert [d.id for d in store.query("things", {"table": "a"})] == ["id1", "id2", "id3"]
    assert [d.id for d in store.query("things", {"table": "a", "open": True})] == ["id1", "id3"]
    assert [d.id for d in store.query("things", {"open": False})] == ["id2"]
    assert [d.id for d in store.query("things", {"rank": 9})] == ["other"]
    assert [d.id for d in store.query("things", {})] == ["id1", "id2", "id3", "other"]
    assert store.query("nothing", {"table": "a"}) == []
    assert [d.id for d in store.query("things", {"table": "a"}, "id2")] == ["id2", "id3"]
    assert [d.id for d in store.query("things", {"table": "a", "open": True}, "id2")] == ["id3"]
    assert [d.id for d in store.query("things", {}, "id3")] == ["id3", "other"]


def test_query_sees_a_write_at_once(store: DocumentStore) -> None:
    document = store.create("things", "one", {"state": "landed"})
    for state in ("loaded", "merged", "failed"):
        document = store.update(document, {"state": state})
        assert [d.data["state"] for d in store.query("things", {"state": state})] == [state]
        found = store.query("things", {"state": state})
        assert found[0].version == document.version


def test_what_was_written_is_there_after_a_restart(place: Place) -> None:
    first = open_store(place)
    document = first.create("things", "one", {"n": 1})
    first.close()
    again = open_store(place)
    found = again.get("things", "one")
    assert found is not None
    assert again.update(found, {"n": 2}).data == {"n": 2}
    assert found.version == document.version
    again.close()


# --- leases -------------------------------------------------------------------------------------------------------


def test_a_lease_has_one_holder(store: DocumentStore) -> None:
    lease = acquire(store, "work", "first", timedelta(seconds=30))
    with pytest.raises(LeaseBusy, match="held by first"):
        acquire(store, "work", "second", timedelta(seconds=30))
    lease.release()
    assert acquire(store, "work", "second", timedelta(seconds=30)).token > lease.token


def test_tokens_grow_when_a_leases_document_is_deleted(store: DocumentStore) -> None:
    """Else what noted the last token refuses every holder until the new tokens have caught up."""
    tokens = []
    for _ in range(5):
        lease = acquire(store, "work", "holder", timedelta(seconds=30))
        tokens.append(lease.token)
        document = store.get("leases", "work")
        assert document is not None
        store.delete(document)
    assert tokens == sorted(set(tokens))


def test_a_small_token_of_before_is_followed_by_a_greater_one(store: DocumentStore) -> None:
    store.create("leases", "work", {"holder": None, "token": 41, "expires_at": "2026-11-22T00:00:00+00:00"})
    assert acquire(store, "work", "holder", timedelta(seconds=30)).token > 41
    ahead = 2**53 - 100
    store.create("leases", "ahead", {"holder": None, "token": ahead, "expires_at": "2026-11-22T00:00:00+00:00"})
    assert acquire(store, "ahead", "holder", timedelta(seconds=30)).token == ahead + 1


def test_an_expired_lease_passes_on_and_the_old_holder_is_told(store: DocumentStore) -> None:
    old = acquire(store, "work", "old", timedelta(milliseconds=50))
    time.sleep(0.1)
    new = acquire(store, "work", "new", timedelta(seconds=30))
    assert new.token > old.token
    with pytest.raises(LeaseLost):
        old.renew()
    old.release()
    view = look(store, "work")
    assert view is not None
    assert view.holder == "new", "a late release must not free the new holder's lease"


def test_holding_renews_in_the_background(store: DocumentStore) -> None:
    with holding(store, "work", "first", timedelta(seconds=0.6)):
        time.sleep(1.5)
        with pytest.raises(LeaseBusy):
            acquire(store, "work", "second", timedelta(seconds=1))
    acquire(store, "work", "second", timedelta(seconds=1))


# --- several processes --------------------------------------------------------------------------------------------


def _race_create(arguments: tuple[Place, int]) -> list[bool]:
    place, racer = arguments
    store = open_store(place)
    won = []
    for race in range(RACES):
        try:
            store.create("races", f"create-{race}", {"winner": racer})
            won.append(True)
        except DocumentExists:
            won.append(False)
    store.close()
    return won


def _race_update(arguments: tuple[Place, int]) -> int:
    """Add RACES to a counter, one by one, against the others; returns how often it had to try again."""
    place, _ = arguments
    store = open_store(place)
    lost = 0
    for _ in range(RACES // RACERS):
        while True:
            document = store.get("races", "counter")
            assert document is not None
            try:
                store.update(document, {"n": document.data["n"] + 1})
                break
            except DocumentChanged:
                lost += 1
    store.close()
    return lost


def _race_lease(arguments: tuple[Place, int]) -> list[int]:
    """Tokens of the leases this racer got."""
    place, racer = arguments
    store = open_store(place)
    tokens = []
    for _ in range(RACES // 3):
        try:
            lease = acquire(store, "raced", f"racer-{racer}", timedelta(seconds=30))
        except LeaseBusy:
            continue
        tokens.append(lease.token)
        lease.release()
    store.close()
    return tokens


def _write_until_killed(place: Place) -> None:
    store = open_store(place)
    document = store.create("kill", "one", {"n": 0, "same": 0})
    for number in range(1, 1_000_000):
        document = store.update(document, {"n": number, "same": number})


@pytest.fixture(scope="module")
def racers() -> Iterator[Pool]:
    # spawn: gRPC and SQLite connections do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(RACERS) as pool:
        yield pool


def _open_at(arguments: tuple[Place, float]) -> str:
    place, moment = arguments
    time.sleep(max(0.0, moment - time.time()))
    store = open_store(place)
    store.close()
    return "opened"


def test_a_new_store_is_opened_by_many_at_once(place: Place, racers: Pool) -> None:
    for round_ in range(20):
        fresh = replace(place, address=f"{place.address}{round_}") if place.kind == "sqlite" else place
        moment = time.time() + 0.05
        assert racers.map(_open_at, [(fresh, moment)] * RACERS) == ["opened"] * RACERS


def test_create_has_exactly_one_winner(place: Place, racers: Pool) -> None:
    results = racers.map(_race_create, [(place, racer) for racer in range(RACERS)])
    assert [sum(race) for race in zip(*results, strict=True)] == [1] * RACES


def test_no_update_is_lost(place: Place, racers: Pool, placed: DocumentStore) -> None:
    placed.create("races", "counter", {"n": 0})
    racers.map(_race_update, [(place, racer) for racer in range(RACERS)])
    found = placed.get("races", "counter")
    assert found is not None
    assert found.data["n"] == RACES // RACERS * RACERS


def test_no_token_is_given_twice(place: Place, racers: Pool) -> None:
    tokens = [token for mine in racers.map(_race_lease, [(place, r) for r in range(RACERS)]) for token in mine]
    assert len(tokens) == len(set(tokens)) > 0


def test_a_killed_writer_leaves_a_whole_document(place: Place, placed: DocumentStore) -> None:
    for round_ in range(3):
        if (left := placed.get("kill", "one")) is not None:
            placed.delete(left)
        writer = multiprocessing.get_context("spawn").Process(target=_write_until_killed, args=(place,))
        writer.start()
        deadline = time.monotonic() + 30
        while (seen := placed.get("kill", "one")) is None or seen.data["n"] < 5:
            assert time.monotonic() < deadline, "the writer never began"
            time.sleep(0.01 * (round_ + 1))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        found = placed.get("kill", "one")
        assert found is not None
        assert found.data["n"] == found.data["same"] >= 5
        assert placed.update(found, {"n": -1}).data["n"] == -1, "the store is not left locked"
