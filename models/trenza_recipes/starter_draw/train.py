"""Training from scratch on a processor: the autoencoder, then reading, then drawing in rounds, then the decoder once more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from trenza_recipes.starter_draw.autoencoder import build_autoencoder, train_autoencoder
from trenza_recipes.starter_draw.drawing import Drawing, DrawingSettings
from trenza_recipes.starter_draw.guesses import guesses_of
from trenza_recipes.starter_draw.network import assemble, build_network
from trenza_recipes.starter_draw.reading import SceneReader, teach_reading
from trenza_recipes.starter_draw.tokenizer import build_tokenizer

SIDE = 128
"""Pixels of a side of the pictures that the pipeline draws by itself."""


_REFINING_RATE = 6e-4

_FIRST_ROUND = DrawingSettings()
_LATER_ROUND = DrawingSettings(
    seconds=1_200,
    rate=8e-4,
    pure_noise_share=0.45,
    later_steps_share=0.35,
    free_share=0.1,
    own_guesses_from=0.0,
    spread=0.12,
    other_formats_share=0.12,
)


@dataclass(frozen=True)
class Settings:
    """How long each stage trains, on one core of the machine named in the README."""

    autoencoder_seconds: float = 900
    reading_seconds: float = 500
    rounds: tuple[DrawingSettings, ...] = (_FIRST_ROUND, *[_LATER_ROUND] * 4)
    refining_seconds: float = 600
    seed: int = 1

    def within(self, minutes: float) -> Settings:
        """The same stages, all shortened or lengthened alike to take `minutes` together."""
        drawing = sum(one.seconds for one in self.rounds)
        factor = minutes * 60 / (self.autoencoder_seconds + self.reading_seconds + drawing + self.refining_seconds)
        return replace(
            self,
            autoencoder_seconds=self.autoencoder_seconds * factor,
            reading_seconds=self.reading_seconds * factor,
            rounds=tuple(replace(one, seconds=one.seconds * factor) for one in self.rounds),
            refining_seconds=self.refining_seconds * factor,
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
    for number, one in enumerate(settings.rounds):
        Drawing(autoencoder, network, reader, replace(one, seed=settings.seed + number)).run(folder)
    train_autoencoder(
        autoencoder,
        folder / "autoencoder",
        SIDE,
        settings.refining_seconds,
        settings.seed,
        cropped_share=0.0,
        rate=_REFINING_RATE,
        guesses=guesses_of(network, settings.rounds[-1].spread, settings.seed),
    )
    assemble(autoencoder, network).save_pretrained(folder / "pipeline")
