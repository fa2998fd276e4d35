"""Remembers the latest requests: what was decided about each, and why. Bounded; the oldest is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import Enum

from trenza_scheduler.core.domain import Candidate


class State(Enum):
    """Where a request stands."""

    WAITING = "waiting"
    GRANTED = "granted"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Story:
    """One request. `waiting_for` is a sentence, empty where nothing is waited for."""

    request_id: str
    state: State
    waited_s: float
    replica_id: str = ""
    waiting_for: str = ""
    candidates: tuple[Candidate, ...] = ()


class Stories:
    """The stories of requests that have been decided, by request id. Those that wait are in the queue."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stories: OrderedDict[str, Story] = OrderedDict()

    def put(self, story: Story) -> None:
        """A decision; replaces an earlier one about the same request."""
        self._stories[story.request_id] = story
        self._stories.move_to_end(story.request_id)
        while len(self._stories) > self._most:
            self._stories.popitem(last=False)

    def released(self, request_id: str) -> None:
        """The request's lease has ended."""
        story = self._stories.get(request_id)
        if story is not None and story.state is State.GRANTED:
            self._stories[request_id] = replace(story, state=State.RELEASED)

    def get(self, request_id: str) -> Story | None:
        """The story of a request, None where it is not remembered."""
        return self._stories.get(request_id)
