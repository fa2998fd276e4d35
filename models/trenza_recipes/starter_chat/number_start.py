"""Where the embeddings of numbers start: on circles, so that sums can be learnt as turns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trenza_recipes.starter_chat.exchange import LANGUAGES
from trenza_recipes.starter_chat.model import Network
from trenza_recipes.starter_chat.tokenizer import Tokenizer
from trenza_recipes.starter_chat.world import NUMBER_WORDS

NUMBER_PERIODS = (2, 3, 4, 5, 7, 10, 14, 20, 28, 40)


def number_features(value: int, width: int) -> Tensor:
    """A point for `value` on several circles, the start that lets sums be learnt as turns."""
    basis = torch.linalg.qr(torch.randn(width, 2 * len(NUMBER_PERIODS), generator=torch.Generator().manual_seed(5)))[0]
    turns = [math.tau * value / period for period in NUMBER_PERIODS]
    circles = torch.tensor([part for turn in turns for part in (math.cos(turn), math.sin(turn))])
    features: Tensor = basis @ (circles / circles.norm())
    return features


def place_numbers(network: Network, tokenizer: Tokenizer) -> None:
    """Start the embeddings of all ways to write a number from the same point."""
    weight = network.token_embd.weight
    with torch.no_grad():
        for value in range(len(NUMBER_WORDS["en"])):
            names = [str(value), *(NUMBER_WORDS[language][value] for language in LANGUAGES)]
            written = {
                form for name in names for form in (name, name.capitalize(), f" {name}", f" {name.capitalize()}")
            }
            for token in sorted(token for form in written if (token := tokenizer.id_of(form)) is not None):
                weight[token] = 0.9 * number_features(value, weight.shape[1]) + 0.5 * weight[token]
