"""Parts that wait for their upload are bounded by bytes."""

import threading

from services.extractor.landing import Room


def taken(room: Room, size: int) -> threading.Thread:
    """A thread that takes some of a room, or waits."""
    thread = threading.Thread(target=room.take, args=(size,), daemon=True)
    thread.start()
    thread.join(0.1)
    return thread


def test_what_does_not_fit_waits_until_enough_is_given_back() -> None:
    room = Room(10)
    room.take(6)
    waiting = taken(room, 5)
    assert waiting.is_alive()
    room.give_back(6)
    waiting.join(5)
    assert not waiting.is_alive()


def test_what_never_fits_is_there_alone() -> None:
    room = Room(10)
    room.take(1)
    large = taken(room, 50)
    assert large.is_alive()
    room.give_back(1)
    large.join(5)
    assert not large.is_alive()
    assert taken(room, 1).is_alive()
