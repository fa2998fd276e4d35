"""A look at how far training has come: held-out answers judged token by token, without generating any."""

from __future__ import annotations

from random import Random

import torch

from trenza_recipes.starter_chat.batches import pad
from trenza_recipes.starter_chat.conversations import Conversation
from trenza_recipes.starter_chat.exchange import LANGUAGES, Episode
from trenza_recipes.starter_chat.kinds.registry import FINAL_KINDS, draw_held_out
from trenza_recipes.starter_chat.model import Network
from trenza_recipes.starter_chat.tokenizer import Tokenizer


def _last_answer(tokenizer: Tokenizer, episode: Episode) -> tuple[list[int], list[bool]]:
    """The tokens of an episode, of which only the last answer counts."""
    tokens, _ = tokenizer.encode_conversation(Conversation(None, episode))
    answer_tokens = len(tokenizer.encode(episode[-1].answer)) + 1
    newline_tokens = 1
    first = len(tokens) - answer_tokens - newline_tokens
    return tokens[:-newline_tokens], [index >= first for index in range(len(tokens) - newline_tokens)]


@torch.no_grad()
def held_out_accuracy(network: Network, tokenizer: Tokenizer, count: int = 32) -> dict[str, float]:
    """Share of held-out answers, per kind, whose every token is the network's first choice."""
    rng, accuracy = Random(7), {}
    for kind in FINAL_KINDS:
        episodes = [draw_held_out(rng, kind, LANGUAGES[index % 2]) for index in range(count)]
        inputs, targets = pad([_last_answer(tokenizer, episode) for episode in episodes], tokenizer.padding_id)
        right = (network(inputs).argmax(-1) == targets) | (targets < 0)
        accuracy[kind] = right.all(dim=1).float().mean().item()
    return accuracy
