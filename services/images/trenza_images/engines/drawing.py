"""A picture being drawn: a pipeline's own call, which stops wherever the engine decides what happens next."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from trenza_images.engines.merging import Call


@dataclass(frozen=True, slots=True)
class Pause:
    """A drawing stops before something long that nobody can share, such as decoding a picture."""


class Drawing:
    """Runs `work` until it stops at a `Call` or a `Pause`, and again from there.

    The work has a stack of its own in the same thread, so that any pipeline can be interrupted within its call and dropped there.
    Only the engine's thread may touch it.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._greenlet = greenlet(self._run)
        self.stop_at: Call | Pause | None = None
        """Where it stands; None before it has begun and after it has ended."""
        self.error: Exception | None = None
        """What it failed with."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self._greenlet.dead)

    def resume(self, outcome: Any = None) -> None:
        """Goes on with the outcome of the call at which it stands, until the next stop."""
        self.stop_at = self._greenlet.switch(outcome) if self._greenlet else self._greenlet.switch()

    def fail(self, error: Exception) -> None:
        """Goes on with an error in place of an outcome."""
        self.stop_at = self._greenlet.throw(error)

    def drop(self) -> None:
        """Ends it where it stands."""
        self.stop_at = None
        if self._greenlet:
            self._greenlet.throw()

    def _run(self, _: Any = None) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error


def pause() -> None:
    """Stops the drawing that is running now; without effect outside of one."""
    current = getcurrent()
    if current.parent is not None:
        current.parent.switch(Pause())


def stopping(module: torch.nn.Module) -> torch.nn.Module:
    """The same module, with the same weights, whose forward pass inside a drawing is left to the engine."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        current = getcurrent()
        if current.parent is None:
            return module(*args, **kwargs)
        return current.parent.switch(Call(module, args, kwargs))

    clone = copy.copy(module)
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        setattr(clone, hooks, OrderedDict())  # they run where the module itself does
    clone.forward = forward
    return clone
