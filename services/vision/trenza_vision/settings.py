"""Settings of the vision service; each field is the environment variable `TRENZA_VISION_<FIELD>`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from trenza_pictures.opening import MAX_PIXELS
from trenza_runtime.model_service import ModelServiceSettings


class VisionSettings(ModelServiceSettings):
    """What is particular to looking at pictures."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_VISION_", extra="ignore")

    context_length: int = Field(0, ge=0, description="Tokens per request, prompt and answer; 0 takes the model's own.")
    batch_tokens: int = Field(512, ge=32, le=16384, description="Tokens computed in one step at most.")
    threads: int = Field(
        0, ge=0, le=512, description="CPU threads of a model; 0 takes every core that the process may use."
    )
    gpu_layers: int = Field(-1, ge=-1, description="Layers on the GPU; -1 takes all where there is a GPU.")
    picture_cache_bytes: int = Field(
        256 * 2**20,
        ge=0,
        le=2**40,
        description="What a model made of pictures it has seen, kept so that they need not be looked at again.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where models of the `transformers` engine run: auto (the first GPU, else the CPU), cpu, cuda, or cuda:1.",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Numbers that such a model computes with; auto: float32 on a CPU, 16 bits on a GPU."
    )

    max_pictures: int = Field(16, ge=1, le=256, description="Pictures in one conversation at most.")
    max_picture_side: int = Field(
        1536,
        ge=64,
        le=4096,
        description="Longest side at which a picture is shown to a model; larger ones are scaled down.",
    )
    max_source_pixels: int = Field(
        50 * 2**20,
        ge=64 * 64,
        le=MAX_PIXELS,
        description="Largest picture that is opened, in pixels; of a WebP file half as much.",
    )
    max_upload_bytes: int = Field(
        32 * 2**20, ge=1024, le=2**30, description="Largest upload of one request, all its pictures together."
    )
    max_held_bytes: int = Field(
        512 * 2**20,
        ge=2**20,
        le=2**40,
        description="Pictures held for all requests together, as files and as pixels; beyond that requests are refused.",
    )
    upload_limit_s: float = Field(120.0, gt=0, description="Longest that the upload of one request may take.")
    decoders: int = Field(2, ge=1, le=64, description="Pictures opened at once, each by a thread of its own.")
