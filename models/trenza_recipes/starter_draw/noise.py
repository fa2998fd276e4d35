"""Noise that decides the layout of its picture, so that one step from pure noise need not hedge between layouts."""

from __future__ import annotations

import torch
from torch import Tensor

from trenza_recipes.starter_draw.world import PLACES

_BLOCK = 4
_LAYOUT_BLOCKS = ((0, 4, 4), (1, 4, 4), (2, 4, 4), (3, 4, 4), (0, 8, 8), (1, 8, 8))
"""Channel, row and column of the squares of noise whose means stand for the six places of a layout."""


def coupled_noise(quantiles: Tensor, height: int, width: int) -> Tensor:
    """Normal noise (n, 4, height, width) whose means over six squares have the given quantiles (n, PLACES).

    With uniform quantiles it is distributed like any normal noise: a layout merely follows from it.
    """
    assert quantiles.shape[1] == PLACES == len(_LAYOUT_BLOCKS)
    noise = torch.randn(len(quantiles), 4, height, width)
    wanted = torch.special.ndtri(quantiles.clamp(1e-3, 1 - 1e-3)) / _BLOCK
    for place, (channel, row, column) in enumerate(_LAYOUT_BLOCKS):
        square = noise[:, channel, row : row + _BLOCK, column : column + _BLOCK]
        square += (wanted[:, place] - square.mean((1, 2)))[:, None, None]
    return noise
