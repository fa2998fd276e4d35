"""The lines of tickets, one per model. Who is served before whom is decided here and nowhere else."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from trenza_scheduler.core.domain import ModelKey, Priority, Ticket


@dataclass(slots=True, order=True)
class Waiting:
    """A ticket in a line; compares in the order of service: by priority class, then by arrival."""

    priority: Priority
    number: int
    ticket: Ticket = field(compare=False)
    arrived_s: float = field(compare=False)
    expires_s: float = field(compare=False)
    told_position: int = field(compare=False, default=-1)


class Queue:
    """Waiting tickets. A ticket is identified by its stream and its request."""

    def __init__(self) -> None:
        self._lines: dict[ModelKey, list[Waiting]] = {}
        self._by_id: dict[tuple[str, str], Waiting] = {}
        self._of_stream: dict[str, dict[str, Waiting]] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def models(self) -> list[ModelKey]:
        """The models that are waited for."""
        return list(self._lines)

    def line(self, key: ModelKey) -> list[Waiting]:
        """The tickets that wait for a model, next first. Not to be changed by the caller."""
        return self._lines.get(key, [])

    def first(self, key: ModelKey) -> Waiting | None:
        """The next ticket for a model."""
        line = self._lines.get(key)
        return line[0] if line else None

    def all(self) -> Iterable[Waiting]:
        """Every ticket, in the order of arrival."""
        return self._by_id.values()

    def find(self, stream: str, request_id: str) -> Waiting | None:
        """A ticket, None where it does not wait (any more)."""
        return self._by_id.get((stream, request_id))

    def of_stream(self, stream: str) -> list[Waiting]:
        """The tickets of one gateway."""
        return list(self._of_stream.get(stream, {}).values())

    def join(self, ticket: Ticket, now_s: float, longest_wait_s: float) -> Waiting:
        """Puts a ticket behind those of its class."""
        self._arrivals += 1
        wait_s = min(ticket.wait_limit_s or longest_wait_s, longest_wait_s)
        waiting = Waiting(ticket.priority, self._arrivals, ticket, now_s, now_s + wait_s)
        bisect.insort(self._lines.setdefault(ticket.key, []), waiting)
        self._by_id[ticket.stream, ticket.request_id] = waiting
        self._of_stream.setdefault(ticket.stream, {})[ticket.request_id] = waiting
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """Takes a ticket out."""
        ticket = waiting.ticket
        del self._by_id[ticket.stream, ticket.request_id]
        of_stream = self._of_stream[ticket.stream]
        del of_stream[ticket.request_id]
        if not of_stream:
            del self._of_stream[ticket.stream]
        line = self._lines[ticket.key]
        del line[bisect.bisect_left(line, waiting)]
        if not line:
            del self._lines[ticket.key]

    def position(self, waiting: Waiting) -> int:
        """How many tickets for the same model are ahead."""
        return bisect.bisect_left(self._lines[waiting.ticket.key], waiting)
