"""Which of the forward passes that drawings wait for is made next, and who shares it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_TRUST_AFTER_PASSES = 500
"""What did not fit once may have met somebody else's model in memory; after so many passes that fitted, more is tried again."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A pass that a drawing waits for.

    Passes of one `group` can be made as one; None goes alone. `since` orders them by how long they have waited: the number of the
    turn in which the drawing was served last. `pixels` is what the pass takes, as an area that is denoised. `denoises`: it is
    a step of the drawing itself, not what comes before and after all steps: reading the prompt, decoding the picture.
    """

    group: Hashable | None
    since: int
    pixels: int
    denoises: bool = True


class PassLimit:
    """How large a pass may be: what the memory plan says, less once a pass did not fit, and slowly more again."""

    def __init__(self, planned_pixels: int) -> None:
        self._planned_pixels = planned_pixels
        self._fitted = 0
        self.pixels = planned_pixels
        """The area that may be computed at once."""

    def fitted(self) -> None:
        """A pass was made."""
        self._fitted += 1
        if self._fitted == _TRUST_AFTER_PASSES:
            self.pixels, self._fitted = min(self._planned_pixels, max(1, 2 * self.pixels)), 0

    def did_not_fit(self, pixels: int) -> None:
        """A pass of this area did not fit into memory."""
        self.pixels, self._fitted = min(self.pixels, pixels // 2), 0


def choose(pending: Sequence[Pending], limit_pixels: int) -> list[int]:
    """Positions of those that go next: whoever has waited longest, and whoever can share that pass within the limit.

    What comes before and after the steps goes first, so that those who come late catch up and share the next step, and those
    who are done make room; there is little of it in each drawing, so nobody is kept waiting for ever. Every group has its turn,
    since those that were served go behind those that were not. Never empty where somebody waits: a single pass goes however
    large it is.
    """
    order = sorted(range(len(pending)), key=lambda position: (pending[position].denoises, pending[position].since))
    if not order:
        return []
    first = pending[order[0]]
    chosen, area = [order[0]], first.pixels
    for position in order[1:]:
        other = pending[position]
        if first.group is not None and other.group == first.group and area + other.pixels <= limit_pixels:
            chosen.append(position)
            area += other.pixels
    return chosen
