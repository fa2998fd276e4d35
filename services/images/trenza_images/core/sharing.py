"""Which of the forward passes that drawings wait for is made next, and who shares it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pending:
    """A pass that a drawing waits for.

    Passes of one `group` can be made as one; None goes alone. `since` orders them by how long they have waited: the number of the
    turn in which the drawing was served last. `pixels` is the area that the pass computes, 0 for what is small beside
    the denoising: reading a prompt, decoding a picture.
    """

    group: Hashable | None
    since: int
    pixels: int


def choose(pending: Sequence[Pending], limit_pixels: int) -> list[int]:
    """Positions of those that go next: whoever has waited longest, and whoever can share that pass within the limit.

    What is small goes first, so that those who come late catch up and share the next large pass, and those who are done make room;
    between two small ones every drawing needs large ones, so nobody is kept waiting for ever. Every group has its turn, since
    those that were served go behind those that were not. Never empty where somebody waits: a single pass goes however large it is.
    """
    order = sorted(range(len(pending)), key=lambda position: (pending[position].pixels > 0, pending[position].since))
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
