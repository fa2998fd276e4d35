"""The network of `starter-chat`: a small decoder of the llama architecture.

Its rotary positions turn neighbouring features, as llama.cpp does, so the weights go into a GGUF file as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of the network; every width is a multiple of 32, which 8-bit quantisation asks for."""

    vocabulary: int
    width: int = 192
    layers: int = 4
    heads: int = 6
    feed_forward: int = 512
    context_tokens: int = 1024
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def rotation_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, one row per position, one column per pair of features."""
    exponents = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angles = torch.outer(torch.arange(length, dtype=torch.float32), shape.rope_base**-exponents)
    return angles.cos(), angles.sin()


def rotate(features: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate neighbouring feature pairs, the order llama.cpp uses for this architecture."""
    even, odd = features[..., 0::2], features[..., 1::2]
    turned = torch.stack((even * cosines - odd * sines, even * sines + odd * cosines), dim=-1)
    return turned.flatten(-2)


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_v = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, hidden: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query = rotate(split(self.attn_q(hidden)), cosines, sines).to(hidden.dtype)
        key = rotate(split(self.attn_k(hidden)), cosines, sines).to(hidden.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, split(self.attn_v(hidden)), is_causal=True)
        output: Tensor = self.attn_output(mixed.transpose(1, 2).flatten(-2))
        return output


class Block(nn.Module):
    """One layer: attention, then a gated feed-forward network, each behind a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.attention = Attention(shape)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, hidden: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.attn_norm(hidden), cosines, sines)
        normed = self.ffn_norm(hidden)
        gated = functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed)
        return hidden + self.ffn_down(gated)


class Network(nn.Module):
    """The whole decoder; the output projection is the transposed embedding."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        cosines, sines = rotation_table(shape, shape.context_tokens)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.shape.width**-0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """The normed stream after the last layer, for `tokens` of shape (rows, length)."""
        length = tokens.shape[1]
        cosines, sines = self.cosines[:length], self.sines[:length]
        hidden = self.token_embd(tokens)
        for block in self.blocks:
            hidden = block(hidden, cosines, sines)
        normed: Tensor = self.output_norm(hidden)
        return normed

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next token at every position of `tokens`."""
        return functional.linear(self.hidden_states(tokens), self.token_embd.weight)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy where `targets` is not negative; only those positions are projected."""
        chosen = targets >= 0
        scores = functional.linear(self.hidden_states(tokens)[chosen], self.token_embd.weight)
        return functional.cross_entropy(scores.float(), targets[chosen])
