"""Which replica has seen a conversation, or the beginning of a prompt, last. Bounded: what was used longest ago is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from trenza_scheduler.core.domain import ModelKey, Ticket

_KeyT = TypeVar("_KeyT")

Process = tuple[str, int]
"""A replica's name and generation: what another generation has seen is gone."""


class Affinity:
    """A hint, never a promise: a replica may have lost its cache, and routing may have better reasons.

    Tenants share nothing: nobody can tell from the choice of a replica what another has asked.
    """

    def __init__(self, sessions: int, prefixes: int) -> None:
        self._sessions: OrderedDict[tuple[ModelKey, str, str], Process] = OrderedDict()
        self._prefixes: OrderedDict[tuple[ModelKey, str, int], Process] = OrderedDict()
        self._most_sessions = sessions
        self._most_prefixes = prefixes

    def note(self, ticket: Ticket, process: Process) -> None:
        """Remembers that a replica got a request."""
        if ticket.session_id:
            _remember(self._sessions, (ticket.key, ticket.tenant, ticket.session_id), process, self._most_sessions)
        for prefix_hash in ticket.prefix_hashes:
            _remember(self._prefixes, (ticket.key, ticket.tenant, prefix_hash), process, self._most_prefixes)

    def session_process(self, ticket: Ticket) -> Process | None:
        """Who served the conversation's last request."""
        return self._sessions.get((ticket.key, ticket.tenant, ticket.session_id)) if ticket.session_id else None

    def prefix_shares(self, ticket: Ticket) -> dict[Process, float]:
        """By replica: the longest beginning of the prompt that it was the last to see, as a part of the whole, 0 to 1."""
        shares: dict[Process, float] = {}
        for length, prefix_hash in enumerate(ticket.prefix_hashes, start=1):
            process = self._prefixes.get((ticket.key, ticket.tenant, prefix_hash))
            if process is not None:
                shares[process] = length / len(ticket.prefix_hashes)
        return shares


def _remember(memory: OrderedDict[_KeyT, Process], key: _KeyT, process: Process, most: int) -> None:
    memory[key] = process
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
