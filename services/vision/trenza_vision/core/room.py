"""Keeps account of the memory that pictures take, so that all requests together stay within a bound."""

from __future__ import annotations


class RoomFull(Exception):
    """There is no room for so many bytes now; `limit_bytes` are all that there are."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes


class Room:
    """`limit_bytes` for all requests together; each takes its share through a `Share` and gives it back at its end."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0

    def share(self) -> Share:
        """The share of one more request, empty at first."""
        return Share(self)


class Share:
    """What one request holds. Use it in a `with` block: leaving the block gives everything back."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0

    def take(self, size_bytes: int) -> None:
        """Adds to what is held. Raises RoomFull where that would be more than the room has."""
        if self._room.taken_bytes + size_bytes > self._room.limit_bytes:
            raise RoomFull(self._room.limit_bytes)
        self._room.taken_bytes += size_bytes
        self._bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Gives up a part of what is held."""
        size_bytes = min(size_bytes, self._bytes)
        self._room.taken_bytes -= size_bytes
        self._bytes -= size_bytes

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back(self._bytes)
