"""Settings of the images service; each field is the environment variable `TRENZA_IMAGES_<FIELD>`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from trenza_runtime.model_service import ModelServiceSettings


class ImagesSettings(ModelServiceSettings):
    """What is particular to drawing."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_IMAGES_", extra="ignore")

    slots: int = Field(
        8, ge=1, le=256, description="Pictures that a model draws together, where its manifest does not say."
    )
    stall_s: float = Field(
        600.0,
        gt=0,
        description="Longest that one pass may take, which a CPU needs long for; then the worker process is replaced.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where pictures are drawn: auto (the first GPU, else the CPU), cpu, cuda, or cuda:1 and so on.",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Numbers that a model computes with; auto: float32 on a CPU, 16 bits on a GPU."
    )
    offload: Literal["auto", "none", "model", "sequential"] = Field(
        "auto", description="What of a model leaves the GPU between uses; auto decides by its free memory."
    )
    batch_pixels: int = Field(
        0, ge=0, description="Pixels computed in one forward pass at most; 0 takes what the memory plan finds."
    )
    threads: int = Field(
        0, ge=0, le=512, description="CPU threads of a model; 0 takes every core that the process may use."
    )
    max_side: int = Field(4096, ge=64, le=16384, description="Longest side of a picture, in pixels.")
    max_pixels: int = Field(4 * 2**20, ge=64 * 64, description="Largest picture drawn, in pixels.")
    max_source_pixels: int = Field(
        64 * 2**20, ge=64 * 64, le=160 * 2**20, description="Largest uploaded picture, in pixels."
    )
    max_upload_bytes: int = Field(
        64 * 2**20, ge=1024, le=192 * 2**20, description="Largest upload of one request, all its pictures together."
    )
