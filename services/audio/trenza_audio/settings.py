"""Settings of the audio service; each field is the environment variable `TRENZA_AUDIO_<FIELD>`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from trenza_runtime.model_service import ModelServiceSettings

from trenza_audio.hearing.engine import Device


class AudioSettings(ModelServiceSettings):
    """What is particular to hearing and speaking."""

    model_config = SettingsConfigDict(env_prefix="TRENZA_AUDIO_", extra="ignore")

    slots: int = Field(
        8, ge=1, le=256, description="Requests that a model runs together, where its manifest does not say."
    )
    threads: int = Field(
        0, ge=0, le=512, description="CPU threads of a model; 0 takes every core that the process may use."
    )
    device: Device = Field(
        "auto", description="Where models run: `auto` (a GPU that has room, else the CPU), `cpu`, `cuda`."
    )
    compute_type: str = Field(
        "auto",
        max_length=32,
        description="Numbers that Whisper computes with; `auto` is float16 on a GPU, int8 on a CPU.",
    )
    batch: int = Field(
        8, ge=1, le=128, description="Stretches of 30 seconds that Whisper hears in one step, of all requests."
    )
    beam_size: int = Field(5, ge=1, le=16, description="Beams of Whisper's search at temperature 0.")
    upload_limit_bytes: int = Field(2 * 2**30, ge=1, description="Largest upload, in bytes.")
    sound_limit_s: float = Field(
        6 * 3600.0, gt=0, description="Longest sound, in seconds, whatever the size of its file."
    )
    spool_folder: Path | None = Field(
        None, description="Folder for uploads while they are heard; none: the system's folder for temporary files."
    )
