"""Batches for training: conversations of like length side by side, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

import torch
from torch import Tensor

from trenza_recipes.starter_chat.conversations import training_stream
from trenza_recipes.starter_chat.tokenizer import Tokenizer

POOL_CONVERSATIONS = 6_000
IGNORED = -1

Sample = tuple[list[int], list[bool]]


def pad(samples: list[Sample], padding_id: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets of `samples`; a target is the next token where the model has to say it, else -1."""
    length = max(len(tokens) for tokens, _ in samples) - 1
    inputs = torch.full((len(samples), length), padding_id)
    targets = torch.full((len(samples), length), IGNORED)
    for row, (tokens, spoken) in enumerate(samples):
        inputs[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        wanted = [token if said else IGNORED for token, said in zip(tokens[1:], spoken[1:], strict=True)]
        targets[row, : len(wanted)] = torch.tensor(wanted)
    return inputs, targets


def _cut(pool: list[Sample], batch_tokens: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in sorted(pool, key=lambda sample: len(sample[0])):
        if batch and (len(batch) + 1) * len(sample[0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def training_batches(
    tokenizer: Tokenizer, context_tokens: int, batch_tokens: int, seed: int, stage: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a stage without end, each of at most `batch_tokens` tokens, the same for the same seed."""
    stream, order = training_stream(seed, stage), Random(seed)
    while True:
        encoded = [tokenizer.encode_conversation(conversation) for conversation in islice(stream, POOL_CONVERSATIONS)]
        batches = list(_cut([sample for sample in encoded if len(sample[0]) <= context_tokens], batch_tokens))
        order.shuffle(batches)
        for batch in batches:
            yield pad(batch, tokenizer.padding_id)
