"""What autoscalers are told: the demand for a model, whether there is any, and when that changes."""

from __future__ import annotations

import asyncio

from trenza_scheduler.core.activity import Activity, Trigger
from trenza_scheduler.core.domain import ModelKey
from trenza_scheduler.core.limits import Limits
from trenza_scheduler.core.machine import Machine

LOOK_GAP_S = 0.1
"""The demand is looked at for changes at most this often; what comes after a quiet time is seen at once."""
STREAMS_LIMIT = 256
"""Streams that may be open at one time."""


class TooManyStreams(Exception):
    """As many streams are open as may be."""


class Watch:
    """One stream's view of a trigger: only the newest state waits to be told."""

    def __init__(self, trigger: Trigger) -> None:
        self.trigger = trigger
        self._state: bool | None = None
        self._told: bool | None = None
        self._closed = False
        self._news = asyncio.Event()

    def put(self, active: bool) -> None:
        """The state as it is now."""
        self._state = active
        self._news.set()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._news.set()

    async def change(self) -> bool | None:
        """Waits for a state that has not been told yet; None once there will be no more."""
        while not self._closed:
            if self._state is not None and self._state is not self._told:
                self._told = self._state
                return self._told
            self._news.clear()
            await self._news.wait()
        return None


class Scaling:
    """Looks at the demand that the machine sees. To be used in the event loop that the machine's owner lives in."""

    def __init__(self, machine: Machine, limits: Limits, streams_limit: int = STREAMS_LIMIT) -> None:
        self._machine = machine
        self._loop = asyncio.get_running_loop()
        self._activity = Activity(limits.activity_hold_s, limits.watched_triggers)
        self._streams_limit = streams_limit
        self._watches: set[Watch] = set()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = float("inf")
        self._looked_s = float("-inf")

    @property
    def settled(self) -> bool:
        """Whether everybody has had time to report, so that no demand means none."""
        return self._machine.settled

    def knows(self, key: ModelKey) -> bool:
        """Whether a model is announced, is expected, or was announced lately."""
        return self._machine.knows(key)

    def demand_slots(self, key: ModelKey) -> int:
        """Slots that run, except on draining replicas, and that are waited for; 0 for a model that is not known."""
        figure = self._machine.figures(self._loop.time()).models.get(key)
        return figure.demand_slots if figure else 0

    def is_active(self, trigger: Trigger) -> bool:
        """Whether there is demand, or was a moment ago; what was before anybody asked is not known."""
        self._activity.watch(trigger)
        self._look()
        return self._activity.is_active(trigger, self._loop.time())

    def open_watch(self, trigger: Trigger) -> Watch:
        """Begins to watch. Raises TooManyStreams."""
        if len(self._watches) >= self._streams_limit:
            raise TooManyStreams
        watch = Watch(trigger)
        if self._closed:
            watch.close()
        self._watches.add(watch)
        self._look()
        return watch

    def close_watch(self, watch: Watch) -> None:
        """Ends what `open_watch` began."""
        self._watches.discard(watch)

    def touched(self) -> None:
        """Something has happened that may have changed the demand."""
        if len(self._activity) and not self._closed:
            self._look_at(max(self._loop.time(), self._looked_s + LOOK_GAP_S))

    def close(self) -> None:
        """Ends all watches."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for watch in self._watches:
            watch.close()

    def _look_at(self, due_s: float) -> None:
        if self._timer is None or due_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_s = due_s
            self._timer = self._loop.call_at(due_s, self._timed_look)

    def _timed_look(self) -> None:
        self._timer = None
        self._look()

    def _look(self) -> None:
        now_s = self._looked_s = self._loop.time()
        for watch in self._watches:
            self._activity.watch(watch.trigger)
        models = self._machine.figures(now_s).models
        self._activity.look(lambda key: models[key].demand_slots if key in models else 0, now_s)
        for watch in self._watches:
            active = self._activity.is_active(watch.trigger, now_s)
            if active or self.settled:
                watch.put(active)
        wake_s = self._activity.wake_s(now_s)
        if wake_s < float("inf") and not self._closed:
            self._look_at(max(wake_s, now_s) + LOOK_GAP_S)
