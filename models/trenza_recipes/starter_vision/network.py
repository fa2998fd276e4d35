"""The network: a vision transformer as llama.cpp computes it for LLaVA, its projector, and a decoder like Llama."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trenza_recipes.starter_chat import model as decoder
from trenza_recipes.starter_vision.drawing import IMAGE_SIDE


@dataclass(frozen=True)
class EyeShape:
    """The sizes of the vision transformer."""

    patch: int = 16
    width: int = 192
    layers: int = 5
    heads: int = 6
    feed_forward: int = 768
    projected: int = 192
    norm_epsilon: float = 1e-5

    @property
    def patches(self) -> int:
        return (IMAGE_SIDE // self.patch) ** 2


class EyeBlock(nn.Module):
    """Self-attention over the patches and a feed-forward part, each after a norm."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.ln1 = nn.LayerNorm(shape.width, eps=shape.norm_epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width)
        self.attn_k = nn.Linear(shape.width, shape.width)
        self.attn_v = nn.Linear(shape.width, shape.width)
        self.attn_out = nn.Linear(shape.width, shape.width)
        self.ln2 = nn.LayerNorm(shape.width, eps=shape.norm_epsilon)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width)

    def forward(self, hidden: Tensor) -> Tensor:
        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        normed = self.ln1(hidden)
        mixed = functional.scaled_dot_product_attention(
            split(self.attn_q(normed)), split(self.attn_k(normed)), split(self.attn_v(normed))
        )
        hidden = hidden + self.attn_out(mixed.transpose(1, 2).flatten(-2))
        fed = functional.gelu(self.ffn_up(self.ln2(hidden)), approximate="tanh")
        fed_forward: Tensor = self.ffn_down(fed)
        return hidden + fed_forward


class Eye(nn.Module):
    """Patches, positions, blocks, and a last norm. No class token: LLaVA drops it, so nothing would read it."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embd = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.position_embd = nn.Embedding(shape.patches, shape.width)
        self.pre_ln = nn.LayerNorm(shape.width, eps=shape.norm_epsilon)
        self.blk = nn.ModuleList(EyeBlock(shape) for _ in range(shape.layers))
        self.post_ln = nn.LayerNorm(shape.width, eps=shape.norm_epsilon)
        nn.init.normal_(self.position_embd.weight, std=0.5)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (batch, patches, width) of pictures (batch, 3, side, side)."""
        hidden = self.patch_embd(pictures).flatten(2).transpose(1, 2) + self.position_embd.weight
        hidden = self.pre_ln(hidden)
        for block in self.blk:
            hidden = block(hidden)
        features: Tensor = self.post_ln(hidden)
        return features


class Projector(nn.Module):
    """LLaVA's two-layer perceptron from what the eye sees to what the decoder reads."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.first = nn.Linear(shape.width, shape.projected)
        self.second = nn.Linear(shape.projected, shape.projected)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.second(functional.gelu(self.first(features), approximate="tanh"))
        return projected


class StarterVision(nn.Module):
    """Eye, projector and decoder; and the heads with which the eye tells what it sees, which only training needs."""

    def __init__(self, eye: EyeShape, language: decoder.Shape, facts: int) -> None:
        super().__init__()
        self.eye = Eye(eye)
        self.projector = Projector(eye)
        self.language = decoder.Network(language)
        self.telling = nn.Linear(eye.width, facts)

    def read(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder reads of pictures (batch, patches, width), and what the heads tell about every patch."""
        features = self.eye(pictures)
        return self.projector(features), self.telling(features)

    def hidden_states(self, embeddings: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The normed stream after the decoder's last layer for embeddings (batch, length, width), and each layer's input."""
        network = self.language
        cosines, sines = network.cosines[: embeddings.shape[1]], network.sines[: embeddings.shape[1]]
        inputs = []
        for block in network.blocks:
            inputs.append(embeddings)
            embeddings = block(embeddings, cosines, sines)
        normed: Tensor = network.output_norm(embeddings)
        return normed, inputs

    def looks(self, layer: int, hidden: Tensor) -> Tensor:
        """Where the heads of a decoder layer look (batch, heads, length, length)."""
        block, length = self.language.blocks[layer], hidden.shape[1]
        cosines, sines = self.language.cosines[:length], self.language.sines[:length]
        normed = block.attn_norm(hidden)
        attention = block.attention

        def split(projected: Tensor) -> Tensor:
            return decoder.rotate(projected.unflatten(-1, (attention.heads, -1)).transpose(1, 2), cosines, sines)

        scores = (
            split(attention.attn_q(normed)) @ split(attention.attn_k(normed)).mT * self.language.shape.head_width**-0.5
        )
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1)
