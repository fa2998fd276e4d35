"""The line of tickets: one line per model, in the order of priority class and arrival, bounded as a whole."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from trenza_scheduler.core.domain import Priority, Ticket


@dataclass(slots=True, order=True)
class Waiting:
    """A ticket in the line; compares in the order of service."""

    priority: Priority
    number: int
    ticket: Ticket = field(compare=False)
    arrived_s: float = field(compare=False)
    told_position: int | None = field(compare=False, default=None)

    @property
    def deadline_s(self) -> float:
        """When the ticket's patience ends."""
        return self.arrived_s + self.ticket.wait_limit_s


class Queue:
    """Waiting tickets by model. A ticket is identified by its stream and its request."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Waiting]] = {}
        self._by_id: dict[tuple[str, str], Waiting] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._by_id

    def models(self) -> list[str]:
        """The models that are waited for, the one with the most urgent and oldest ticket first."""
        return sorted(self._lines, key=lambda model: self._lines[model][0])

    def line(self, model: str) -> list[Waiting]:
        """The tickets that wait for a model, next first."""
        return self._lines.get(model, [])

    def all(self) -> Iterator[Waiting]:
        """Every ticket, in no order that matters."""
        return iter(self._by_id.values())

    def join(self, ticket: Ticket, now_s: float) -> Waiting:
        """Puts a ticket behind those of its class."""
        self._arrivals += 1
        waiting = Waiting(ticket.priority, self._arrivals, ticket, now_s)
        bisect.insort(self._lines.setdefault(ticket.model, []), waiting)
        self._by_id[ticket.stream, ticket.request_id] = waiting
        return waiting

    def leave(self, stream: str, request_id: str) -> Waiting | None:
        """Takes a ticket out; None where it is not there."""
        waiting = self._by_id.pop((stream, request_id), None)
        if waiting is not None:
            line = self._lines[waiting.ticket.model]
            del line[bisect.bisect_left(line, waiting)]
            if not line:
                del self._lines[waiting.ticket.model]
        return waiting

    def expired(self, now_s: float) -> list[Waiting]:
        """Tickets whose patience has ended."""
        return [waiting for waiting in self._by_id.values() if waiting.deadline_s <= now_s]

    def of_stream(self, stream: str) -> list[Waiting]:
        """The tickets of one gateway."""
        return [waiting for (owner, _), waiting in self._by_id.items() if owner == stream]

    def position(self, waiting: Waiting) -> int:
        """How many tickets for the same model are ahead."""
        return bisect.bisect_left(self._lines[waiting.ticket.model], waiting)
