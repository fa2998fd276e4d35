"""The network: Whisper's architecture with the names `transformers` gives its weights, and what helps it learn in short windows.

Whisper always sees 30 seconds, most of them padding. Here a window is as long as its sound, and the padding is represented by a
few of its positions, whose attention is weighted by how many they stand for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

POSITIONS = 1500
"""Encoder positions of 30 seconds."""
TEXT_POSITIONS = 448
MEL_BANDS = 80
_EDGE = 2
"""Padding positions right after the sound that are kept, since the convolutions mix sound into them."""


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    vocabulary: int
    first_timestamp: int
    width: int = 192
    heads: int = 3
    encoder_layers: int = 4
    decoder_layers: int = 2
    feed_forward: int = 768
    word_classes: int = 1
    sound_classes: int = 1
    ordinals: int = 1


class Attention(nn.Module):
    """Whisper's attention: keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def _split(self, features: Tensor) -> Tensor:
        batch, length, width = features.shape
        return features.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def _asked(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._split(self.q_proj(features)), self._split(self.k_proj(memory)), self._split(self.v_proj(memory))

    def _merged(self, heads: Tensor) -> Tensor:
        return self.out_proj(heads.transpose(1, 2).flatten(2))

    def forward(self, features: Tensor, memory: Tensor, bias: Tensor | None = None, causal: bool = False) -> Tensor:
        query, key, value = self._asked(features, memory)
        mask = None if bias is None else bias[None, None, None]
        heard = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self._merged(heard)

    def watched(self, features: Tensor, memory: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Like forward, and where each head looked."""
        query, key, value = self._asked(features, memory)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        looks = scores.softmax(-1)
        return self._merged(looks @ value), looks


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, each after a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape.width, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.width)
        self.fc1 = nn.Linear(shape.width, shape.feed_forward)
        self.fc2 = nn.Linear(shape.feed_forward, shape.width)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def _fed_forward(self, features: Tensor) -> Tensor:
        return features + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(features))))

    def forward(self, features: Tensor, bias: Tensor) -> Tensor:
        normed = self.self_attn_layer_norm(features)
        return self._fed_forward(features + self.self_attn(normed, normed, bias))


class DecoderLayer(EncoderLayer):
    """Causal self-attention, attention to the sound, and a feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.encoder_attn = Attention(shape.width, shape.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(shape.width)

    def decode(self, features: Tensor, memory: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The features after this layer, and where it looked."""
        normed = self.self_attn_layer_norm(features)
        features = features + self.self_attn(normed, normed, causal=True)
        heard, looks = self.encoder_attn.watched(self.encoder_attn_layer_norm(features), memory, bias)
        return self._fed_forward(features + heard), looks


def _sinusoids(frequencies: Tensor, length: int) -> Tensor:
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class Encoder(nn.Module):
    """Two convolutions, positions, layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MEL_BANDS, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(POSITIONS, shape.width)
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(shape.width)

    def forward(self, mel: Tensor, represented: int) -> tuple[Tensor, Tensor, Tensor]:
        """From (batch, 80, 2 * frames) features: what was heard per position, the bias of attention to each, and what the
        second layer made of it. Positions after `frames` + 2 stand for the padding."""
        frames = mel.shape[2] // 2
        kept = min(POSITIONS, frames + _EDGE)
        mel = functional.pad(mel, (0, 2 * (kept - frames) + 2))
        features = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        positions = self.embed_positions.weight
        rest = POSITIONS - kept
        count = min(represented, rest)
        bias = torch.zeros(kept + count)
        parts = [features[:, :kept] + positions[:kept]]
        if count:
            strata = kept + (torch.arange(count) + torch.rand(count)) * (rest / count)
            parts.append(features[:, kept : kept + 1] + positions[strata.long().clamp(max=POSITIONS - 1)])
            bias[kept:] = math.log(rest / count)
        features = torch.cat(parts, 1)
        early = features
        for place, layer in enumerate(self.layers, start=1):
            features = layer(features, bias)
            if place == 2:
                early = features
        return self.layer_norm(features), bias, early


class Decoder(nn.Module):
    """Token embeddings, positions, layers. Timestamps have no embedding of their own, but one made from sinusoids of the time."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        nn.init.normal_(self.embed_tokens.weight, std=shape.width**-0.5)
        self.first_timestamp = shape.first_timestamp
        frequencies = torch.exp(torch.linspace(0, math.log(0.002), 32))
        self.register_buffer("times", _sinusoids(frequencies, shape.vocabulary - shape.first_timestamp))
        self.of_time = nn.Linear(64, shape.width)
        nn.init.normal_(self.of_time.weight, std=(32 * shape.width) ** -0.5)
        self.embed_positions = nn.Embedding(TEXT_POSITIONS, shape.width)
        half = shape.width // 2
        slow = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
        self.embed_positions.weight = nn.Parameter(_sinusoids(slow, TEXT_POSITIONS) * 0.2)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.layer_norm = nn.LayerNorm(shape.width)

    def embeddings(self) -> Tensor:
        """The embedding of every token, timestamps included."""
        return torch.cat((self.embed_tokens.weight[: self.first_timestamp], self.of_time(self.times)))

    def forward(self, tokens: Tensor, memory: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of what follows each token, and where the last layer looked (batch, heads, tokens, positions)."""
        table = self.embeddings()
        features = table[tokens] + self.embed_positions.weight[: tokens.shape[1]]
        looks = features
        for layer in self.layers:
            features, looks = layer.decode(features, memory, bias)
        return self.layer_norm(features) @ table.T, looks


@dataclass(frozen=True)
class Heard:
    """What the network makes of a batch: logits per token, looks of the last decoder layer, logits per frame."""

    tokens: Tensor
    looks: Tensor
    words: Tensor
    sounds: Tensor
    ordinals: Tensor
    previous: Tensor


class StarterWhisper(nn.Module):
    """Whisper, and four heads on its encoder that only training needs."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = nn.Module()
        self.model.encoder = Encoder(shape)
        self.model.decoder = Decoder(shape)
        self.word_head = nn.Linear(shape.width, shape.word_classes)
        self.sound_head = nn.Linear(shape.width, shape.sound_classes)
        self.ordinal_head = nn.Linear(shape.width, shape.ordinals)
        self.previous_head = nn.Linear(shape.width, shape.word_classes)
        start_locally(self.model.encoder)

    def forward(self, mel: Tensor, tokens: Tensor, represented: int = 8) -> Heard:
        """Listen to (batch, 80, 2 * frames) and say what follows each of (batch, length) tokens."""
        frames = mel.shape[2] // 2
        memory, bias, early = self.model.encoder(mel, represented)
        logits, looks = self.model.decoder(tokens, memory, bias)
        sound = memory[:, :frames]
        return Heard(
            logits,
            looks,
            self.word_head(sound),
            self.sound_head(early[:, :frames]),
            self.ordinal_head(sound),
            self.previous_head(sound),
        )


_OFFSETS = ((-4, 0, 4), (-8, 0, 8), (-14, 0, 14))
_SHARPNESS = 1.9


@torch.no_grad()
def start_locally(encoder: Encoder) -> None:
    """Start where sounds can be told apart at once: positions only in the last 64 features, what is heard in the others, and
    heads of the first layers that look a fixed number of positions to the left and right."""
    width = encoder.embed_positions.weight.shape[1]
    first = width - 64
    frequencies = torch.exp(torch.linspace(0, math.log(0.002), 32))
    encoder.embed_positions.weight.zero_()
    encoder.embed_positions.weight[:, first:] = _sinusoids(frequencies, POSITIONS)
    encoder.conv1.weight.mul_(3)
    encoder.conv2.weight.mul_(5)
    encoder.conv2.weight[first:].mul_(0.02)
    encoder.conv2.bias[first:].zero_()
    gains = torch.where(frequencies > 0.04, 1.0, 0.35) * _SHARPNESS
    for layer, offsets in zip(encoder.layers, _OFFSETS, strict=False):
        attention = layer.self_attn
        query, key = torch.zeros(width, width), torch.zeros(width, width)
        for head in range(attention.heads):
            offset = offsets[head % len(offsets)]
            sines = head * 64 + torch.arange(32)
            of_sine = first + torch.arange(32)
            cosine, sine = torch.cos(frequencies * offset) * gains, torch.sin(frequencies * offset) * gains
            query[sines, of_sine] = query[sines + 32, of_sine + 32] = gains
            key[sines, of_sine], key[sines, of_sine + 32] = cosine, -sine
            key[sines + 32, of_sine + 32], key[sines + 32, of_sine] = cosine, sine
        attention.q_proj.weight.copy_(query + 0.1 * attention.q_proj.weight)
        attention.k_proj.weight.copy_(key + 0.1 * attention.k_proj.weight)
