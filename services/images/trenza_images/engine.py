"""What is asked of an engine that draws, and what it answers; plain data that travels between processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Quality: TypeAlias = Literal["auto", "low", "medium", "high"]
Task: TypeAlias = Literal["generate", "edit", "vary"]

MAX_COUNT = 10
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MIN_STRENGTH = 0.02
MAX_SKETCHES = 3
MIN_SIDE = 16
"""Shortest side of a picture, in pixels."""
MAX_PROMPT_CHARS = 262_144


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What a model's manifest says about drawing; None leaves it to the pipeline's class.

    `size` is width and height in pixels. `native_size`: the picture is drawn at about that many pixels squared, with the asked
    proportions, and then resized.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    size: tuple[int, int] | None = None
    strength: float | None = None
    variation_strength: float | None = None
    native_size: int | None = None


@dataclass(frozen=True, slots=True)
class DrawLimits:
    """What one request may ask for: the area of a picture made, and of one uploaded, in pixels; the longest side in pixels."""

    pixels: int = 4 * 2**20
    side: int = 4096
    source_pixels: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ImagesSpec:
    """A pipeline to load and how to run it.

    `source` is a folder or a hub's id. `device` is "auto", "cpu", "cuda" or "cuda:1"; `precision` "auto", "float32", "float16" or
    "bfloat16"; `offload` "auto", "none", "model" or "sequential". `slots` pictures are drawn together; `batch_pixels` bounds the
    area computed in one forward pass, 0 leaves that to the memory plan. `threads` 0 leaves it to torch.
    """

    source: str
    slots: int
    variant: str | None = None
    device: str = "auto"
    precision: str = "auto"
    offload: str = "auto"
    batch_pixels: int = 0
    threads: int = 0
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    limits: DrawLimits = field(default_factory=DrawLimits)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How finished pictures are encoded; `compression` is the quality of JPEG and WebP, 0 to 100."""

    format: PictureFormat = "png"
    compression: int = 100


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """Pictures to draw; None means the model's own. Picture i is drawn with `seed + i`.

    `sources` and `mask` are the bytes of uploaded picture files, none of them looked at yet.
    """

    task: Task
    prompt: str
    seed: int
    count: int = 1
    size: tuple[int, int] | None = None
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    strength: float | None = None
    quality: Quality = "auto"
    encoding: Encoding = field(default_factory=Encoding)
    sketches: int = 0
    transparent: bool = False
    sources: tuple[bytes, ...] = ()
    mask: bytes | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a request has come: the part that is done, 0 to 1, and the steps of all its pictures together."""

    fraction: float
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Sketch:
    """An unfinished picture, encoded."""

    index: int
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture, encoded; `seed` draws it again."""

    index: int
    data: bytes
    seed: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """The end of a request that was served. `steps` were made for each picture; times in seconds."""

    count: int
    size: tuple[int, int]
    steps: int
    quality: Quality
    prompt_tokens: int
    truncated_prompt: str
    queue_s: float
    first_step_s: float
    draw_s: float


DrawEvent: TypeAlias = Advanced | Sketch | Picture | Drawn
