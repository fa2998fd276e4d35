"""Training from scratch on a processor: the autoencoder, then reading, then drawing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from trenza_recipes.starter_draw.autoencoder import build_autoencoder, train_autoencoder
from trenza_recipes.starter_draw.drawing import Drawing, DrawingSettings
from trenza_recipes.starter_draw.network import build_network
from trenza_recipes.starter_draw.reading import SceneReader, teach_reading
from trenza_recipes.starter_draw.tokenizer import build_tokenizer

SIDE = 128
"""Pixels of a side of the pictures that the pipeline draws by itself."""


@dataclass(frozen=True)
class Settings:
    """How long each stage trains, on one core of the machine named in the README."""

    autoencoder_seconds: float = 900
    reading_seconds: float = 500
    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    seed: int = 1

    def within(self, minutes: float) -> Settings:
        """The same stages, all shortened or lengthened alike to take `minutes` together."""
        together = self.autoencoder_seconds + self.reading_seconds + self.drawing.seconds
        factor = minutes * 60 / together
        return replace(
            self,
            autoencoder_seconds=self.autoencoder_seconds * factor,
            reading_seconds=self.reading_seconds * factor,
            drawing=replace(self.drawing, seconds=self.drawing.seconds * factor),
        )


def train(folder: Path, settings: Settings, threads: int) -> None:
    """Run every stage; leaves the pipeline in `folder`/pipeline and its autoencoder in `folder`/autoencoder."""
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder = train_autoencoder(
        build_autoencoder(SIDE), folder / "autoencoder", SIDE, settings.autoencoder_seconds, settings.seed
    )
    network = build_network(build_tokenizer())
    reader = SceneReader(network.sentence.config.projection_dim)
    teach_reading(network, reader, settings.reading_seconds, settings.seed)
    Drawing(autoencoder, network, reader, settings.drawing).run(folder)
