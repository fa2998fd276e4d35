"""Builds the tokens that stand before a window's text, and decides which windows can share one call of the model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

MAX_HISTORY_TOKENS = 223
"""Tokens of earlier text that the model is told: half of its context, but one."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a window's text follows: hotwords and earlier text behind `<|startofprev|>`, then language and task."""

    start_of_previous: int
    hotwords: tuple[int, ...]
    history: tuple[int, ...]
    start: tuple[int, ...]

    @property
    def lead(self) -> int:
        """Tokens before `<|startoftranscript|>`, which has to stand at one place in all prompts of a call."""
        told = len(self.hotwords) + len(self.history)
        return told + 1 if told else 0

    def shortened(self, lead: int) -> list[int]:
        """Its tokens with the oldest of the history left out so that `lead` remain before the start."""
        excess = self.lead - lead
        told = [*self.hotwords, *self.history[excess:]]
        return [*([self.start_of_previous] if told else []), *told, *self.start]

    @property
    def shortest_lead(self) -> int:
        """The shortest lead that is still fair: half of the history."""
        kept = (len(self.history) + 1) // 2
        told = len(self.hotwords) + kept
        return told + 1 if told else 0


def prompt(
    start_of_previous: int, start: Sequence[int], history: Sequence[int], hotwords: Sequence[int] = ()
) -> Prompt:
    """A prompt with as much of hotwords and history as the model takes."""
    hot = tuple(hotwords[:MAX_HISTORY_TOKENS])
    room = MAX_HISTORY_TOKENS - len(hot)
    return Prompt(start_of_previous, hot, tuple(history[-room:] if room else ()), tuple(start))


def share_calls(prompts: Mapping[Key, Prompt]) -> list[tuple[int, list[Key]]]:
    """Sorts prompts into calls of the model: the lead of each call, and those that take part in it.

    The model wants one lead in a call. Longer prompts give up the oldest part of their history to share one with
    shorter ones, but never more than half of it; a prompt alone is left as it is. Long recordings reach the longest
    history after a minute or two, so that they share without losing anything.
    """
    calls: list[tuple[int, list[Key]]] = []
    members: list[Key] = []
    floor = 0
    for key in sorted(prompts, key=lambda key: prompts[key].lead, reverse=True):
        one = prompts[key]
        if members and one.lead < floor:
            calls.append((prompts[members[-1]].lead, members))
            members, floor = [], 0
        members.append(key)
        floor = max(floor, one.shortest_lead)
    if members:
        calls.append((prompts[members[-1]].lead, members))
    return calls
