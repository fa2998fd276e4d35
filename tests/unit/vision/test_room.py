"""The account of the memory that pictures take."""

from __future__ import annotations

from contextlib import suppress

import pytest
from trenza_vision.core.room import Room, RoomFull


def test_shares_count_together_and_come_back_whatever_happens() -> None:
    room = Room(100)
    with room.share() as first, room.share() as second:
        first.take(60)
        second.take(40)
        with pytest.raises(RoomFull) as caught:
            second.take(1)
        assert caught.value.limit_bytes == 100
        first.give_back(10)
        second.take(10)
        assert room.taken_bytes == 100
    assert room.taken_bytes == 0
    with suppress(ZeroDivisionError), room.share() as share:
        share.take(100)
        raise ZeroDivisionError
    assert room.taken_bytes == 0


def test_no_share_gives_back_more_than_it_holds() -> None:
    room = Room(100)
    with room.share() as one, room.share() as other:
        one.take(10)
        other.take(20)
        one.give_back(30)
        assert room.taken_bytes == 20
