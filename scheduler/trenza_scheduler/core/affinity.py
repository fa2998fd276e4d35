"""Who has seen what: which replica served a session last, and which beginnings of prompts. Bounded; the oldest is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class Affinity:
    """A hint, never a promise: a replica may have lost its cache, and routing may have better reasons."""

    def __init__(self, sessions: int, prefixes: int) -> None:
        self._most = {"session": sessions, "prefix": prefixes}
        self._replica_of_session: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._replica_of_prefix: OrderedDict[tuple[str, int], str] = OrderedDict()

    def note(self, model: str, session_id: str, prefix_hashes: Sequence[int], replica_id: str) -> None:
        """Remembers that a replica got a request."""
        if session_id:
            _remember(self._replica_of_session, (model, session_id), replica_id, self._most["session"])
        for prefix_hash in prefix_hashes:
            _remember(self._replica_of_prefix, (model, prefix_hash), replica_id, self._most["prefix"])

    def has_session(self, model: str, session_id: str, replica_id: str) -> bool:
        """Whether the replica served the session's last request."""
        return bool(session_id) and self._replica_of_session.get((model, session_id)) == replica_id

    def prefix_share(self, model: str, prefix_hashes: Sequence[int], replica_id: str) -> float:
        """The longest beginning of the prompt that the replica was the last to see, 0 to 1."""
        for length in range(len(prefix_hashes), 0, -1):
            if self._replica_of_prefix.get((model, prefix_hashes[length - 1])) == replica_id:
                return length / len(prefix_hashes)
        return 0.0


def _remember(memory: OrderedDict[KeyT, str], key: KeyT, replica_id: str, most: int) -> None:
    memory[key] = replica_id
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
