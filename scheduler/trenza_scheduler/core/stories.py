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
    """One request. `since_s` is when its ticket came; `waited_s` is None while it waits."""

    request_id: str
    state: State
    since_s: float
    waited_s: float | None = None
    replica_id: str = ""
    waiting_for: str = ""
    candidates: tuple[Candidate, ...] = ()


class Stories:
    """The stories of the latest requests, by request id."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stories: OrderedDict[str, Story] = OrderedDict()

    def begin(self, request_id: str, now_s: float) -> None:
        """A ticket has come."""
        self._stories[request_id] = Story(request_id, State.WAITING, now_s)
        self._stories.move_to_end(request_id)
        while len(self._stories) > self._most:
            self._stories.popitem(last=False)

    def waits(self, request_id: str, waiting_for: str, candidates: tuple[Candidate, ...]) -> None:
        """No replica could be chosen."""
        self._change(request_id, waiting_for=waiting_for, candidates=candidates)

    def granted(self, request_id: str, now_s: float, replica_id: str, candidates: tuple[Candidate, ...]) -> None:
        """A replica was chosen."""
        self._change(
            request_id, now_s, state=State.GRANTED, replica_id=replica_id, waiting_for="", candidates=candidates
        )

    def ended(self, request_id: str, now_s: float, state: State, why: str = "") -> None:
        """The ticket was refused or cancelled, or its lease ended."""
        self._change(request_id, now_s, state=state, waiting_for=why)

    def get(self, request_id: str) -> Story | None:
        """The story of a request, None where it is not remembered."""
        return self._stories.get(request_id)

    def _change(self, request_id: str, now_s: float | None = None, **changes: object) -> None:
        story = self._stories.get(request_id)
        if story is None:
            return
        if now_s is not None and story.waited_s is None:
            changes["waited_s"] = now_s - story.since_s
        self._stories[request_id] = replace(story, **changes)  # type: ignore[arg-type]  # names are this module's own
