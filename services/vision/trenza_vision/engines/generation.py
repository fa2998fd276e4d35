"""One answer as it is made: the model's own `generate`, in a greenlet that stops wherever a token is to be chosen.

So any class keeps its own way of feeding itself (caches, positions, pictures in the first pass only), and answers take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import greenlet
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from trenza_vision.engines.sampling import Chooser, Chosen

_STATE = "rope_deltas"
"""What models of Qwen's kin remember of the prompt they saw last; each answer has to find its own there."""


class ModelState:
    """What a model keeps on itself between two tokens of one answer; each of several answers needs its own."""

    def __init__(self, model: Any) -> None:
        self._owners = [module for module in model.modules() if hasattr(module, _STATE)]

    def begin(self) -> Sequence[Any]:
        """The state before an answer begins."""
        return [None for _ in self._owners]

    def put(self, state: Sequence[Any]) -> None:
        """Gives the model this state."""
        for owner, value in zip(self._owners, state, strict=True):
            setattr(owner, _STATE, value)

    def take(self) -> Sequence[Any]:
        """The model's state now; it forgets it, so that nothing of it lives longer than its answer."""
        state = [getattr(owner, _STATE) for owner in self._owners]
        self.put(self.begin())
        return state


class Generation:
    """Makes one token after another, at most `limit`. Close it when no more are wanted."""

    def __init__(self, model: Any, state: ModelState, inputs: Mapping[str, Any], chooser: Chooser, limit: int) -> None:
        self._model, self._keeper, self._chooser = model, state, chooser
        self._state = state.begin()
        self._greenlet: Any = greenlet.greenlet(lambda: self._run(inputs, limit))

    def advance(self) -> Chosen | None:
        """Makes the next token, the first one together with the whole prompt; None where the model ends by itself.

        Raises whatever the model raises.
        """
        self._keeper.put(self._state)
        try:
            chosen: Chosen | None = self._greenlet.switch()
        finally:
            self._state = self._keeper.take()
        return chosen

    def close(self) -> None:
        """Ends it where it stands and drops what it holds."""
        if not self._greenlet.dead:
            self._greenlet.throw()
        self._state = ()

    def _run(self, inputs: Mapping[str, Any], limit: int) -> None:
        turns = LogitsProcessorList([_Turns(self._chooser)])
        self._model.generate(**inputs, logits_processor=turns, max_new_tokens=limit, do_sample=False)


class _Turns(LogitsProcessor):  # type: ignore[misc]  # its class is unknown where types are checked
    """Chooses each token itself, tells it, and waits for its next turn; to the model no other token is possible."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        chosen = self._chooser.choose(input_ids[0], scores[0])
        parent: Any = greenlet.getcurrent().parent
        parent.switch(chosen)
        only = torch.full_like(scores, -torch.inf)
        only[0, chosen.token] = 0.0
        return only
